"""The processes of this machine, as other users and tools see them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def watching(secret: str) -> Iterator[set[str]]:
    """Where a secret is seen meanwhile: `cmdline` or `environ`, and of which program's processes."""
    seen: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            for words, environment in environments_and_words():
                name = _program(words)
                seen.update({f"cmdline: {name}"} if any(secret in word for word in words) else ())
                seen.update({f"environ: {name}"} if secret in environment else ())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def _program(words: list[str]) -> str:
    """A program's name; of what the interpreter runs, that of the script."""
    names = [Path(word).name for word in words if not word.startswith("-")]
    return names[1] if names[0].startswith("python") and len(names) > 1 else Path(words[0]).name
