"""One sitting of a delivery: what earlier ones wrote is taken up, what is ready is fetched and written."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from backup.errors import (
    InterruptedRunError,
    NightvaultError,
    RetrievalExpiredError,
    RetrievalNotReadyError,
    VaultError,
)
from backup.format.pack import derive_keys
from backup.inventory import restore_state as books
from backup.inventory.restore_state import RestoreState
from backup.inventory.retrievals import Restore, Retrieval
from backup.inventory.runs import Outcome
from backup.inventory.stages import OVER, RetrievalStage
from backup.model import MIB, FrameRow, Problem
from backup.restorer.asking import GONE
from backup.restorer.context import RestoreContext
from backup.restorer.frame_opener import OpenedArchive, Opener
from backup.restorer.plan import RestorePlan
from backup.restorer.ranges import cover
from backup.restorer.report import RestoreReport
from backup.restorer.selection.choice import Overwrite
from backup.restorer.target.assemble import Assembly
from backup.restorer.target.existing import Existing, read_back
from backup.restorer.target.extraneous import remove_extraneous
from backup.restorer.target.mark import Mark, enter
from backup.restorer.target.owners import Owners
from backup.restorer.target.write import Writer
from backup.transfer.retrieve import Fetcher, ReadyRange

_NEVER = datetime.max.replace(tzinfo=UTC)
CHECKPOINT = 256 * MIB
"""Twice as many bytes are fetched again at most after a power cut; to sync more often slows disks down."""


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    """What is to be recorded when all that was written before is on the disk."""

    syncing: Future[None]
    changed: Sequence[Retrieval]
    so_far: RestoreState


class Session:
    """One attempt to bring a restore's files below its target; `before` is what earlier ones did."""

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
        self._known = {one.number: one for one in known}
        self._plan = plan
        self._pack_keys = pack_keys
        self._resumes = before is not None and before.has_begun
        self._before = before or RestoreState()
        self._context = context
        self._problems: list[Problem] = []
        self._warnings: list[str] = []
        self._started = context.clock.now()
        self._changed: set[int] = set()
        self._accepted: deque[Retrieval] = deque()  # as each is once its newest frames are done
        self._counts = (0, 0)  # files and bytes as of the last frame that was dealt with
        self._fetched = 0
        self._unsynced = 0
        self._syncer = ThreadPoolExecutor(1, "sync")
        self._checkpoint: _Checkpoint | None = None  # that is under way
        self._files_told = 0
        self._removed = 0
        self._verified = 0
        self._has_begun = False

    def run(self) -> RestoreReport:
        """Write what is ready, and finish if that was all; what was not synced goes when this fails."""
        progress, plan = self._context.progress, self._plan
        choice = plan.choice
        replaces = choice.overwrite is not Overwrite.NEVER
        target = enter(self._restore, self._context, replaces=replaces)
        owners = Owners(numeric=self._context.numeric_owner or choice.numeric_owner)
        writer = Writer(target, self._problems.append, self._restore.id, owners, resumes=self._resumes)
        key = self._context.secret.chunk_key
        assembly = Assembly(
            plan.selection, writer, self._problems.append, chunk_key=key, warn=self._warnings.append
        )
        progress.start(f"Restoring {plan.snapshot.id[:8]}", plan.selection.data_bytes)
        is_done = False
        try:
            self._begin(assembly, writer)
            self._fetch(assembly, writer)
            if not self._is_over():
                self._record(assembly, writer)
                return self._report(writer)
            self._end_checkpoint(writer)
            self._lose_what_is_gone(assembly)
            assembly.finish()
            self._remove()
            with Mark(self._restore.id, self._context.secret).lifted(target.handle(b"")):
                self._syncer.submit(writer.finish()).result()  # no Ctrl-C hides what that says
                if choice.verify:
                    self._verify(assembly)
            is_done = True
            return self._report(writer)
        except NightvaultError:
            with suppress(NightvaultError):  # it may meet the same again
                self._settle(assembly, writer)
            self._keep_what_is_done(assembly, writer)
            raise
        except KeyboardInterrupt:  # who knows where: nothing more is asked of the second process
            self._keep_what_is_done(assembly, writer)
            raise
        finally:
            assembly.close()
            writer.abandon()
            progress.finish(is_done=is_done)
            target.close()
            self._syncer.shutdown()

    def _keep_what_is_done(self, assembly: Assembly, writer: Writer) -> None:
        """For the next sitting; what ended this one is what its reader must know."""
        try:
            if self._has_begun:  # else the next sitting would miss what was not made yet
                self._record(assembly, writer)
        except NightvaultError as error:
            self._context.progress.note(f"what was written since the last record is written again: {error}")

    def _remove(self) -> None:
        """Remove what was confirmed, before directories get their times; not where files could not come."""
        extraneous = self._plan.confirmed.extraneous
        if not extraneous:
            return
        if self._plan.selection.problems or self._all_problems():
            self._context.progress.note("not everything could be restored: nothing is removed")
            return
        existing = Existing(self._restore.target)
        try:
            self._removed = remove_extraneous(existing, extraneous, self._problems.append)
        finally:
            existing.close()

    def _verify(self, assembly: Assembly) -> None:
        """Read back from the disk what was written, each name of it."""
        gone = set(assembly.gone) | {problem.path for problem in self._all_problems()}
        self._context.progress.finish()
        self._context.progress.start("Reading back", self._plan.selection.data_bytes)
        self._verified = read_back(
            self._restore.target,
            self._plan.selection,
            gone,
            self._context,
            self._problems.append,
        )

    def _begin(self, assembly: Assembly, writer: Writer) -> None:
        """Directories and empty files; then what earlier sittings left, of which some may be wanted again."""
        assembly.begin(again=self._resumes)
        if self._resumes:
            self._context.progress.advance(done=self._before.written)
            done = {(one.archive, row.number) for one, rows in self._laid() for row in rows if _has(one, row)}
            again = assembly.resume(done, self._before.gone)
            for one, rows in self._laid():
                lost = [row.offset for row in rows if (one.archive, row.number) in again and _has(one, row)]
                if lost:
                    self._set(_back_to(one, min(lost)))
        self._has_begun = True
        self._advance_counts(writer)
        self._tell(writer)

    def _laid(self) -> list[tuple[Retrieval, Sequence[FrameRow]]]:
        """Each retrieval with the frames that it is there for."""
        known = list(self._known.values())
        laid = cover(self._plan.ranges, [(one.archive, one.extent) for one in known])
        return [(one, plan.frames) for one, plan in zip(known, laid, strict=True)]

    def _set(self, one: Retrieval) -> None:
        self._known[one.number] = one
        self._changed.add(one.number)

    def _is_over(self) -> bool:
        return all(one.state in OVER for one in self._known.values())

    def _fetch(self, assembly: Assembly, writer: Writer) -> None:
        """Fetch what is ready, first what goes first; what has expired is planned anew, the rest goes on."""
        ready = [(one, rows) for one, rows in self._laid() if one.state is RetrievalStage.READY]
        ready.sort(key=lambda pair: (pair[0].until or _NEVER, pair[0].number))
        lapsed: VaultError | None = None
        fetcher = Fetcher(
            self._context.vault,
            self._context.clock,
            piece=self._context.piece,
            tell=self._context.progress.note,
        )
        with fetcher, Opener() as opener:
            for one, rows in ready:
                left = [row for row in rows if not _has(one, row)]
                try:
                    self._fetch_range(one, left, fetcher, opener, assembly, writer)
                except (RetrievalExpiredError, RetrievalNotReadyError) as error:
                    lapsed = error
                    self._settle(assembly, writer)
                    self._set(self._lapsed(self._known[one.number], error))
                    continue
                self._set(replace(one, state=RetrievalStage.FETCHED, written_to=one.extent.end))
        if lapsed is not None and not self._fetched:
            raise type(lapsed)(
                f"restore {self._restore.id}: {lapsed}",
                advice="run the same command again: what is gone is asked for anew, and only that",
            ) from lapsed

    def _lapsed(self, one: Retrieval, error: VaultError) -> Retrieval:
        """What was ready and is not: planned anew if it is gone, else waited for."""
        if isinstance(error, RetrievalNotReadyError):
            self._context.progress.note(f"{error}: it is waited for")
            return replace(one, state=RetrievalStage.WAITING)
        self._context.progress.note(f"{error}: what is missing of it is asked for again")
        return books.again(one, os.urandom(12).hex())

    def _fetch_range(
        self,
        one: Retrieval,
        left: Sequence[FrameRow],
        fetcher: Fetcher,
        opener: Opener,
        assembly: Assembly,
        writer: Writer,
    ) -> None:
        if not left or one.archive not in self._pack_keys or one.retrieval_id is None or one.asked is None:
            return
        archive = self._plan.archives[one.archive]
        keys = derive_keys(self._pack_keys[one.archive], archive.header)
        why: dict[int, str] = {}
        frames = fetcher.frames(
            ReadyRange(one.retrieval_id, archive.size, one.asked, left),
            given_up=lambda row, error: why.setdefault(row.number, str(error)),
        )
        for row, opened in opener.opened(OpenedArchive(archive.label.pack_id, keys, why), frames):
            done = assembly.accept(one.archive, row, opened)
            self._accepted.append(replace(one, written_to=row.offset + row.sealed_length))
            self._note_done(assembly)
            self._advance_counts(writer)
            self._tell(writer, done)
            self._fetched += row.sealed_length
            self._unsynced += row.sealed_length
            if self._unsynced >= CHECKPOINT:
                self._settle(assembly, writer)
                self._begin_checkpoint(assembly, writer)
            elif self._checkpoint is not None and self._checkpoint.syncing.done():
                self._end_checkpoint(writer)
            if self._context.stop():
                raise InterruptedRunError(
                    f"restore {self._restore.id} was stopped", advice="the same command again goes on"
                )

        self._settle(assembly, writer)

    def _settle(self, assembly: Assembly, writer: Writer) -> None:
        """Wait for what is under way, so that all that came is done."""
        done = assembly.settle()
        self._note_done(assembly)
        self._advance_counts(writer)
        self._tell(writer, done)

    def _note_done(self, assembly: Assembly) -> None:
        """Take down how far each retrieval is written: of frames that are done, and of no others."""
        while len(self._accepted) > assembly.under_way:
            self._set(self._accepted.popleft())

    def _record(self, assembly: Assembly, writer: Writer) -> None:
        """Sync what was written, and record it."""
        self._begin_checkpoint(assembly, writer)
        self._end_checkpoint(writer)

    def _begin_checkpoint(self, assembly: Assembly, writer: Writer) -> None:
        """Have what was written synced on a thread, while the next files are made."""
        self._end_checkpoint(writer)
        changed = [self._known[number] for number in sorted(self._changed)]
        so_far = self._so_far(assembly, self._context.clock.now())
        self._checkpoint = _Checkpoint(self._syncer.submit(writer.syncing()), changed, so_far)
        self._changed.clear()
        self._unsynced = 0

    def _end_checkpoint(self, writer: Writer) -> None:
        """Once it is synced, record it: so the record never promises more than the disk holds."""
        one = self._checkpoint
        if one is None:
            return
        one.syncing.result()
        writer.synced()
        with self._context.inventory.writing() as tx:
            books.retrievals_changed(tx, one.changed)
            books.keep_progress(tx, self._restore.number, one.so_far)
        self._checkpoint = None

    def _so_far(self, assembly: Assembly, now: datetime) -> RestoreState:
        before, (files, written) = self._before, self._counts
        return RestoreState(
            files=before.files + files,
            written=before.written + written,
            fetched=before.fetched + self._fetched,
            seconds=before.seconds + max(0.0, (now - self._started).total_seconds()),
            problems=self._all_problems(),
            gone=before.gone | frozenset(assembly.gone),
            failures=before.failures,
        )

    def _all_problems(self) -> tuple[Problem, ...]:
        """What all sittings met, each once."""
        return tuple(dict.fromkeys((*self._before.problems, *self._problems)))

    def _lose_what_is_gone(self, assembly: Assembly) -> None:
        for archive in self._plan.archives.keys() - self._pack_keys.keys():
            assembly.lose(archive, "the keys of its archive could not be opened")
        for archive, why in self._plan.lost.items():
            assembly.lose(archive, why)
        for one, rows in self._laid():
            if one.state is RetrievalStage.FAILED:
                failure = self._before.failures.get(one.number)
                assembly.lose(one.archive, failure.why if failure else GONE, rows)

    def _advance_counts(self, writer: Writer) -> None:
        self._counts = (writer.files, writer.bytes)

    def _tell(self, writer: Writer, done: int = 0) -> None:
        self._context.progress.advance(files=writer.files - self._files_told, done=done)
        self._files_told = writer.files

    def _report(self, writer: Writer) -> RestoreReport:
        known = list(self._known.values())
        problems = self._all_problems()
        if is_over := self._is_over():
            problems = (*self._plan.selection.problems, *problems)
        finished = Outcome.PARTIAL if problems else Outcome.DONE
        return RestoreReport(
            restore=self._restore.id,
            snapshot=self._plan.snapshot.id,
            target=self._restore.target,
            outcome=finished if is_over else Outcome.RUNNING,
            waiting=sum(one.state not in OVER for one in known),
            retrievals=len(known),
            files=self._before.files + writer.files,
            directories=writer.directories,
            bytes=self._before.written + writer.bytes,
            retrieved=sum(
                one.extent.length
                for one in known
                if one.state in {RetrievalStage.READY, RetrievalStage.FETCHED}
            ),
            fetched=self._before.fetched + self._fetched,
            kept=len(self._plan.confirmed.kept),
            removed=self._removed,
            verified=self._verified,
            seconds=self._before.seconds,
            problems=problems,
            warnings=tuple(self._warnings),
        )


def _has(one: Retrieval, row: FrameRow) -> bool:
    """Whether the frame was written and synced at an earlier sitting."""
    return row.offset + row.sealed_length <= one.written_to


def _back_to(one: Retrieval, offset: int) -> Retrieval:
    """The retrieval with less written, as a file that was half done is not what it was."""
    back = replace(one, written_to=offset)
    if one.state is RetrievalStage.FAILED:
        return back
    if (
        one.asked is not None
        and one.asked.start <= offset
        and one.state in {RetrievalStage.READY, RetrievalStage.FETCHED}
    ):
        return replace(back, state=RetrievalStage.READY)
    return books.again(back, os.urandom(12).hex())
