"""A quick look into an inventory: beside a writer, without one, and where it would have to be copied."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from backup.inventory.questions.completing import peek_into
from tests.support.servers import Server, directory_server


@pytest.fixture
def server(tmp_path: Path) -> Server:
    made = directory_server(tmp_path)
    made.init()
    made.backup()
    return made


def url_of(server: Server) -> str:
    return f"sqlite:///{server.state}/inventory.sqlite"


def seen(server: Server, words: str = "latest", job: str | None = None) -> list[bytes]:
    with peek_into(url_of(server)) as peek:
        return [path for path, _ in peek.paths(words, os.fsencode(f"{server.source}/"), job)]


def test_names_of_each_snapshot(server: Server) -> None:
    (server.source / "new.txt").write_text("new")
    first = seen(server)
    server.backup()
    new = os.fsencode(server.source / "new.txt")
    assert new in seen(server)
    assert seen(server, "latest~1") == first
    assert new not in first
    assert seen(server, "latest~2") == seen(server, "latest", job="another") == []


def test_beside_a_writer_what_is_committed_is_seen(server: Server) -> None:
    path = server.state / "inventory.sqlite"
    writer = sqlite3.connect(path)
    writer.execute("PRAGMA journal_mode = wal")
    writer.execute("UPDATE snapshots SET forgotten_at = 1")
    writer.commit()
    assert os.stat(f"{path}-wal").st_size > 0
    with peek_into(url_of(server)) as peek:
        assert peek.snapshots() == [], "a forgotten snapshot is not offered"
    writer.close()


def test_nothing_is_copied(server: Server) -> None:
    (server.state / "inventory.sqlite-wal").write_bytes(b"what a writer left" * 100)
    with pytest.raises(OSError, match="copied"), peek_into(url_of(server)):
        pass


def test_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.Error), peek_into(f"sqlite:///{tmp_path}/none.sqlite") as peek:
        peek.snapshots()
    assert list(tmp_path.iterdir()) == []
