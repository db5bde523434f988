"""The marker of a directory vault is damaged or gone: what each command says, and what leads out."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from backup.vault.marker import DAMAGED, MARKER
from tests.support.servers import Server, directory_server
from tests.support.trees import assert_same_tree

HARMS = {"missing": None, "cut short": '{"layout":1,"id":"', "garbage": "\0" * 4096, "empty": ""}


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """A server with one snapshot."""
    made = directory_server(tmp_path)
    made.init()
    made.backup()
    return made


@pytest.fixture(params=HARMS, ids=lambda harm: harm.replace(" ", "-"))
def harmed(request: pytest.FixtureRequest, server: Server) -> Server:
    """The same, and its vault's marker is not what it was."""
    marker = server.folder / "vault" / MARKER
    text = HARMS[request.param]
    marker.unlink() if text is None else marker.write_text(text)
    return server


def commands_in(told: str) -> list[list[str]]:
    """The commands of nightvault that a message names, in words."""
    return [command.split() for command in re.findall(r"`nightvault ([^`]+)`", " ".join(told.split()))]


def test_every_command_says_what_leads_out_and_it_does(harmed: Server, tmp_path: Path) -> None:
    before = list_of(harmed)
    for words in (["backup"], ["check"], ["init"]):
        told = " ".join(harmed.fails(1, *words).split())
        assert "the marker of vault cold" in told
        assert "no archive is lost by that" in told
    assert harmed.json("backup", exit_code=1)["error"]["kind"] == "unmarked-vault"
    first, *_ = commands_in(told)
    assert first == ["vaults", "accept", "cold"]
    known = harmed.json("vaults")[0]
    done = harmed.json(*first, "--yes")
    assert (done["accepted"], done["missing"]) == (True, 0)
    assert done["identity"] == done["before"], "others know it by that"
    assert harmed.json("vaults")[0]["vault_archives"] == known["vault_archives"]
    assert harmed.json("check")["findings"] == []
    assert harmed.backup()["bytes_new"] == 0
    assert_same_tree(harmed.restore(tmp_path / "out"), harmed.source)
    assert before <= list_of(harmed)


def test_a_restore_reads_the_archives_all_the_same(harmed: Server, tmp_path: Path) -> None:
    words = ("restore", "latest", "--target", tmp_path / "out", "--key", harmed.key_file)
    told = harmed.done(*words).stderr
    assert "its archives are read all the same" in " ".join(told.split())
    assert_same_tree(Path(f"{tmp_path}/out{harmed.source}"), harmed.source)


def test_a_person_is_asked_before_a_marker_is_written(harmed: Server) -> None:
    told = " ".join(harmed.fails(2, "vaults", "accept", "cold").split())
    assert MARKER in told
    assert "a new one is written" in told
    assert not (harmed.folder / "vault" / DAMAGED).exists()
    assert "the marker of vault cold" in harmed.fails(1, "check")


def test_where_the_state_is_gone_too_init_stops_and_rebuild_goes_on(harmed: Server, tmp_path: Path) -> None:
    shutil.rmtree(harmed.state)
    before = list_of(harmed)
    error = harmed.json("init", "--key-file", tmp_path / "x.key", exit_code=1)["error"]
    assert error["kind"] == "occupied-vault"
    assert not harmed.state.exists()
    rebuild, *_ = commands_in(error["advice"])
    assert rebuild == ["rebuild", "--key", "FILE"]
    told = harmed.done(*[str(harmed.key_file) if word == "FILE" else word for word in rebuild]).stderr
    assert_same_tree(harmed.restore(tmp_path / "out"), harmed.source)
    assert "the marker of vault cold" in harmed.fails(1, "backup")
    (accept,) = commands_in(told)[:1]
    assert accept == ["vaults", "accept", "cold"]
    harmed.done(*accept, "--yes")
    assert harmed.backup()["bytes_new"] == 0
    assert harmed.json("check")["affected"]["files"] == 0
    assert before <= list_of(harmed)


def test_archives_without_their_records_and_a_marker_stop_init(server: Server, tmp_path: Path) -> None:
    """Nothing says that these are catalogs, but they are archives."""
    shutil.rmtree(server.state)
    for record in (server.folder / "vault").rglob("*.json"):
        record.unlink()
    told = server.fails(1, "init", "--key-file", tmp_path / "x.key")
    assert "its marker is missing or damaged" in " ".join(told.split())
    assert not (server.folder / "vault" / MARKER).exists()


def test_an_empty_mount_point_stays_missing(server: Server, tmp_path: Path) -> None:
    """Whatever is asked, nothing is made there for a vault that was used."""
    vault = server.folder / "vault"
    vault.rename(tmp_path / "unmounted")
    vault.mkdir()
    for words in (["backup"], ["check"], ["init"]):
        told = " ".join(server.fails(1, *words).split())
        assert "is not there" in told
    server.state.rename(tmp_path / "lost")
    told = " ".join(server.fails(1, "rebuild", "--key", server.key_file).split())
    assert "mount the disk that holds the backups" in told
    assert "nightvault init" not in told
    assert list(vault.iterdir()) == []


def test_a_marker_of_a_newer_nightvault_is_left_alone(server: Server) -> None:
    marker = server.folder / "vault" / MARKER
    marker.write_text('{"layout":2}')
    for words in (["backup"], ["check"], ["vaults", "accept", "cold", "--yes"], ["init"]):
        assert "use the nightvault that made this vault" in " ".join(server.fails(1, *words).split())
    assert marker.read_text() == '{"layout":2}'


def list_of(server: Server) -> set[str]:
    """The names of the vault's archives."""
    return {path.name for path in (server.folder / "vault" / "archives").rglob("*") if path.is_file()}
