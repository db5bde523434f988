"""`nightvault check` as a user gives it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.doubles import ManualClock
from tests.servers import HurryingClock, Server, directory_server, running_cloud
from tests.trees import assert_same_tree


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def server(tmp_path: Path, clock: ManualClock) -> Server:
    made = directory_server(tmp_path, clock=clock)
    made.init()
    made.backup()
    clock.advance(timedelta(days=1))
    return made


def lose_one(server: Server, kind: str = "data") -> str:
    """Remove an archive from the vault's directory."""
    lost = next(one["archive_id"] for one in server.json("archives") if one["kind"] == kind)
    for path in (server.folder / "vault").rglob(f"*{lost}*"):
        path.unlink()
    return str(lost)


def test_it_is_still_there(server: Server) -> None:
    said = server.done("check").stdout
    assert "3 of 3 archives as stored" in said
    assert "nothing is missing or damaged" in said
    document = server.json("check")
    assert (document["state"], document["outcome"], document["findings"]) == ("done", "done", [])
    assert [one["kind"] for one in server.json("runs")] == ["check", "check", "backup"]


def test_an_archive_is_gone(server: Server, tmp_path: Path) -> None:
    lost = lose_one(server)
    result = server.run("check")
    assert result.exit_code == 1
    assert f"missing: {lost[:8]}" in result.stderr
    assert f"affected: {server.source}/a.txt" in result.stderr
    assert "3 versions of files" in result.stderr
    document = server.json("check", exit_code=1)
    assert [one["kind"] for one in document["findings"]] == ["lost"]
    assert document["affected"]["live_files"] == 3
    assert server.json("runs")[0]["outcome"] == "failed"
    server.backup()
    server.clock.sleep(86400)
    assert server.json("check")["affected"]["files"] == 0
    assert_same_tree(server.restore(tmp_path / "out"), server.source)


def test_a_cold_vault_takes_its_hours(tmp_path: Path) -> None:
    with running_cloud(tmp_path) as cloud:
        server = cloud.server(tmp_path / "web1", vault="nightly", clock=HurryingClock(cloud.emulator))
        server.init()
        server.backup()
        waiting = server.json("check")
        assert (waiting["state"], waiting["waits_for"]) == (
            "waiting",
            "the vault to make its first list, which takes up to a day",
        )
        cloud.emulator.advance(2 * 3600)
        cloud.emulator.make_inventories()
        assert server.json("check")["waits_for"] == "the vault's own list"
        assert "in some hours" in server.done("check").stdout
        cloud.emulator.advance(5 * 3600)
        document = server.json("check")
        assert (document["state"], document["outcome"]) == ("done", "done")
        assert document["compared"]["shown"] == 3
        again = server.json("check")
        assert again["compared"]["as_of"] == document["compared"]["as_of"], "no newer one can be had yet"
        assert [one["kind"] for one in server.json("runs")] == ["check", "check", "backup"]
        (server.source / "second").write_text("night")
        server.backup()
        assert server.json("check")["compared"]["newer"] == 2
