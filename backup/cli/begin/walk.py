"""Asks the questions of `begin` on a terminal: Enter takes the default, `?` shows help, `<` goes back."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO

import click
from msgspec import Struct

from backup.app.beginning.answers import Answers
from backup.cli.begin.question import Facts, Question
from backup.cli.render.render import printable
from backup.errors import NightvaultError
from backup.installed import with_places

BACK = ("<", "back")
HELP = ("?", "help")
_HOW = (
    "Enter takes what is in brackets, ? explains, < goes back, Ctrl-C ends. Nothing is written before you "
    "have seen all of it and said yes."
)
_WIDEST = 80
_TYPED = 30  # cells that are left for an answer
_LONGEST = 400  # of a line that is shown: a recipient has 2,000 characters


class LeftError(NightvaultError):
    """The user left before the end: by Ctrl-C, the end of the input, or a signal."""


class Screen:
    """The user's terminal. Questions are written to standard error, like progress bars."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    @property
    def width(self) -> int:
        """The usable width of a line, in cells."""
        return min(_WIDEST, shutil.get_terminal_size((_WIDEST, 24)).columns) - 1

    def say(self, text: str = "") -> None:
        """Write a text; each line is wrapped by itself and keeps its indentation."""
        for line in with_places(text).splitlines() or [""]:
            self._line(line)

    def _line(self, line: str) -> None:
        plain = printable(line)
        if len(plain) > _LONGEST:
            plain = plain[:_LONGEST] + "…"
        if len(plain) > self.width:
            blanks = len(plain) - len(plain.lstrip(" "))
            indent = "  " if plain.startswith("- ") else " " * (blanks + 4 if blanks else 0)
            wrapper = textwrap.TextWrapper(self.width, subsequent_indent=indent, break_on_hyphens=False)
            wrapper.break_long_words = len(plain) > _LONGEST  # a path or a command is to be copied
            plain = wrapper.fill(plain)
        click.echo(plain, file=self._stream)

    def ask(self, prompt: str) -> str:
        """Return the line that the user types, stripped of blanks. `LeftError` on Ctrl-C or end of input."""
        shown = printable(prompt)
        if len(shown) > self.width - _TYPED:  # so that there is room to type
            self.say(shown)
            shown = ">"
        click.echo(f"{shown} ", nl=False, file=self._stream)
        try:
            return input().strip()
        except UnicodeDecodeError:
            self.say("this was no text that could be read; type it again")
            return self.ask(prompt)
        except (KeyboardInterrupt, EOFError) as error:
            click.echo(file=self._stream)
            raise LeftError("stopped") from error


class AnsweredQuestion(Struct, frozen=True):
    """A question that was answered, and the answers as they were before it, for going back."""

    question: Question
    before: Answers


@dataclass(slots=True)
class Walk:
    """The state of the questions: asks them in order, and goes back when the user types `<`."""

    screen: Screen
    facts: Facts
    course: Sequence[Question]
    answers: Answers
    done: list[AnsweredQuestion] = field(default_factory=list)
    typed: dict[str, str] = field(default_factory=dict)

    def run(self) -> Answers:
        """Ask all remaining questions; return the answers. `LeftError` if the user leaves."""
        if not self.done:
            self.screen.say(_HOW)
        return self._on()

    def back(self) -> Answers:
        """Ask the last question again, and all that follow it."""
        self._undo()
        return self._on()

    def _on(self) -> Answers:
        """Ask from here on."""
        while (question := self._next()) is not None:
            if not self._ask(question):
                self._undo()
        return self.answers

    def _next(self) -> Question | None:
        """The first question after those that were answered which applies."""
        place = self.course.index(self.done[-1].question) + 1 if self.done else 0
        return next(
            (question for question in self.course[place:] if question.applies(self.answers, self.facts)), None
        )

    def _undo(self) -> None:
        """Take the last answer back."""
        if not self.done:
            self.screen.say("this is the first question")
            return
        self.answers = self.done.pop().before

    def _ask(self, question: Question) -> bool:
        """Ask until there is a right answer; False to go back. What was typed before is the default."""
        before = self.answers
        default, shown = self._proposed(question)
        self._show(question, shown)
        while True:
            again = " (as before)" if default == self.typed.get(question.name) else ""
            typed = self.screen.ask(f"{question.title} [{default}]{again}" if default else question.title)
            if typed in BACK:
                return False
            if typed in HELP:
                self.screen.say(question.help)
                continue
            text = typed or default
            try:
                made = question.answered(before, text, self.facts)
            except NightvaultError as error:
                self.screen.say(f"{error}" + (f"; {error.advice}" if error.advice else ""))
                continue
            if typed:
                self.typed[question.name] = typed
            if question.confirms and text != default:
                default = text
                self._show(question, made)
                continue
            self.answers = made
            self.done.append(AnsweredQuestion(question, before))
            if note := question.note(made, self.facts):
                self.screen.say(note)
            return True

    def _proposed(self, question: Question) -> tuple[str, Answers]:
        """The answer of Enter, and the answers that are shown with the question."""
        if given := self.typed.get(question.name):
            try:
                return given, question.answered(self.answers, given, self.facts)
            except NightvaultError:  # it does not go with what was answered since
                del self.typed[question.name]
        return question.default(self.answers, self.facts), self.answers

    def _show(self, question: Question, answers: Answers) -> None:
        self.screen.say()
        if lead := question.lead(answers, self.facts):
            self.screen.say(lead)
