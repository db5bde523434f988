"""The folder of a demo or trial, the copy that it backs up, and the changes to it between two backups."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable

from msgspec import Struct

from backup.errors import UsageError

MARKER = ".nightvault-demo"
"""The name of a file in a folder that a demo or a trial has made, and removes."""


class Copied(Struct, frozen=True):
    """The result of copying the source; `left_out` are paths of the source that could not be copied."""

    files: int
    bytes: int
    left_out: frozenset[str]


def copy_tree(source: str, target: str) -> Copied:
    """Copy a tree with modes and times; symlinks stay symlinks, sockets and the like are left out."""
    left_out: set[str] = set()

    def copy(one: str, other: str) -> str:
        if not os.path.isfile(one):
            left_out.add(one)
            return other
        try:
            return str(shutil.copy2(one, other))
        except OSError:
            left_out.add(one)
            return other

    try:
        shutil.copytree(source, target, symlinks=True, copy_function=copy)
    except shutil.Error as error:
        left_out.update(str(path) for path, _, _ in error.args[0])
    files = size = 0
    for directory, _, names in os.walk(target):
        for name in names:
            found = os.lstat(os.path.join(directory, name))
            files, size = files + 1, size + found.st_size
    return Copied(files, size, frozenset(left_out))


def change_a_few(tree: str, say: Callable[[str], None]) -> None:
    """Touch, append to, rename and remove some files, and add one."""
    files = sorted(
        os.path.join(directory, name)
        for directory, _, names in os.walk(tree)
        for name in names
        if os.path.isfile(path := os.path.join(directory, name)) and not os.path.islink(path)
    )
    with open(os.path.join(tree, "added-by-the-demo.txt"), "w", encoding="utf-8") as file:
        file.write("A file of the second night.\n" * 1000)
    say("  added   added-by-the-demo.txt")
    deeds: list[tuple[str, Callable[[str], None]]] = [
        ("touched", os.utime),
        ("grown", _append),
        ("renamed", lambda path: os.rename(path, path + ".renamed")),
        ("removed", os.unlink),
    ]
    for place, (what, deed) in enumerate(deeds, start=1):
        if not files:
            return
        path = files.pop(len(files) * place // (len(deeds) + 1))
        deed(path)
        say(f"  {what:<7} {os.path.relpath(path, tree)}")


def _append(path: str) -> None:
    os.chmod(path, os.stat(path).st_mode | 0o200)
    with open(path, "ab") as file:
        file.write(b"\nA line of the second night.\n")


def make_empty(path: str) -> None:
    """Make the empty directory, in place of that of an earlier demo or trial. `UsageError` if not that."""
    marker = os.path.join(path, MARKER)
    if os.path.lexists(path):
        if not os.path.exists(marker):
            raise UsageError(
                f"{path} is there and was not made by a demo", advice="remove it, or name another with --dir"
            )
        shutil.rmtree(path)
    os.makedirs(path, mode=0o700)
    with open(marker, "w", encoding="ascii") as file:
        file.write("made by nightvault, which removes it when this runs again\n")


def program_words() -> list[str]:
    """The arguments that start this same nightvault in a child process or a shell."""
    called = sys.argv[0]
    if os.path.basename(called).startswith("nightvault"):
        return [os.path.abspath(called)]
    return [sys.executable, "-P", "-c", "from backup.cli import main; main()"]
