"""`nightvault copy` as a user gives it: a second disk from which everything comes back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.servers import Server, directory_server


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """Two nights on one disk, and another disk."""
    made = directory_server(tmp_path)
    text = made.config.read_text()
    second = tmp_path / "second"
    made.config.write_text(f'{text}\n[[vault]]\nname = "second"\nkind = "directory"\npath = "{second}"\n')
    made.init()
    for night in range(2):
        (made.source / f"file-{night}").write_bytes(os.urandom(400_000))
        made.backup()
    return made


def test_a_plan_then_a_copy_then_nothing(server: Server) -> None:
    words = "copy", "--from", "cold", "--to", "second"
    plan = server.json(*words, "--dry-run")
    done = server.json(*words)
    assert len(done["snapshots"]) == 2
    assert {**done, "recovery_line": ""} == plan
    assert done["recovery_line"]
    assert server.json(*words)["archives"] == 0
    text = server.done(*words).stdout.splitlines()
    assert ["snapshots", "0", "copied"] in [line.split() for line in text]
    assert ["archives", "0", "sent,", "0", "B"] in [line.split() for line in text]
    (run, *_) = server.json("runs")
    assert (run["kind"], run["job"], run["outcome"]) == ("copy", "main", "done")


def test_a_vault_with_copies_is_checked_and_not_pruned(server: Server, tmp_path: Path) -> None:
    server.done("copy", "--from", "cold", "--to", "second")
    assert server.json("check", "--vault", "second")["findings"] == []
    assert "holds copies" in server.run("prune", "--vault", "second").stderr


def test_wrong_words_are_refused(server: Server) -> None:
    assert "into itself" in server.run("copy", "--from", "second", "--to", "second").stderr
    told = server.run("copy", "--from", "second", "--to", "cold", "--job", "main").stderr
    assert "never backed up into vault second" in told
    told = server.run("copy", "--from", "second", "--to", "cold").stderr
    assert "vault second has no job's own backups" in told
