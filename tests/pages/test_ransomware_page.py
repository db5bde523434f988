"""docs/ransomware.md, run as it stands: set up, attacked, and everything back on a clean machine."""

from __future__ import annotations

import re
import shutil
from datetime import datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.locker.versions import Deed
from tests.pages.machine import ACCOUNT, ADMIN_KEY, ADMIN_SECRET, Machine
from tests.pages.page import RUN, SHOWN, Block, blocks_of
from tests.pages.scenes import emulated, run, run_until_ready
from tests.support.emulated import REPOSITORY, RunningEmulator
from tests.support.s3_clients import client

PAGE = REPOSITORY / "docs" / "ransomware.md"
PROMISE, SET_UP, AFTER = "One date", "Setting it up", "After an attack"
ELSEWHERE = "Renewal from another machine"
BUCKET = "example-backups"
_BEFORE = '--before "2026-12-01 20:00"'
_SERVER = """\
nightvault ca create --dir ca --name 'Backup CA' --organization Example
nightvault ca issue web1 --dir ca --out /etc/nightvault --organization Example --unit Servers
"""
_IDENTITY = """
[identity]
certificate = "/etc/nightvault/web1.pem"
private_key = "/etc/nightvault/web1.key"
"""
_NIGHTS = """\
nightvault init --key-file recovery.key
nightvault backup
echo more >> /etc/nginx/nginx.conf
nightvault backup
"""


def part(section: str, language: str) -> list[Block]:
    return [block for block in blocks_of(PAGE) if (block.section, block.language) == (section, language)]


def test_nothing_on_the_page_is_left_out() -> None:
    found = [(block.section, block.language) for block in blocks_of(PAGE)]
    after = [(AFTER, "toml"), *[(AFTER, RUN)] * 5]
    before = [(SET_UP, "toml"), (SET_UP, RUN), (SET_UP, RUN), (ELSEWHERE, "toml"), (ELSEWHERE, RUN)]
    assert found == [(PROMISE, SHOWN), *before, *after]


def test_each_deed_is_explained() -> None:
    named = {
        word
        for row in re.findall(r"^   \| (`.*?) \|", PAGE.read_text(), re.MULTILINE)
        for word in row.split(", ")
    }
    assert {word.strip("`") for word in named} == {*Deed, "gone", "held"}


@pytest.mark.slow
def test_set_up_attacked_and_back(tmp_path: Path) -> None:
    machine = Machine.create(tmp_path)
    machine.use_forks()
    machine.answers = {r"\[y/N\]: ?$": "y"}
    (lines,), (vault,) = part(SET_UP, "toml"), part(AFTER, "toml")
    rebuild, extend, restore, check, undelete = part(AFTER, RUN)
    with emulated(machine) as emulator:
        _configure(machine, vault.text.replace('lock = "governance"\n', lines.text) + _IDENTITY)
        given(machine, Block(RUN, _SERVER, "", 0), part(SET_UP, RUN)[0], Block(RUN, _NIGHTS, "", 0))
        given(machine, part(SET_UP, RUN)[1])
        assert_promised(run(machine, [Block(RUN, "nightvault status\n", "", 0)]).output)
        (elsewhere,), (renewal,) = part(ELSEWHERE, "toml"), part(ELSEWHERE, RUN)
        _configure(machine, elsewhere.text.replace("123456789012", ACCOUNT))
        assert "renewal of locks of vault cold" in given(machine, renewal)
        before = datetime.fromisoformat(emulator.now())
        emulator.advance(3600)
        attack(emulator)
        shutil.rmtree(machine.place("/var/lib/nightvault"))
        _configure(machine, vault.text)
        moment = f'--before "{before.astimezone():%Y-%m-%d %H:%M:%S}"'
        assert _BEFORE in rebuild.text
        given(machine, replace(rebuild, text=rebuild.text.replace(_BEFORE, moment)))
        assert run(machine, [extend]).failures == [f"FAILED 3 in line {extend.line}: {extend.text.strip()}"]
        run_until_ready(machine, [restore])
        assert run(machine, [check]).failures == [f"FAILED 1 in line {check.line}: {check.text.strip()}"]
        ended = run(machine, [undelete])
        assert ended.failures == [f"FAILED 1 in line {undelete.line}: {undelete.text.splitlines()[0]}"]
        assert "brought back" in ended.output
        given(machine, check)
    assert "more" in (machine.place("/srv/restored") / "etc" / "nginx" / "nginx.conf").read_text()


def given(machine: Machine, *blocks: Block) -> str:
    """What these print; none of them fails."""
    ended = run(machine, blocks)
    assert ended.failures == [], (ended.failures, ended.output)
    return ended.output


def _configure(machine: Machine, text: str) -> None:
    folder = machine.place("/etc/nightvault")
    folder.mkdir(exist_ok=True)
    job = '[[job]]\nname = "main"\nvault = "cold"\nsources = ["/etc/nginx"]\n'
    (folder / "config.toml").write_text(f"{text}\n{job}")


def assert_promised(told: str) -> None:
    """The screen has the line that the page shows, but for dates and numbers."""
    (shown,) = part(PROMISE, SHOWN)
    command, line = shown.text.splitlines()
    words = r"\s+".join(re.escape(re.sub(r"[0-9]+", "0", word)) for word in line.split())
    assert command == "$ nightvault status"
    assert re.search(words, re.sub(r"[0-9]+", "0", told)), told


def attack(emulator: RunningEmulator) -> None:
    """Somebody hides everything, and puts something else over it."""
    s3 = client(emulator.s3_url, ADMIN_KEY, ADMIN_SECRET)
    for line in s3.list_object_versions(Bucket=BUCKET)["Versions"]:
        of = {"Bucket": BUCKET, "Key": line["Key"]}
        s3.delete_object(**of, IfMatch=line["ETag"])
        s3.put_object(**of, Body=b"junk", IfNoneMatch="*", StorageClass=line["StorageClass"])
