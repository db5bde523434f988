"""A center with a real PostgreSQL: servers tell it, once and in order, whatever is away meanwhile."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from backup.center.database import HEAD
from tests.support.centers import Center, body_of, center_database, needs_postgresql, new_center, superuser
from tests.support.database_servers import RunningServer

pytestmark = [pytest.mark.real, pytest.mark.slow, needs_postgresql]


@pytest.fixture
def database() -> Iterator[tuple[RunningServer, str]]:
    with center_database() as made:
        yield made


@pytest.fixture
def center(tmp_path: Path, database: tuple[RunningServer, str]) -> Center:
    return new_center(tmp_path, database[1])


def test_a_server_tells_and_the_center_knows(center: Center) -> None:
    web = center.server("web1")
    web.backup()
    with center.served() as log:
        first = web.json("center", "tell", center.address)
        second = web.json("center", "tell", center.address)
    assert (first["number"], first["began_anew"]) == (1, True)
    assert (second["number"], second["began_anew"], second["chain"]) == (2, False, first["chain"])
    assert log.read_text() == ""
    shown = center.command("show", "web1")
    own = web.json("status", exit_code=web.run("status").exit_code)
    assert shown["told"]["jobs"][0]["job"] == "main"
    assert shown["told"]["jobs"][0]["last_good"] == own["jobs"][0]["last_good"]
    assert shown["told"].keys() == own.keys()
    (host,) = center.command("list")["hosts"]
    assert (host["name"], host["reports"]) == ("web1", 2)


def test_an_older_image_is_set_back_and_stays_the_same_host(center: Center) -> None:
    web = center.server("web1")
    web.backup()
    with center.served() as log:
        web.done("center", "tell", center.address)
        shutil.copytree(web.state, web.folder / "image")
        for _ in range(3):
            web.done("center", "tell", center.address)
        shutil.rmtree(web.state)
        shutil.copytree(web.folder / "image", web.state)
        told = web.json("center", "tell", center.address)
        assert (told["number"], told["began_anew"]) == (1, True)
        assert web.json("center", "tell", center.address)["number"] == 2
    assert "number 2 was seen: the last one is 4" in log.read_text()
    document = center.command("status", exit_code=1)
    (host,) = document["not_well"]
    assert host["standing"] == "set back"
    assert host["why"] == "it does not know its last 3 reports: it is an older image"
    assert center.command("show", "web1", "--seen")["standing"] != "set back"


def test_a_center_that_is_away_keeps_nobody_waiting_and_is_told_later_and_once(center: Center) -> None:
    web = center.server("web1")
    with center.served():
        web.done("center", "tell", center.address)
    assert "cannot be reached" in web.fails(15, "center", "tell", center.address)
    web.backup()
    web.fails(15, "center", "tell", center.address)
    with center.served():
        told = web.json("center", "tell", center.address)
    assert (told["number"], told["began_anew"]) == (3, False)  # what was not answered, and what is new
    assert center.command("show", "web1")["told"]["jobs"][0]["last_good"] is not None


def test_a_database_that_is_away_is_a_later_again(
    center: Center, database: tuple[RunningServer, str]
) -> None:
    web = center.server("web1")
    with center.served() as log:
        web.done("center", "tell", center.address)
        database[0].kill()
        told = web.fails(15, "center", "tell", center.address)
        assert "503" in told
        assert "nightvault?" not in told
        web.backup()
    assert "the center's database" in log.read_text()


def test_a_database_that_is_set_up_again_is_as_it_was(center: Center) -> None:
    with center.served():
        assert center.send(center.identity("web1"), body_of())[0] == 200
    before = center.command("list")
    assert center.command("init")["schema"] == HEAD
    assert center.command("list") == before


def test_what_a_lost_database_knew_is_told_anew(center: Center, database: tuple[RunningServer, str]) -> None:
    web = center.server("web1")
    with center.served():
        for _ in range(3):
            web.done("center", "tell", center.address)
        with closing(superuser(database[0], "nightvault")) as connection:
            connection.execute("TRUNCATE hosts, chains, days, excuses")
        told = web.json("center", "tell", center.address)
    assert (told["number"], told["began_anew"]) == (1, True)
    (host,) = center.command("list")["hosts"]
    assert host["set_back_at"] is None
    assert center.command("show", "web1")["told"]["jobs"]


def test_a_new_certificate_with_the_same_subject_is_the_same_server(center: Center) -> None:
    with center.served():
        assert center.send(center.identity("web1"), body_of()) == (200, {"taken": "new"})
        renewed = center.identity("web1")
        assert center.send(renewed, body_of(2, changes={})) == (200, {"taken": "new"})
        assert center.send(center.identity("web2"), body_of()) == (200, {"taken": "new"})
    assert [host["reports"] for host in center.command("list")["hosts"]] == [2, 1]


def test_rows_are_kept_apart_also_from_their_owner(
    center: Center, database: tuple[RunningServer, str]
) -> None:
    server = database[0]
    with center.served():
        for name in ("web1", "web2"):
            center.server(name).done("center", "tell", center.address)
    with closing(superuser(server, "nightvault")) as connection:
        assert connection.execute("SELECT count(*) FROM hosts").fetchone() == (2,)
        mine, other = (row[0] for row in connection.execute("SELECT host_id FROM hosts ORDER BY name"))
        connection.execute("SET ROLE nightvault")
        for table in ("hosts", "chains", "days"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
            with connection.transaction():
                connection.execute("SELECT set_config('nightvault.host', %s, true)", (mine,))
                assert connection.execute(f"SELECT host_id FROM {table}").fetchall() == [(mine,)]
                changed = connection.execute(f"DELETE FROM {table} WHERE host_id = %s", (other,))
                assert changed.rowcount == 0
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
        with connection.transaction(force_rollback=True):
            connection.execute("SELECT set_config('nightvault.host', %s, true)", (mine,))
            with pytest.raises(psycopg.Error, match="row-level security"), connection.transaction():
                connection.execute("INSERT INTO chains VALUES (%s, 'x', now())", (other,))


def test_a_user_that_passes_row_level_security_by_is_refused(
    center: Center, database: tuple[RunningServer, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(superuser(database[0])) as connection:
        connection.execute("ALTER ROLE nightvault BYPASSRLS")
        told = center.admin.fails(2, "center", "init", "--database", center.url)
        assert "passes row-level security by" in told
        center.admin.fails(2, "center", "list", "--database", center.url)
        connection.execute("ALTER ROLE nightvault NOBYPASSRLS")
    assert center.command("list") == {"hosts": []}
    monkeypatch.delenv("PGPASSFILE")
    assert "password" in center.admin.fails(15, "center", "list", "--database", center.url)
