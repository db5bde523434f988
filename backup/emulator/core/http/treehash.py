"""Glacier's tree hash, written from the Developer Guide (checksum-calculations, checksum-calculations-range).

Data is cut in leaves of 1 MiB, the last may be shorter; leaves are hashed with SHA-256 and joined in pairs,
an unpaired last digest moves up unchanged, until one is left.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

LEAF_BYTES = 1024 * 1024
DIGEST_BYTES = 32


class TreeHasher:
    """Takes bytes in pieces of any size; gives the leaves' digests and the linear SHA-256 of the same."""

    def __init__(self) -> None:
        self.size = 0
        self._linear = hashlib.sha256()
        self._leaf = hashlib.sha256()
        self._leaves = bytearray()

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes; large pieces let the hash release the interpreter lock."""
        self.update_linear(data)
        self.update_leaves(data)

    def update_linear(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes for the linear hash only: another thread may do the leaves meanwhile."""
        self._linear.update(data)

    def update_leaves(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes for the leaves only."""
        view = memoryview(data)
        while view:
            room = LEAF_BYTES - self.size % LEAF_BYTES
            self._leaf.update(view[:room])
            self.size += min(room, len(view))
            view = view[room:]
            if self.size % LEAF_BYTES == 0:
                self._close_leaf()

    def _close_leaf(self) -> None:
        self._leaves += self._leaf.digest()
        self._leaf = hashlib.sha256()

    def leaves(self) -> bytes:
        """The digests of all leaves, 32 bytes each, in order; one digest of nothing for no data."""
        if self.size % LEAF_BYTES or not self.size:
            return bytes(self._leaves) + self._leaf.digest()
        return bytes(self._leaves)

    def linear(self) -> str:
        """The SHA-256 of all bytes so far, lower-case hex."""
        return self._linear.hexdigest()


def split(leaves: bytes) -> list[bytes]:
    """Joined digests of 32 bytes as a list."""
    return [leaves[at : at + DIGEST_BYTES] for at in range(0, len(leaves), DIGEST_BYTES)]


def root(digests: Sequence[bytes]) -> str:
    """The tree hash over leaf digests (at least one), lower-case hex."""
    level = list(digests)
    while len(level) > 1:
        pairs = [
            hashlib.sha256(left + right).digest()
            for left, right in zip(level[::2], level[1::2], strict=False)
        ]
        level = pairs + level[len(pairs) * 2 :]
    return level[0].hex()


def is_tree_aligned(start: int, end: int, size: int) -> bool:
    """Whether the bytes `start` to `end` (exclusive) of `size` bytes are a node of the whole's hash tree.

    With n leaves, leaves [p, q) are a node iff for some k p is a multiple of 2^k and q is min(p + 2^k, n).
    """
    if start % LEAF_BYTES or not (end % LEAF_BYTES == 0 or end == size) or not 0 <= start < end <= size:
        return False
    first, last, count = start // LEAF_BYTES, -(-end // LEAF_BYTES), -(-size // LEAF_BYTES)
    width = 1
    while first % width == 0:
        if last == min(first + width, count):
            return True
        if first + width >= count:
            return False
        width *= 2
    return False


def is_megabyte_aligned(start: int, end: int, size: int) -> bool:
    """Whether a range may be retrieved: begins on a MiB, ends (exclusive) on one or with the archive."""
    return start % LEAF_BYTES == 0 and (end % LEAF_BYTES == 0 or end == size) and 0 <= start < end <= size
