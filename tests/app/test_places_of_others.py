"""What a run writes by itself where others can change the way: no link is followed, and the doctor tells."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.healthy_servers import HealthyServer, healthy_server
from tests.support.servers import Server, directory_server

MALLORY = 4242
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes other users' links")


def link_of_mallory(place: Path, to: Path) -> None:
    place.symlink_to(to)
    os.chown(place, MALLORY, MALLORY, follow_symlinks=False)


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    place = tmp_path / "etc"
    place.mkdir()
    return place


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """A server that keeps lines and metrics in another user's directory."""
    made = directory_server(tmp_path / "server")
    home = tmp_path / "mallory"
    home.mkdir()
    os.chown(home, MALLORY, MALLORY)
    text = made.config.read_text().replace("[state]\n", f'[state]\nrecovery_file = "{home}/kept/lines"\n')
    made.config.write_text(f'{text}[monitoring]\nmetrics_file = "{home}/kept/night.prom"\n')
    made.init()
    return made


def test_an_odd_owner_stops_no_backup(server: Server, tmp_path: Path) -> None:
    (tmp_path / "mallory/kept").mkdir()
    server.backup()
    assert sorted(path.name for path in (tmp_path / "mallory/kept").iterdir()) == ["lines", "night.prom"]


def test_a_folder_that_is_another_users_link_is_not_followed(
    server: Server, tmp_path: Path, victim: Path, caplog: pytest.LogCaptureFixture
) -> None:
    link_of_mallory(tmp_path / "mallory/kept", victim)
    done = server.done("backup")
    assert f"{tmp_path}/mallory/kept is a symlink of {MALLORY}" in done.stderr
    assert f"night.prom cannot be written: {tmp_path}/mallory/kept is a symlink" in caplog.text
    assert list(victim.iterdir()) == []


def test_a_file_of_lines_that_is_a_link(server: Server, tmp_path: Path, victim: Path) -> None:
    """Another user's is not read through, and stays; root's own is where the lines go."""
    kept = tmp_path / "mallory/kept"
    kept.mkdir()
    (victim / "lines").touch()
    link_of_mallory(kept / "lines", victim / "lines")
    assert "could not be kept" in server.done("backup").stderr
    assert (victim / "lines").read_text() == ""
    os.chown(kept / "lines", 0, 0, follow_symlinks=False)
    server.done("backup")
    assert (kept / "lines").is_symlink()
    assert "NVL1," in (victim / "lines").read_text()


@pytest.mark.parametrize("name", ["spool", "drills"])
def test_spool_and_scratch_are_entered_through_no_link_of_others(
    server: Server, victim: Path, name: str
) -> None:
    place = server.state / name
    if place.exists():
        place.rmdir()
    link_of_mallory(place, victim)
    if name == "spool":
        told = server.run("backup").output
    else:
        with server.config.open("a") as config:
            config.write('[[drill]]\nname = "yearly"\nvault = "cold"\nsample = "1MiB"\n')
        server.backup()
        told = server.run("drill", "run", "yearly", "--key", server.key_file).output
    assert "symlink" in told or "Not a directory" in told, told
    assert list(victim.iterdir()) == []


def test_the_doctor_tells_who_can_change_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, victim: Path
) -> None:
    healthy: HealthyServer = healthy_server(tmp_path, monkeypatch)
    assert healthy.found() == set()
    elsewhere = tmp_path / "elsewhere"
    os.chown(elsewhere, MALLORY, MALLORY)
    (found,) = healthy.findings()
    assert (found.check, found.level.value) == ("place", "warning")
    assert found.what == f"{elsewhere} belongs to {MALLORY}: others can change {elsewhere}/lines"
    assert found.command == f"chown root {elsewhere}"
    os.chown(elsewhere, 0, 0)
    assert healthy.found() == set()
    elsewhere.rename(tmp_path / "moved")
    link_of_mallory(elsewhere, victim)
    assert [(finding.check, finding.command) for finding in healthy.findings()] == [
        ("place", f"chown -h root {elsewhere}")
    ]
