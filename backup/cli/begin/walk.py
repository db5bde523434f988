"""The questions asked on a terminal: a default by Enter, help by `?`, a way back by `<`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec import Struct

from backup.app.beginning.answers import Answers
from backup.cli.begin.question import Facts, Question
from backup.cli.begin.screen import Screen
from backup.errors import NightvaultError

BACK = ("<", "back")
HELP = ("?", "help")
_HOW = (
    "Enter takes what is in brackets, ? explains, < goes back, Ctrl-C ends. Nothing is written before you "
    "have seen all of it and said yes."
)


class Step(Struct, frozen=True):
    """A question that was answered, with the answers before it and the text that was given."""

    question: Question
    before: Answers
    text: str


@dataclass(slots=True)
class Walk:
    """A person's way through the questions, and back."""

    screen: Screen
    facts: Facts
    course: Sequence[Question]
    answers: Answers
    done: list[Step] = field(default_factory=list)

    def run(self) -> Answers:
        """Ask everything that is still to be asked; the answers. `LeftError` if somebody goes away."""
        if not self.done:
            self.screen.say(_HOW)
        return self._on(given="")

    def back(self) -> Answers:
        """Ask the last question again, and all after it."""
        return self._on(given=self._undo())

    def _on(self, given: str) -> Answers:
        """Ask from here on; `given` is what was answered before to the next question."""
        while (question := self._next()) is not None:
            text = self._ask(question, given)
            given = ""
            if text is None:
                given = self._undo()
        return self.answers

    def _next(self) -> Question | None:
        """The first question after those that were answered which applies."""
        place = self.course.index(self.done[-1].question) + 1 if self.done else 0
        return next((one for one in self.course[place:] if one.applies(self.answers, self.facts)), None)

    def _undo(self) -> str:
        """Take the last answer back; its text, "" where there is none."""
        if not self.done:
            self.screen.say("this is the first question")
            return ""
        last = self.done.pop()
        self.answers = last.before
        return last.text

    def _ask(self, question: Question, given: str) -> str | None:
        """Ask until there is a right answer; None to go back."""
        before, default = self.answers, given or question.default(self.answers, self.facts)
        self._show(question, question.answered(before, given, self.facts) if given else before)
        while True:
            again = " (as before)" if given and default == given else ""
            typed = self.screen.ask(f"{question.title} [{default}]{again}" if default else question.title)
            if typed in BACK:
                self.answers = before
                return None
            if typed in HELP:
                self.screen.say(question.help)
                continue
            text = typed or default
            try:
                made = question.answered(before, text, self.facts)
            except NightvaultError as error:
                self.screen.say(f"{error}" + (f"; {error.advice}" if error.advice else ""))
                continue
            if question.confirms and text != default:
                default = text
                self._show(question, made)
                continue
            self.answers = made
            self.done.append(Step(question, before, text))
            if note := question.note(made, self.facts):
                self.screen.say(note)
            return text

    def _show(self, question: Question, answers: Answers) -> None:
        self.screen.say()
        if lead := question.lead(answers, self.facts):
            self.screen.say(lead)
