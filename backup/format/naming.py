"""Ids of chunks and contents: keyed BLAKE3, so that they reveal nothing without the key."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import accumulate, chain, islice, pairwise
from operator import add
from typing import Final, cast

from blake3 import blake3

from backup.model import ChunkId, ContentId

_LENGTH: Final = struct.Struct("<I")
_NO_CHUNK: Final = bytes(32 + _LENGTH.size)


def chunk_id(key: bytes, data: bytes | memoryview) -> ChunkId:
    """The 32-byte id of a chunk: BLAKE3 keyed with the chunk key."""
    return ChunkId(blake3(data, key=key).digest())


def chunk_ids(key: bytes, data: memoryview, lengths: Iterable[int]) -> list[ChunkId]:
    """The ids of consecutive chunks of these lengths, from the start of `data`."""
    ends = accumulate(lengths, initial=0)
    ids = [blake3(data[start:end], key=key).digest() for start, end in pairwise(ends)]
    return cast("list[ChunkId]", ids)


def ids_of_pieces(key: bytes, pieces: Iterable[bytes | memoryview], lengths: Sequence[int]) -> list[ChunkId]:
    """Same as `chunk_ids`, for data in pieces, of which a chunk may have some; what follows them is left."""
    ids: list[ChunkId] = []
    begun, missing = None, 0  # a chunk that goes on in the next piece
    for piece in pieces:
        at, size = 0, len(piece)
        if begun is not None:
            at = min(missing, size)
            begun.update(piece[:at])
            missing -= at
            if missing:
                continue
            ids.append(ChunkId(begun.digest()))
            begun = None
        ends = accumulate(islice(lengths, len(ids), None), initial=at)
        for start, end in pairwise(ends):
            if end > size:
                if start < size:
                    begun, missing = blake3(piece[start:], key=key), end - size
                break
            ids.append(ChunkId(blake3(piece[start:end], key=key).digest()))
    return ids


def content_id(key: bytes, ids: Sequence[bytes], lengths: Sequence[int], holes: bytes = b"") -> ContentId:
    """The 16-byte id of a content: keyed BLAKE3 over each chunk's id and length (u32le), in order.

    For a sparse file 36 zero bytes follow (no chunk has length 0), then its packed holes.
    """
    named = chain.from_iterable(zip(ids, map(_LENGTH.pack, lengths), strict=True))
    after = _NO_CHUNK + holes if holes else b""
    return ContentId(blake3(b"".join(named) + after, key=key).digest(16))


def content_id_of_chunk(key: bytes, chunk: bytes, length: int) -> ContentId:
    """`content_id` of a file of one chunk without holes, as most files are."""
    return ContentId(blake3(chunk + _LENGTH.pack(length), key=key).digest(16))


def content_ids_of_packed(key: bytes, chunks: Iterable[bytes]) -> list[ContentId]:
    """Same as `content_id_of_chunk`, for many files; of each chunk its id and length (u32le), joined."""
    return cast("list[ContentId]", [blake3(chunk, key=key).digest(16) for chunk in chunks])


def content_ids_of_chunks(key: bytes, ids: Iterable[bytes], lengths: Iterable[int]) -> list[ContentId]:
    """Same as `content_id_of_chunk`, for many files."""
    return content_ids_of_packed(key, map(add, ids, map(_LENGTH.pack, lengths)))
