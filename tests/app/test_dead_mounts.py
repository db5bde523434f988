"""Places that may not answer: nobody waits long for a dead mount, and what is there is seen."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from backup.app.base.clock import SystemClock
from backup.app.base.silent_mounts import look_at, may_be_silent
from tests.support.dead_mounts import beside_dead_mount
from tests.support.program_forks import place_command
from tests.support.servers import directory_server

REMOTE = {"/": "nfs4"}  # everything counts as mounted from elsewhere


def program(folder: Path) -> str:
    """`nightvault` in that folder."""
    path = folder / "nightvault"
    if not path.exists():
        place_command(path)
    return str(path)


def test_no_command_that_looks_waits_for_a_dead_mount(tmp_path: Path) -> None:
    server = directory_server(tmp_path, clock=SystemClock())
    link = tmp_path / "link"
    link.symlink_to("vault")
    (tmp_path / "vault").mkdir()
    server.config.write_text(server.config.read_text().replace(f'"{tmp_path / "vault"}"', f'"{link}"'))
    server.init()
    server.backup()
    start = [program(tmp_path), "--config", str(server.config)]
    commands = ("status", "status --nagios", "status --overdue --notify", "vaults", "config check", "doctor")
    answers = beside_dead_mount(tmp_path / "vault", [[*start, *words.split()] for words in commands])
    assert [answer.code for answer in answers] == [1, 1, 0, 15, 0, 1]
    shown = [" ".join(answer.output.split()) for answer in answers]
    assert "vault cold does not answer" in shown[0]
    assert "is not there" not in shown[0]
    assert "last good" in shown[0], "all else is told"
    assert "vault cold does not answer" in shown[1]
    assert f"{link} does not answer" in shown[3]
    assert f"vault cold ({link}) does not answer" in shown[4]
    assert shown[5].count("vault cold does not answer") == 1
    assert "is not there" not in shown[5]
    assert "does not answer" not in server.run("status").stdout


def test_a_dead_source_or_mount_in_one_holds_nothing_up(tmp_path: Path) -> None:
    server = directory_server(tmp_path, clock=SystemClock())
    server.init()
    server.backup()
    link, other, above = tmp_path / "link", tmp_path / "other", tmp_path / "above.toml"
    link.symlink_to("source")
    other.mkdir()
    text, named = server.config.read_text(), f'["{server.source}"]'
    assert named in text
    server.config.write_text(text.replace(named, f'["{link}", "{other}"]'))
    above.write_text(text.replace(named, f'["{tmp_path}"]'))
    commands = [
        [program(tmp_path), "--config", str(config), *words.split()]
        for config in (server.config, above)
        for words in ("status", "config check", "doctor")
    ]
    commands += [_begin(tmp_path, path) for path in (server.source / "vault", other)]
    answers = beside_dead_mount(server.source, commands)
    assert [answer.code for answer in answers] == [1, 0, 1, 1, 0, 1, 2, 0]
    shown = [" ".join(answer.output.split()) for answer in answers]
    assert "free" in shown[0]
    for text in shown[1:3]:
        assert f"the source {link} of job main does not answer" in text
        assert f"the source {other} of job main does not" not in text, "it is on another mount"
    for text in (*shown[4:6], shown[7]):
        assert f"{server.source} in the source {tmp_path} of job" in text
    assert "no backup is made before it does" in shown[7]
    assert (tmp_path / "k").exists(), "all else is done"
    assert "job main has no policy" in shown[2], "all else is looked at"
    assert f"path: {server.source}/vault does not answer" in shown[6]


def _begin(folder: Path, vault: Path) -> list[str]:
    answers = folder / f"to-{vault.name}.toml"
    answers.write_text(f'sources = ["{folder}"]\nwhere = "disk"\npath = "{vault}"\nkey_file = "{folder}/k"\n')
    config = folder / "etc" / "config.toml"
    return [program(folder), "--config", str(config), "begin", "--answers", str(answers)]


def test_another_process_sees_the_same(tmp_path: Path) -> None:
    for name in ("a", "\udce4", "line\nbreak"):
        (tmp_path / name).write_text("")
    here = look_at(str(tmp_path))
    gone = look_at(str(tmp_path / "nothing"))
    assert here.names == {"a", "\udce4", "line\nbreak"}
    assert here.disk == os.stat(tmp_path).st_dev
    assert gone.error == 2
    there = look_at(str(tmp_path), 60, REMOTE)
    assert (there.names, there.disk, there.error) == (here.names, here.disk, None)
    assert look_at(str(tmp_path / "nothing"), 60, REMOTE) == gone


def test_one_that_looks_in_vain_is_enough(tmp_path: Path) -> None:
    """So that a timer of each hour does not fill the memory over a week-end."""
    words = [sys.executable, "-c", "input()", "nightvault-look-at-place", str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as stuck:
        while f"{tmp_path}" not in Path(f"/proc/{stuck.pid}/cmdline").read_text():
            time.sleep(0.01)
        assert look_at(str(tmp_path), 0.2, REMOTE).is_silent
        stuck.communicate(b"\n")
    assert not look_at(str(tmp_path), 60, REMOTE).is_silent


@pytest.mark.parametrize(
    ("path", "is_remote"),
    [("mnt/x", True), ("mnt", True), ("x", False), ("way/x", True), ("way", True), ("round", False)],
)
def test_the_way_to_a_mount(tmp_path: Path, path: str, is_remote: bool) -> None:
    """Also by links; what is there is not asked."""
    (tmp_path / "way").symlink_to("mnt/below")
    (tmp_path / "round").symlink_to("round")
    mounts = {"/": "ext4", str(tmp_path / "mnt"): "nfs4"}
    assert may_be_silent(str(tmp_path / path), mounts) is is_remote
