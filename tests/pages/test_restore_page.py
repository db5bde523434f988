"""docs/restore.md, looking.md and server-gone.md as they stand: every command is given."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.config import load_config
from tests.pages.machine import Machine
from tests.pages.page import RUN, SHOWN, Block, blocks_of
from tests.pages.scenes import (
    GLACIER,
    back_up,
    emulated,
    free_port,
    run,
    run_until_ready,
    two_nights,
    write_config,
)
from tests.support.emulated import REPOSITORY
from tests.support.fuse_mounts import require_fuse
from tests.support.servers import SCRIPT

pytestmark = pytest.mark.slow

PAGES = [REPOSITORY / "docs" / f"{name}.md" for name in ("server-gone", "restore", "looking")]
DRILL, GONE, DAMAGED = (
    "Try it before you need it",
    "A new machine",
    "The inventory is damaged, the server is not",
)
EXTRACT, COST, ASKING = "Without nightvault", "The cost, before you restore", "Requesting, and waiting"
CHOOSING, PIPE, LOOKING = "Choosing what comes back", "Into a pipe", "Looking without restoring"
MOUNT, ASK_COLD, UNIT = "As files: `nightvault mount`", "Asking for what is cold", "At every start"
SERVE, PORT = "Without a mount: `nightvault serve-files`", "8485"
ANSWER = "text"
NOT_RUN = """\
$ nightvault dump latest:/srv/db.sql.gz --wait --key recovery.key | zcat | psql
$ nightvault dump latest:/etc --tar --wait --key recovery.key | ssh new-server tar -C /etc --xattrs -xpf -
url       http://127.0.0.1:8485
user      nightvault
password  5mXl9o2HB1cJxZ0rH3vJdg
"""


def all_blocks() -> list[Block]:
    return [block for page in PAGES for block in blocks_of(page)]


def part(section: str) -> list[Block]:
    return [block for block in all_blocks() if (block.section, block.language) == (section, RUN)]


def test_nothing_on_the_page_is_left_out() -> None:
    """The other tests run all blocks of these sections; what is shown only wants another machine."""
    blocks = all_blocks()
    tested = {
        DRILL,
        GONE,
        DAMAGED,
        EXTRACT,
        COST,
        ASKING,
        CHOOSING,
        PIPE,
        LOOKING,
        MOUNT,
        ASK_COLD,
        SERVE,
        UNIT,
    }
    assert {block.section for block in blocks} == tested
    others = [(block.section, block.language) for block in blocks if block.language not in {RUN, SHOWN}]
    assert others == [(GONE, "toml"), (ASK_COLD, ANSWER), (UNIT, "ini"), (UNIT, "fstab")]
    assert "".join(block.text for block in blocks if block.language == SHOWN) == NOT_RUN
    assert len(part(GONE)) == 3


def test_a_vault_that_locks_is_named_so_on_a_new_machine(tmp_path: Path) -> None:
    (block,) = [block for block in all_blocks() if (block.section, block.language) == (GONE, "toml")]
    (tmp_path / "config.toml").write_text(block.text)
    assert [vault.lock for vault in load_config(str(tmp_path / "config.toml")).vaults] == ["governance"]


@pytest.mark.parametrize("way", [0, 1], ids=["with a line", "by the vault's list"])
def test_the_server_is_gone(tmp_path: Path, way: int) -> None:
    machine = Machine.create(tmp_path)
    machine.use_forks()
    write_config(machine, GLACIER)
    with emulated(machine) as emulator:
        back_up(machine)
        emulator.make_inventories()  # which is as old as a day, else, and may lack the second night
        for place in ("/var/lib/nightvault", "/srv/www"):
            shutil.rmtree(machine.place(place))
        rebuild, then = part(GONE)[way], part(GONE)[2]
        run_until_ready(machine, [rebuild])
        ended = run(machine, [then])
    assert ended.failures == [], (ended.failures, ended.output)
    restored = machine.place("/srv/restored")
    assert (restored / "srv" / "www" / "index.html").read_text() == "hello\n"
    assert "/dev/sdb1" in (restored / "etc" / "fstab").read_text()


def test_the_price_and_the_wait(tmp_path: Path) -> None:
    machine = Machine.create(tmp_path)
    machine.use_forks()
    write_config(machine, GLACIER)
    with emulated(machine):
        back_up(machine)
        quoted = run(machine, part(COST))
        assert quoted.failures == []
        assert "standard" in quoted.output
        run_until_ready(machine, part(ASKING))
    assert (machine.place("/mnt/back") / "nginx.conf").read_text() == "events {}\n"


def test_the_inventory_is_damaged(tmp_path: Path) -> None:
    machine = two_nights(tmp_path)
    tried = run(machine, part(DRILL))
    assert tried.failures == [], (tried.failures, tried.output)
    (machine.place("/var/lib/nightvault") / "inventory.sqlite").write_bytes(b"no database")
    ended = run(machine, part(DAMAGED))
    assert ended.failures == [], (ended.failures, ended.output)
    assert run(machine, part(LOOKING)).failures == []


def test_there_is_no_nightvault_any_more(tmp_path: Path) -> None:
    machine = two_nights(tmp_path)
    shutil.copytree(machine.place("/var/lib/vault"), machine.place("/mnt/archives"))
    shutil.copy(REPOSITORY / "deploy" / "nightvault-extract.py", machine.work)
    ended = run(machine, part(EXTRACT))
    assert ended.failures == [], (ended.failures, ended.output)
    assert len(list(machine.place("/srv/restored").rglob("nginx.conf"))) >= 1


def test_looking_choosing_and_a_pipe(tmp_path: Path) -> None:
    machine = two_nights(tmp_path)
    looked = run(machine, part(LOOKING))
    assert looked.failures == [], (looked.failures, looked.output)
    (machine.place("/srv/www") / "index.html").write_text("spoilt\n")
    chosen = run(machine, part(CHOOSING))
    assert chosen.failures == [], (chosen.failures, chosen.output)
    assert (machine.place("/mnt/back") / "ssl" / "site.pem").exists()
    assert (machine.place("/srv/www") / "index.html").read_text() == "hello\n"
    piped = run(machine, part(PIPE))
    assert piped.failures == [], (piped.failures, piped.output)
    assert "select 1;" in piped.output
    assert machine.place("/mnt/some.tar").stat().st_size > 1000


def test_what_is_cold_is_quoted_in_the_mount(tmp_path: Path) -> None:
    require_fuse()
    machine = Machine.create(tmp_path)
    write_config(machine, GLACIER)
    with emulated(machine):
        back_up(machine)
        (mount,), (ask,) = part(MOUNT), part(ASK_COLD)
        until_mounted = "until mountpoint -q /mnt/nights; do sleep 0.1; done"
        script = f"{{\n{mount.text}}} &\n{until_mounted}\n{ask.text}cd\numount /mnt/nights\nwait $!\n"
        ended = run(machine, [replace(mount, text=script)])
    assert ended.failures == [], (ended.failures, ended.output)
    (answer,) = [block.text for block in all_blocks() if block.language == ANSWER]
    assert shape(answer) in shape(ended.output), ended.output


@pytest.mark.skipif(shutil.which("rclone") is None, reason="rclone is not installed")
def test_files_over_webdav(tmp_path: Path) -> None:
    machine = two_nights(tmp_path)
    machine.use_the_program()
    serve, use = part(SERVE)
    begin = f"{{\n{serve.text}}} > said &\nuntil [ -s said ]; do sleep 0.1; done\n"
    words = "$(sed -n 's/^password *//p' said)"
    script = f"{begin}PASSWORD={words}\n{use.text}kill $(pgrep -f serve-files.*{PORT})\nwait $!\n"
    ended = run(machine, [replace(use, text=script.replace(PORT, str(free_port())))])
    assert ended.failures == [], (ended.failures, ended.output)
    (shown,) = [block.text for block in all_blocks() if (block.section, block.language) == (SERVE, SHOWN)]
    said = (machine.work / "said").read_text()
    assert [len(line) for line in said.splitlines()[1:]] == [len(line) for line in shown.splitlines()[1:]]
    assert said.split()[::2] == ["url", "user", "password"]
    assert "/dev/sdb1" in ended.output
    assert (machine.place("/mnt/back") / "index.html").read_text() == "hello\n"


def shape(text: str) -> str:
    """A text without its numbers and sizes."""
    text = re.sub(r"\b[0-9a-f]{8}\b", "ID", text)
    text = re.sub(r"\d[\d.]* (B|bytes|KiB|MiB|GiB)\b", "SIZE", text)
    return re.sub(r"\d[\d.]*", "N", re.sub(r"\b(file|retrieval|archive)s\b", r"\1", text))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_the_unit_and_the_line_of_fstab_are_right(tmp_path: Path) -> None:
    unit, line = [block.text for block in all_blocks() if block.section == UNIT]
    file = tmp_path / "nightvault-mount.service"
    assert file.name in line
    file.write_text(unit.replace("/usr/bin/nightvault", SCRIPT))
    done = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    (tmp_path / "fstab").write_text(line)
    words = ["findmnt", "--verify", "--tab-file", str(tmp_path / "fstab")]
    assert subprocess.run(words, capture_output=True, text=True, check=False).returncode == 0
