"""A question of `begin`, and the facts of this machine that it is asked with."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from backup.app.base.silent_mounts import Places
from backup.app.beginning.answers import Answers, ConfigPaths
from backup.app.beginning.document import config_text
from backup.app.beginning.measure import Measured, measure
from backup.config import Config, config_of
from backup.errors import ConfigError, UsageError

NONE = "none"
YES, NO = "yes", "no"


@dataclass
class Facts:
    """This machine, as far as questions depend on it; sizes are measured when they are asked for.

    `has_key`: the state directory of a server that was here before knows its recovery key's public half.
    """

    place: ConfigPaths
    home: str
    is_root: bool
    now: datetime
    environ: Mapping[str, str]
    folders: Sequence[str] = ()
    databases: Sequence[str] = ()
    has_key: bool = False
    sizes: dict[str, Measured] = field(default_factory=dict)
    places: Places = field(default_factory=Places)

    def measured(self, paths: Sequence[str]) -> list[Measured]:
        """About how much is in each of the paths."""
        unknown = [path for path in paths if path not in self.sizes]
        if unknown:
            self.sizes |= {measured.path: measured for measured in measure(unknown, places=self.places)}
        return [self.sizes[path] for path in paths]

    def total(self, answers: Answers) -> tuple[int, bool]:
        """About how many bytes are to be backed up, and whether all of them were counted."""
        found = self.measured(answers.sources)
        return sum(measured.bytes for measured in found), all(measured.is_whole for measured in found)


Words = Callable[[Answers, Facts], str]


def nothing(_answers: Answers, _facts: Facts) -> str:
    """No text."""
    return ""


def always(_answers: Answers, _facts: Facts) -> bool:
    """Whatever was answered."""
    return True


@dataclass(frozen=True, slots=True)
class Question:
    """One question, by the name that it has in a file of answers.

    `lead` is shown before it, `note` once it is answered. `read` makes the answer part of the answers, or
    raises `UsageError`; then those `keys` of the config that follows must be without mistake. Where
    `confirms`, another answer than the default is shown as the new default first.
    """

    name: str
    title: str
    help: str
    default: Words
    read: Callable[[Answers, str, Facts], Answers]
    applies: Callable[[Answers, Facts], bool] = always
    lead: Words = nothing
    note: Words = nothing
    keys: tuple[str, ...] = ()
    confirms: bool = False

    def answered(self, answers: Answers, text: str, facts: Facts) -> Answers:
        """The answers with this one. `UsageError` says what is wrong with it."""
        made = self.read(answers, text, facts)
        for sentence in _mistakes(made, facts.place, self.keys):
            raise UsageError(f"{text!r} {sentence}")
        return made


def _mistakes(answers: Answers, place: ConfigPaths, keys: tuple[str, ...]) -> list[str]:
    """The config's own sentences about these keys; those of questions that are still to come say nothing."""
    if not keys:
        return []
    try:
        config_of(tomllib.loads(config_text(answers, place)), place.config)
    except ConfigError as error:
        lines = [line.strip().removeprefix(f"{place.config}: ") for line in str(error).splitlines()]
        split = [line.partition(": ") for line in lines]
        return [sentence for key, _, sentence in split if key.startswith(keys)]
    return []


def config_from(answers: Answers, place: ConfigPaths) -> Config:
    """The config that follows from answers. `ConfigError`."""
    return config_of(tomllib.loads(config_text(answers, place)), place.config)


def one_of(text: str, choices: Sequence[str]) -> str:
    """The choice that a text names, by its word, the beginning of one, or its number. `UsageError`."""
    words = text.strip().lower()
    if words.isdecimal() and 1 <= int(words) <= len(choices):
        return choices[int(words) - 1]
    fitting = [choice for choice in choices if choice.lower() == words] or [
        choice for choice in choices if words and choice.lower().startswith(words)
    ]
    if len(fitting) != 1:
        raise UsageError(f"{text!r} is none of {', '.join(choices)}")
    return fitting[0]


def yes_or_no(text: str) -> bool:
    """Whether a text says yes. `UsageError`."""
    return one_of(text, (YES, NO)) == YES


def is_none(text: str) -> bool:
    """Whether a text says that there is none."""
    return text.strip().lower() == NONE
