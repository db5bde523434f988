"""docs/first-server.md and first-week.md, and security.md's ways to a recovery key, as they stand.

One machine is server and desk; its AWS is the emulator.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.pages.machine import ACCOUNT, ADMIN_KEY, ADMIN_SECRET, Machine
from tests.pages.page import RUN, SHOWN, Block, blocks_of
from tests.pages.scenes import DIRECTORY, SPEED, run, write_config
from tests.support.emulated import REPOSITORY, RunningEmulator, StaticKey, write_accounts

pytestmark = pytest.mark.slow

PAGE = REPOSITORY / "docs" / "first-server.md"
NOT_RUN = """\
# apt install ./nightvault_*.deb
# nightvault install --systemd
# systemctl enable --now nightvault.service nightvault-overdue.timer
# systemctl reload nightvault
# nightvault notify test
"""
WEEK = REPOSITORY / "docs" / "first-week.md"
SECURITY = REPOSITORY / "docs" / "security.md"
CONFIG = "toml"
SERVER, DESK, TOMORROW = "*On the server", "*On the desk", "Tomorrow"
CONFIG_FILE = "/etc/nightvault/config.toml"
PASSPHRASE = "correct horse battery"
_TYPED = r"\s+(?:> )?$"
ANSWERS = {
    rf"be backed up\?\s+\[[^\]]*\]{_TYPED}": "/etc /srv",
    rf"Where to\?\s+\[[^\]]*\]{_TYPED}": "aws",
    rf"Which region\?\s+\[[^\]]*\]{_TYPED}": "eu-central-1",
    rf"Into which file\?\s+\[[^\]]*\]{_TYPED}": "recovery.key",
    rf"\?[^?]*\[[^\]]*\]{_TYPED}": "",
}
"""What the page's table says; Enter for all else."""
DAEMON = """\
nightvault daemon > daemon.log 2>&1 &
for _ in $(seq 150); do test -s /mnt/back/fstab && break; sleep 0.2; done
"""
STOPPED = "kill %1\nwait\n"


def placed(page: Path, blocks: Sequence[Block]) -> list[Block]:
    """The blocks, each in the directory where whoever is on that machine would be."""
    lines = page.read_text().splitlines()
    where = {
        SERVER: 'unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY\ncd "$HOME"',  # an admin's are not there
        DESK: 'export AWS_ACCESS_KEY_ID=$PAGE_KEY AWS_SECRET_ACCESS_KEY=$PAGE_SECRET\ncd "$DESK"',
    }
    done = []
    for block in blocks:
        text = block.text
        if block.language == CONFIG:
            text = f"cat >> {CONFIG_FILE} <<'END'\n\n{block.text}END\n"
        said = [line for line in lines[: block.line] if line.startswith((SERVER, DESK))][-1]
        place = SERVER if said.startswith(SERVER) else DESK
        done.append(replace(block, text=f"{where[place]}\n{text}"))
    return done


def server_and_desk(folder: Path) -> Machine:
    """A machine that reaches itself: the server's root is in its HOME, the desk where commands are given."""
    machine = Machine.create(folder)
    machine.connect_to_itself()
    machine.use_forks()
    machine.environment["DESK"] = str(machine.work)
    return machine


def groups_typed(shown: str, key: Path) -> str:
    """The groups of the recovery key that are asked for, as somebody reads them off the sheet."""
    (asked,) = re.findall(r"type the groups ([\d, ]+)", shown)
    groups = key.read_text().strip().splitlines()[-1].split("-")[1:]
    return " ".join(groups[int(number) - 1] for number in asked.split(","))


def test_nothing_on_the_page_is_left_out() -> None:
    blocks = [*blocks_of(PAGE), *blocks_of(WEEK)]
    assert {block.language for block in blocks} == {RUN, SHOWN, CONFIG}
    assert "".join(block.text for block in blocks if block.language == SHOWN) == NOT_RUN


def test_from_a_certificate_through_the_first_week(tmp_path: Path) -> None:
    machine = server_and_desk(tmp_path)
    key = tmp_path / "home" / "recovery.key"
    machine.answers = {
        r"\[y/N\]: ?$": "y",
        r"(?i)(?:passphrase|repeat|again|confirm)[^\n]*: ?$": PASSPHRASE,
        rf"type the groups [\d, ]+\(of 14\):{_TYPED}": lambda shown: groups_typed(shown, key),
        **ANSWERS,
    }
    accounts = write_accounts(
        tmp_path / "accounts.toml", account_id=ACCOUNT, keys=[StaticKey(ADMIN_KEY, ADMIN_SECRET)]
    )
    given = placed(PAGE, [block for block in blocks_of(PAGE) if block.language == RUN])
    week = placed(WEEK, [block for block in blocks_of(WEEK) if block.language != SHOWN])
    today = [block for block in given if block.section != TOMORROW]
    with RunningEmulator(tmp_path / "emulator", accounts, speed=SPEED) as emulator:
        machine.connect(emulator)
        ended = run(machine, today)
        assert ended.failures == [], (ended.failures, ended.output)
        assert "exit code 17" in ended.output
        assert (machine.work / "recovery.key").stat().st_mode & 0o777 == 0o600
        assert not (tmp_path / "home" / "recovery.key").exists()
        time.sleep(12 * 3600 / SPEED)
        night = [Block(RUN, DAEMON, "", 0), *given[len(today) :], *week, Block(RUN, STOPPED, "", 0)]
        ended = run(machine, night)
    assert [failure.partition(": ")[2] for failure in ended.failures] == ["nightvault doctor"], ended
    assert ended.output.count("\ncritical ") == 1, "the emulator's clock, which ran fast"
    assert "/dev/sda1 /" in ended.output
    assert "\nall is well" in ended.output, ended.output


WAYS = ("Made on the server, and taken off", "Made on another machine")


def test_the_ways_are_all_that_security_shows() -> None:
    assert [block.section for block in blocks_of(SECURITY)] == [WAYS[0]] * 2 + [WAYS[1]] * 5
    assert {block.language for block in blocks_of(SECURITY)} == {RUN, CONFIG}


@pytest.mark.parametrize("way", WAYS)
def test_ways_to_a_recovery_key(tmp_path: Path, way: str) -> None:
    """Each ends with an enrolled signer, a key that is not on the server, and a backup that it opens."""
    machine = server_and_desk(tmp_path)
    machine.answers = {r"\[y/N\]: ?$": "y"}
    write_config(machine, DIRECTORY)
    blocks = [block for block in blocks_of(SECURITY) if block.section == way]
    restore = (
        "nightvault backup\ncd $DESK\nnightvault restore latest:/etc/fstab --target back --key recovery.key\n"
    )
    given = placed(SECURITY, blocks)
    ended = run(
        machine, [*given, Block(RUN, restore, "", 0), Block(RUN, "nightvault key status --json", "", 0)]
    )
    assert ended.failures == [], (ended.failures, ended.output)
    assert '"enrolled":true' in ended.output, ended.output
    assert '"enrolled":false' not in ended.output
    assert (machine.work / "back" / "fstab").exists()
    assert not (tmp_path / "home" / "recovery.key").exists()
