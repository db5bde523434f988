"""The report of a run, and its facts: worded once, for the log, a letter, a page and a screen.

    class PruneReport(Struct): ...          # one for each kind of run, beside what makes it
        def facts(self, currency): yield Fact("3 archives condemned"); yield Fact("1.2 GiB", "deleted")

A fact without a label is a sentence of the log; one with a label is a row of a letter, page or screen.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from backup.inventory.records.runs import Run
from backup.kinds import KINDS, Outcome, load
from backup.wording import printable

_log = logging.getLogger(__name__)


class Fact(Struct, frozen=True):
    """One thing that a run did or found; a value may have lines. `level` is that of the log (INFO, …)."""

    value: str
    label: str = ""
    level: int = logging.INFO


class Told(Protocol):
    """Something with a subject and facts, as each report has them."""

    @property
    def subject(self) -> str:
        """The thing that the facts are about."""
        ...

    def facts(self, currency: str = "USD") -> Iterable[Fact]:
        """The facts, the gravest first."""
        ...


class Report(Told, Protocol):
    """The report of one step of a run; its type stays until it is shown or stored.

    Its subject is the run in words: "prune of vault cold". Money in its facts is in the given currency.
    """

    @property
    def waits_for(self) -> str:
        """The thing that the run waits for, to go on in a later step; empty once it is over."""
        ...

    @property
    def outcome(self) -> Outcome:
        """How it ended."""
        ...

    @property
    def warnings(self) -> Sequence[str]:
        """Sentences for people to act on."""
        ...

    def document(self) -> Mapping[str, Any]:
        """The report as JSON; its keys are part of the interface."""
        ...


def warned(warnings: Iterable[str]) -> Iterator[Fact]:
    """Warnings, as sentences of the log."""
    return (Fact(warning, level=logging.WARNING) for warning in warnings)


def rows_of(facts: Iterable[Fact]) -> list[tuple[str, str]]:
    """The rows among facts, each a label and a value, for a letter, a page or a screen."""
    return [(fact.label, fact.value) for fact in facts if fact.label]


def log_report(report: Told) -> None:
    """Write the sentences of a report to the log, each with its subject."""
    for fact in report.facts():
        if not fact.label:
            _log.log(fact.level, "%s: %s", report.subject, printable(fact.value))


def recorded_facts(run: Run, currency: str) -> list[Fact]:
    """The facts of a recorded run; none without a report, as where it failed or an older version made it."""
    for name in KINDS[run.kind].reports:
        with suppress(msgspec.ValidationError):
            return list(msgspec.convert(run.report, load(name), strict=False).facts(currency))
    return []
