"""Compares a tree with its earlier state without our own code: bytes, names, kinds, modes, links, times."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping

from msgspec import Struct


class Pictured(Struct, frozen=True):
    """The recorded state of an entry: `content` is a file's SHA-256, or a symlink's target."""

    mode: int  # st_mode
    mtime_ns: int
    content: bytes


def picture(folder: str) -> dict[bytes, Pictured]:
    """Return the state of a directory and all its entries, by relative path, which begins with "."."""
    found: dict[bytes, Pictured] = {}
    top = os.fsencode(folder)
    names = [b"."]
    while names:
        name = names.pop()
        path = os.path.join(top, name)
        seen = os.lstat(path)
        content = b""
        if stat.S_ISLNK(seen.st_mode):
            content = os.readlink(path)
        elif stat.S_ISREG(seen.st_mode):
            with open(path, "rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
        elif stat.S_ISDIR(seen.st_mode):
            names += [os.path.join(name, below) for below in os.listdir(path)]
        found[name] = Pictured(seen.st_mode, seen.st_mtime_ns, content)
    return found


def differences(before: Mapping[bytes, Pictured], folder: str) -> Iterator[str]:
    """Return sentences on how a directory differs from its recorded state."""
    after = picture(folder)
    for name in sorted({*before, *after}):
        first, second = before.get(name), after.get(name)
        if second is None:
            yield f"{os.fsdecode(name)} is not there"
        elif first is None:
            yield f"{os.fsdecode(name)} was not there"
        else:
            yield from (f"{os.fsdecode(name)}: {what}" for what in _changes(first, second))


def _changes(first: Pictured, second: Pictured) -> Iterator[str]:
    if stat.S_IFMT(first.mode) != stat.S_IFMT(second.mode):
        yield "another kind of entry"
        return
    if stat.S_IMODE(first.mode) != stat.S_IMODE(second.mode):
        yield f"mode {stat.S_IMODE(first.mode):04o} became {stat.S_IMODE(second.mode):04o}"
    if first.mtime_ns != second.mtime_ns:
        yield f"time {first.mtime_ns} became {second.mtime_ns}"
    if first.content != second.content:
        yield "the link leads elsewhere" if stat.S_ISLNK(first.mode) else "the content differs"
