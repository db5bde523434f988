"""Divides one memory setting into limits for each buffer and queue; pure arithmetic.

What is always needed comes first: windows of files that are read, and a frame sealed on each of two
workers. Up to a quarter of the rest is for workers on further cores. What is left is divided: most to parts
that are sent, a tenth to rows of chunks, and so on. The sum of the worst cases stays within the setting;
interpreter and libraries come on top. As they are never all full at once, all processes of a run together
take less than the setting. Below `HELPED` one process does everything, with one worker.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from backup.model import MIB

DEFAULT_MEMORY: Final = 256 * MIB
LEAST_MEMORY: Final = 64 * MIB
HELPED: Final = 160 * MIB
"""The memory from which a run has helper processes, each with an interpreter of 10 MiB."""
LEAST_FRAME: Final = 4 * MIB  # what the largest chunk needs
FRAME: Final = 6 * MIB
"""The most bytes of a frame, which has small files, and so the size of the buffers of windows and frames.

With little memory it is less, but no less than `LEAST_FRAME`.
"""

ALWAYS: Final = 18 * MIB
"""Two windows of 8 MiB in which files are cut that are compared with earlier versions, and the one additional
small file that fits each buffer of a batch ahead."""

FRAMES_ALWAYS: Final = 11
"""Three windows beside those whose chunks wait for numbers; two frames that are gathered, and the one that is
passed on; for each of two workers what a frame is before it is encrypted; one that is expanded as a proof;
two that are written, and still hashed."""

_NEEDLESS_ALONE: Final = 2
"""With one worker nothing is sealed on a second one, and no frame waits to be hashed."""
_LEAST_PART: Final = 8 * MIB  # that any vault takes; it goes before frames on their way

FRAMES_OF_A_WORKER: Final = 3
"""Each beyond two: what a frame is before it is encrypted and when it is proven, and one more under way."""
_GROWS_FROM, _GROWTH = 128 * MIB, 64  # from that much memory on a frame grows by a byte for so many

MAKER: Final = 26 * MIB
"""A process that makes a restore's small files; the two frames that it shares come on top."""

CHUNK_BYTES: Final = 500
"""A chunk of an unfinished pack: id, number, rows; in the pack that fills and in the one that is finished."""
MOST_READERS: Final = 4
"""Processes that read small files: for more, the one that keeps the books is too slow."""

BATCHES_AHEAD: Final = 2
"""Batches that are asked of each of them at once, each with room for compressible and dense files."""
_PIECES: Final = 5  # three fetched ahead, one being verified, one beside it
_ROWS, _ROWS_ALONE = 10_000, 2_000
_CACHE_SHARE: Final = 16
LEAST_CACHE: Final = 2 * MIB
_LARGEST_CACHE: Final = 32 * MIB
_LARGEST_PIECE: Final = 16 * MIB


class BackupMemory(Struct, frozen=True):
    """Limits of a backup's buffers in bytes, and the number of chunks that may be in a pack.

    `uploads`: parts that are being sent; `in_flight`: frames under way, before they are sealed; `batch`:
    chunks that wait for numbers; `ahead`: a batch of small files that is read ahead; `frame`: a buffer for a
    window or a frame, and `small` is the most of one that small files get; `rows` of entries are written at
    once. So many `workers` seal, and so many `readers`, processes of their own, read small files.
    """

    uploads: int
    in_flight: int
    batch: int
    ahead: int
    chunks: int
    frame: int = FRAME
    small: int = FRAME
    rows: int = _ROWS
    workers: int = 2

    @property
    def readers(self) -> int:
        """Number of processes that read small files: none on one core."""
        return _readers(self.workers) if self.workers > 1 else 0

    @property
    def worst(self) -> int:
        """Total bytes when every buffer is full at once; a frame is sealed where it was."""
        ahead = 2 * BATCHES_AHEAD * self.readers * self.ahead
        further = max(0, self.workers - 2) * (FRAMES_OF_A_WORKER - 1) * self.frame
        rows = self.chunks * CHUNK_BYTES
        is_alone = self.workers == 1 and self.in_flight <= self.frame
        always = _always(self.frame) - (_NEEDLESS_ALONE * self.frame if is_alone else 0)
        return always + further + self.uploads + self.in_flight + self.batch + ahead + rows


def backup_memory(memory: int = DEFAULT_MEMORY, cores: int = 2) -> BackupMemory:
    """The limits for a backup on so many cores; `memory` is at least `LEAST_MEMORY`.

    There is a worker for each core, as long as their frames fit a quarter of the memory that is not always
    needed.
    """
    memory = max(memory, LEAST_MEMORY)
    is_alone = memory < HELPED
    frame = LEAST_FRAME if is_alone else min(FRAME, LEAST_FRAME + (memory - _GROWS_FROM) // _GROWTH)
    if LEAST_FRAME < frame < FRAME:  # else the next byte of a frame would take more than came
        memory -= (memory - _GROWS_FROM) % _GROWTH
    rest = memory - _always(frame)
    if is_alone:  # never more than with helpers
        rest, cores = min(rest + _NEEDLESS_ALONE * frame, (HELPED - _always(FRAME)) * 3 // 4), 1
    one_more = FRAMES_OF_A_WORKER * frame
    for_workers = min(max(0, cores - 2) * one_more, rest // 4)
    further = for_workers // one_more
    left = rest - for_workers
    workers = min(cores, 2) + further
    share = left * 53 // 64
    on_their_way = min(2 * frame, max(0, share - _LEAST_PART))
    return BackupMemory(
        uploads=share - on_their_way,
        in_flight=min(on_their_way, frame) if is_alone else on_their_way + further * frame,
        batch=left // 32,
        ahead=left * 3 // 256 // (MOST_READERS if is_alone else _readers(workers)),
        chunks=left * 3 // 32 // CHUNK_BYTES,
        frame=frame,
        small=LEAST_FRAME // 2 if is_alone else frame,
        rows=_ROWS_ALONE if is_alone else _ROWS,
        workers=workers,
    )


def usual_memory(most: int | None = None) -> int:
    """The memory of a run without a setting, where all processes may have `most` bytes (None: no limit).

    Five eighths of that: the kernel counts its own, and what it keeps of files, as theirs, too.
    """
    return DEFAULT_MEMORY if most is None else min(DEFAULT_MEMORY, max(LEAST_MEMORY, most * 5 // 8))


def _always(frame: int) -> int:
    return ALWAYS + FRAMES_ALWAYS * frame


def _readers(workers: int) -> int:
    return min(workers, MOST_READERS)


def database_cache(memory: int = DEFAULT_MEMORY) -> int:
    """The most bytes of the inventory that each of a run's connections keeps."""
    return min(max(memory // _CACHE_SHARE, LEAST_CACHE), _LARGEST_CACHE)


def frame_openers(memory: int = DEFAULT_MEMORY, cores: int = 2) -> int:
    """The threads that open a restore's frames: one for each core, as 3/16 of `memory` hold their frames."""
    return max(1, min(cores, memory * 3 // 16 // (2 * FRAME)))


def file_makers(memory: int = DEFAULT_MEMORY, cores: int = 2) -> int:
    """The processes that make a restore's small files beside the first; none on one core.

    They may have a quarter of `memory` together; with little of it there are none.
    """
    return 0 if memory < HELPED else min(cores - 1, max(1, memory // 4 // MAKER))


def parts_at_once(share: int, part_size: int) -> int:
    """Number of parts of that size that may be sent at once: each is mapped meanwhile."""
    return max(1, share // part_size)


def fetched_piece(memory: int = DEFAULT_MEMORY) -> int:
    """The size of the pieces that a restore fetches: a power of two MiB, as the tree hash needs."""
    piece = MIB
    while piece * 2 <= min(_LARGEST_PIECE, max(memory, LEAST_MEMORY) // (2 * _PIECES)):
        piece *= 2
    return piece
