"""docs/three-two-one.md: its configs are taken, its commands are given, its prices are those of the table."""

from __future__ import annotations

import re
import shutil
import tomllib
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.app.money.prices import builtin_table
from backup.config import load_config
from backup.cost import Load
from backup.model import MIB, Tier
from tests.pages.machine import Machine
from tests.pages.page import RUN, Block, blocks_of
from tests.pages.scenes import emulated, run, run_until_ready
from tests.support.emulated import REPOSITORY

PAGE = REPOSITORY / "docs" / "three-two-one.md"
DISK, REGIONS, PROVIDER, DRILL, HOME = (
    "A disk, and Deep Archive",
    "Two regions",
    "Another provider",
    "Does the copy restore?",
    "Home again",
)
TB = 10**12
PACK, PARTS = 64 * MIB, 2


def part(section: str, language: str) -> list[Block]:
    return [block for block in blocks_of(PAGE) if (block.section, block.language) == (section, language)]


def test_nothing_on_the_page_is_left_out() -> None:
    found = [(block.section, block.language) for block in blocks_of(PAGE)]
    toml = [(section, "toml") for section in (DISK, REGIONS, PROVIDER, DRILL)]
    assert sorted(found) == sorted([*toml, (DISK, RUN), (DRILL, RUN), (HOME, RUN), (HOME, RUN)])


@pytest.mark.parametrize("section", [DISK, REGIONS, PROVIDER])
def test_a_config_is_whole(tmp_path: Path, section: str) -> None:
    (block,) = part(section, "toml")
    path = tmp_path / "config.toml"
    path.write_text(block.text)
    config = load_config(str(path))
    (job,) = config.jobs
    assert {job.vault, *(copy.vault for copy in job.copy)} == {vault.name for vault in config.vaults}


@pytest.mark.slow
def test_a_disk_and_deep_archive_and_home_again(tmp_path: Path) -> None:
    machine = Machine.create(tmp_path)
    machine.use_forks()
    with emulated(machine):
        config = configured(machine, part(DISK, "toml")[0].text)
        ended = run(machine, part(DISK, RUN))
        assert ended.failures == [], (ended.failures, ended.output)
        config.write_text(f"{config.read_text()}\n{part(DRILL, 'toml')[0].text}")
        (drill,) = part(DRILL, RUN)
        quote, reading, opening = (replace(drill, text=f"{line}\n") for line in drill.text.splitlines())
        ended = run(machine, [quote])
        assert ended.failures == [], (ended.failures, ended.output)
        assert "drill copies: read back" in run_until_ready(machine, [reading]).output
        assert "drill copies: opened 20 files" in run_until_ready(machine, [opening]).output
        disk_lost, all_lost = part(HOME, RUN)
        quote, restore = (replace(disk_lost, text=f"{line}\n") for line in disk_lost.text.splitlines())
        shown = run(machine, [quote])
        assert "it would cost nothing" in shown.output
        assert re.search(r"with --from-vault cold: .* USD, up to 12 hours with standard", shown.output)
        shutil.rmtree(machine.place("/mnt/backup"))
        assert "from vault cold" in run_until_ready(machine, [restore]).output
        shutil.rmtree(machine.place("/var/lib/nightvault"))
        rebuild, again = (replace(all_lost, text=f"{line}\n") for line in all_lost.text.splitlines())
        ended = run(machine, [rebuild])
        assert ended.failures == [], (ended.failures, ended.output)
        run_until_ready(machine, [again])
        config.write_text(
            config.read_text().replace('vault = "disk"', 'vault = "cold"').split("[[job.copy]]")[0]
        )
        ended = run(machine, [Block(RUN, "nightvault backup\n", "", 0)])
        assert ended.failures == [], (ended.failures, ended.output)
    for name in ("back", "home"):
        assert (machine.place("/srv") / name / "nginx.conf").read_text() == "events {}\n"


@pytest.mark.slow
@pytest.mark.parametrize("section", [REGIONS, PROVIDER])
def test_copies_to_another_region_and_to_another_provider(tmp_path: Path, section: str) -> None:
    machine = Machine.create(tmp_path)
    machine.use_forks()
    commands = "nightvault init --key-file recovery.key\nnightvault backup\nnightvault copy --json\n"
    with emulated(machine) as emulator:
        text = part(section, "toml")[0].text.replace("https://s3.example.net", emulator.s3_url)
        configured(machine, text.replace('delay = "2d"\n', ""))
        ended = run(machine, [Block(RUN, commands, "", 0)])
    assert ended.failures == [], (ended.failures, ended.output)
    assert re.search(r'"archives": ?[1-9]', ended.output)


def configured(machine: Machine, text: str) -> Path:
    """The config, where nightvault looks for it."""
    folder = machine.place("/etc/nightvault")
    folder.mkdir()
    (folder / "config.toml").write_text(text)
    assert tomllib.loads(text)
    return folder / "config.toml"


def test_the_prices_are_those_of_the_table() -> None:
    rows = re.findall(r"\| (\S+), (\S+) \| (\S+) \| (\S+) \| (\S+) \|", PAGE.read_text())
    assert len(rows) == 4
    packs = -(-TB // PACK)
    load = Load(packs, packs, wanted=TB, retrieved=TB, fetched=TB, downloads=4 * packs)
    for region, kind, month, sent, read in rows:
        price = builtin_table().find(region, f"s3:{kind}")
        assert price is not None
        bill = price.retrieving(load, Tier.STANDARD, copy_days=7)
        assert bill is not None
        figures = (price.storing(TB, packs, 30), price.uploading(packs, packs * (PARTS + 2)), bill.total)
        assert tuple(round(figure, 2) for figure in figures) == tuple(map(Decimal, (month, sent, read)))
