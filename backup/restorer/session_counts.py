"""What a restore's sessions did, this one included: counted for its record, its report and its progress."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from backup.inventory.records.restore_state import RestoreState
from backup.inventory.records.retrievals import Restore, Retrieval
from backup.inventory.records.runs import Outcome
from backup.inventory.store.stages import OVER, RetrievalStage
from backup.model import Problem
from backup.protocols import Progress
from backup.restorer.plan import RestorePlan
from backup.restorer.report import RestoreReport
from backup.restorer.target.write import Writer

_FETCHED = {RetrievalStage.READY, RetrievalStage.FETCHED}


class SessionCounts:
    """The numbers and problems of one session on top of `before`, what earlier sessions did."""

    def __init__(self, before: RestoreState, started: datetime, progress: Progress) -> None:
        self.before = before
        self.problems: list[Problem] = []
        self.warnings: list[str] = []
        self.fetched = 0
        self.removed = 0
        self.verified = 0
        self._started = started
        self._progress = progress
        self._dealt_with = (0, 0)  # files and bytes as of the last frame that was dealt with
        self._files_told = 0

    def count(self, writer: Writer, done: int = 0) -> None:
        """Take down what was written up to here, and show it as progress, with `done` bytes more."""
        self._dealt_with = (writer.files, writer.bytes)
        self._progress.advance(files=writer.files - self._files_told, done=done)
        self._files_told = writer.files

    def all_problems(self) -> tuple[Problem, ...]:
        """The problems of all sessions, each once."""
        return tuple(dict.fromkeys((*self.before.problems, *self.problems)))

    def so_far(self, now: datetime, gone: frozenset[bytes]) -> RestoreState:
        """The record once all that was written so far is synced; `gone` are files that never come."""
        files, written = self._dealt_with
        return RestoreState(
            files=self.before.files + files,
            written=self.before.written + written,
            fetched=self.before.fetched + self.fetched,
            seconds=self.before.seconds + max(0.0, (now - self._started).total_seconds()),
            problems=self.all_problems(),
            gone=self.before.gone | gone,
            failures=self.before.failures,
            elsewhere=self.before.elsewhere,
            place=self.before.place,
        )

    def report(
        self, restore: Restore, plan: RestorePlan, known: Sequence[Retrieval], writer: Writer
    ) -> RestoreReport:
        """The report of the restore as it stands."""
        problems = self.all_problems()
        if is_over := all(one.state in OVER for one in known):
            problems = (*plan.selection.problems, *problems)
        finished = Outcome.PARTIAL if problems else Outcome.DONE
        return RestoreReport(
            restore=restore.id,
            snapshot=plan.snapshot.id,
            target=restore.target,
            outcome=finished if is_over else Outcome.RUNNING,
            waiting=sum(one.state not in OVER for one in known),
            retrievals=len(known),
            files=self.before.files + writer.files,
            directories=writer.directories,
            bytes=self.before.written + writer.bytes,
            retrieved=sum(one.extent.length for one in known if one.state in _FETCHED),
            fetched=self.before.fetched + self.fetched,
            kept=len(plan.confirmed.kept),
            removed=self.removed,
            verified=self.verified,
            seconds=self.before.seconds,
            problems=problems,
            warnings=tuple(self.warnings),
        )
