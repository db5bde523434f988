"""Checks that the chunk lists of a selection's files match their content ids."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from backup.format.naming import content_id, content_ids_of_packed
from backup.restorer.selection.chunk_locations import ChunkLocations
from backup.restorer.selection.column import Scratch
from backup.restorer.selection.files import Files

_SOME: Final = 500  # files that are looked at together
_MOST: Final = 10 * _SOME  # chunks of theirs; what has more is looked at file by file
_BLOCK: Final = 100 * _SOME  # files after which what was read of the columns is given back


def unsound(files: Files, locations: ChunkLocations, content_key: bytes, scratch: Scratch) -> Iterator[int]:
    """Return the keys of files whose chunk list does not match their content id."""
    look, starts, chunks = locations.lookup(), files.starts, files.chunks
    all_extras, all_sizes, all_named = files.entries.extras, files.entries.sizes, files.content_ids
    for start in range(0, len(files), _SOME):
        if not start % _BLOCK:
            scratch.rest()
        begins = [*starts[start : start + _SOME + 1]]
        extras, sizes = [*islice(all_extras, _SOME)], [*islice(all_sizes, _SOME)]
        named = [*islice(all_named, _SOME)]
        is_many = begins[-1] - begins[0] > _MOST
        lengths, packed = ([], []) if is_many else look(chunks[begins[0] : begins[-1]])
        are_simple = begins == [*range(begins[0], begins[-1] + 1)] and not any(extras)  # of one chunk each
        are_whole = lengths == sizes and all(sizes)
        if are_simple and are_whole and content_ids_of_packed(content_key, packed) == named:
            continue
        for at, (extra, size, name) in enumerate(zip(extras, sizes, named, strict=True)):
            first, end = begins[at] - begins[0], begins[at + 1] - begins[0]
            if is_many or extra or end - first != 1:
                is_sound = _is_sound(files, start + at, locations, content_key)
            else:  # the same, without an object for each
                is_sound = 0 < lengths[first] == size
                is_sound = is_sound and content_ids_of_packed(content_key, packed[first:end]) == [name]
            if not is_sound:
                yield start + at


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
