"""Compares two trees without our own code: every byte, name, kind, mode, link target and time."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

_BLOCK = 1 << 20


def differences(one: str, other: str, *, left_out: frozenset[str]) -> Iterator[str]:
    """Sentences about what differs between two directories, but for the paths of `one` in `left_out`."""
    yield from _entry(os.fsencode(one), os.fsencode(other), b".", frozenset(map(os.fsencode, left_out)))


def _entry(one: bytes, other: bytes, name: bytes, left_out: frozenset[bytes]) -> Iterator[str]:
    if one in left_out:
        return
    try:
        first, second = os.lstat(one), os.lstat(other)
    except FileNotFoundError as error:
        yield f"{os.fsdecode(name)}: {os.fsdecode(error.filename)} is not there"
        return
    yield from (f"{os.fsdecode(name)}: {what}" for what in _metadata(first, second))
    if stat.S_IFMT(first.st_mode) != stat.S_IFMT(second.st_mode):
        return
    if stat.S_ISLNK(first.st_mode):
        if os.readlink(one) != os.readlink(other):
            yield f"{os.fsdecode(name)}: the link leads elsewhere"
    elif stat.S_ISREG(first.st_mode):
        if not _same_content(one, other):
            yield f"{os.fsdecode(name)}: the content differs"
    elif stat.S_ISDIR(first.st_mode):
        for below in sorted({*os.listdir(one), *os.listdir(other)}):
            where = os.path.join(name, below)
            yield from _entry(os.path.join(one, below), os.path.join(other, below), where, left_out)


def _same_content(one: bytes, other: bytes) -> bool:
    """Whether two files are equal byte by byte; `filecmp` caches by size and time."""
    with open(one, "rb") as first, open(other, "rb") as second:
        while True:
            some = first.read(_BLOCK)
            if some != second.read(_BLOCK):
                return False
            if not some:
                return True


def _metadata(first: os.stat_result, second: os.stat_result) -> Iterator[str]:
    if stat.S_IFMT(first.st_mode) != stat.S_IFMT(second.st_mode):
        yield "another kind of entry"
    elif stat.S_IMODE(first.st_mode) != stat.S_IMODE(second.st_mode):
        yield f"mode {stat.S_IMODE(first.st_mode):04o} became {stat.S_IMODE(second.st_mode):04o}"
    if first.st_mtime_ns != second.st_mtime_ns:
        yield f"time {first.st_mtime_ns} became {second.st_mtime_ns}"
