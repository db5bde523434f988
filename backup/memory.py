"""Divides one memory setting into limits for each buffer and queue; pure arithmetic.

What is always needed comes first: windows of files that are read, and a frame sealed and a frame proven on
each of two workers. The rest is divided: half to parts that are sent, a fifth to frames under way, and so
on. The sum of the worst cases stays within the setting; interpreter, libraries and the database's cache come
on top.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from backup.model import MIB

DEFAULT_MEMORY: Final = 320 * MIB
LEAST_MEMORY: Final = 96 * MIB

ALWAYS: Final = 64 * MIB
"""The fixed part: two windows of 12 MiB, in which files are cut; for each of two workers a frame being
compressed and one read back and opened; the two frames that are gathered and the one that is sent: 4 MiB
each. The rest is for the one additional small file that fits each buffer of a batch ahead."""

CHUNK_BYTES: Final = 500
"""A chunk of an unfinished pack: id, number, rows; in the pack that fills and in the one that is finished."""
BATCHES_AHEAD: Final = 3  # requested ones, each with room for compressible and dense files
_PIECES: Final = 5  # three fetched ahead, one being verified, one beside it
_LARGEST_PIECE: Final = 16 * MIB


@dataclass(frozen=True, slots=True)
class BackupMemory:
    """Limits of a backup's buffers in bytes, and the number of chunks that may be in a pack.

    `uploads`: parts that are being sent; `in_flight`: frames under way, before they are sealed; `batch`:
    chunks that wait for numbers; `ahead`: a batch of small files that is read ahead.
    """

    uploads: int
    in_flight: int
    batch: int
    ahead: int
    chunks: int

    @property
    def worst(self) -> int:
        """Total bytes when every buffer is full at once.

        Sealed frames may be as large again.
        """
        frames = 2 * self.in_flight
        ahead = 2 * BATCHES_AHEAD * self.ahead
        return ALWAYS + self.uploads + frames + self.batch + ahead + self.chunks * CHUNK_BYTES


def backup_memory(memory: int = DEFAULT_MEMORY) -> BackupMemory:
    """The limits for a backup; `memory` is at least `LEAST_MEMORY`."""
    left = max(memory, LEAST_MEMORY) - ALWAYS
    return BackupMemory(
        uploads=left // 2,
        in_flight=left * 3 // 32,
        batch=left // 32,
        ahead=left // 64,
        chunks=left * 5 // 32 // CHUNK_BYTES,
    )


def parts_at_once(share: int, part_size: int) -> int:
    """Number of parts of that size that may be sent at once: each is mapped meanwhile."""
    return max(1, share // part_size)


def fetched_piece(memory: int = DEFAULT_MEMORY) -> int:
    """The size of the pieces that a restore fetches: a power of two MiB, as the tree hash needs."""
    piece = MIB
    while piece * 2 <= min(_LARGEST_PIECE, max(memory, LEAST_MEMORY) // (2 * _PIECES)):
        piece *= 2
    return piece
