"""Dumps one file, or a tree as a tar, into a stream, from retrievals that are ready.

A file that fits into memory is verified completely before its first byte goes out, and left out of a tar if
it is damaged. A larger one is verified chunk by chunk; if that fails, the stream ends there with an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count

from msgspec.structs import replace

from backup.errors import IntegrityError, RetrievalNotReadyError
from backup.inventory.content import snapshots
from backup.inventory.records import retrievals
from backup.inventory.records.restore_state import Failure, read_progress
from backup.inventory.records.retrievals import Restore, Retrieval
from backup.inventory.store.states import UNDER_WAY, RetrievalStage
from backup.kinds import Outcome
from backup.model import MIB, EntryKind, Problem, ProblemKind
from backup.protocols import phase
from backup.restorer.asking import advance
from backup.restorer.context import RestoreContext, alone_with
from backup.restorer.delivery import end_restore, fail_run, give_up, open_run
from backup.restorer.dump.streaming import ChunkStream
from backup.restorer.dump.tar import ending, member, padding
from backup.restorer.pack_keys import PackKeyFile
from backup.restorer.plan import RestorePlan, plan_restore
from backup.restorer.report import RestoreReport, is_ready
from backup.restorer.selection.choice import Choice, Output
from backup.restorer.selection.entry import RestoreEntry
from backup.restorer.selection.files import RestoreFile
from backup.wording import shown_path

STDOUT = b"/dev/stdout"
REQUEST = b"/.nightvault/request"
"""The target of what a mount asked for: nobody writes it, it is read there once it has come."""
FITS = 32 * MIB

Sink = Callable[[bytes | memoryview], object]


def dump(restore: Restore, context: RestoreContext, sink: Sink) -> RestoreReport:
    """Write the restore's choice to the stream `sink`; the report names what a tar lacks.

    `RetrievalNotReadyError` before the first byte unless all is ready. After an error the restore stays open
    if its vault has waiting times: the same command writes the stream again, and requests nothing that can
    still be fetched. For any other vault it is over.
    """
    with alone_with(context.inventory, restore):
        known, failures = _asked_for(restore, context)
        with context.inventory.reading() as tx:
            snapshot = snapshots.get_snapshot(tx, restore.snapshot)
        if not is_ready(known):
            raise RetrievalNotReadyError(
                f"restore {restore.id} still waits for the vault", advice="run the same command again later"
            )
        pack_keys = PackKeyFile(context.key_directory, restore.id).read()
        plan = plan_restore(snapshot, restore.path, context, Choice.decode(restore.choice), known=known)
        run = open_run(restore, snapshot, context)
        try:
            report = _Dump(restore, plan, known, pack_keys, context, sink, failures).run()
        except BaseException as error:
            fail_run(run, error, context)
            if not context.vault.traits.waits and isinstance(error, (Exception, KeyboardInterrupt)):
                give_up(restore, context.inventory, context.key_directory, context.clock)
            raise
        return end_restore(restore, report, run, context)


def ask_once(restore: Restore, context: RestoreContext) -> None:
    """Ask for what was not asked for yet, and see what has come; nothing that lapsed is asked for again.

    The restore is over once something has lapsed, since who pays for it again begins anew; of a mount's
    `REQUEST` once all has come, too.
    """
    before, failures = _asked_for(restore, context)
    planned = {retrieval.number for retrieval in before if retrieval.state is RetrievalStage.PLANNED}
    asked = {retrieval.number for retrieval in before if retrieval.state in UNDER_WAY}
    advance(restore, replace(context, may_ask=lambda retrieval: retrieval.number in planned))
    known, failed = _asked_for(restore, context)
    has_lapsed = any(
        retrieval.number in asked
        and retrieval.state is RetrievalStage.PLANNED
        and failed.get(retrieval.number) == failures.get(retrieval.number)
        for retrieval in known
    )
    if has_lapsed or (restore.target == REQUEST and is_ready(known)):
        with alone_with(context.inventory, restore):
            give_up(restore, context.inventory, context.key_directory, context.clock)


def _asked_for(
    restore: Restore, context: RestoreContext
) -> tuple[Sequence[Retrieval], Mapping[int, Failure]]:
    """The retrievals, and the failures of some."""
    with context.inventory.reading() as tx:
        kept = read_progress(tx, restore.number)
        return retrievals.retrievals_of(tx, restore.number), kept.failures if kept else {}


class _Dump:
    """One dump: the stream so far and the problems met."""

    def __init__(
        self,
        restore: Restore,
        plan: RestorePlan,
        known: Sequence[Retrieval],
        pack_keys: dict[int, bytes],
        context: RestoreContext,
        sink: Sink,
        failures: Mapping[int, Failure],
    ) -> None:
        self._failures = failures
        self._restore = restore
        self._plan = plan
        self._known = known
        self._pack_keys = pack_keys
        self._context = context
        self._sink = sink
        self._problems: list[Problem] = list(plan.selection.problems)
        self._length = 0
        self._files = 0
        self._bytes = 0

    def run(self) -> RestoreReport:
        selection, progress = self._plan.selection, self._context.progress
        with phase(progress, f"Dumping {self._plan.snapshot.id[:8]}", selection.data_bytes):
            if self._plan.choice.output is Output.TAR:
                self._tar()
            else:
                self._file()
        return RestoreReport(
            restore=self._restore.id,
            snapshot=self._plan.snapshot.id,
            target=self._restore.target,
            outcome=Outcome.PARTIAL if self._problems else Outcome.DONE,
            waiting=0,
            retrievals=len(self._known),
            files=self._files,
            directories=len(selection.directories) if self._plan.choice.output is Output.TAR else 0,
            bytes=self._bytes,
            retrieved=sum(
                retrieval.extent.length
                for retrieval in self._known
                if retrieval.state is not RetrievalStage.FAILED
            ),
            problems=tuple(self._problems),
        )

    def _file(self) -> None:
        files = self._plan.selection.files
        if self._problems or len(files) != 1:
            why = self._problems[0].detail if self._problems else "it is no file"
            raise IntegrityError(f"it cannot be dumped: {why}")
        with self._contents(files) as contents:
            try:
                self._write(contents, files[0])
            except IntegrityError as error:
                raise _broken_off(files[0].entry, error) from error
        self._count(files[0].entry)

    def _tar(self) -> None:
        """Write members in the order of paths, each directory before its contents."""
        ordered = sorted(_members(self._plan), key=lambda pair: pair[0].path.split(b"/"))
        members = list(self._possible(ordered))
        contents_of: dict[int, RestoreEntry] = {}  # the entry that further hard links refer to
        with self._contents(list(_firsts(members))) as contents:
            for entry, file, group in members:
                first = contents_of.get(group)
                if first is None:
                    if self._member(contents, entry, file):
                        contents_of[group] = entry
                elif first is not entry:
                    self._put(member(entry, numeric_owner=self._numeric, link_to=first)[0])
                    self._count(entry, size=0)
        self._put(ending(self._length))

    def _possible(self, members: Sequence[_Member]) -> Iterator[_Member]:
        """The members, in the order of paths, that can all be there at once; others are reported.

        Who unpacks a second one of a path, or one below a symlink, might write through what the first made.
        """
        before, above = b"", b""  # the path before; the last of a member that is no directory
        for placed in members:
            path = placed[0].path
            if path == before:
                why = "another entry has its path"
            elif above and path.startswith(above + b"/"):
                why = f"/{shown_path(above)} above it is no directory"
            else:
                before, why = path, ""
                above = b"" if placed[0].kind is EntryKind.DIRECTORY else path
                yield placed
            if why:
                self._problems.append(Problem(path, ProblemKind.DAMAGED, f"{why}; left out"))

    def _member(self, contents: ChunkStream, entry: RestoreEntry, file: RestoreFile | None) -> bool:
        header, size = member(entry, numeric_owner=self._numeric)
        if file is None:
            self._put(header)
            self._files += entry.kind is not EntryKind.DIRECTORY
            return True
        try:
            self._write(contents, file, header)
        except IntegrityError as error:
            if file.data_size > FITS:
                raise _broken_off(entry, error) from error
            self._problems.append(Problem(entry.path, ProblemKind.DAMAGED, f"{error}; left out"))
            return False
        self._put(padding(size))
        self._count(entry)
        return True

    def _write(self, contents: ChunkStream, file: RestoreFile, header: bytes = b"") -> None:
        """Write header and content; a file that fits into memory is verified completely first."""
        chunks: Iterator[memoryview] | list[memoryview] = contents.chunks(file)
        if file.data_size <= FITS:
            chunks = list(chunks)
        if header:
            self._put(header)
        if self._plan.choice.output is Output.FILE and file.layout is not None:
            self._write_with_holes(file, chunks)
            return
        for data in chunks:
            self._put(data)

    def _write_with_holes(self, file: RestoreFile, chunks: Iterator[memoryview] | list[memoryview]) -> None:
        """Write a sparse file's data with its holes as zeros: a stream has no holes."""
        layout = file.layout
        at = offset = 0
        for data in chunks:
            for start, first, end in layout.pieces(offset, len(data)) if layout else ():
                self._zeros(start - at)
                self._put(data[first:end])
                at = start + end - first
            offset += len(data)
        self._zeros(file.entry.size - at)

    def _zeros(self, count: int) -> None:
        while count > 0:
            some = min(count, MIB)
            self._put(bytes(some))
            count -= some

    def _put(self, data: bytes | memoryview) -> None:
        self._sink(data)
        self._length += len(data)
        self._context.progress.advance(done=len(data))

    def _contents(self, files: Sequence[RestoreFile]) -> ChunkStream:
        return ChunkStream(
            *(self._restore, self._plan, files, self._known, self._pack_keys),
            *(self._context, self._failures),
        )

    def _count(self, entry: RestoreEntry, size: int | None = None) -> None:
        self._files += 1
        self._bytes += entry.size if size is None else size

    @property
    def _numeric(self) -> bool:
        return self._plan.choice.numeric_owner


_Member = tuple[RestoreEntry, RestoreFile | None, int]


def _members(plan: RestorePlan) -> Iterator[_Member]:
    """Every name, with its content's file and a number that hard links share."""
    selection = plan.selection
    groups = count(1)
    for entry in selection.directories:
        yield entry, None, next(groups)
    for file in selection.files:
        group = next(groups)
        for entry in file.entry.names:
            yield entry, file, group
    for special in selection.specials:
        group = next(groups)
        for entry in special.names:
            yield entry, None, group


def _firsts(members: Sequence[_Member]) -> Iterator[RestoreFile]:
    """The files in the order in which their content is written."""
    seen: set[int] = set()
    for _, file, group in members:
        if file is not None and group not in seen:
            seen.add(group)
            yield file


def _broken_off(entry: RestoreEntry, why: Exception) -> IntegrityError:
    name = entry.path.decode("utf-8", "backslashreplace")
    return IntegrityError(
        f"the dump breaks off within {name}: {why}",
        advice="what was written is incomplete: delete it, or restore to a directory, which leaves it out",
    )
