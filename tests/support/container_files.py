"""Container files as their instructions, and the build context as `.dockerignore` leaves it."""

from __future__ import annotations

import fnmatch
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

_INSTRUCTION = re.compile(r"([A-Z]+)\s+(.*)", re.DOTALL)


def instructions_of(path: Path) -> list[tuple[str, str]]:
    """Each instruction with its argument, lines that go on joined; comments are none."""
    return list(_instructions(path.read_text()))


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for logical in re.sub(r"\\\n\s*", "", "\n".join(lines)).split("\n"):
        if not logical.strip():
            continue
        match = _INSTRUCTION.fullmatch(logical)
        assert match is not None, f"no instruction: {logical}"
        yield match[1], match[2]


def words_of(argument: str) -> list[str]:
    """The words of an instruction in its exec form, with options before it left out."""
    words: list[str] = json.loads(argument[argument.index("[") :])
    return words


def copy_context(repository: Path, to: Path) -> None:
    """What `COPY . /src` copies: the checkout without what `.dockerignore` names."""
    ignored = (repository / ".dockerignore").read_text().split()
    tops = [pattern for pattern in ignored if "/" not in pattern.rstrip("/")]

    def leave_out(folder: str, names: list[str]) -> list[str]:
        is_top = Path(folder) == repository
        return [
            name
            for name in names
            if name == "__pycache__"
            or (is_top and any(fnmatch.fnmatch(name, top.rstrip("/")) for top in tops))
        ]

    assert "**/__pycache__" in ignored
    shutil.copytree(repository, to, ignore=leave_out, symlinks=True)
