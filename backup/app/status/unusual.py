"""Compares a backup with the thirty before it, and describes what is unusual."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from backup.inventory.records import runs
from backup.inventory.records.runs import Run
from backup.inventory.store.connections import Transaction
from backup.kinds import Outcome, RunKind
from backup.retention.unusual import NIGHTS, Direction, Figure, Figures, Unusual, judge_figures
from backup.wording import counted, size


def unusual_in(tx: Transaction, run: Run) -> list[str]:
    """Return a sentence for each unusual figure of a backup that made a snapshot; none for any other run."""
    made_snapshot = run.kind is RunKind.BACKUP and run.outcome in {Outcome.DONE, Outcome.PARTIAL}
    if run.job is None or not made_snapshot:
        return []
    shrunk = [f"unusual: {sentence}" for sentence in run.report.get("shrunk") or ()]
    night = _figures(run.report)
    if night is None:
        return shrunk
    reports = runs.reports_before(tx, run.job, run.number, limit=NIGHTS)
    return shrunk + sentences(night, [usual for usual in map(_figures, reports) if usual is not None])


def sentences(night: Figures, before: Sequence[Figures]) -> list[str]:
    """Return a sentence for each unusual figure of a night, compared with those before it, oldest first."""
    return [_sentence(figure, night, odd) for figure, odd in judge_figures(night, before).items()]


def _figures(report: Mapping[str, Any]) -> Figures | None:
    """A run's figures; None where its report does not have them, as after a crash.

    Files that were stored again without a change do not count.
    """
    values = [report.get(name) for name in ("files_read", "bytes_uploaded", "bytes_new")]
    known = [number for number in values if isinstance(number, int)]
    if len(known) < len(values):
        return None
    files, uploaded, new = known
    again = report.get("files_again", 0)
    return Figures(files - again if isinstance(again, int) else files, uploaded, new)


def _sentence(figure: Figure, night: Figures, odd: Unusual) -> str:
    is_more = odd.direction is Direction.MORE
    if figure is Figure.FILES:
        far = "more" if is_more else "fewer"
        usual = f"{round(odd.usual):,}"
        return f"unusual: {counted(night.files, 'file')} new or changed, far {far} than the usual {usual}"
    if figure is Figure.BYTES:
        far = "more" if is_more else "less"
        return f"unusual: {size(night.uploaded)} uploaded, far {far} than the usual {size(round(odd.usual))}"
    kind = ", as when files were encrypted" if is_more else ""
    return (
        f"unusual: new data was compressed to {night.ratio or 0:.0%} of its size, usually to "
        f"{odd.usual:.0%}: it is of another kind{kind}"
    )
