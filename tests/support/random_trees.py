"""Trees with every kind of entry that grow and change by chance: for laws and for long years.

random_tree = RandomTree(tmp_path / "source", random.Random(7))
random_tree.day()                  # some edits: made, written, renamed, linked, dressed, removed
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import random
import shutil
import stat
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

IS_ROOT = os.geteuid() == 0

_NAMES = (b"a", b"b", b"a-", b"\xff\xfe", b"caf\xc3\xa9", b"new\nline", b"-rf", b" ", b"n" * 255, b"~.\\*")
_SIZES = (0, 0, 1, 100, 4096, 70_000, 400_000)
_TIMES = (0, 1, -1, -(10**18), 10**18 + 123_456_789, 2**31 * 10**9 + 1, 4 * 10**18)
_MODES = (0o644, 0o600, 0o000, 0o400, 0o777, 0o4755, 0o2755, 0o6711, 0o1777, 0o2770)
_IDS = (0, 1, 2, 1234, 65534, 2**31)
_CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)  # cap_net_bind_service=ep
_GET, _SET = 0x80086601, 0x40086602
_FLAGS = (0x40, 0x80, 0x8, 0x48)  # no dump, no atime, synchronous
_LOCKS = (0x10, 0x20, 0x30)  # immutable, append-only
_DIRECTORY_FLAGS = (0x10000, 0x20000, 0x30040)


class RandomTree:
    """A folder and the chance that changes it. Everything is reached by full paths of moderate length."""

    def __init__(self, folder: Path | str, chance: random.Random) -> None:
        self.folder = os.fsencode(folder)
        self.chance = chance
        self.done: list[str] = []
        os.makedirs(self.folder, exist_ok=True)

    def day(self, most: int = 8) -> None:
        """Some edits; in the evening some of it is locked, as it was in the morning until now."""
        loosen(self.folder)
        for _ in range(self.chance.randint(1, most)):
            verb = self.chance.choice(_VERBS)
            with suppress(FileExistsError, FileNotFoundError, NotADirectoryError, OSError):
                verb(self)
                self.done.append(verb.__name__)
        lasting = os.path.join(self.folder, b"lasting")
        if not os.path.lexists(lasting):  # of a source that has lost its last file a backup is partial
            self._write(lasting)
        self.lock()

    def lock(self) -> None:
        """Set flags here and there: after them nothing else can be changed."""
        for path in list(self._paths()):
            kind = stat.S_IFMT(os.lstat(path).st_mode)
            if kind in {stat.S_IFREG, stat.S_IFDIR} and self.chance.random() < 0.15:
                choices = _FLAGS + (_LOCKS if IS_ROOT else ())
                more = _DIRECTORY_FLAGS if kind == stat.S_IFDIR else ()
                set_flags(path, self.chance.choice(choices + more))

    def make(self) -> None:
        """Something new."""
        path = self._new()
        kind = self.chance.randrange(8)
        if kind <= 2:
            self._write(path)
        elif kind == 3:
            os.mkdir(path)
        elif kind == 4:
            os.symlink(self.chance.choice((b"a", b"/nowhere/\xff", b"../b", b"x" * 3000)), path)
        elif kind == 5:
            os.mkfifo(path)
        elif IS_ROOT and can_make_devices(self.folder):
            block = self.chance.random() < 0.5
            number = os.makedev(self.chance.choice((1, 8, 250)), self.chance.choice((0, 3, 255, 70_000)))
            os.mknod(path, (stat.S_IFBLK if block else stat.S_IFCHR) | 0o600, number)
        self._dress(path)

    def write(self) -> None:
        """Other content in an old file."""
        path = self._any()
        if stat.S_ISREG(os.lstat(path).st_mode):
            self._write(path)

    def dress(self) -> None:
        """Another mode, owner, time, xattr or ACL."""
        self._dress(self._any())

    def link(self) -> None:
        """One more name for something, often in another directory."""
        path = self._any()
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.link(path, self._new(), follow_symlinks=False)

    def rename(self) -> None:
        """Another name, over whatever is there."""
        os.rename(self._any(), self._new())

    def remove(self) -> None:
        """Something is gone."""
        path = self._any()
        if stat.S_ISDIR(os.lstat(path).st_mode):
            shutil.rmtree(path)
        else:
            os.unlink(path)

    def _write(self, path: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK  # never wait for a FIFO
        with open(os.open(path, flags, 0o644), "wb") as file:
            file.write(random.Random(self.chance.randrange(40)).randbytes(self.chance.choice(_SIZES)))

    def _dress(self, path: bytes) -> None:
        mode = os.lstat(path).st_mode
        is_link = stat.S_ISLNK(mode)
        if self.chance.random() < 0.4 and IS_ROOT:
            os.chown(path, self.chance.choice(_IDS), self.chance.choice(_IDS), follow_symlinks=False)
        if not is_link and self.chance.random() < 0.6:
            os.chmod(path, self.chance.choice(_MODES))
        for name, value in self._xattrs(mode):
            with suppress(OSError):
                if value is None:
                    os.removexattr(path, name, follow_symlinks=False)
                else:
                    os.setxattr(path, name, value, follow_symlinks=False)
        if self.chance.random() < 0.6:
            when = self.chance.choice(_TIMES)
            os.utime(path, ns=(when, when), follow_symlinks=False)

    def _xattrs(self, mode: int) -> Iterator[tuple[str, bytes | None]]:
        """Names with values to set, or None to take away; few of them, for chance decides on each."""
        names = []
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            names += ["user.one", "user.caf\u00e9", "user.two"]
        if not stat.S_ISLNK(mode):
            names.append("system.posix_acl_access")
        if stat.S_ISDIR(mode):
            names.append("system.posix_acl_default")
        if IS_ROOT:
            names.append("trusted.one")
            names += ["security.capability"] if stat.S_ISREG(mode) else []
        for name in names:
            if self.chance.random() < 0.25:
                yield name, None if self.chance.random() < 0.3 else self._value(name)

    def _value(self, name: str) -> bytes:
        if name == "security.capability":
            return _CAPABILITY
        if name.startswith("system."):
            return acl(self.chance)
        return self.chance.choice((b"", b"\0", b"value", b"v" * 900))

    def _paths(self) -> Iterator[bytes]:
        for place, directories, files in os.walk(self.folder):
            for name in (*directories, *files):
                yield os.path.join(place, name)

    def _any(self) -> bytes:
        paths = sorted(self._paths())
        return self.chance.choice(paths) if paths else self.folder + b"/none"

    def _new(self) -> bytes:
        folders = [self.folder, *(path for path in sorted(self._paths()) if _is_directory(path))]
        shallow = [path for path in folders if path.count(b"/") - self.folder.count(b"/") < 4]
        return os.path.join(self.chance.choice(shallow), self.chance.choice(_NAMES))


_VERBS = (
    *[RandomTree.make] * 4,
    *[RandomTree.link] * 2,
    *[RandomTree.dress] * 2,
    RandomTree.write,
    RandomTree.rename,
    RandomTree.remove,
)


def acl(chance: random.Random) -> bytes:
    """A sound ACL in the kernel's form."""

    def named(tag: int) -> list[tuple[int, int, int]]:
        return [(tag, chance.randrange(8), id_) for id_ in sorted(chance.sample(_IDS, chance.randrange(3)))]

    lines = [(0x01, chance.randrange(8), -1), *named(0x02), (0x04, chance.randrange(8), -1), *named(0x08)]
    lines += [(0x10, chance.randrange(8), -1), (0x20, chance.randrange(8), -1)]
    packed = (struct.pack("<HHI", tag, rights, line % 2**32) for tag, rights, line in lines)
    return struct.pack("<I", 2) + b"".join(packed)


def set_flags(path: bytes | str | Path, flags: int) -> bool:
    """Set flags beside those that the file system sets itself; False where it knows none, or not these."""
    opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        room = array.array("l", [0])
        fcntl.ioctl(opened, _GET, room)
        if room[0] & _MINE:  # another name of it was locked already: what is immutable takes no other flag
            fcntl.ioctl(opened, _SET, array.array("l", [room[0] & ~_MINE]))
        fcntl.ioctl(opened, _SET, array.array("l", [room[0] & ~_MINE | flags]))
    except OSError as error:
        if error.errno in {errno.ENOTTY, errno.EOPNOTSUPP}:
            return False
        raise
    finally:
        os.close(opened)
    return True


_MINE = 0x8 | 0x10 | 0x20 | 0x40 | 0x80 | 0x10000 | 0x20000


def loosen(folder: bytes | str | Path) -> None:
    """Take immutable and append-only away from all in a folder, so that it can be changed or removed."""
    if not IS_ROOT:
        return
    top = os.fsencode(folder)
    for place, directories, files in os.walk(top):
        set_flags(place, 0)
        for name in (*directories, *files):
            path = os.path.join(place, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
                set_flags(path, 0)


def can_make_devices(folder: bytes) -> bool:
    """Whether this machine lets us: some containers do not."""
    probe = os.path.join(os.path.dirname(folder), b"device-probe")
    try:
        os.mknod(probe, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        return False
    os.unlink(probe)
    return True


def _is_directory(path: bytes) -> bool:
    return stat.S_ISDIR(os.lstat(path).st_mode)
