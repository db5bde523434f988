"""`nightvault compact` as a user gives it: what is mostly dead goes, and nothing is retrieved for it."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Event

import pytest

from backup.config import load_config
from backup.kinds import TaskKind
from backup.model import VaultName
from backup.operations.compact import Compact
from backup.operations.recorded import step_of
from tests.support.daemons import last_start
from tests.support.doubles import ManualClock, Silent
from tests.support.forgets import DAY, forget
from tests.support.servers import Server, directory_server
from tests.support.trees import assert_same_tree


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def server(tmp_path: Path, clock: ManualClock) -> Server:
    """A night with a large file, then one without it; the first is forgotten."""
    made = directory_server(tmp_path, clock=clock)
    made.init()
    large = made.source / "large"
    large.write_bytes(os.urandom(3_000_000))
    made.backup()
    large.unlink()
    clock.advance(DAY)
    made.backup()
    clock.advance(DAY)
    forget(made, 1)
    return made


def test_mostly_dead_archives_go_by_way_of_the_next_backup(
    server: Server, clock: ManualClock, tmp_path: Path
) -> None:
    plan = server.json("compact", "--dry-run")
    assert (plan["plan"], plan["archives"], plan["gain"]) == (True, 1, None)
    assert plan["freed"] > 2_900_000
    done = server.json("compact")
    assert {**done, "plan": True, "recovery_lines": {}} == plan
    assert set(done["recovery_lines"]) == {"main"}
    assert "retired" in {archive["state"] for archive in server.json("archives")}
    assert "nothing is worth it" in server.done("compact").stdout
    server.backup()
    assert server.json("prune")["condemned"]["archives"] == 1
    clock.advance(4 * DAY)
    assert server.json("prune")["deleted"]["bytes"] == plan["freed"] + plan["stored_anew"]
    assert_same_tree(server.restore(tmp_path / "out"), server.source)


def test_the_screen(server: Server) -> None:
    plan = server.done("compact", "--dry-run").stdout
    assert "a plan: nothing was done" in plan
    assert "to retire      1 archive, " in plan
    assert "next:" not in plan
    screen = server.done("compact").stdout
    assert "by the next backups, from the disk" in screen
    assert all(len(line) <= 80 for line in (plan + screen).splitlines())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--min-gain", "much"), "--min-gain"),
        (("--min-gain", "1"), "there is no price for vault cold"),
        (("--vault", "other"), "no vault named other"),
    ],
)
def test_wrong_usage_is_told(server: Server, words: tuple[str, ...], sentence: str) -> None:
    assert sentence in server.fails(2, "compact", *words)


def test_the_daemon_compacts_by_its_schedule(server: Server, clock: ManualClock) -> None:
    """A run is recorded also where nothing was worth it, so that a restart does not repeat it."""
    config = load_config(str(server.config))
    assert last_start(config, TaskKind.COMPACT, VaultName("cold")) is None
    stop = Event()
    for chosen in (1, 0):
        began = clock.now()
        report = step_of(config, Compact, VaultName("cold"), clock=clock, progress=Silent(), stop=stop)
        assert report.archives == chosen
        assert last_start(config, TaskKind.COMPACT, VaultName("cold")) == began
        clock.advance(DAY)
    newest = server.json("runs")[0]
    assert (newest["kind"], newest["outcome"]) == ("compact", "done")
    assert newest["report"]["vault"] == "cold"


def test_its_schedule_is_checked(server: Server) -> None:
    text = server.config.read_text()
    server.config.write_text(text.replace('kind = "directory"', 'kind = "directory"\ncompact = "sometimes"'))
    assert "compact" in server.fails(2, "config", "check")
    monthly = text.replace('kind = "directory"', 'kind = "directory"\ncompact = "monthly"')
    server.config.write_text(monthly)
    assert load_config(str(server.config)).vaults[0].when("compact") is not None
