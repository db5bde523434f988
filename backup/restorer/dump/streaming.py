"""The content of files in order, fetched from ready retrievals and verified, without use of a disk.

Frames are opened in groups and cached, within a limit, while they may be needed again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Self

from backup.errors import FormatError, IntegrityError, NightvaultError
from backup.format.frame import FrameCodec
from backup.format.naming import chunk_id
from backup.format.pack import derive_keys
from backup.inventory.records.restore_state import Failure
from backup.inventory.records.retrievals import Restore, Retrieval
from backup.inventory.store.states import RetrievalStage
from backup.model import MIB, FrameRow
from backup.restorer.asking import GONE
from backup.restorer.context import RestoreContext
from backup.restorer.plan import RestorePlan
from backup.restorer.ranges import cover
from backup.restorer.selection.files import RestoreFile
from backup.transfer.retrieve import Fetcher, ReadyRange

RUN = 32 * MIB
"""Bytes of frames opened in one run; at most twice as many are held."""

_Key = tuple[int, int]  # archive and frame number


class ChunkStream:
    """Returns the chunks of `files` in order, on one thread; a context manager that ends its threads."""

    def __init__(
        self,
        restore: Restore,
        plan: RestorePlan,
        files: Sequence[RestoreFile],
        known: Sequence[Retrieval],
        pack_keys: Mapping[int, bytes],
        context: RestoreContext,
        failures: Mapping[int, Failure],
    ) -> None:
        self._restore = restore
        self._plan = plan
        self._locations = plan.selection.locations
        self._context = context
        self._codec = FrameCodec()
        self._fetcher = Fetcher(context.vault, context.clock, piece=context.piece, tell=context.progress.note)
        self._held: OrderedDict[_Key, memoryview] = OrderedDict()
        self._bytes = 0
        self._keys = {
            number: derive_keys(key, plan.archives[number].header)
            for number, key in pack_keys.items()
            if number in plan.archives
        }
        self._rows: dict[_Key, tuple[Retrieval, FrameRow]] = {}
        self._why: dict[_Key, str] = {}
        laid = cover(plan.ranges, [(retrieval.archive, retrieval.extent) for retrieval in known])
        for retrieval, planned in zip(known, laid, strict=True):
            if (
                retrieval.state in {RetrievalStage.READY, RetrievalStage.FETCHED}
                and retrieval.archive in self._keys
            ):
                self._rows.update(
                    {(retrieval.archive, row.number): (retrieval, row) for row in planned.frames}
                )
            elif retrieval.state is RetrievalStage.FAILED:
                why = failures[retrieval.number].why if retrieval.number in failures else GONE
                self._why.update({(retrieval.archive, row.number): why for row in planned.frames})
        self._order = _frames_in_order(plan, files)
        self._at = 0

    def __enter__(self) -> Self:
        self._fetcher.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._fetcher.__exit__(None, None, None)

    def chunks(self, file: RestoreFile) -> Iterator[memoryview]:
        """The verified chunks of the next file. `IntegrityError` if one cannot be fetched intact."""
        for number in file.chunks:
            location = self._locations[number]
            raw = self._frame((location.archive, location.frame))
            data = raw[location.offset : location.offset + location.length]
            if chunk_id(self._context.secret.chunk_key, data) != location.id:
                raise IntegrityError("a chunk does not match its id")
            yield data

    def _frame(self, key: _Key) -> memoryview:
        while self._at < len(self._order) and self._order[self._at] != key:
            self._at += 1  # skip given-up files, and a frame needed twice in a row
        if key not in self._held:
            self._load(key)
        if key not in self._held:
            why = self._why.get(key) or self._plan.lost.get(key[0])
            raise IntegrityError(why or "its data could not be fetched intact from the vault")
        self._held.move_to_end(key)
        return self._held[key]

    def _load(self, key: _Key) -> None:
        """Open a frame and those needed next, as far as they follow it in the same range."""
        found = self._rows.get(key)
        if found is None:
            return
        retrieval, row = found
        rows, size = [row], row.raw_length
        for other in self._order[self._at : self._at + 4096]:
            theirs = self._rows.get(other)
            if other in self._held or theirs is None or theirs[1].offset == rows[-1].offset:
                continue
            if (
                theirs[0] is not retrieval
                or theirs[1].offset < rows[-1].offset
                or size + theirs[1].raw_length > RUN
            ):
                break
            rows.append(theirs[1])
            size += theirs[1].raw_length
        self._open(retrieval, rows)

    def _open(self, retrieval: Retrieval, rows: Sequence[FrameRow]) -> None:
        archive, keys = self._plan.archives[retrieval.archive], self._keys[retrieval.archive]
        if retrieval.retrieval_id is None or retrieval.asked is None:
            return
        elsewhere = partial(self._context.elsewhere, self._restore, retrieval)
        ready = ReadyRange(retrieval.retrieval_id, archive.size, retrieval.asked, rows, elsewhere)
        for row, sealed in self._fetcher.frames(ready, given_up=partial(self._give_up, retrieval.archive)):
            if sealed is None:
                continue
            try:
                raw = self._codec.open_checked(keys.frame_key, archive.label.pack_id, row, sealed)
            except (FormatError, IntegrityError) as error:
                self._context.progress.note(
                    f"a frame of archive {retrieval.archive} cannot be opened: {error}"
                )
                continue
            self._held[retrieval.archive, row.number] = memoryview(raw)
            self._bytes += len(raw)
        while self._bytes > 2 * RUN and len(self._held) > 1:
            self._bytes -= len(self._held.popitem(last=False)[1])

    def _give_up(self, archive: int, row: FrameRow, error: NightvaultError) -> None:
        self._why[archive, row.number] = f"its data cannot be fetched from the vault: {error}"


def _frames_in_order(plan: RestorePlan, files: Sequence[RestoreFile]) -> list[_Key]:
    order: list[_Key] = []
    for file in files:
        for number in file.chunks:
            location = plan.selection.locations[number]
            key = (location.archive, location.frame)
            if not order or order[-1] != key:
                order.append(key)
    return order
