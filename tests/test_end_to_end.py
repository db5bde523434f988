"""The main job by the commands of a user: certificate, Glacier, two nights, and back again hours later."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from backup.credentials.rolesanywhere import RolesAnywhere
from backup.model import Credentials
from backup.source import freshness
from tests.support.emulated import ACCOUNT_ID
from tests.support.servers import Cloud, HurryingClock, Server, running_cloud
from tests.support.trees import assert_same_tree, snapshot_of


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running_cloud(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture
def server(cloud: Cloud, tmp_path: Path) -> Server:
    made = cloud.server(tmp_path, vault=tmp_path.name, clock=HurryingClock(cloud.emulator))
    made.init()
    return made


def change(source: Path) -> None:
    (source / "a.txt").write_text("alpha, changed\n")
    (source / "new.txt").write_text("new\n")
    (source / "deep" / "b.bin").rename(source / "deep" / "renamed.bin")
    (source / "deep" / "er" / "c.txt").unlink()


def test_two_nights_and_the_first_comes_back(server: Server, tmp_path: Path) -> None:
    first_night = snapshot_of(server.source)
    first = server.backup()
    assert (first["outcome"], first["files"], first["problems"]) == ("done", 4, [])
    assert first["bytes_new"] > 70_000

    change(server.source)
    second = server.backup()
    assert second["bytes_new"] < 1000  # a rename sends nothing again
    second_night = snapshot_of(server.source)

    assert [snapshot["id"] for snapshot in server.json("snapshots")] == [
        first["snapshot"],
        second["snapshot"],
    ]
    assert [run["run"] for run in server.json("runs")] == [second["run"], first["run"]]
    names = [entry["path"] for entry in server.json("ls", "-r", f"{first['snapshot'][:8]}:{server.source}")]
    assert f"{server.source}/deep/er/c.txt" in names
    names = [entry["path"] for entry in server.json("ls", f"latest:{server.source}/deep")]
    assert sorted(names) == [f"{server.source}/deep/er", f"{server.source}/deep/renamed.bin"]

    one = server.restore(tmp_path / "first", snapshot=first["snapshot"][:8])
    assert_same_tree(one, first_night)
    two = server.restore(tmp_path / "second")
    assert_same_tree(two, second_night)


def test_a_night_without_changes_reads_and_sends_no_content(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freshness, "write_back_reach", lambda: 0)  # as if the files were a minute old
    server.backup()
    second = server.backup()
    assert (second["files_read"], second["bytes_read"], second["bytes_new"]) == (0, 0, 0)
    assert (second["entries_added"], second["entries_removed"]) == (0, 0)


def test_a_restore_that_waits_is_gone_on_with_by_the_same_words(
    server: Server, cloud: Cloud, tmp_path: Path
) -> None:
    before = snapshot_of(server.source)
    server.backup()
    words = ("restore", "latest", "--target", tmp_path / "out")
    waits = server.waits(*words, "--key", server.key_file)
    assert "waits for 1 of 1 retrieval (3 to 5 hours with standard)" in waits.stdout
    assert "restore resume" in waits.stdout
    assert not (tmp_path / "out" / str(server.source).lstrip("/")).exists()

    (listed,) = server.json("restores")
    assert (listed["state"], listed["waiting"], listed["retrievals"]) == ("open", 1, 1)
    kept = list((server.state / "restores").iterdir())
    assert [oct(path.stat().st_mode & 0o777) for path in kept] == ["0o600"]

    still = server.json(*words, exit_code=17)  # neither a key nor another retrieval is needed
    assert (still["outcome"], still["restore"]) == ("running", listed["id"])
    cloud.emulator.advance(5 * 3600)
    server.key_file.unlink()
    report = server.json(*words)
    assert (report["outcome"], report["files"], report["waiting"]) == ("done", 4, 0)
    assert_same_tree(Path(str(tmp_path / "out") + str(server.source)), before)
    assert server.json("restores") == []
    assert [restore["state"] for restore in server.json("restores", "--all")] == ["done"]
    assert list((server.state / "restores").iterdir()) == []


def test_resume_and_cancel(server: Server, cloud: Cloud, tmp_path: Path) -> None:
    server.backup()
    asked = ("restore", "latest", "--key", server.key_file, "--tier", "bulk")
    one = server.json(*asked, "--target", tmp_path / "one", exit_code=17)["restore"]
    two = server.json(*asked, "--target", tmp_path / "two", exit_code=17)["restore"]
    assert {restore["tier"] for restore in server.json("restores")} == {"bulk"}

    assert server.json("restore", "cancel", two) == {"restore": two, "state": "cancelled"}
    assert f"restore {two} is cancelled already" in server.fails(2, "restore", "cancel", two)
    assert f"restore {two} is already cancelled" in server.fails(2, "restore", "resume", two)
    assert "no restore 'zz'" in server.fails(2, "restore", "resume", "zz")

    assert server.json("restore", "resume", one[:6], exit_code=17)["outcome"] == "running"
    report = server.json("restore", "resume", one[:6], "--wait")
    assert (report["outcome"], report["files"]) == ("done", 4)
    assert not (tmp_path / "two").exists()
    assert list((server.state / "restores").iterdir()) == []


def test_one_file_alone_is_retrieved_by_its_range(server: Server, tmp_path: Path) -> None:
    (server.source / "large.bin").write_bytes(os.urandom(12 << 20))
    server.backup()
    path = f"latest:{server.source}/a.txt"
    plan = server.json("restore", path, "--target", tmp_path / "out", "--dry-run")
    assert (plan["files"], plan["bytes"], len(plan["retrievals"])) == (1, 6, 1)
    assert plan["retrieved"] < sum(archive["size"] for archive in server.json("archives")) / 2
    assert not (tmp_path / "out").exists()
    assert server.json("restores", "--all") == []

    words = ("restore", path, "--target", tmp_path / "out", "--key", server.key_file, "--wait")
    report = server.json(*words)
    assert (report["files"], report["retrieved"]) == (1, plan["retrieved"])
    assert (tmp_path / "out" / "a.txt").read_text() == "alpha\n"


def test_what_is_stored_by_both_books(tmp_path: Path) -> None:
    with running_cloud(tmp_path) as cloud:  # its clock has not been moved yet
        server = cloud.server(tmp_path, vault=tmp_path.name, clock=HurryingClock(cloud.emulator))
        server.init()
        look_at_both_books(server, cloud, tmp_path.name)


def look_at_both_books(server: Server, cloud: Cloud, name: str) -> None:
    server.backup()
    (vault,) = server.json("vaults")
    assert (vault["name"], vault["kind"], vault["exists"]) == ("cold", "glacier", True)
    assert vault["location"].endswith(f":{ACCOUNT_ID}:vaults/{name}")

    stored = server.json("archives", "--vault", "cold")
    assert sorted({archive["kind"] for archive in stored}) == ["catalog", "data"]
    assert {archive["state"] for archive in stored} == {"stored"}
    assert sum(archive["size"] for archive in stored) == vault["bytes"]

    assert "was not asked for its list" in server.fails(2, "listing", "show")
    assert "first listing about a day after" in server.fails(1, "listing", "request")
    cloud.emulator.make_inventories()
    assert server.json("listing", "request") == {"vault": "cold", "state": "waiting"}
    assert server.json("listing", "request") == {"vault": "cold", "state": "waiting"}
    assert server.json("listing", "show") == {"vault": "cold", "state": "waiting"}
    listing = server.json("listing", "show", "--wait")
    assert {archive["archive_id"] for archive in listing["archives"]} == {
        archive["archive_id"] for archive in stored
    }
    assert {archive["known"] for archive in listing["archives"]} == {True}
    assert (listing["missing"], listing["newer_than_list"]) == ([], [])

    (server.source / "later.txt").write_text("later\n")
    server.backup()
    again = server.json("listing", "show")
    assert again["as_of"] == listing["as_of"]
    assert len(again["newer_than_list"]) == len(server.json("archives")) - len(stored)


def test_no_key_or_token_is_ever_printed(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    got: list[Credentials] = []
    real = RolesAnywhere.credentials

    def remembered(self: RolesAnywhere) -> Credentials:
        got.append(real(self))
        return got[-1]

    monkeypatch.setattr(RolesAnywhere, "credentials", remembered)
    server.done("--verbose", "backup")
    server.done("--verbose", "vaults")
    server.done("--verbose", "identity", "show")
    server.restore(tmp_path / "out", "--verbose")
    (server.state / "keys" / "recipients").unlink()
    assert server.run("--config", server.config, "backup").exit_code == 2
    printed = "".join(server.printed)
    private = (tmp_path / "identity" / "web1.key").read_text().splitlines()
    assert got
    assert len(private) > 2
    for secret in {got[0].secret_access_key, got[0].session_token, *private[1:-1]}:
        assert secret
        assert secret not in printed
