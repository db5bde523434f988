"""Finds paths whose mount does not answer, such as a network disk without its server.

A process or thread that accesses such a mount hangs in the kernel, and may not even be killable. So a helper
process accesses it, and is abandoned if it does not answer; later calls find that process, and start no
second one.
"""

from __future__ import annotations

import os
import re
import select
import sys
import threading
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct
from msgspec.structs import replace

if TYPE_CHECKING:
    from backup.config import Config

PLACE_SECONDS = 5.0
"""Seconds in which a mount has to answer."""
_LOCAL: Final = re.compile(
    "bpf|btrfs|cgroup2?|debugfs|devpts|devtmpfs|efivarfs|erofs|exfat|ext[234]|f2fs|hugetlbfs|iso9660|jfs"
    "|mqueue|nsfs|overlay|proc|pstore|ramfs|reiserfs|securityfs|squashfs|sysfs|tmpfs|tracefs|udf|vfat|xfs|zfs"
)
"""File systems of this machine's own: to look at them takes no other process."""
_KERNELS: Final = ("/proc/", "/sys/", "/dev/")
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


class Places:
    """Paths of this machine with what is there; each is accessed once, as a dead mount costs seconds."""

    def __init__(self) -> None:
        self._seen: dict[str, SeenDirectory] = {}
        self._dead: set[str] = set()
        self._mounts = kinds_of_mounts()

    def at(self, path: str) -> SeenDirectory:
        """Return what was found at the path."""
        if path not in self._seen:
            self._seen[path] = look_at(path, mounts=self._mounts)
        return self._seen[path]

    def ask(self, paths: Collection[str]) -> None:
        """Access all of these paths at the same time, so that several dead mounts take no longer than one."""
        asked = [path for path in paths if path not in self._seen and may_be_silent(path, self._mounts)]
        threads = [threading.Thread(target=self.at, args=[path], daemon=True) for path in asked]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def is_silent(self, path: str) -> bool:
        """Whether a path is on a mount that does not answer; a silent mount is not accessed again."""
        mount = self._mount_of(path)
        if mount not in self._dead and not self.at(path).is_silent:
            return False
        if not is_local(self._mounts.get(mount, "ext4")):  # else a link leads to what is silent
            self._dead.add(mount)
        return True

    def silent_below(self, path: str) -> list[str]:
        """Return the mounts below a directory that do not answer: a scan would hang there."""
        above = os.path.join(os.path.realpath(path), "")
        found = [place for place, kind in self._mounts.items() if not is_local(kind)]
        below = [place for place in found if place.startswith(above) and not place.startswith(_KERNELS)]
        self.ask(below)
        silent = [place for place in below if self.is_silent(place)]
        return [os.path.join(path, place.removeprefix(above)) for place in silent]

    def mounted_in(self, folder: str) -> list[str]:
        """Return the mount points that are this folder or lie directly in it; none is accessed."""
        return sorted(place for place in self._mounts if place == folder or os.path.dirname(place) == folder)

    def _mount_of(self, path: str) -> str:
        """The place where the file system of a path is mounted, by its words: links are not followed."""
        place = os.path.abspath(path)
        while place not in self._mounts and place != "/":
            place = os.path.dirname(place)
        return place


class SeenDirectory(Struct, frozen=True):
    """A directory as it was found: some names in it, or the errno; its device, and its free space.

    Of one that `is_silent` nothing is known: its mount does not answer.
    """

    names: frozenset[str] = frozenset()
    error: int | None = None
    disk: int | None = None
    free: int = 0
    is_silent: bool = False


def look_at(
    path: str, seconds: float = PLACE_SECONDS, mounts: Mapping[str, str] | None = None
) -> SeenDirectory:
    """Access a directory and return what is there; gives up after `seconds` if its mount may not answer."""
    if not may_be_silent(path, kinds_of_mounts() if mounts is None else mounts):
        return _seen(path)
    until = time.monotonic() + seconds
    while _is_looked_at(path):
        if time.monotonic() >= until:
            return SeenDirectory(is_silent=True)
        threading.Event().wait(0.05)
    answer = _answer_of_another(path, until)
    if answer is None:
        return SeenDirectory(is_silent=True)
    import json  # other than msgspec's it knows names that are no UTF-8

    names, error, disk = json.loads(answer)
    return SeenDirectory(frozenset(names), error, *(disk or (None, 0)))


def _seen(path: str) -> SeenDirectory:
    """The facts of a place whose file system answers."""
    names, error, disk, free = frozenset[str](), None, None, 0
    try:
        names = frozenset(os.listdir(path))
    except OSError as found:
        error = found.errno
    with suppress(OSError):
        there = os.statvfs(path)
        disk, free = os.stat(path).st_dev, there.f_bavail * there.f_frsize
    return SeenDirectory(names, error, disk, free)


def may_be_silent(path: str, kinds: Mapping[str, str]) -> bool:
    """Whether a path leads over a mount that is not local to this machine; nothing is accessed."""
    rest, here = os.path.abspath(path).split("/")[1:], "/"
    for _ in range(400):
        if not is_local(kinds.get(here, "ext4")):
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


def is_local(kind: str) -> bool:
    """Whether a file system type always answers: it needs no server and no process."""
    return _LOCAL.fullmatch(kind) is not None


def kinds_of_mounts() -> dict[str, str]:
    """Return the file system type of each mount point; of several at one place the last. Source: proc(5)."""
    found: dict[str, str] = {}
    with suppress(OSError), open("/proc/self/mountinfo", "rb") as lines:
        for line in lines:
            place, _, rest = line.partition(b" - ")
            path = _ESCAPED.sub(lambda octal: bytes([int(octal[1], 8) & 0xFF]), place.split(b" ")[4])
            found[os.fsdecode(path)] = os.fsdecode(rest.split(b" ")[0])
    return found


def _is_looked_at(path: str) -> bool:
    """Whether a helper process still accesses the path, for this process or another one."""
    sought = f"\0{_MARK}\0{path}\0".encode(errors="surrogateescape")
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with suppress(OSError), open(f"/proc/{name}/cmdline", "rb") as file:
                if sought in file.read():
                    return True
    return False


def _answer_of_another(path: str, until: float) -> bytes | None:
    """Return the answer of a helper process that accesses the path; None if it gives none in time."""
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


def silent_places(config: Config, places: Places | None = None) -> dict[str, str]:
    """Return sources, mounts below them and directory vaults that do not answer, each with a description."""
    looked = places or Places()
    named = [(path, f"the source {path} of job {job.name}") for job in config.jobs for path in job.paths]
    named += [
        (vault.path, f"vault {vault.name} ({vault.path})")
        for vault in config.vaults
        if vault.path is not None
    ]
    looked.ask([path for path, _ in named])
    found = {path: what for path, what in named if looked.is_silent(path)}
    for job in config.jobs:
        for source in job.paths:
            if source not in found:
                below = looked.silent_below(source)
                found |= {path: f"{path} in the source {source} of job {job.name}" for path in below}
    return found


def without(config: Config, silent: Collection[str]) -> Config:
    """Return the config without paths whose mounts do not answer, and without the jobs of such vaults."""
    vaults = tuple(vault for vault in config.vaults if vault.path not in silent)
    names = {vault.name for vault in vaults}
    jobs = tuple(
        replace(
            job,
            sources=tuple(path for path in job.sources if path not in silent),
            source=tuple(source for source in job.source if source.path not in silent),
        )
        for job in config.jobs
        if job.vault in names
    )
    return replace(config, vaults=vaults, jobs=jobs)
