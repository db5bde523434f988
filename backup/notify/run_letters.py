"""Letters about runs: what ran, how it ended, what could not be read, and what to do; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from backup.inventory.records.messages import Condition
from backup.inventory.records.runs import Run
from backup.inventory.store.states import MessageKind
from backup.kinds import Outcome, RunKind, command_after, run_title
from backup.model import Problem, VaultName
from backup.notify.decide import MOST_FLAPS
from backup.notify.letter import MOST_PROBLEMS, Letter
from backup.wording import counted, duration, escape, local_time, shown_path


class LetterContext(Struct, frozen=True):
    """The context of a letter about a run: this server, its time zone, the job's vault and last good backup.

    `problems` are those of the run's snapshot, `remarks` sentences on what was unusual. `proven` says what of
    the job was ever read back and opened, and when last. `rows` are those of its report.
    """

    host: str
    zone: tzinfo
    vault: VaultName | None = None
    last_good: datetime | None = None
    problems: Sequence[Problem] = ()
    remarks: Sequence[str] = ()
    proven: str = ""
    rows: Sequence[tuple[str, str]] = ()


def named(run: Run) -> str:
    """A run in words: "backup of job main", "prune of vault cold", "reading back vault cold"."""
    if run.drill is not None:
        return f"drill {run.drill} ({run.grade or 'read back'})"
    return run_title(run.kind, run.job, run.vault, reads_back=run.reads_back)


def letter_of(run: Run, kind: MessageKind, at: LetterContext) -> Letter:
    """The letter about a run that has ended."""
    title = f"{at.host}: {named(run)} {_ended(run, kind)}"
    worst = [problem for problem in at.problems if not problem.is_warning] or list(at.problems)
    return Letter(
        title=title,
        host=at.host,
        facts=list(_facts(run, at)),
        problems=[
            f"{problem.kind}: {shown_path(problem.path)}: {escape(problem.detail)}"
            for problem in worst[:MOST_PROBLEMS]
        ],
        more_problems=max(0, len(worst) - MOST_PROBLEMS),
        remarks=[*at.remarks, *run.warnings],
        advice=str(run.report.get("advice") or ""),
        command=command_after(run.kind, run.job, run.vault, reads_back=run.reads_back),
        report=run.report,
    )


def by_turns(letter: Letter, hour: Condition, at: LetterContext) -> Letter:
    """The letter about a failure after an hour with many failures that were not reported."""
    count = counted(hour.level - MOST_FLAPS, "more failure")
    fact = f"{count} within the hour from {local_time(hour.since, at.zone)}, and it worked in between"
    return replace(letter, title=f"{letter.title}, by turns", facts=[*letter.facts, ("by turns", fact)])


def _ended(run: Run, kind: MessageKind) -> str:
    if kind is MessageKind.RECOVERED:
        return "works again"
    if run.outcome is Outcome.FAILED:
        if not run.found_damage:
            return "failed"
        if run.kind is RunKind.DRILL:
            return "failed: not everything came back as it was saved"
        return "found something missing or damaged"
    return {Outcome.PARTIAL: "was partial", Outcome.DONE: "is done"}.get(run.outcome, f"was {run.outcome}")


def _facts(run: Run, at: LetterContext) -> Iterator[tuple[str, str]]:
    if run.error is not None:
        yield "error", run.error
    if run.number:  # else it could not be recorded
        yield "run", f"{run.number}, {run.outcome}"
    if vault := run.vault or at.vault:
        yield "vault", vault
    took = "" if run.finished_at is None else _took(run.started_at, run.finished_at)
    yield "began", local_time(run.started_at, at.zone) + took
    yield from ((label, value.replace("\n", "; ")) for label, value in at.rows)
    if at.proven:
        yield "tested", at.proven
    if at.last_good is not None and run.kind is RunKind.BACKUP and run.outcome is Outcome.FAILED:
        yield "last good", local_time(at.last_good, at.zone)


def _took(began: datetime, ended: datetime) -> str:
    seconds = (ended - began).total_seconds()
    return f", took {duration(seconds)}" if seconds >= 0 else ""


def details_of(run: Run, vault: VaultName | None) -> Mapping[str, Any]:
    """Details of the run for programs; the keys are part of the JSON interface."""
    return {
        "job": run.job,
        "vault": run.vault or vault,
        "run": run.number or None,
        "run_kind": str(run.kind),
        "outcome": str(run.outcome),
        "began": run.started_at.isoformat(),
        "ended": None if run.finished_at is None else run.finished_at.isoformat(),
    }
