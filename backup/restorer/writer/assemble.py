"""Writes frames to files: each chunk is verified before it is written, a file renamed only when complete."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import groupby, islice
from operator import add, and_, itemgetter

from backup.errors import IntegrityError
from backup.format.naming import chunk_id
from backup.inventory.content.packed import ChunkLocation
from backup.model import FrameRow, Problem, ProblemKind
from backup.restorer.frame_opener import Opened
from backup.restorer.selection.chunk_locations import FramePositions
from backup.restorer.selection.chunk_users import ChunkUsers
from backup.restorer.selection.select import Selection
from backup.restorer.writer.left_out import LeftOut
from backup.restorer.writer.sharing import LARGEST, Sharing
from backup.restorer.writer.write import Report, Writer

_LENGTH = itemgetter(1)
_MANY_CHUNKS = 64  # in a frame: they are small, and proven by the processes that make their files


class Assembly:
    """The files of a selection while they are being written; for use from one thread."""

    def __init__(
        self,
        selection: Selection,
        writer: Writer,
        report: Report,
        *,
        chunk_key: bytes,
        makers: int = 1,
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._selection = selection
        self._writer = writer
        self._report = report
        self._chunk_key = chunk_key
        self._users = ChunkUsers(selection.files, selection.locations, selection.scratch)
        self._gone: set[int] = set()
        self._begun: dict[int, int] = {}  # of each file that was begun, the user before which none is missing
        files = selection.files
        self._are_small = bytes(map(and_, map((1).__ge__, files.counts), files.entries.are_plain))
        self._sharing = Sharing(
            selection.files.entries,
            writer,
            report,
            lost=self._gone.add,
            spoilt=self._spoil_one,
            chunk_key=chunk_key,
            files=sum(self._are_small),
            makers=makers,
            warn=warn,
        )
        self._chunks = FramePositions(selection.locations)

    def begin(self, *, again: bool = False) -> None:
        """Create directories and, unless `again`, empty files and entries without content."""
        for entry in self._selection.directories:
            self._writer.directory(entry)
        left_out = LeftOut(self._selection, self._writer, self._report)
        self._gone.update(left_out.files())
        if again:
            return
        for entry in left_out.specials():
            self._writer.special(entry)
        self._sharing.begin(memoryview(b""))
        for key, count in enumerate(self._selection.files.counts):
            if not count and key not in self._gone:
                self._make_empty(key)
        self._sharing.settle()

    def _make_empty(self, key: int) -> None:
        if self._is_small(key, 0):
            self._sharing.add([key], [0], [0], [b""])
        elif self._begin(key):
            self._begun.pop(key, None)
            self._writer.end(key)

    def close(self) -> None:
        """End the worker processes; nothing is written afterwards."""
        self._sharing.close()

    @property
    def gone(self) -> Iterable[bytes]:
        """The paths of files that were given up."""
        return (self._selection.files.entries[key].path for key in self._gone)

    def resume(self, done: Container[tuple[int, int]], gone: Container[bytes]) -> set[tuple[int, int]]:
        """Take over what an earlier session wrote and synced; half-written files are read back.

        `done` are frames (archive, number) whose chunks were written, `gone` paths that were given up.
        Returns the frames that must be fetched again because a file that needs them has changed.
        """
        locations, files = self._selection.locations, self._selection.files
        present = b"".join(bytes([frame in done]) * count for frame, count in locations.frames())
        chunks, starts = files.chunks, files.starts
        again: set[tuple[int, int]] = set()
        for key in range(len(files)):
            users = range(starts[key], starts[key + 1])
            here = [user for user in users if present[locations.position(chunks[user])]]
            if gone and files.entries[key].path in gone:
                self._gone.add(key)
                here = [*users]
            elif here and len(here) < len(users):
                good = self._verified(key, here, users)
                bad = () if len(good) == len(users) else (user for user in here if user not in good)
                again.update(locations[chunks[user]][2:4] for user in bad)
                here = [*good]
            self._users.settle(here)
        return again

    def _verified(self, key: int, here: Collection[int], users: Collection[int]) -> Collection[int]:
        """The users of `here` whose chunk a partial file holds; all `users` if it was finished unrecorded."""
        entry = self._selection.files.entries[key]
        if self._writer.begun_before(key, entry):
            self._begun[key] = self._selection.files.starts[key]
            written = partial(self._writer.read, key)
            return {user for user in here if self._is_chunk(key, user, written)}
        whole = self._writer.finished_before(entry)
        if whole is None:
            return set()
        with whole:
            read = partial(_read_at, whole.fileno())
            if not all(self._is_chunk(key, user, read) for user in users):
                return set()
        self._writer.count(1 + len(entry.links), entry.size)
        return users

    def _is_chunk(self, key: int, user: int, read: Callable[[int, int], bytes]) -> bool:
        """Whether a chunk of a file is in place; `read` returns bytes at an offset of the file."""
        files, offset = self._selection.files, self._users.offsets[user]
        location, layout = self._selection.locations[files.chunks[user]], files.layout(key)
        pieces = [(offset, 0, location.length)] if layout is None else layout.pieces(offset, location.length)
        data = b"".join(read(start, end - first) for start, first, end in pieces)
        return chunk_id(self._chunk_key, data) == location.id

    def lose(self, archive: int, why: str, frames: Iterable[FrameRow] | None = None) -> None:
        """Give up the files that need these frames of an archive (None: all), as these will not come."""
        lost = self._chunks.frames_of(archive) if frames is None else (row.number for row in frames)
        for frame in lost:
            self._spoil(self._chunks.of(archive, frame), why)

    def proving(self, archive: int, row: FrameRow) -> Callable[[bytes], Mapping[int, bool]]:
        """Return a function, for another thread, that verifies the large chunks of an opened frame."""
        locations = self._selection.locations
        positions = [*islice(self._chunks.of(archive, row.number), _MANY_CHUNKS + 1)]
        found = [(at, locations.at(at)) for at in positions] if len(positions) <= _MANY_CHUNKS else []
        large = [(at, location) for at, location in found if location.length > LARGEST]
        return partial(_proven, self._chunk_key, large)

    def accept(self, archive: int, row: FrameRow, opened: Future[Opened]) -> int:
        """Write a frame's chunks to all files that need them; returns the bytes written since the last call.

        A frame that was not fetched, does not open or holds other chunks damages only its own files. Some
        files may still be `under_way` afterwards.
        """
        self._selection.scratch.rest()
        try:
            data, proven = opened.result()
        except IntegrityError as error:
            self._sharing.begin(memoryview(b""))
            return self._spoil(self._chunks.of(archive, row.number), str(error))
        raw = memoryview(data)
        self._sharing.begin(raw)
        written = 0
        for run in self._chunks.runs(archive, row.number):
            written += self._write_run(run, raw, proven)
        return written + self._sharing.end()

    @property
    def under_way(self) -> int:
        """The number of latest frames of which some files are not finished."""
        return self._sharing.under_way

    def settle(self) -> int:
        """Wait until no file is unfinished; returns the bytes written."""
        return self._sharing.settle()

    def finish(self) -> None:
        """Report files that are still incomplete as damaged, as no more data will come."""
        files = self._selection.files
        user = self._users.pending()
        while user is not None:
            key = files.of(user)
            if key not in self._gone:
                self._drop(key, "not all of its data was found")
            user = self._users.pending(files.starts[key + 1])

    def _write_run(self, run: range, raw: memoryview, proven: Mapping[int, bool]) -> int:
        """Write chunks of a frame that follow each other; returns the bytes, except those of small files."""
        places = [*self._selection.locations.places(run)]
        users = self._users.alone(run)
        keys = self._selection.files.of_many(users)
        if self._are_all_small(keys, places):
            self._share(users, keys, places)
            return 0
        are_small = [
            key >= 0 and self._is_small(key, length) and key not in self._gone
            for key, (_, length, _) in zip(keys, places, strict=True)
        ]
        written = 0
        for is_small, together in groupby(range(len(run)), are_small.__getitem__):
            indexes = [*together]
            some = slice(indexes[0], indexes[-1] + 1)
            if is_small:
                self._share(users[some], keys[some], places[some])
            else:
                written += self._write_some(run[some], places[some], raw, proven)
        return written

    def _are_all_small(self, keys: Sequence[int], places: Sequence[tuple[int, int, bytes]]) -> bool:
        """Whether these are small files that follow each other, as most are; False if it is not so simple."""
        if not isinstance(keys, range) or self._begun or self._gone:
            return False
        return 0 not in self._are_small[keys.start : keys.stop] and max(places, key=_LENGTH)[1] <= LARGEST

    def _share(
        self, users: Sequence[int], keys: Sequence[int], places: Sequence[tuple[int, int, bytes]]
    ) -> None:
        """Have a small file made of each of these chunks."""
        self._users.settle(users)
        offsets, lengths, names = zip(*places, strict=True)
        self._sharing.add(keys, offsets, [*map(add, offsets, lengths)], names)

    def _write_some(
        self,
        run: range,
        places: Sequence[tuple[int, int, bytes]],
        raw: memoryview,
        proven: Mapping[int, bool],
    ) -> int:
        """Write chunks one by one, each to all files that need it; returns bytes as `_write_run` does."""
        written = 0
        for position, (offset, length, name) in zip(run, places, strict=True):
            end = offset + length
            is_good = proven.get(position)
            for key, place in self._users.take(position):
                if key in self._gone:
                    continue
                if self._is_small(key, length):
                    self._sharing.add([key], [offset], [end], [name])
                    continue
                if is_good is None:
                    is_good = chunk_id(self._chunk_key, raw[offset:end]) == name
                if is_good:
                    written += self._write_use(key, place, raw[offset:end])
                else:
                    self._spoil_one(key)
        return written

    def _write_use(self, key: int, offset: int, data: memoryview) -> int:
        """Write a verified chunk to one file; returns the bytes."""
        if not self._begin(key):
            return 0
        if not self._put(key, offset, data):
            self._begun.pop(key, None)
            self._gone.add(key)
            return 0
        missing = self._users.pending(self._begun[key], self._selection.files.starts[key + 1])
        if missing is None:
            self._begun.pop(key)
            self._writer.end(key)
        else:
            self._begun[key] = missing
        return len(data)

    def _is_small(self, key: int, size: int) -> bool:
        """Whether a file whose data is this chunk of `size` bytes can be written in one step."""
        return size <= LARGEST and self._are_small[key] == 1 and key not in self._begun

    def _put(self, key: int, offset: int, data: memoryview) -> bool:
        """Write a chunk at `offset` of a file's data, around its holes."""
        layout = self._selection.files.layout(key)
        if layout is None:
            return self._writer.write(key, offset, data)
        return all(
            self._writer.write(key, start, data[first:end])
            for start, first, end in layout.pieces(offset, len(data))
        )

    def _begin(self, key: int) -> bool:
        if key in self._begun:
            return True
        if self._writer.begin(key, self._selection.files.entries[key]):
            self._begun[key] = self._selection.files.starts[key]
            return True
        self._gone.add(key)
        return False

    def _spoil(self, positions: Iterable[int], why: str) -> int:
        for position in positions:
            for key, _ in self._users.take(position):
                if key not in self._gone:
                    self._drop(key, why)
        return 0

    def _spoil_one(self, key: int) -> None:
        self._drop(key, "a chunk does not match its id")

    def _drop(self, key: int, why: str) -> None:
        self._gone.add(key)
        if key in self._begun:
            self._begun.pop(key)
            self._writer.give_up(key)
        for entry in self._selection.files.entries[key].names:
            self._report(Problem(entry.path, ProblemKind.DAMAGED, f"{why}; not restored"))


def _proven(key: bytes, chunks: Sequence[tuple[int, ChunkLocation]], data: bytes) -> Mapping[int, bool]:
    """Whether each of these chunks of a frame has its id, by position."""
    raw = memoryview(data)
    return {
        at: chunk_id(key, raw[location.offset : location.offset + location.length]) == location.id
        for at, location in chunks
    }


def _read_at(file: int, offset: int, length: int) -> bytes:
    """Bytes of an open file; empty if they cannot be read."""
    try:
        return os.pread(file, length, offset)
    except OSError:
        return b""
