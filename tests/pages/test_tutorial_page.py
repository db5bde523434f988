"""docs/tutorial.md is given as it stands, from the first file to the restore out of the emulator."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.pages.machine import Machine
from tests.pages.page import RUN, SHOWN, blocks_of
from tests.pages.scenes import free_port, run
from tests.support.emulated import REPOSITORY

pytestmark = pytest.mark.slow

PAGE = REPOSITORY / "docs" / "tutorial.md"


def test_every_command_of_the_page(tmp_path: Path) -> None:
    blocks = blocks_of(PAGE)
    assert {block.language for block in blocks} == {RUN, SHOWN}
    assert [block.section for block in blocks if block.language == SHOWN] == ["Your first backup"]
    port = str(free_port())
    given = [
        replace(block, text=block.text.replace("9090", port)) for block in blocks if block.language == RUN
    ]
    machine = Machine.create(tmp_path)
    machine.use_forks()
    ended = run(machine, given)
    assert ended.failures == [], (ended.failures, ended.output)
    assert ended.output.count("\nthe same\n") == 2
    assert "the first draft" in ended.output
    assert "exit code 17" in ended.output
    assert not (tmp_path / "home" / "nightvault-try").exists()
