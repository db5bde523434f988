"""Glacier arithmetic: tree hash, part sizes, aligned ranges.

Sources: AWS developer guide, "Computing checksums" and "Receiving checksums when downloading data".
Leaves are 1 MiB; the parameter `leaf` is there so that tests can shrink it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from backup.errors import FormatError
from backup.model import KIB, MIB, ByteRange, TreeHash

MOST_PARTS = 10_000
LARGEST_PART = 4096 * MIB
_CACHED = 256 * KIB  # what is hashed twice in a row: it stays in the processor's cache meanwhile


def leaf_hashes(data: bytes | memoryview, leaf: int = MIB) -> list[bytes]:
    """SHA-256 of each leaf, the last may be short; no bytes are one leaf, the hash of nothing."""
    view = memoryview(data)
    return [
        hashlib.sha256(view[start : start + leaf]).digest() for start in range(0, max(len(view), 1), leaf)
    ]


def combine(hashes: Sequence[bytes]) -> TreeHash:
    """The root over leaves, or over equal parts of a power of two leaves each (the last may be short).

    Pairs are hashed together, an odd last one moves up unchanged, until one is left.
    """
    if not hashes:
        raise FormatError("there is no tree hash of no hashes")
    level = list(hashes)
    while len(level) > 1:
        paired = [
            hashlib.sha256(left + right).digest()
            for left, right in zip(level[::2], level[1::2], strict=False)
        ]
        level = paired + level[len(level) & ~1 :]
    return TreeHash(level[0])


def tree_hash(data: bytes | memoryview, leaf: int = MIB) -> TreeHash:
    """Glacier's SHA-256 tree hash, 32 bytes."""
    return combine(leaf_hashes(data, leaf))


class StretchHasher:
    """The SHA-256 of each stretch of `size` bytes, of bytes that come in pieces of any size."""

    def __init__(self, size: int = MIB) -> None:
        self._size = size
        self._done: list[bytes] = []
        self._current = hashlib.sha256()
        self._filled = 0

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Add the next bytes."""
        view = memoryview(data).cast("B")
        start = 0
        while start < len(view):
            piece = view[start : start + self._size - self._filled]
            self._current.update(piece)
            self._filled += len(piece)
            start += len(piece)
            if self._filled == self._size:
                self._done.append(self._current.digest())
                self._current = hashlib.sha256()
                self._filled = 0

    @property
    def digests(self) -> list[bytes]:
        """The hashes of the stretches so far, with the short last one; no bytes are one stretch."""
        if self._filled or not self._done:
            return [*self._done, self._current.digest()]
        return list(self._done)


class TreeHasher(StretchHasher):
    """A tree hash of bytes that come in pieces of any size; `digests` are those of its leaves."""

    def digest(self) -> TreeHash:
        """The tree hash of all bytes so far; more may follow."""
        return combine(self.digests)


class PackHasher:
    """The tree hash of a pack, and the SHA-256 of each part of `part_size` if that is given.

    Each piece goes through both while it is in the processor's cache: the second pass takes three quarters
    of the time that it takes over bytes which have to come from memory.
    """

    def __init__(self, part_size: int | None = None) -> None:
        self.tree = TreeHasher()
        self._parts = StretchHasher(part_size) if part_size else None

    def update(self, data: bytes | memoryview) -> None:
        """Add the next bytes."""
        if self._parts is None:
            self.tree.update(data)
            return
        view = memoryview(data).cast("B")
        for start in range(0, len(view), _CACHED):
            piece = view[start : start + _CACHED]
            self.tree.update(piece)
            self._parts.update(piece)

    @property
    def parts(self) -> list[bytes]:
        """The hashes of the parts so far, with the short last one; none if nobody asked for them."""
        return self._parts.digests if self._parts else []


def part_size_for(size: int, preferred: int) -> int:
    """The part size for an archive of `size` bytes: a power of two MiB, at least `preferred`.

    Large enough for 10,000 parts. FormatError for an archive that no part size can carry (over 40,000 GiB).
    """
    part = MIB
    while part < preferred or part * MOST_PARTS < size:
        part *= 2
    if part > LARGEST_PART:
        raise FormatError(f"an archive of {size} bytes in parts of {preferred} is more than a vault takes")
    return part


def align(extent: ByteRange, size: int, leaf: int = MIB) -> ByteRange:
    """The smallest MiB-aligned range of an archive of `size` bytes that holds `extent`."""
    if not 0 <= extent.start < extent.end <= size:
        raise FormatError(f"bytes {extent.start} to {extent.end} do not lie in an archive of {size} bytes")
    return ByteRange(extent.start // leaf * leaf, min(-(-extent.end // leaf) * leaf, size))


def is_tree_aligned(extent: ByteRange, size: int, leaf: int = MIB) -> bool:
    """Whether the vault can give a tree hash for `extent` of an archive of `size` bytes.

    That is so when it is one node of the tree: leaves [p, q) with p a multiple of 2**k and q = p + 2**k,
    or everything that is left.
    """
    if not _is_leaf_aligned(extent, size, leaf):
        return False
    first, after = extent.start // leaf, -(-extent.end // leaf)
    return _node(first, after, -(-size // leaf)) == after


def aligned_pieces(extent: ByteRange, size: int, largest: int, leaf: int = MIB) -> Iterator[ByteRange]:
    """Cut a MiB-aligned range into tree-hash-aligned pieces, as large as may be, at most `largest` bytes.

    `largest` is at least one leaf.
    """
    if not _is_leaf_aligned(extent, size, leaf) or largest < leaf:
        raise FormatError(f"bytes {extent.start} to {extent.end} of {size} are not aligned to {leaf}")
    total = -(-size // leaf)
    last = -(-extent.end // leaf)
    first = extent.start // leaf
    while first < last:
        after = _node(first, min(last, first + largest // leaf), total)
        yield ByteRange(first * leaf, min(after * leaf, size))
        first = after


def _is_leaf_aligned(extent: ByteRange, size: int, leaf: int) -> bool:
    inside = 0 <= extent.start < extent.end <= size
    return inside and extent.start % leaf == 0 and (extent.end % leaf == 0 or extent.end == size)


def _node(first: int, limit: int, total: int) -> int:
    """The end of the largest node that starts at leaf `first` and does not pass `limit`."""
    width, after = 1, first + 1
    while first % (width * 2) == 0 and after < limit:
        width *= 2
        end = min(first + width, total)
        if end > limit:
            break
        after = end
    return after
