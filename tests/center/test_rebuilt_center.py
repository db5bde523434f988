"""A center whose database is lost: servers are listened to again, and what people said of them is there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from backup.center.keeping import read_kept
from backup.errors import FormatError
from tests.support.centers import (
    body_of,
    center_database,
    free_port,
    needs_postgresql,
    new_center,
    superuser,
)
from tests.support.database_servers import RunningServer

pytestmark = [pytest.mark.real, pytest.mark.slow, needs_postgresql]


@pytest.fixture
def database() -> Iterator[tuple[RunningServer, str]]:
    with center_database() as made:
        yield made


def lose(server: RunningServer) -> None:
    with closing(superuser(server, "nightvault")) as connection:
        connection.execute("TRUNCATE hosts, chains, days, excuses, invites, places")


def test_what_is_exported_comes_back_and_the_rest_is_told_anew(
    tmp_path: Path, database: tuple[RunningServer, str]
) -> None:
    center, file = new_center(tmp_path, database[1]), tmp_path / "center.json"
    web, db, old = center.server("web1"), center.identity("db1"), body_of()
    center.port = free_port()
    with center.served("--name", f"127.0.0.1:{center.port}"):
        token = center.command("invite", "web1", "--address", center.address, "--group", "shop")["token"]
        web.done("center", "join", token)
        web.backup()
        center.command("ack", "web1", "--until", "3d", "--why", "new disk on Monday")
        center.command("maintenance", "--group", "shop", "--to", "3h", "--why", "rack moves")
        (before,) = center.command("list")["hosts"]
        assert center.command("export", file)["bytes"] == file.stat().st_size
        assert file.stat().st_mode & 0o777 == 0o600
        lose(database[0])
        assert "has not joined" in web.fails(1, "center", "tell")
        assert center.command("rebuild", file)["servers"] == 1
        assert center.command("rebuild", file) | {"of": 0} == {"servers": 0, "excuses": 0, "of": 0}
        (host,) = center.command("list")["hosts"]
        assert (host["in_group"], host["standing"], host["known_why"]) == (
            "shop",
            "known",
            before["known_why"],
        )
        assert host["reports"] == 0
        told = web.json("center", "tell")
        assert (told["number"], told["began_anew"]) == (1, True)
        after = center.command("show", "web1")
        assert (after["standing"], after["set_back_at"]) == ("known", None)
        assert after["told"]["jobs"]
        assert {excuse["kind"] for excuse in center.command("ack")["known"]} == {"ack", "maintenance"}
        assert center.send(db, old)[0] == 403  # who had not joined has not now


def test_what_is_no_export_is_refused_and_changes_nothing(
    tmp_path: Path, database: tuple[RunningServer, str]
) -> None:
    center = new_center(tmp_path, database[1])
    for data in (
        b"",
        b"{}",
        b"[" * 9000,
        b'{"version":2,"at":"2026-01-01T00:00:00Z","hosts":[],"excuses":[]}',
    ):
        with pytest.raises(FormatError, match="no export of a center"):
            read_kept(data)
        (tmp_path / "file").write_bytes(data)
        told = center.admin.fails(2, "center", "rebuild", tmp_path / "file", "--database", center.url)
        assert "no export of a center" in told
    assert "cannot be read" in center.admin.fails(
        2, "center", "rebuild", tmp_path / "none", "--database", center.url
    )
    assert center.command("list") == {"hosts": []}
