"""Formats entries as members of a PAX tar (POSIX.1-2001, GNU tar): pure, entries in, blocks out.

Names and link targets are bytes, times have nanoseconds, xattrs are `SCHILY.xattr.…`, hard links are
links, sparse files are GNU's format 1.0.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator

from backup.format.rows import unpack_u64
from backup.model import EntryKind, Extra
from backup.restorer.selection.entry import RestoreEntry

BLOCK = tarfile.BLOCKSIZE
_TYPES = {
    EntryKind.FILE: tarfile.REGTYPE,
    EntryKind.DIRECTORY: tarfile.DIRTYPE,
    EntryKind.SYMLINK: tarfile.SYMTYPE,
    EntryKind.FIFO: tarfile.FIFOTYPE,
    EntryKind.CHARACTER_DEVICE: tarfile.CHRTYPE,
    EntryKind.BLOCK_DEVICE: tarfile.BLKTYPE,
}


def member(
    entry: RestoreEntry, *, numeric_owner: bool = False, link_to: RestoreEntry | None = None
) -> tuple[bytes, int]:
    """A member's header with the sparse table if any, and the number of data bytes that it announces.

    `link_to`: the member is a hard link to that entry.
    """
    extra = entry.extra or Extra()
    info = tarfile.TarInfo(_text(entry.path))
    info.type = tarfile.LNKTYPE if link_to else _TYPES[entry.kind]
    info.mode = entry.mode & 0o7777
    info.uid, info.gid = entry.owner.uid, entry.owner.gid
    if not numeric_owner:
        info.uname, info.gname = entry.owner.user, entry.owner.group
    headers = {f"SCHILY.xattr.{_text(name)}": _text(value) for name, value in extra.xattrs}
    seconds, nanoseconds = divmod(entry.mtime_ns, 10**9)
    info.mtime = max(seconds, 0)
    if nanoseconds or seconds < 0:
        headers["mtime"] = _decimal(entry.mtime_ns)
    if link_to:
        info.linkname = _text(link_to.path)
    elif entry.kind is EntryKind.SYMLINK:
        info.linkname = _text(extra.target)
    elif entry.kind in {EntryKind.CHARACTER_DEVICE, EntryKind.BLOCK_DEVICE}:
        info.devmajor, info.devminor = os.major(extra.device), os.minor(extra.device)
    table = b""
    if entry.kind is EntryKind.FILE and not link_to:
        info.size = entry.size
        if entry.holes:
            table = _sparse(info, entry, headers)
    info.pax_headers = headers
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape") + table, info.size - len(table)


def padding(length: int) -> bytes:
    """Zeros that fill a member's data up to a whole block."""
    return bytes(-length % BLOCK)


def ending(length: int) -> bytes:
    """The end of an archive of `length` bytes: two empty blocks, padded to a whole record."""
    return bytes(2 * BLOCK + -(length + 2 * BLOCK) % tarfile.RECORDSIZE)


def _sparse(info: tarfile.TarInfo, entry: RestoreEntry, headers: dict[str, str]) -> bytes:
    """Turn the header into that of a sparse file; returns the table before its data (GNU tar manual, 1.0)."""
    pieces = list(_data_of(entry))
    lines = [str(len(pieces)), *(str(number) for piece in pieces for number in piece)]
    table = "".join(f"{line}\n" for line in lines).encode()
    table += padding(len(table))
    headers |= {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": info.name,
        "GNU.sparse.realsize": str(entry.size),
    }
    directory = f"{_text(entry.directory)}/" if entry.directory else ""
    info.name = f"{directory}GNUSparseFile.0/{_text(entry.name)}"
    info.size = len(table) + sum(length for _, length in pieces)
    return table


def _data_of(entry: RestoreEntry) -> Iterator[tuple[int, int]]:
    """Offset and length of each stretch of data; an empty one marks a hole at the end."""
    numbers = unpack_u64(entry.holes)
    at = 0
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        if start > at:
            yield at, start - at
        at = start + length
    yield at, entry.size - at


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _decimal(nanoseconds: int) -> str:
    sign = "-" if nanoseconds < 0 else ""
    seconds, rest = divmod(abs(nanoseconds), 10**9)
    return f"{sign}{seconds}.{rest:09d}".rstrip("0").rstrip(".")
