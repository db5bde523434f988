"""Pages in Markdown as scripts: their fenced blocks, in order, each with the section that it is in.

A block that is fenced as `sh` is run as it stands. One fenced as `console` shows commands that a test cannot
run (they want sudo, a package manager, systemd, another machine); each page's list of them is asserted.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

RUN = "sh"
SHOWN = "console"
_FENCE = re.compile(r"^( *)```(\S*) *$")


class Block(Struct, frozen=True):
    """A fenced block: the language it is marked with, its text, its section and its first line's number."""

    language: str
    text: str
    section: str
    line: int


def blocks_of(path: Path) -> list[Block]:
    """All fenced blocks of a page; one that is never closed is an error."""
    return list(_blocks(path.read_text(encoding="utf-8").splitlines()))


def _blocks(lines: list[str]) -> Iterator[Block]:
    section, inside = "", None
    held: list[str] = []
    for number, line in enumerate(lines, 1):
        fence = _FENCE.match(line)
        if inside is None:
            if line.startswith("#"):
                section = line.lstrip("# ").strip()
            if fence:
                inside, held = (fence[2], number + 1), []
        elif fence:
            yield Block(inside[0], textwrap.dedent("\n".join(held)) + "\n", section, inside[1])
            inside = None
        else:
            held.append(line)
    assert inside is None, f"a block that begins in line {inside} is never closed"


def script_of(blocks: list[Block]) -> str:
    """One script of blocks: it says where each begins, and which command of it failed, and goes on."""
    parts = ['trap \'echo "FAILED $? in line $PAGE_LINE: $BASH_COMMAND" >> "$PAGE_FAILURES"\' ERR']
    parts += [f"PAGE_LINE={block.line}\n{block.text}" for block in blocks]
    return "\n".join(parts)
