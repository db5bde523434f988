"""A limit for answers of servers and mounts.

For whole answers of servers: one that comes a byte now and then ends as one that never comes.

urllib3 and botocore limit each read alone. Here the seconds that are waited for bytes of one answer are
counted: as many as a first byte may take, and one more for each `LEAST_RATE` bytes. So a download may take
hours, on a line that is slow or limited by the config, and an answer of some bytes may not. The time that
this process needs for what came does not count.

Whoever looks at a network disk whose server is gone waits in the kernel, in a thread as in a process, and may
not even be killed. So another process looks, and is left alone if it does not answer; who comes later finds
it there, and does not leave one more.
"""

from __future__ import annotations

import io
import os
import re
import select
import sys
import threading
import time
from contextlib import suppress
from typing import Any, Final

from msgspec import Struct

ANSWER_SECONDS = 180.0
"""Seconds that may be waited for an answer, besides what its size needs."""
LEAST_RATE: Final = 256
"""Bytes a second below which a line counts as dead."""
PLACE_SECONDS = 5.0
"""Seconds in which a mount has to answer."""
_LOCAL: Final = re.compile("btrfs|erofs|ext[234]|f2fs|jfs|overlay|ramfs|reiserfs|squashfs|tmpfs|vfat|xfs|zfs")
"""File systems of this machine's own: to look at them takes no other process."""
_MARK: Final = "nightvault-look-at-place"
_LOOK: Final = """\
import json, os, sys
names, disk, found = [], None, None
try:
    names = os.listdir(sys.argv[2])[:1000]
except OSError as error:
    found = error.errno
try:
    free = os.statvfs(sys.argv[2])
    disk = [os.stat(sys.argv[2]).st_dev, free.f_bavail * free.f_frsize]
except OSError:
    pass
print(json.dumps([names, found, disk]))
"""
_ESCAPED: Final = re.compile(rb"\\([0-7]{3})")


class _Counted(io.RawIOBase):
    """The bytes of one answer, read from a connection."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw, self._waited, self._got = raw, 0.0, 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, room: Any, /) -> int | None:
        """Read what is there. `TimeoutError` as soon as too long was waited for too little."""
        began = time.monotonic()
        got = self._raw.readinto(room)
        self._waited += time.monotonic() - began
        self._got += got or 0
        if self._waited > ANSWER_SECONDS + self._got / LEAST_RATE:
            raise TimeoutError(f"no whole answer: {self._got} bytes in {self._waited:.0f} s")
        return got

    def close(self) -> None:
        """Close the answer; the connection stays open."""
        self._raw.close()
        super().close()


class _Timed:
    """A connected socket, with or without TLS, whose answers are counted."""

    def __init__(self, connected: Any) -> None:
        self._connected = connected

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connected, name)

    def makefile(self, mode: str = "rb", buffering: int = -1) -> io.RawIOBase | io.BufferedReader:
        """The next answer: http.client asks for one at a time."""
        counted = _Counted(self._connected.makefile(mode, 0))
        return counted if buffering == 0 else io.BufferedReader(counted)


def in_time(connection: Any) -> Any:
    """A kind of connection, of urllib3 or made of it, whose answers are counted."""

    class InTime(connection):  # type: ignore[misc]
        sock: Any

        def connect(self) -> None:
            super().connect()
            self.sock = _Timed(self.sock)

    InTime.__name__ = InTime.__qualname__ = connection.__name__  # it is in texts of errors
    return InTime


class Place(Struct, frozen=True):
    """A look at a directory: some names in it, or the number of the error; its disk, and what is free there.

    Of one that `is_silent` nothing is known: its mount does not answer.
    """

    names: frozenset[str] = frozenset()
    error: int | None = None
    disk: int | None = None
    free: int = 0
    is_silent: bool = False


def look_at(path: str, seconds: float = PLACE_SECONDS) -> Place:
    """Look at a directory, for so long at most if what is mounted there may not answer."""
    if not _may_be_silent(path):
        return _seen(path)
    until = time.monotonic() + seconds
    while _is_looked_at(path):
        if time.monotonic() >= until:
            return Place(is_silent=True)
        threading.Event().wait(0.05)
    answer = _answer_of_another(path, until)
    if answer is None:
        return Place(is_silent=True)
    import json  # other than msgspec's it knows names that are no UTF-8

    names, error, disk = json.loads(answer)
    return Place(frozenset(names), error, *(disk or (None, 0)))


def _seen(path: str) -> Place:
    """What is seen of a place that answers."""
    names, error, disk, free = frozenset[str](), None, None, 0
    try:
        names = frozenset(os.listdir(path))
    except OSError as found:
        error = found.errno
    with suppress(OSError):
        there = os.statvfs(path)
        disk, free = os.stat(path).st_dev, there.f_bavail * there.f_frsize
    return Place(names, error, disk, free)


def _may_be_silent(path: str) -> bool:
    """Whether the way to a path leads over a mount that is not this machine's own; nothing is asked."""
    kinds = _mounts()
    rest, here = os.path.abspath(path).split("/")[1:], "/"
    for _ in range(400):
        if not _LOCAL.fullmatch(kinds.get(here, "ext4")):
            return True
        if not rest:
            return False
        step = os.path.join(here, rest.pop(0))
        if step in kinds:
            here = step
            continue
        try:
            target = os.readlink(step)
        except OSError:
            here = step
            continue
        joined = os.path.normpath(os.path.join(here, target, *rest))
        rest, here = joined.split("/")[1:], "/"
    return False


def _mounts() -> dict[str, str]:
    """The kind of file system mounted at each place; of several at one place the last. Source: proc(5)."""
    found: dict[str, str] = {}
    with suppress(OSError), open("/proc/self/mountinfo", "rb") as lines:
        for line in lines:
            place, _, rest = line.partition(b" - ")
            path = _ESCAPED.sub(lambda octal: bytes([int(octal[1], 8) & 0xFF]), place.split(b" ")[4])
            found[os.fsdecode(path)] = os.fsdecode(rest.split(b" ")[0])
    return found


def _is_looked_at(path: str) -> bool:
    """Whether a process still looks at it, for this process or another one."""
    sought = f"\0{_MARK}\0{path}\0".encode(errors="surrogateescape")
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with suppress(OSError), open(f"/proc/{name}/cmdline", "rb") as file:
                if sought in file.read():
                    return True
    return False


def _answer_of_another(path: str, until: float) -> bytes | None:
    """What another process says that looks at the path; None if it does not until then."""
    reading, writing = os.pipe()
    try:
        try:
            words = [sys.executable, "-I", "-S", "-c", _LOOK, _MARK, path]
            actions: list[Any] = [(os.POSIX_SPAWN_DUP2, writing, 1)]
            actions += [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 2)]
            child = os.posix_spawn(sys.executable, words, {}, file_actions=actions)
        finally:
            os.close(writing)
        said = b""
        while select.select([reading], [], [], max(0.0, until - time.monotonic()))[0]:
            some = os.read(reading, 1 << 16)
            if not some:
                os.waitpid(child, 0)
                return said or None
            said += some
        with suppress(OSError):
            os.kill(child, 9)  # not waited for: it may be in the kernel until its server is back
        return None
    finally:
        os.close(reading)
