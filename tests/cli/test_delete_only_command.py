"""`nightvault prune --delete-only` as an admin gives it on another machine: words and exit codes."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.doubles import ManualClock
from tests.support.forgets import DAY, forget, three_nights
from tests.support.servers import Server, assert_well, directory_server


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def server(tmp_path: Path, clock: ManualClock) -> Server:
    """One whose config says that somebody else deletes; a file that only the second night had can go."""
    made = directory_server(tmp_path, clock=clock)
    made.config.write_text(made.config.read_text().replace("[[vault]]", '[[vault]]\ndeletes = "elsewhere"'))
    made.init()
    three_nights(made)
    made.done("prune")
    clock.advance(4 * DAY)
    made.done("prune")
    return made


@pytest.fixture
def keeper(server: Server, tmp_path: Path, clock: ManualClock) -> Server:
    """A machine with the vault and the recovery key, and nothing else."""
    folder = tmp_path / "keeper"
    folder.mkdir()
    made = Server(folder, clock)
    vault = tmp_path / "vault"
    made.config.write_text(
        f'[state]\ndir = "{made.state}"\n[[vault]]\nname = "cold"\nkind = "directory"\npath = "{vault}"\n'
        'keep_within = "20d"\n'
    )
    made.key_file.write_bytes(server.key_file.read_bytes())
    return made


def test_what_was_given_up_is_deleted_after_the_floor_of_the_config(
    server: Server, keeper: Server, clock: ManualClock
) -> None:
    words = ("prune", "--delete-only", "--key", keeper.key_file)
    clock.advance(19 * DAY)
    assert keeper.json(*words)["inventories"][0]["deleted"]["archives"] == 0
    clock.advance(2 * DAY)
    assert keeper.json(*words, "--keep-within", "30d")["inventories"][0]["deleted"]["archives"] == 0
    plan = keeper.json(*words, "--dry-run")
    assert (plan["plan"], plan["inventories"][0]["deleted"]["archives"]) == (True, 1)
    told = keeper.done(*words).stdout
    assert "deleted   1 archive" in told
    assert "main" in told
    document = keeper.json(*words)
    assert (document["state"], document["partial"]) == ("done", False)
    assert document["inventories"][0]["deleted"]["archives"] == 0
    assert server.json("prune")["deleted_elsewhere"] == 1
    assert not list((keeper.state / "keeper").rglob("*.sqlite*"))
    assert not (keeper.state / "inventory.sqlite").exists()


def undeleted(server: Server) -> list[dict[str, Any]]:
    """What a server says of what others were to delete."""
    concerns = json.loads(server.run("--json", "status").stdout)["concerns"]
    return [concern for concern in concerns if "for the server that deletes" in concern["text"]]


def test_after_months_another_machine_goes_on_where_nobody_did(
    server: Server, keeper: Server, clock: ManualClock, tmp_path: Path
) -> None:
    """What it knew is gone with it, and none of it is needed: the vault tells what nothing needs, and since
    when. Meanwhile the server goes on, and says what waits, and for whom."""
    words = ("prune", "--delete-only", "--key", keeper.key_file)
    assert keeper.json(*words)["inventories"][0]["deleted"]["archives"] == 0
    shutil.rmtree(keeper.state)
    clock.advance(54 * DAY)
    assert undeleted(server) == [], "the floor, and a month more"
    clock.advance(66 * DAY)
    (concern,) = undeleted(server)
    assert concern["text"].startswith("1 archive of vault cold, ")
    since = (clock.now() - 94 * DAY).astimezone().strftime("%Y-%m-%d")
    assert f"waits since {since}" in concern["text"]
    server.done(*concern["command"].split()[1:])
    assert concern["text"] in " ".join(server.run("status").stdout.split())
    only = server.source / "only the fourth"
    only.write_bytes(os.urandom(100_000))
    server.backup()
    only.unlink()
    clock.advance(DAY)
    server.backup()
    forget(server, 3, 4)
    server.done("prune")
    clock.advance(5 * DAY)
    (waiting,) = server.json("prune")["waiting"]
    assert (waiting["why"], waiting["archives"]) == ("others", 2)
    assert "who may delete" in server.done("prune").stdout
    assert server.json("stats")["vaults"][0]["condemned"]["archives"] == 2
    clock.advance(5 * DAY)
    for deleted in (1, 0):
        (found,) = keeper.json(*words)["inventories"]
        assert (found["deleted"]["archives"], found["stopped"]) == (deleted, "")
        waiting = [(share["why"], share["archives"]) for share in found["waiting"]]
        assert waiting == [("held", 1)], "given up this month"
        shutil.rmtree(keeper.state)
    assert_well(server, tmp_path / "out")
    clock.advance(20 * DAY)
    assert keeper.json(*words)["inventories"][0]["deleted"]["archives"] == 1
    assert len(undeleted(server)) == 1
    assert server.json("prune")["deleted_elsewhere"] == 2
    assert undeleted(server) == []
    server.done("check")
    assert_well(server, tmp_path / "later")


def test_what_is_not_as_it_should_be_ends_with_3_and_a_way_out(
    server: Server, keeper: Server, clock: ManualClock, tmp_path: Path
) -> None:
    clock.advance(40 * DAY)
    for archive in server.json("archives"):
        if archive["kind"] == "catalog":
            newest = archive["archive_id"]
    path = next(path for path in (tmp_path / "vault" / "archives").rglob(newest))
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    result = keeper.run("prune", "--delete-only", "--key", keeper.key_file)
    assert result.exit_code == 3
    assert "nothing is deleted for it" in result.stdout
    assert "damaged" in result.stderr
    assert "nightvault rebuild" in result.stderr


def test_options_that_do_not_go_together_are_refused(keeper: Server) -> None:
    assert "--delete-only" in keeper.fails(2, "prune", "--keep-within", "30d")
    assert "--max-fee" in keeper.fails(2, "prune", "--delete-only", "--max-fee", "1")
    words = ("prune", "--delete-only", "--key", keeper.key_file)
    assert "--keep-within" in keeper.fails(2, *words, "--keep-within", "soon")
