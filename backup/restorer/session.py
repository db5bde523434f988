"""One session of a delivery: continues what earlier ones wrote, fetches and writes what is ready."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial

from msgspec.structs import replace

from backup.errors import (
    InterruptedRunError,
    NightvaultError,
    RetrievalExpiredError,
    RetrievalNotReadyError,
    VaultError,
)
from backup.format.pack import derive_keys
from backup.inventory.records import restore_state as books
from backup.inventory.records.restore_state import RestoreState
from backup.inventory.records.retrievals import Restore, Retrieval
from backup.inventory.store.states import OVER, RetrievalStage
from backup.kinds import Outcome
from backup.model import FrameRow, Problem, ProblemKind
from backup.protocols import Progress
from backup.restorer.asking import GONE
from backup.restorer.checkpoints import Checkpoints
from backup.restorer.context import RestoreContext
from backup.restorer.frame_opener import OpenedArchive, Opener
from backup.restorer.plan import RestorePlan
from backup.restorer.ranges import cover
from backup.restorer.report import RestoreReport
from backup.restorer.selection.choice import Overwrite
from backup.restorer.writer.assemble import Assembly
from backup.restorer.writer.existing import read_back
from backup.restorer.writer.extraneous import remove_extraneous
from backup.restorer.writer.mark import ELSEWHERE, MarkFile, enter, leads_to
from backup.restorer.writer.owners import Owners
from backup.restorer.writer.taken import LEFT
from backup.restorer.writer.write import Writer
from backup.transfer.retrievals.once import new_token
from backup.transfer.retrieve import Fetcher, ReadyRange

_FETCHED = {RetrievalStage.READY, RetrievalStage.FETCHED}


class SessionCounts:
    """The counts and problems of one session, added to `before`, those of earlier sessions."""

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
        """Count what was written so far, and show it as progress, with `done` bytes more."""
        self._dealt_with = (writer.files, writer.bytes)
        self._progress.advance(files=writer.files - self._files_told, done=done)
        self._files_told = writer.files

    def all_problems(self) -> tuple[Problem, ...]:
        """Return the problems of all sessions, each once."""
        return tuple(dict.fromkeys((*self.before.problems, *self.problems)))

    def so_far(self, now: datetime, gone: frozenset[bytes]) -> RestoreState:
        """Return the record for a checkpoint of all that was written; `gone` are files that never come."""
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
        """Return the report of the restore at this time."""
        problems = self.all_problems()
        if is_over := all(retrieval.state in OVER for retrieval in known):
            problems = (*plan.selection.problems, *problems)
        finished = Outcome.PARTIAL if problems else Outcome.DONE
        return RestoreReport(
            restore=restore.id,
            snapshot=plan.snapshot.id,
            target=restore.target,
            outcome=finished if is_over else Outcome.RUNNING,
            waiting=sum(retrieval.state not in OVER for retrieval in known),
            retrievals=len(known),
            files=self.before.files + writer.files,
            directories=writer.directories,
            bytes=self.before.written + writer.bytes,
            retrieved=sum(retrieval.extent.length for retrieval in known if retrieval.state in _FETCHED),
            fetched=self.before.fetched + self.fetched,
            kept=len(plan.confirmed.kept),
            removed=self.removed,
            verified=self.verified,
            seconds=self.before.seconds,
            problems=problems,
            warnings=tuple(self.warnings),
        )


_FETCHABLE = {RetrievalStage.READY, RetrievalStage.FETCHED}
_NEVER = datetime.max.replace(tzinfo=UTC)


class Session:
    """One session that writes a restore's files below its target; `before` has the counts of earlier ones.

    It opens the target; `run` closes it. `Checkpoints` records the progress of retrievals.
    """

    def __init__(
        self,
        restore: Restore,
        known: Sequence[Retrieval],
        plan: RestorePlan,
        pack_keys: dict[int, bytes],
        before: RestoreState | None,
        context: RestoreContext,
    ) -> None:
        self._restore = restore
        self._plan = plan
        self._pack_keys = pack_keys
        self._resumes = before is not None and before.has_begun
        self._has_entered = before is not None and (before.has_begun or before.has_entered)
        self._context = context
        self._has_begun = False
        choice = plan.choice
        self._target, place = enter(restore, context, replaces=choice.overwrite is not Overwrite.NEVER)
        self._before = replace(before or RestoreState(), place=place)
        self._counts = SessionCounts(self._before, context.clock.now(), context.progress)
        owners = Owners(numeric=context.numeric_owner or choice.numeric_owner)
        report = self._counts.problems.append
        self._writer = Writer(
            self._target,
            report,
            restore.id,
            owners,
            resumes=self._resumes,
            has_entered=self._has_entered,
            left=[problem.path for problem in self._before.problems if problem.detail == LEFT],
        )
        key, warn = context.secret.chunk_key, self._counts.warnings.append
        self._assembly = Assembly(
            plan.selection, self._writer, report, chunk_key=key, makers=context.makers, warn=warn
        )
        self._checkpoints = Checkpoints(restore, known, context.inventory, self._writer)

    def run(self) -> RestoreReport:
        """Write what is ready, and finish if that was all; unsynced files are removed if this fails."""
        progress = self._context.progress
        progress.start(f"Restoring {self._plan.snapshot.id[:8]}", self._plan.selection.data_bytes)
        is_done = False
        try:
            self._begin()
            self._fetch()
            if self._is_over():
                self._finish()
                is_done = True
            else:
                self._checkpoints.record(self._so_far())
            known = list(self._checkpoints.known.values())
            return self._counts.report(self._restore, self._plan, known, self._writer)
        except NightvaultError:
            with suppress(NightvaultError):  # it may meet the same again
                self._settle()
            self._keep_what_is_done()
            raise
        except KeyboardInterrupt:  # who knows where: nothing more is asked of the second process
            self._keep_what_is_done()
            raise
        finally:
            self._assembly.close()
            self._writer.abandon()
            progress.finish(is_done=is_done)
            self._target.close()
            self._checkpoints.close()

    def _finish(self) -> None:
        """All came, or never will: files without frames, what is to go, directories, and the last sync."""
        self._checkpoints.end()
        self._lose_what_is_gone()
        self._assembly.finish()
        self._remove()
        mark = MarkFile(self._restore.id, self._context.secret)
        with mark.lifted(self._target.handle(b"")):
            self._checkpoints.run(self._writer.finish())
            if self._plan.choice.verify:
                self._verify()
        place = self._before.place
        if place is not None and not leads_to(place, self._target.handle(b"")):
            self._counts.problems.append(Problem(place.path, ProblemKind.NOT_SET, ELSEWHERE))

    def _keep_what_is_done(self) -> None:
        """For the next session; what ended this one is what its reader must know."""
        try:
            if self._has_begun:  # else the next session would miss what was not made yet
                self._checkpoints.record(self._so_far())
        except NightvaultError as error:
            self._context.progress.note(f"what was written since the last record is written again: {error}")

    def _remove(self) -> None:
        """Remove what was confirmed, before directories get their times; not where files could not come."""
        confirmed = self._plan.confirmed
        if not confirmed.extraneous:
            return
        if self._plan.selection.problems or self._counts.all_problems():
            self._context.progress.note("not everything could be restored: nothing is removed")
            return
        top, place = self._target.handle(b""), self._before.place
        renumbered = place is not None and place.device != os.fstat(top).st_dev
        report = self._counts.problems.append
        self._counts.removed = remove_extraneous(top, confirmed, report, renumbered=renumbered)

    def _verify(self) -> None:
        """Read back from the disk what was written, each name of it."""
        gone = set(self._assembly.gone) | {problem.path for problem in self._counts.all_problems()}
        self._context.progress.finish()
        self._context.progress.start("Reading back", self._plan.selection.data_bytes)
        self._counts.verified = read_back(
            self._target.handle(b""),
            self._plan.selection,
            gone,
            self._context,
            self._counts.problems.append,
        )

    def _begin(self) -> None:
        """Directories and empty files; then what earlier sessions left, of which some may be wanted again."""
        if not self._has_entered:
            with self._context.inventory.writing() as tx:
                books.note_entered(tx, self._restore.number)
        self._assembly.begin(again=self._resumes)
        if self._resumes:
            self._context.progress.advance(done=self._before.written)
            done = {
                (retrieval.archive, row.number)
                for retrieval, rows in self._laid()
                for row in rows
                if _has(retrieval, row)
            }
            again = self._assembly.resume(done, self._before.gone)
            for retrieval, rows in self._laid():
                lost = [
                    row.offset
                    for row in rows
                    if (retrieval.archive, row.number) in again and _has(retrieval, row)
                ]
                if lost:
                    self._checkpoints.set(_back_to(retrieval, min(lost)))
        self._has_begun = True
        self._count()

    def _laid(self) -> list[tuple[Retrieval, Sequence[FrameRow]]]:
        """Each retrieval with the frames that it is there for."""
        known = list(self._checkpoints.known.values())
        laid = cover(self._plan.ranges, [(retrieval.archive, retrieval.extent) for retrieval in known])
        return [(retrieval, plan.frames) for retrieval, plan in zip(known, laid, strict=True)]

    def _is_over(self) -> bool:
        return all(retrieval.state in OVER for retrieval in self._checkpoints.known.values())

    def _fetch(self) -> None:
        """Fetch what is ready, in order of priority; expired retrievals are planned again, others go on."""
        ready = [
            (retrieval, rows) for retrieval, rows in self._laid() if retrieval.state is RetrievalStage.READY
        ]
        ready.sort(key=lambda pair: (pair[0].until or _NEVER, pair[0].number))
        lapsed: VaultError | None = None
        fetcher = Fetcher(
            self._context.vault,
            self._context.clock,
            piece=self._context.piece,
            tell=self._context.progress.note,
        )
        with fetcher, Opener(self._context.openers) as opener:
            for retrieval, rows in ready:
                left = [row for row in rows if not _has(retrieval, row)]
                try:
                    self._fetch_range(retrieval, left, fetcher, opener)
                except (RetrievalExpiredError, RetrievalNotReadyError) as error:
                    lapsed = error
                    self._settle()
                    self._checkpoints.set(self._lapsed(self._checkpoints.known[retrieval.number], error))
                    continue
                self._checkpoints.set(
                    replace(retrieval, state=RetrievalStage.FETCHED, written_to=retrieval.extent.end)
                )
        if lapsed is not None and not self._counts.fetched:
            raise type(lapsed)(
                f"restore {self._restore.id}: {lapsed}",
                advice="run the same command again: only what is gone is requested again",
            ) from lapsed

    def _lapsed(self, retrieval: Retrieval, error: VaultError) -> Retrieval:
        """Return the retrieval that is no longer ready: planned again if it is gone, else waited for."""
        if isinstance(error, RetrievalNotReadyError):
            self._context.progress.note(f"{error}: the restore waits for it")
            return replace(retrieval, state=RetrievalStage.WAITING)
        self._context.progress.note(f"{error}: the rest of it is requested again")
        return books.again(retrieval, new_token())

    def _fetch_range(
        self, retrieval: Retrieval, left: Sequence[FrameRow], fetcher: Fetcher, opener: Opener
    ) -> None:
        """Fetch what is left of one retrieval and write it, with a checkpoint from time to time."""
        if (
            not left
            or retrieval.archive not in self._pack_keys
            or retrieval.retrieval_id is None
            or retrieval.asked is None
        ):
            return
        archive = self._plan.archives[retrieval.archive]
        keys = derive_keys(self._pack_keys[retrieval.archive], archive.header)
        why: dict[int, str] = {}
        frames = fetcher.frames(
            ReadyRange(
                *(retrieval.retrieval_id, archive.size, retrieval.asked, left),
                elsewhere=partial(self._context.elsewhere, self._restore, retrieval),
            ),
            given_up=lambda row, error: why.setdefault(row.number, str(error)),
        )
        opening = OpenedArchive(archive.label.pack_id, keys, why)
        proving = partial(self._assembly.proving, retrieval.archive)
        for row, opened in opener.opened(opening, frames, proving):
            done = self._assembly.accept(retrieval.archive, row, opened)
            written = replace(retrieval, written_to=row.offset + row.sealed_length)
            self._checkpoints.accept(written, row.sealed_length)
            self._count(done)
            self._counts.fetched += row.sealed_length
            if self._checkpoints.unsynced >= self._context.checkpoint:
                self._settle()
                self._checkpoints.begin(self._so_far())
            else:
                self._checkpoints.end_if_synced()
            if self._context.stop():
                raise InterruptedRunError(
                    f"restore {self._restore.id} was stopped", advice="the same command again goes on"
                )

        self._settle()

    def _settle(self) -> None:
        """Wait for what is under way, so that all that came is done."""
        self._count(self._assembly.settle())

    def _count(self, done: int = 0) -> None:
        """Count what is done, and show it as progress, with `done` bytes more."""
        self._checkpoints.note_done(self._assembly.under_way)
        self._counts.count(self._writer, done)

    def _so_far(self) -> RestoreState:
        """The record as it is once all that was written so far is synced."""
        return self._counts.so_far(self._context.clock.now(), frozenset(self._assembly.gone))

    def _lose_what_is_gone(self) -> None:
        for archive in self._plan.archives.keys() - self._pack_keys.keys():
            self._assembly.lose(archive, "the keys of its archive could not be opened")
        hint = self._context.vault.traits.if_missing
        for archive, why in self._plan.lost.items():
            self._assembly.lose(archive, why)
            self._counts.warnings += [hint] if hint and hint not in self._counts.warnings else []
        for retrieval, rows in self._laid():
            if retrieval.state is RetrievalStage.FAILED:
                failure = self._before.failures.get(retrieval.number)
                self._assembly.lose(retrieval.archive, failure.why if failure else GONE, rows)


def _has(retrieval: Retrieval, row: FrameRow) -> bool:
    """Whether the frame was written and synced at an earlier session."""
    return row.offset + row.sealed_length <= retrieval.written_to


def _back_to(retrieval: Retrieval, offset: int) -> Retrieval:
    """The retrieval with less written, as a file that was half done is not what it was."""
    back = replace(retrieval, written_to=offset)
    if retrieval.state is RetrievalStage.FAILED:
        return back
    if retrieval.asked is not None and retrieval.asked.start <= offset and retrieval.state in _FETCHABLE:
        return replace(back, state=RetrievalStage.READY)
    return books.again(back, new_token())
