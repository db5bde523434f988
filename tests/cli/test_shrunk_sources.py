"""A source that has lost nearly everything: nights and prunes take nothing away before somebody answers."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.doubles import ManualClock
from tests.support.servers import Server, directory_server, replace

FILES = 25
POLICY = "\n[job.retention]\nkeep_last = 1\n"


def night(server: Server, exit_code: int = 0) -> str:
    assert isinstance(server.clock, ManualClock)
    server.clock.advance(timedelta(days=5))
    result = server.run("backup")
    assert result.exit_code == exit_code, result.stderr
    return result.stderr


def archives(server: Server) -> set[Path]:
    return {path for path in (server.folder / "vault" / "archives").rglob("*") if path.is_file()}


def ids(server: Server) -> list[str]:
    return [str(snapshot["id"]) for snapshot in server.json("snapshots")]


@pytest.fixture
def emptied(tmp_path: Path) -> Server:
    """Two nights, of which the policy forgot the first, and a prune its archive; then all files go."""
    server = directory_server(tmp_path)
    server.config.write_text(server.config.read_text() + POLICY)
    server.init()
    for path in sorted(server.source.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (server.source / "0").write_bytes(b"at first" * 9_000)
    night(server)
    for number in range(FILES):
        (server.source / f"{number}").write_bytes(bytes([number]) * 9_000)
    night(server)
    server.done("prune")  # condemns what only the first night needed
    for path in server.source.iterdir():
        path.unlink()
    return server


def test_nothing_goes_before_somebody_answers_and_everything_goes_on_then(emptied: Server) -> None:
    before, there = ids(emptied), archives(emptied)
    told = night(emptied, exit_code=3)
    assert f"has lost nearly everything: it holds 0 files (0 B), and held {FILES} files" in told
    assert told.count("has lost nearly everything") == 1
    assert told.count("snapshots accept") == 1
    for _ in range(3):
        newest = ids(emptied)[-1]
        command = f"nightvault snapshots accept {newest[:8]}"
        assert command in told, "the backup and the policy after it"
        told = night(emptied, exit_code=3)
        newest = ids(emptied)[-1]
        command = f"nightvault snapshots accept {newest[:8]}"
        forget = emptied.run("forget")
        assert (forget.exit_code, command in forget.stderr) == (0, True)
        named = emptied.run("forget", before[0])
        assert (named.exit_code, "nothing is forgotten before somebody" in named.stderr) == (2, True)
        prune = emptied.run("prune")
        assert (prune.exit_code, command in prune.stderr) == (0, True)
        assert ids(emptied)[: len(before)] == before
        assert archives(emptied) >= there
        emptied.done("compact")
    plan = emptied.json("prune", "--dry-run")
    assert [group["why"] for group in plan["waiting"]] == ["shrunk"]
    assert plan["condemned"]["archives"] == 0
    assert len(plan["held"]) == 1
    (concern,) = [
        concern for concern in emptied.json("status", exit_code=1)["concerns"] if concern["topic"] == "shrunk"
    ]
    assert (concern["command"], concern["job"]) == (command, "main")
    assert [snapshot["waits"] for snapshot in emptied.json("snapshots")] == [False, *[True] * 4]
    assert "waits" in emptied.done("snapshots").stdout

    accepted = emptied.json("snapshots", "accept", "latest")
    assert len(accepted["accepted"]) == 4
    assert accepted["recovery_line"]
    assert emptied.json("snapshots", "accept", "latest")["accepted"] == []
    assert "forgotten" not in night(emptied)
    assert ids(emptied)[:-1] == []
    emptied.done("prune")
    night(emptied)
    emptied.done("prune")
    assert not archives(emptied) >= there
    assert not [
        concern for concern in emptied.json("status", exit_code=1)["concerns"] if concern["topic"] == "shrunk"
    ]


def test_a_job_that_may_shrink_waits_for_nobody(emptied: Server) -> None:
    night(emptied, exit_code=3)
    assert emptied.json("prune", "--dry-run")["held"]
    replace(emptied, "[job.retention]", "[job.retention]")
    replace(emptied, 'name = "main"', 'name = "main"\nmay_shrink = true')
    assert emptied.json("prune", "--dry-run")["held"] == []
    assert len(emptied.json("forget")["jobs"][0]["kept"]) == 1
    night(emptied)
    assert not any(snapshot["waits"] for snapshot in emptied.json("snapshots"))


def test_a_rebuilt_server_keeps_waiting(emptied: Server) -> None:
    night(emptied, exit_code=3)
    newest = ids(emptied)[-1]
    emptied.done("rebuild", "--set-aside", "--key", emptied.key_file)
    forget = emptied.run("forget")
    assert f"nightvault snapshots accept {newest[:8]}" in forget.stderr
    assert newest in ids(emptied)
    assert len(ids(emptied)) == 2


def test_a_dump_of_which_nearly_nothing_is_left_waits_as_well(tmp_path: Path) -> None:
    """Its command ended well, of a database that was dropped: that night was done, and the policy went on."""
    server, dump = directory_server(tmp_path), tmp_path / "dump"
    command = f'\n[[job.command]]\nname = "db/shop.dump"\nrun = ["cat", "{dump}"]\n'
    server.config.write_text(server.config.read_text() + POLICY + command)
    server.init()
    dump.write_bytes(bytes(range(256)) * 1000)
    night(server)
    there = archives(server)
    dump.write_bytes(b"-- nothing")
    told = night(server, exit_code=3)
    assert (
        "source /.streams/db/shop.dump has lost nearly everything: it holds 1 file (10 B), "
        "and held 1 file (250.0 KiB)"
    ) in told
    night(server, exit_code=3)
    assert [snapshot["waits"] for snapshot in server.json("snapshots")] == [False, True, True]
    server.done("prune")
    assert archives(server) >= there
    assert [run["outcome"] for run in server.json("runs") if run["kind"] == "backup"].count("partial") == 2
    (concern,) = [
        concern for concern in server.json("status", exit_code=1)["concerns"] if concern["topic"] == "shrunk"
    ]
    assert "/.streams/db/shop.dump" in concern["text"]
    server.done(*concern["command"].split()[1:])
    night(server)
    assert len(ids(server)) == 1
