"""What of an entry can be restored, besides its content: kind, mode, owner, times, link target, device."""

from __future__ import annotations

import functools
import grp
import os
import pwd
import stat

from backup.model import Entry, EntryKind, Extra, Owner
from backup.source.scan import ScannedEntry

_KINDS = {
    stat.S_IFREG: EntryKind.FILE,
    stat.S_IFDIR: EntryKind.DIRECTORY,
    stat.S_IFLNK: EntryKind.SYMLINK,
    stat.S_IFIFO: EntryKind.FIFO,
    stat.S_IFCHR: EntryKind.CHARACTER_DEVICE,
    stat.S_IFBLK: EntryKind.BLOCK_DEVICE,
}
_MOST = 2**63 - 1  # what a database's integer holds


def kind_of(mode: int) -> EntryKind:
    """The kind of entry that a `st_mode` tells."""
    return _KINDS[stat.S_IFMT(mode)]


def owner_of(found: os.stat_result) -> Owner:
    """Owner and group, with the names that this machine has for them."""
    return Owner(found.st_uid, found.st_gid, _user(found.st_uid), _group(found.st_gid))


def mtime_of(found: os.stat_result) -> int:
    """Nanoseconds since 1970; a time beyond 1677 to 2262 (file systems know such) as the nearest in it."""
    return max(-_MOST, min(found.st_mtime_ns, _MOST))


def ctime_of(found: os.stat_result) -> int:
    """As `mtime_of`: when the entry was last changed in any way, which nobody can set."""
    return max(-_MOST, min(found.st_ctime_ns, _MOST))


def inode_of(found: os.stat_result) -> int:
    """The inode's number as a signed integer of 64 bits: some file systems use all of the unsigned ones."""
    return found.st_ino if found.st_ino <= _MOST else found.st_ino - 2**64


def read_entry(directory: bytes, handle: int, scanned: ScannedEntry) -> Entry:
    """The entry with what must be asked of the system; OSError if it cannot be. A file's size is 0 here."""
    found = scanned.stat
    kind = kind_of(found.st_mode)
    extra = None
    if kind is EntryKind.SYMLINK:
        extra = Extra(target=os.readlink(scanned.name, dir_fd=handle))
    elif kind in {EntryKind.CHARACTER_DEVICE, EntryKind.BLOCK_DEVICE}:
        extra = Extra(device=found.st_rdev)
    return described(directory, scanned.name, found, extra=extra)


def described(
    directory: bytes, name: bytes, found: os.stat_result, *, size: int = 0, extra: Extra | None = None
) -> Entry:
    """The entry that a look at it tells; `size` is what was read of a file."""
    return Entry(
        directory=directory,
        name=name,
        kind=kind_of(found.st_mode),
        mode=stat.S_IMODE(found.st_mode),
        owner=owner_of(found),
        mtime_ns=mtime_of(found),
        size=size,
        extra=extra,
    )


@functools.lru_cache(maxsize=4096)
def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


@functools.lru_cache(maxsize=4096)
def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return ""
