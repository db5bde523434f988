"""Whether the lists of chunks of a selection's files are those that their content ids name."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from backup.format.naming import content_id, content_id_of_chunk, content_ids_of_chunks
from backup.restorer.selection.chunk_locations import ChunkLocations
from backup.restorer.selection.column import Scratch
from backup.restorer.selection.files import Files

_SOME: Final = 500  # files that are looked at together
_BLOCK: Final = 100 * _SOME  # files after which what was read of the columns is given back


def unsound(files: Files, locations: ChunkLocations, content_key: bytes, scratch: Scratch) -> Iterator[int]:
    """Keys of the files whose chunk list does not match their content id."""
    found = locations.lengths_and_ids(files.chunks)
    all_looks, all_named, all_counts = files.entries.extras_and_sizes, files.content_ids, files.counts
    for start in range(0, len(files), _SOME):
        if not start % _BLOCK:
            scratch.rest()
        looks, named = list(islice(all_looks, _SOME)), list(islice(all_named, _SOME))
        counts = list(islice(all_counts, _SOME))
        chunks: Iterable[tuple[int, bytes] | None] = found
        if counts.count(1) == len(counts):
            chunks = together = list(islice(found, len(counts)))
            if _are_sound(looks, named, together, content_key):
                continue
        its = iter(chunks)
        for key, ((extra, size), name, count) in enumerate(zip(looks, named, counts, strict=True), start):
            if extra or count != 1:
                deque(islice(its, count), maxlen=0)
                is_sound = _is_sound(files, key, locations, content_key)
            else:  # the same, without an object for each
                length, chunk = next(its) or (0, b"")
                is_sound = 0 < length == size and name == content_id_of_chunk(content_key, chunk, length)
            if not is_sound:
                yield key


def _are_sound(
    looks: Sequence[tuple[int, int]],
    named: Sequence[bytes],
    chunks: Sequence[tuple[int, bytes] | None],
    content_key: bytes,
) -> bool:
    """Whether files of one chunk each are sound, all of them; `looks` has 0 for nothing rare, and the size.

    `chunks` are length and id of each.
    """
    there = [one for one in chunks if one]
    lengths, ids = [length for length, _ in there], [name for _, name in there]
    if [(0, length) for length in lengths] != looks or 0 in lengths:
        return False
    return content_ids_of_chunks(content_key, ids, lengths) == named


def _is_sound(files: Files, key: int, locations: ChunkLocations, content_key: bytes) -> bool:
    try:
        found = [locations[number] for number in files.chunks_of(key)]
    except KeyError:
        return False
    ids, lengths = [location.id for location in found], [location.length for location in found]
    if not all(lengths) or sum(lengths) != files.data_size(key):
        return False
    extra = files.entries.extra_of(key)
    return content_id(content_key, ids, lengths, extra.holes if extra else b"") == files.content_id(key)
