"""tag, pin, unpin, backup --tag, and choosing by tags; what they wrote is in the vault."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.doubles import ManualClock
from tests.support.rebuilds import rows
from tests.support.servers import Server, directory_server

HOSTILE = "a\x1b[2Jb\u202ec"


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """Three nights; the second is tagged."""
    made = directory_server(tmp_path)
    made.init()
    for night, words in enumerate([[], ["--tag", "release,før", "--tag", "db"], []]):
        (made.source / f"night {night}").write_bytes(bytes([night]) * 1000)
        made.done("backup", *words)
        advance(made, days=1)
    return made


def advance(server: Server, **span: float) -> None:
    assert isinstance(server.clock, ManualClock)
    server.clock.advance(timedelta(**span))


def snapshots(server: Server, *words: str) -> list[Any]:
    found: list[Any] = server.json("snapshots", *words)
    return found


def rebuilt(server: Server, folder: Path) -> Server:
    """A bare machine, after a rebuild from the vault alone."""
    bare = Server(folder, server.clock)
    folder.mkdir()
    bare.config.write_text(server.config.read_text().replace(str(server.state), str(bare.state)))
    key, inventory = folder.parent / "recovery.key", server.json("key", "status")["inventory"]
    bare.done("rebuild", "--key", key, "--inventory", inventory)
    return bare


def test_a_backup_gives_tags(server: Server) -> None:
    assert [snapshot["tags"] for snapshot in snapshots(server)] == [[], ["db", "før", "release"], []]
    assert "holds a comma" not in server.fails(2, "backup", "--tag", "a,,b")
    assert "64 tags at most" in server.fails(2, "backup", "--tag", ",".join(map(str, range(65))))


def test_tag(server: Server) -> None:
    first, second, third = (snapshot["id"] for snapshot in snapshots(server))
    found = server.json("tag", first, second, "--add", "x", "--remove", "db")
    assert [snapshot["tags"] for snapshot in found["snapshots"]] == [["x"], ["før", "release", "x"]]
    assert len(found["amended"]) == 1
    assert server.json("tag", first, "--add", "x")["amended"] == []
    assert server.json("tag", "latest", "--set", "y,z")["snapshots"][0]["snapshot"] == third
    assert server.json("tag", second, "--set", "")["snapshots"][0]["tags"] == []
    assert "which of the two" in server.fails(2, "tag", first)
    assert "which of the two" in server.fails(2, "tag", first, "--set", "a", "--add", "b")
    assert "is no tag" in server.fails(2, "tag", first, "--add", HOSTILE)
    assert "64 tags at most" in server.fails(2, "tag", first, "--add", ",".join(map(str, range(64))))
    run = server.json("runs", "--limit", "1")[0]
    assert (run["kind"], run["outcome"]) == ("mark", "done")


def test_choosing_by_tags(server: Server) -> None:
    first, second, third = (snapshot["id"] for snapshot in snapshots(server))
    server.done("tag", first, "--set", "db,old")
    assert [snapshot["id"] for snapshot in snapshots(server, "--tag", "db")] == [first, second]
    assert [snapshot["id"] for snapshot in snapshots(server, "--tag", "db,old")] == [first]
    assert [snapshot["id"] for snapshot in snapshots(server, "--tag", "old", "--tag", "release")] == [
        first,
        second,
    ]
    assert [snapshot["id"] for snapshot in snapshots(server, "--tag", "")] == [third]
    at = f"latest:{server.source}"
    assert "night 2" in server.done("ls", at).stdout
    shown = server.done("ls", at, "--tag", "db").stdout
    assert "night 1" in shown
    assert "night 2" not in shown
    assert "with these tags" in server.fails(2, "ls", third, "--tag", "db")
    assert server.json("find", "night 0", "--tag", "release")[0]["snapshots"] == 1
    assert server.json("versions", str(server.source / "a.txt"), "--tag", "db")[0]["snapshots"] == 2
    assert server.json("diff", "latest~1", "latest", "--tag", "db")["to"] == second
    target = server.folder / "out"
    server.done("restore", "latest", "--tag", "release", "--target", target, "--key", server.key_file)
    assert (Path(str(target) + str(server.source)) / "night 1").exists()
    assert not (Path(str(target) + str(server.source)) / "night 2").exists()


def test_pins(server: Server) -> None:
    first, second, third = (snapshot["id"] for snapshot in snapshots(server))
    server.done("pin", first, "--note", "før the move")
    until = server.clock.now() + timedelta(days=10)
    server.done("pin", second, "--until", until.isoformat())
    assert [snapshot["pin"] and snapshot["pin"]["note"] for snapshot in snapshots(server)] == [
        "før the move",
        "",
        None,
    ]
    assert f"{first[:8]} of job main: it is pinned" in server.fails(2, "forget", first)
    kept = server.json("forget", "main", "--keep-last", "1")["jobs"][0]["kept"]
    assert [decision["reasons"] for decision in kept][:2] == [["pinned"], ["pinned"]]
    advance(server, days=10)
    kept = server.json("forget", "main", "--keep-last", "1")["jobs"][0]["kept"]
    assert [decision["snapshot"] for decision in kept] == [first, third]
    assert server.json("unpin", first)["snapshots"][0]["pin"] is None
    server.done("forget", first)
    assert [snapshot["id"] for snapshot in snapshots(server)] == [third]
    assert "is past" in server.fails(2, "pin", third, "--until", "2020-01-01")
    assert "cannot be shown" in server.fails(2, "pin", third, "--note", HOSTILE)
    assert "200 characters" in server.fails(2, "pin", third, "--note", "n" * 201)


def test_a_rebuild_brings_tags_pins_and_forgotten_ones(server: Server, tmp_path: Path) -> None:
    first, second, third = (snapshot["id"] for snapshot in snapshots(server))
    server.done("pin", first, "--note", "note", "--until", "2099-01-01")
    server.done("tag", third, "--add", "späť")
    server.done("forget", second)
    bare = rebuilt(server, tmp_path / "bare")
    assert rows(bare.state) == rows(server.state)
    assert snapshots(bare) == snapshots(server)
    assert [snapshot["id"] for snapshot in snapshots(bare, "--forgotten")] == [second]
    bare.done("forget", "--undo", second)
    again = rebuilt(bare, tmp_path / "again")
    assert snapshots(again) == snapshots(bare)
    assert [snapshot["id"] for snapshot in snapshots(again)] == [first, second, third]


def test_80_columns(server: Server) -> None:
    server.done("pin", "latest", "--note", "n" * 200)
    server.done("tag", "latest", "--add", ",".join("t" * 100 + str(n) for n in range(9)))
    lines = server.on_terminal("snapshots")
    assert max(map(len, lines)) <= 80
    assert lines[0].split()[:3] == ["snapshot", "job", "time"]
    assert "tags" in lines[0]
    assert "pinned" in lines[0]
