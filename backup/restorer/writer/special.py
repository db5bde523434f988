"""Creates symlinks, FIFOs and devices, and returns a handle of the very inode that was created."""

from __future__ import annotations

import errno
import os
import stat

from backup.model import EntryKind, Extra
from backup.restorer.selection.entry import RestoreEntry

_NOTHING = getattr(os, "O_PATH", 0) | os.O_NOFOLLOW | os.O_CLOEXEC
KINDS = {
    EntryKind.SYMLINK: stat.S_IFLNK,
    EntryKind.FIFO: stat.S_IFIFO,
    EntryKind.CHARACTER_DEVICE: stat.S_IFCHR,
    EntryKind.BLOCK_DEVICE: stat.S_IFBLK,
}


def make_special(handle: int, name: bytes, entry: RestoreEntry) -> int:
    """Create a special file as `name` in an open directory; returns an O_PATH handle.

    OSError if that is refused, or something else took the name meanwhile. OverflowError for a device
    number that this system does not support.
    """
    extra = entry.extra or Extra()
    if entry.kind is EntryKind.SYMLINK:
        os.symlink(extra.target, name, dir_fd=handle)
    elif entry.kind is EntryKind.FIFO:
        os.mkfifo(name, 0o600, dir_fd=handle)
    else:
        os.mknod(name, KINDS[entry.kind] | 0o600, extra.device, dir_fd=handle)
    made = os.open(name, _NOTHING, dir_fd=handle)
    if not is_as_asked_for(made, entry.kind, extra):
        os.close(made)
        raise FileNotFoundError(errno.ENOENT, "something else took its place")
    return made


def is_as_asked_for(made: int, kind: EntryKind, extra: Extra) -> bool:
    """Whether this handle is an inode of the wanted kind, with a single name."""
    found = os.fstat(made)
    if stat.S_IFMT(found.st_mode) != KINDS[kind] or found.st_nlink != 1:
        return False
    if kind is EntryKind.SYMLINK:
        return os.readlink(b"", dir_fd=made) == extra.target
    return kind is EntryKind.FIFO or found.st_rdev == extra.device
