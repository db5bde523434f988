"""`nightvault rebuild` as a user gives it, on a machine that lost its state directory."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support.emulated import RunningEmulator
from tests.support.servers import HurryingClock, Server, running_cloud
from tests.support.trees import assert_same_tree


def lose(server: Server) -> None:
    """The disaster."""
    shutil.rmtree(server.state)


def test_the_server_is_gone(server: Server, tmp_path: Path) -> None:
    snapshot = server.backup()["snapshot"]
    lose(server)
    result = server.done("rebuild", "--key", server.key_file)
    lines = result.stdout.splitlines()
    assert lines[0] == "job main: 1 snapshot, as of catalog 1"
    assert lines[1].startswith("inventory ")
    assert "a vault can hide later backups (its list is of " in result.stderr
    assert server.json("snapshots")[0]["id"] == snapshot
    assert_same_tree(server.restore(tmp_path / "out"), server.source)
    report = server.backup()
    assert report["bytes_new"] == 0
    assert report["recipients"], "whom to seal for came back, though the config names nobody"
    assert [recipient["enrolled"] for recipient in server.json("key", "status")["recipients"]] == [True]
    assert not (server.state / "rebuild").exists()


def test_from_a_line_or_a_file_of_them(server: Server, tmp_path: Path) -> None:
    line = server.backup()["recovery_line"]
    kept = tmp_path / "lines.txt"
    shutil.copy(server.state / "recovery-lines.txt", kept)
    lose(server)
    document = server.json("rebuild", "--key", server.key_file, "--from", kept)
    assert (document["state"], document["listed_at"], document["partial"]) == ("done", None, False)
    assert document["jobs"] == [
        {"name": "main", "number": 1, "snapshots": 1, "catalogs": 1, "not_covered": [], "line_met": True}
    ]
    assert document["unconfirmed"] == document["archives"] > 0
    lose(server)
    server.done("rebuild", "--key", server.key_file, "--from", line)
    assert_same_tree(server.restore(tmp_path / "out"), server.source)
    lose(server)
    assert "a character is wrong" in server.fails(2, "rebuild", "--key", server.key_file, "--from", line[:-1])
    assert "no recovery line" in server.fails(2, "rebuild", "--key", server.key_file, "--from", server.config)
    assert "no file" in server.fails(2, "rebuild", "--key", server.key_file, "--from", "nowhere")


def test_what_is_there_is_not_written_over(server: Server, tmp_path: Path) -> None:
    server.backup()
    words = ("rebuild", "--key", server.key_file)
    assert "--set-aside" in server.fails(1, *words)
    lose(server)
    recipient = server.json("key", "show", server.key_file)["recipient"]
    server.done("init", "--non-interactive", "--new-history", "--recipient", recipient)
    assert "there is an inventory already" in server.fails(1, *words)
    (server.state / "inventory.sqlite").unlink()
    assert "holds the keys of another inventory" in server.fails(1, *words)
    result = server.done(*words, "--set-aside")
    assert result.stderr.count("moved out of the way") >= 2
    assert list((server.state / "keys").glob("signer.aside-*"))
    assert_same_tree(server.restore(tmp_path / "out"), server.source)


def test_a_wrong_key_is_told(server: Server, tmp_path: Path) -> None:
    """12, and neither a signer that "is not enrolled" nor the advice to believe it."""
    server.backup()
    lose(server)
    other = tmp_path / "other.key"
    server.done("key", "generate", "--out", other)
    for more in ([], ["--vault", "cold"]):
        said = server.fails(12, "rebuild", "--key", other, *more)
        assert "no recovery key that was given opens" in said
        assert "--signer" not in said
    said = server.fails(12, "rebuild", "--key", other, "--trust-vault")
    assert "does not open this pack" in said
    assert not (server.state / "inventory.sqlite").exists()


def test_an_empty_vault(server: Server) -> None:
    lose(server)
    assert "no catalog" in server.fails(1, "rebuild", "--key", server.key_file)


def test_a_cold_vault_takes_its_hours(tmp_path: Path) -> None:
    with running_cloud(tmp_path) as cloud:
        server = cloud.server(tmp_path / "web1", vault="nightly", clock=HurryingClock(cloud.emulator))
        server.init()
        lose_and_wait(server, cloud.emulator, tmp_path / "out")


def lose_and_wait(server: Server, emulator: RunningEmulator, out: Path) -> None:
    server.backup()
    (server.source / "second").write_text("night")
    server.backup()
    emulator.make_inventories()
    lose(server)
    words = ("rebuild", "--key", server.key_file)
    assert server.json(*words, exit_code=17)["waits_for"] == "the vault's own list"
    assert server.json(*words, exit_code=17)["state"] == "waiting"
    emulator.advance(5 * 3600)
    assert server.json(*words, exit_code=17)["waits_for"] == "2 of 2 catalogs"
    assert "in some hours" in server.waits(*words).stdout
    emulator.advance(5 * 3600)
    assert server.json(*words)["jobs"][0]["snapshots"] == 2
    assert_same_tree(server.restore(out), server.source)
