"""docs/emulator.md: years are rehearsed as the page says, by libfaketime (Debian: `faketime`)."""

from __future__ import annotations

import glob
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.pages.machine import ACCOUNT, Machine
from tests.pages.page import RUN, blocks_of
from tests.pages.scenes import free_port, run
from tests.support.emulated import REPOSITORY, StaticKey, write_accounts

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        not glob.glob("/usr/lib/*/faketime/libfaketime.so.1"), reason="needs Debian's package faketime"
    ),
]

PAGE = REPOSITORY / "docs" / "emulator.md"
CONFIG = """\
[state]
dir = "state"

[[vault]]
name = "cold"
kind = "glacier"
region = "eu-central-1"
vault = "nightly"
endpoint = "http://127.0.0.1:9090"

[[job]]
name = "data"
vault = "cold"
sources = ["FOLDER/data"]

[job.retention]
keep_last = 2
"""


def test_years_are_rehearsed(tmp_path: Path) -> None:
    """Half a year of nights: the policy forgets two of four, and a prune deletes what only they needed."""
    port = str(free_port())
    (block,) = (block for block in blocks_of(PAGE) if block.section == "Rehearsing years")
    assert block.language == RUN
    machine = Machine.create(tmp_path)
    key = StaticKey()
    write_accounts(machine.work / "accounts.toml", account_id=ACCOUNT, keys=[key])
    (machine.work / "data").mkdir()
    config = machine.work / "nightvault.toml"
    config.write_text(CONFIG.replace("FOLDER", str(machine.work)).replace("9090", port))
    machine.environment |= {
        "NIGHTVAULT_CONFIG": str(config),
        "AWS_ACCESS_KEY_ID": key.access_key_id,
        "AWS_SECRET_ACCESS_KEY": key.secret_access_key,
    }
    ended = run(machine, [replace(block, text=block.text.replace("9090", port))])
    assert ended.failures == [], (ended.failures, ended.output)
    assert ended.output.count("exit code 17") == 2
    assert ended.output.count("  data  20") == 2, "snapshots that stay"
    assert "gone for good  2 forgotten snapshots" in ended.output, ended.output
