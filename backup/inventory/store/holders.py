"""Finds the locks of an inventory that are held now, without taking one, which could block a run.

The locks of the state directory, by name, and SQLite's own, by which one process writes at a time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from msgspec import Struct

from backup.files import mount_of

RESTORE: Final = "restore-"
"""The locks of restores begin so; their ids follow."""
_LOCKS = "/proc/locks"  # proc(5): number, FLOCK, ADVISORY, WRITE, pid, device:inode, from, to
_WRITE_BYTE = 120  # of the log's index (sqlite.org/walformat.html, 2.3.1)


class Holder(Struct, frozen=True):
    """A process that holds a lock; number 0 is one of another PID namespace, such as a container's."""

    process: int
    command: str = ""
    is_suspended: bool = False


def holders(directory: str) -> Mapping[str, Sequence[Holder]] | None:
    """The processes of this machine that hold locks, by name; None if the system does not say."""
    try:
        with open(_LOCKS, encoding="ascii", errors="replace") as file:
            fields = [line.split() for line in file]
        by_file: dict[str, set[int]] = {}
        for field in fields:
            if len(field) > 5 and field[1] == "FLOCK":
                by_file.setdefault(field[5], set()).add(max(0, int(field[4])))
        found: dict[str, set[int]] = {}
        for name in filter(lambda name: name.endswith(".lock"), os.listdir(directory)):
            files = _files_in_list(os.path.join(directory, name))
            found[name] = set().union(*(by_file.get(file, ()) for file in files))
    except (OSError, ValueError):
        return None
    return {
        name.removesuffix(".lock"): [_holder(process) for process in sorted(processes)]
        for name, processes in sorted(found.items())
        if processes
    }


def _files_in_list(path: str) -> set[str]:
    """The names that a file can have in the kernel's list of locks: device and inode.

    The device there is that of the file system. A subvolume of btrfs has one of its own besides, which `stat`
    tells. Source: proc(5), mountinfo.
    """
    at = os.stat(path)
    devices = {f"{os.major(at.st_dev):02x}:{os.minor(at.st_dev):02x}"}
    with suppress(OSError, ValueError):
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            mount = mount_of(handle).partition(":")[2].strip()
        finally:
            os.close(handle)
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as lines:
            for number, _, device, *_ in (line.split() for line in lines):
                if number == mount:
                    major, _, minor = device.partition(":")
                    devices.add(f"{int(major):02x}:{int(minor):02x}")
    return {f"{device}:{at.st_ino}" for device in devices}


def held_locks(directory: str) -> frozenset[str] | None:
    """The names of the locks that processes of this machine hold; None if the system does not say."""
    found = holders(directory)
    return None if found is None else frozenset(found)


def database_holders(path: str) -> Sequence[Holder]:
    """The processes that hold a lock by which this one cannot write to the database at a path.

    A lock that the kernel lists without a process belongs to an open file description.
    """
    found: set[int] = set()
    try:
        with open(_LOCKS, encoding="ascii", errors="replace") as file:
            fields = [line.split() for line in file]
        for name, hinders in ((path, _hinders_any), (f"{path}-shm", _hinders_writers)):
            at, mine = os.stat(name), _files_in_list(name)
            for words in fields:
                if len(words) > 7 and words[1] in {"POSIX", "OFDLCK"} and words[5] in mine and hinders(words):
                    owners = _having_open(at) if words[4] == "-1" else {max(0, int(words[4]))}
                    found |= owners - {os.getpid()}
    except (OSError, ValueError):
        pass
    return [_holder(process) for process in sorted(found)]


def _hinders_any(lock: Sequence[str]) -> bool:
    return lock[3] == "WRITE"


def _hinders_writers(lock: Sequence[str]) -> bool:
    """Whether a lock of the log's index is that of the one who writes, or keeps everybody from it."""
    last = _WRITE_BYTE if lock[7] == "EOF" else int(lock[7])
    return int(lock[6]) <= _WRITE_BYTE <= last


def _having_open(file: os.stat_result) -> set[int]:
    """The processes that have a file open, as far as this process may see them."""
    found = set()
    for process in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            for handle in os.listdir(f"/proc/{process}/fd"):
                with suppress(OSError):
                    if os.path.samestat(os.stat(f"/proc/{process}/fd/{handle}"), file):
                        found.add(int(process))
    return found


def _holder(process: int) -> Holder:
    """The facts known of a process, which may have ended meanwhile."""
    try:
        with open(f"/proc/{process}/cmdline", "rb") as file:
            words = file.read(4096).rstrip(b"\0").split(b"\0")
        with open(f"/proc/{process}/stat", "rb") as file:
            state = file.read(4096).rpartition(b")")[2].split()[:1]
    except OSError:
        return Holder(process)
    command = b" ".join(words).decode("utf-8", "replace")
    return Holder(process, command, is_suspended=state in ([b"T"], [b"t"]))
