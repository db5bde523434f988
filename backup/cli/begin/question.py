"""The class of a question of `begin`, and the facts about this machine that questions depend on."""

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
    """Facts about this machine that questions depend on; sizes are measured when first needed.

    `has_key`: a state directory exists already and has the recipient of a recovery key.
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
        """Return the approximate size of each path."""
        unknown = [path for path in paths if path not in self.sizes]
        if unknown:
            self.sizes |= {measured.path: measured for measured in measure(unknown, places=self.places)}
        return [self.sizes[path] for path in paths]

    def total(self, answers: Answers) -> tuple[int, bool]:
        """Return the approximate bytes of all sources, and whether everything in them was counted."""
        found = self.measured(answers.sources)
        return sum(measured.bytes for measured in found), all(measured.is_whole for measured in found)


Words = Callable[[Answers, Facts], str]


def nothing(_answers: Answers, _facts: Facts) -> str:
    """Return an empty text."""
    return ""


def always(_answers: Answers, _facts: Facts) -> bool:
    """Return True for all answers: the question is always asked."""
    return True


@dataclass(frozen=True, slots=True)
class Question:
    """A question; `name` is its key in a file of answers.

    `lead` is shown before the question, `note` after its answer. `read` adds the answer to the answers, or
    raises `UsageError`; then `keys`, the settings that follow from it, must be valid in the config. With
    `confirms`, an answer other than the default is first shown as the new default, for confirmation.
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
        """Return the answers with this one added. `UsageError` says what is wrong with it."""
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
    """Return the config that the answers result in. `ConfigError`."""
    return config_of(tomllib.loads(config_text(answers, place)), place.config)


def one_of(text: str, choices: Sequence[str]) -> str:
    """Return the choice that a text names by its word, a unique prefix, or its number. `UsageError`."""
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
    """Whether a text is yes rather than no. `UsageError` if it is neither."""
    return one_of(text, (YES, NO)) == YES


def is_none(text: str) -> bool:
    """Whether a text is the answer "none"."""
    return text.strip().lower() == NONE
