"""docs/s3.md is given as it stands: its config, its commands, on the emulator."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pages.machine import ACCOUNT, Machine
from tests.pages.page import RUN, SHOWN, Block, blocks_of
from tests.pages.scenes import emulated, run
from tests.support.emulated import REPOSITORY

pytestmark = pytest.mark.slow

PAGE = REPOSITORY / "docs" / "s3.md"
NOT_RUN = "$ aws s3api delete-object --bucket example-backups --key KEY --version-id VERSION\n"
STATE = (
    '[state]\ndir = "/var/lib/nightvault"\n\n[[job]]\nname = "etc"\nvault = "NAME"\nsources = ["/etc"]\n\n'
)


def test_nothing_on_the_page_is_left_out() -> None:
    blocks = blocks_of(PAGE)
    assert {block.language for block in blocks} == {RUN, SHOWN, "toml"}
    assert "".join(block.text for block in blocks if block.language == SHOWN) == NOT_RUN
    assert len([block for block in blocks if block.language == "toml"]) == 2


def test_the_config_and_the_commands(tmp_path: Path) -> None:
    bucket, elsewhere = (block.text for block in blocks_of(PAGE) if block.language == "toml")
    machine = Machine.create(tmp_path)
    machine.use_forks()
    machine.place("/etc/nightvault").mkdir()
    config = machine.place("/etc/nightvault/config.toml")
    first = Block(RUN, "nightvault init --key-file recovery.key\nnightvault backup\n", "", 0)
    with emulated(machine):
        config.write_text(STATE.replace("NAME", "frozen") + bucket.replace("123456789012", ACCOUNT))
        ended = run(machine, [first, *(block for block in blocks_of(PAGE) if block.language == RUN)])
        assert ended.failures == [], (ended.failures, ended.output)
        config.write_text(STATE.replace("NAME", "elsewhere") + elsewhere)
        ended = run(machine, [Block(RUN, "nightvault aws policy --only backup\n", "", 0)])
        assert ended.failures == [], (ended.failures, ended.output)
