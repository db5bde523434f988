"""The processes of this machine, as other users and tools see them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def environments_and_words() -> Iterator[tuple[list[str], str]]:
    """The words and the environment of every process but this one's, but for those that end meanwhile."""
    own = Path("/proc/self").resolve().name
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or folder.name == own:
            continue
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
            environment = (folder / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if words:
            yield words, environment
