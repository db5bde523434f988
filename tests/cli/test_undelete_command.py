"""`nightvault undelete`: what a prune condemned is taken back until its deletion begins."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest

from backup.wording import local_time
from tests.support.doubles import ManualClock
from tests.support.forgets import DAY, three_nights
from tests.support.servers import Server, directory_server


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def server(tmp_path: Path, clock: ManualClock) -> Server:
    """Nights of which one archive is condemned."""
    made = directory_server(tmp_path, clock=clock)
    made.init()
    three_nights(made)
    made.done("prune")
    return made


def condemned(server: Server) -> list[str]:
    return [archive["archive_id"] for archive in server.json("archives") if archive["state"] == "condemned"]


@pytest.mark.parametrize("by", ["id", "all", "shown"])
def test_taken_back(server: Server, clock: ManualClock, by: str) -> None:
    (archive,) = condemned(server)
    words = {"id": [archive], "all": ["--all"], "shown": [f"{archive[:16]}…"]}[by]
    document = server.json("undelete", *words)
    assert document["taken_up"] == [archive]
    assert document["recovery_lines"]["main"] in (server.state / "recovery-lines.txt").read_text()
    assert condemned(server) == []
    clock.advance(10 * DAY)
    again = server.json("prune")
    assert (again["condemned"]["archives"], again["deleted"]["archives"]) == (1, 0), "its grace begins anew"


def test_what_somebody_else_deleted_is_not_taken_back(server: Server) -> None:
    (archive,) = condemned(server)
    (file,) = (server.folder / "vault").rglob(archive)
    file.unlink()
    document = server.json("undelete", "--all")
    assert (document["taken_up"], document["gone"]) == ([], [archive])
    said = server.done("undelete", "--all")
    assert "nothing was taken back" in said.stdout
    assert "not in the vault any more, deleted by somebody else: 1 archive" in said.stderr
    server.done("prune")
    assert condemned(server) == []


def test_what_a_snapshot_needs_again_stays(server: Server, clock: ManualClock, tmp_path: Path) -> None:
    said = server.done("undelete", "--all")
    assert "the next prune condemns again" in said.stderr
    server.done("forget", "--undo", "--all")
    clock.advance(10 * DAY)
    report = server.json("prune")
    assert (report["condemned"]["archives"], report["deleted"]["archives"]) == (0, 0)
    second = server.json("snapshots")[1]["id"]
    target = server.restore(tmp_path / "out", snapshot=second)
    assert (target / "only the second").stat().st_size == 200_000


def test_a_backup_says_from_when_on_a_list_confirms_it(server: Server, clock: ManualClock) -> None:
    server.done("undelete", "--all")
    taken = clock.now()
    counts = local_time(taken + timedelta(hours=1))
    clock.advance(timedelta(minutes=59))
    told = "1 archive of vault cold is not confirmed by its list yet (one that is made after"
    assert f"{told} {counts} confirms it)" in " ".join(server.done("backup").stderr.split())
    clock.advance(timedelta(minutes=2))
    assert "confirmed" not in server.done("backup").stderr


def test_two_jobs(tmp_path: Path, clock: ManualClock) -> None:
    """An archive that two jobs' catalogs named is condemned by both, and taken back by a catalog of each."""
    server = directory_server(tmp_path, clock=clock)
    text = server.config.read_text()
    server.config.write_text(text + text[text.index("[[job]]") :].replace('"main"', '"other"'))
    server.init()
    shared = server.source / "shared"
    for night in range(2):
        server.done("backup")
        shared.unlink() if night == 1 else shared.write_bytes(b"shared" * 40_000)
        clock.advance(DAY)
    server.done("backup")
    server.done("forget", *(snapshot["id"] for snapshot in server.json("snapshots")[:4]))
    assert server.json("prune")["condemned"]["archives"] > 0
    taken = server.json("undelete", "--all")
    assert set(taken["recovery_lines"]) == {"main", "other"}
    assert condemned(server) == []
    server.done("check", "--inventory")


def test_a_deletion_that_has_begun_is_not_taken_back(server: Server) -> None:
    (archive,) = condemned(server)
    with sqlite3.connect(server.state / "inventory.sqlite") as database:
        database.execute("UPDATE archives SET state = 'deleting' WHERE archive_id = ?", [archive])
    database.close()
    assert "has begun" in server.fails(2, "undelete", archive)
    assert server.json("undelete", "--all")["taken_up"] == []


WRONG: list[tuple[list[str], str]] = [
    ([], "which archives"),
    (["--all", "abcdef"], "which archives"),
    (["abc"], "too short"),
    (["…"], "too short"),
    ([""], "too short"),
    (["no-such-archive"], "no archive in vault cold"),
    (["../../etc/passwd"], "no archive in vault cold"),
    (["--vault", "warm", "--all"], "no vault named warm"),
    (["--all=yes"], "does not take a value"),
    (["--everything"], "No such option"),
]


def test_wrong_words(server: Server) -> None:
    for words, said in WRONG:
        assert said in server.fails(2, "undelete", *words)
    stored = next(
        archive["archive_id"] for archive in server.json("archives") if archive["state"] == "stored"
    )
    assert "not condemned" in server.fails(2, "undelete", stored)
    assert len(condemned(server)) == 1, "nothing was changed"
