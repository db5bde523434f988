"""The metadata of an entry that can be restored: kind, mode, owner, times, link target, attributes."""

from __future__ import annotations

import errno
import os
import stat

from backup.model import FURTHEST_NS, Entry, EntryKind, Extra, Owner
from backup.source.attributes import Attributes, extra_of, group_name, read_attributes, user_name
from backup.source.scanned import ScannedEntry

_KINDS = {
    stat.S_IFREG: EntryKind.FILE,
    stat.S_IFDIR: EntryKind.DIRECTORY,
    stat.S_IFLNK: EntryKind.SYMLINK,
    stat.S_IFIFO: EntryKind.FIFO,
    stat.S_IFCHR: EntryKind.CHARACTER_DEVICE,
    stat.S_IFBLK: EntryKind.BLOCK_DEVICE,
}
_MOST = 2**63 - 1  # what a database's integer holds
_DEVICES = {EntryKind.CHARACTER_DEVICE, EntryKind.BLOCK_DEVICE}
_LOOK = os.O_NOFOLLOW | os.O_CLOEXEC
_LIST = os.O_RDONLY | os.O_DIRECTORY | _LOOK
_NOTHING = getattr(os, "O_PATH", 0) | _LOOK


def kind_of(mode: int) -> EntryKind:
    """The kind of entry of a `st_mode`."""
    return _KINDS[stat.S_IFMT(mode)]


def owner_of(found: os.stat_result) -> Owner:
    """Owner and group, with the names that this machine has for them."""
    return Owner(found.st_uid, found.st_gid, user_name(found.st_uid), group_name(found.st_gid))


def mtime_of(found: os.stat_result) -> int:
    """The mtime in ns since 1970; times outside 1677 to 2262 (some file systems have them) are clamped."""
    return max(-FURTHEST_NS, min(found.st_mtime_ns, FURTHEST_NS))


def ctime_of(found: os.stat_result) -> int:
    """The ctime like `mtime_of`: the last change of any kind, which no program can set."""
    return max(-FURTHEST_NS, min(found.st_ctime_ns, FURTHEST_NS))


def inode_of(found: os.stat_result) -> int:
    """The inode's number as a signed integer of 64 bits: some file systems use all of the unsigned ones."""
    return found.st_ino if found.st_ino <= _MOST else found.st_ino - 2**64


def read_entry(
    directory: bytes, handle: int, scanned: ScannedEntry, *, link: int = 0, place: bytes = b""
) -> tuple[Entry, str]:
    """An entry that is no file, with everything that the system must be asked for, and what was unreadable.

    It is read from the very inode that the scan saw, by a handle. OSError if that is impossible: `ENOENT` if
    something else took its place. `link` is its hard-link number; `place` is where it lies, if not there.
    """
    opened, attributes = _open_scanned(handle, place or scanned.name, scanned)
    try:
        found = os.fstat(opened)
        if not _is_same(found, scanned.stat):
            raise FileNotFoundError(errno.ENOENT, "during the backup something else took its place")
        kind = kind_of(found.st_mode)
        target = os.readlink(b"", dir_fd=opened) if kind is EntryKind.SYMLINK else b""
    finally:
        os.close(opened)
    device = found.st_rdev if kind in _DEVICES else 0
    extra = extra_of(attributes, target=target, device=device, link=link)
    return described(directory, scanned.name, found, extra=extra), attributes.trouble


def _open_scanned(handle: int, name: bytes, scanned: ScannedEntry) -> tuple[int, Attributes]:
    """A handle of the entry, and its attributes; only a directory is really opened, if permitted."""
    if stat.S_ISDIR(scanned.stat.st_mode):
        try:
            opened = os.open(name, _LIST, dir_fd=handle)
        except PermissionError:
            pass  # the scan tells that it cannot be listed
        else:
            return opened, read_attributes(opened)
    opened = os.open(name, _NOTHING, dir_fd=handle)
    return opened, read_attributes(opened, opens_nothing=True)


def _is_same(found: os.stat_result, scanned: os.stat_result) -> bool:
    return (found.st_ino, stat.S_IFMT(found.st_mode)) == (scanned.st_ino, stat.S_IFMT(scanned.st_mode))


def described(
    directory: bytes, name: bytes, found: os.stat_result, *, size: int = 0, extra: Extra | None = None
) -> Entry:
    """The entry described by its status; `size` is what was read of a file."""
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
