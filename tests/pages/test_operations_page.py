"""docs/operations.md and the pages beside it: each command is one, and an upgrade is taken back so."""

from __future__ import annotations

import re
import shlex
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click import ClickException

from backup.app.base import opened
from backup.inventory.store import database
from backup.inventory.store.migrating import upgrade
from tests.pages.findings import assert_none
from tests.pages.page import SHOWN, blocks_of
from tests.support.command_line import parsed
from tests.support.emulated import REPOSITORY
from tests.support.servers import Server, directory_server

DOCS = REPOSITORY / "docs"
PAGE = DOCS / "operations.md"
BESIDE = ("first-week", "watching", "doctor", "trouble", "monitoring", "certificates", "prune", "who-deletes")
PAGES = [PAGE, *(DOCS / f"{name}.md" for name in BESIDE)]
COMMANDS = re.compile(r"`(?:[0-9* ]+ )?(nightvault [^`]+)`")


def commands() -> list[str]:
    """Each command in the texts and in the blocks."""
    text = "\n".join(page.read_text() for page in PAGES)
    blocks = "\n".join(block.text for page in PAGES for block in blocks_of(page))
    shown = re.findall(r"^(?:# )?(nightvault [^#\n|>]+)", blocks, re.MULTILINE)
    return [line.strip() for line in [*COMMANDS.findall(text), *shown]]


def refused(line: str) -> Iterator[str]:
    """The line, with the reason for which it is no command."""
    try:
        assert parsed(shlex.split(line)[1:])
    except (AssertionError, ClickException, ValueError) as error:
        yield f"{line}: {error}"


def test_each_command_is_one() -> None:
    assert_none(told for line in sorted(set(commands())) for told in refused(line))


def test_there_are_many() -> None:
    assert len(set(commands())) > 40


def test_pages_that_it_names_are_there() -> None:
    for page in PAGES:
        for name in re.findall(r"[`(]([a-z-]+\.md)[`)]", page.read_text()):
            assert (DOCS / name).exists(), name


BEFORE = "0016"


def older(server: Server) -> None:
    """The state as a version of that schema leaves it."""
    path = server.state / "inventory.sqlite"
    with closing(sqlite3.connect(path)) as own:
        columns = "inventory_id, signer_public, predecessor, created_at"
        about = own.execute(f"SELECT {columns} FROM about").fetchone()
    for file in server.state.glob("inventory.sqlite*"):
        file.unlink()
    connections = database.connections_to(str(path))
    with connections.transaction(writes=True) as tx:
        upgrade(tx, BEFORE)
        tx.connection.execute(f"INSERT INTO about ({columns}) VALUES (?, ?, ?, ?)", about)
    connections.close()


@pytest.mark.usefixtures("real_migrations")
def test_back_to_the_version_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps of the page; a program that knows one schema less stands for the older version."""
    server = directory_server(tmp_path)
    server.init()
    older(server)
    assert server.json("snapshots") == []  # the newer version brings it up
    (copy,) = (server.state / "copies").iterdir()
    steps = next(block.text for block in blocks_of(PAGE) if "before-schema-" in block.text)
    script = "\n".join(line[2:] for line in steps.splitlines() if line[2:].startswith(("mkdir", "cp")))
    assert script.count("before-schema-") == 1
    monkeypatch.setattr(database, "HEAD", BEFORE)
    monkeypatch.setattr(opened, "has_stopped_containers", lambda _: False)  # a table that it does not know
    assert str(copy) in server.fails(1, "snapshots")
    script = re.sub(r"before-schema-\d{4}", copy.stem, script)
    subprocess.run(["sh", "-e", "-c", script], cwd=server.state, check=True)
    assert server.json("snapshots") == []
    assert (server.state / "newer" / "inventory.sqlite").exists()


def test_commands_that_are_only_shown() -> None:
    programs = {
        line.removeprefix("# ").split()[0].rpartition("/")[2]
        for block in blocks_of(PAGE)
        if block.language == SHOWN
        for line in block.text.splitlines()
    }
    assert programs <= {"pip", "nightvault", "systemctl", "cd", "mkdir", "cp"}
