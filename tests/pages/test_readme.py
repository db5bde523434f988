"""README.md is given as it stands, command by command."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.pages.page import RUN, SHOWN, Block, blocks_of
from tests.pages.scenes import run, two_nights
from tests.support.emulated import REPOSITORY

pytestmark = pytest.mark.slow

PAGE = REPOSITORY / "README.md"
NIGHT = "At 3 a.m."
NOT_RUN = [
    "# apt install ./nightvault_*.deb",
    "$ make demo",
    "$ make test",
    "$ make venv && . .venv/bin/activate",
    "# nightvault begin",
]
LINES, COLUMNS = 72, 110


def part(section: str) -> list[Block]:
    return [block for block in blocks_of(PAGE) if (block.section, block.language) == (section, RUN)]


def test_nothing_on_the_page_is_left_out() -> None:
    blocks = blocks_of(PAGE)
    assert {block.section for block in blocks if block.language == RUN} == {NIGHT}
    shown = "".join(block.text for block in blocks if block.language == SHOWN).splitlines()
    assert [line.partition("   ")[0] for line in shown] == NOT_RUN
    assert {block.language for block in blocks} == {RUN, SHOWN}


def test_it_is_short() -> None:
    """A screen and a half; pictures are counted apart."""
    lines = [line for line in PAGE.read_text().splitlines() if not line.startswith("![")]
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= COLUMNS


def test_at_3_am(tmp_path: Path) -> None:
    machine = two_nights(tmp_path)
    machine.use_the_program()
    at_night, gone = part(NIGHT)
    ended = run(machine, [at_night])
    assert ended.failures == [], (ended.failures, ended.output)
    assert (machine.place("/mnt/back") / "nginx.conf").exists()
    shutil.rmtree(machine.place("/var/lib/nightvault"))
    ended = run(machine, [gone])
    assert ended.failures == [], (ended.failures, ended.output)
