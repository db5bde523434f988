"""The grade "loaded" of a drill: dumps are loaded and counted, and what differs is told."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backup.app.status.verified import loads_text
from backup.driller.loading import differences
from backup.driller.report import LoadedDump, load_text
from backup.inventory.questions.proofs import LoadProof
from backup.model import JobName
from tests.support.servers import Server, directory_server

DRILL = '\n[[drill]]\nname = "databases"\nvault = "cold"\nload = true\n'


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """A server that has saved a file of SQLite."""
    with closing(sqlite3.connect(tmp_path / "app.db")) as database, database:
        database.execute("CREATE TABLE orders (a)")
        database.executemany("INSERT INTO orders VALUES (?)", [(n,) for n in range(41)])
    made = directory_server(tmp_path / "server")
    made.init()
    section = f'[[job.database]]\nkind = "sqlite"\nname = "app"\npath = "{tmp_path}/app.db"\n'
    made.config.write_text(made.config.read_text() + section + DRILL)
    made.backup()
    return made


def drill(server: Server, *words: object, exit_code: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = server.json("drill", "run", *words, "--key", server.key_file, exit_code=exit_code)
    return found


def test_a_dump_is_loaded_and_status_says_so(server: Server) -> None:
    (job,) = server.json("status", exit_code=1)["jobs"]
    assert job["databases"] == [{"kind": "sqlite", "name": "app", "loaded_at": None}]
    report = drill(server)
    assert (report["grade"], report["outcome"], report["findings"]) == ("loaded", "done", [])
    assert report["loaded"] == [{"job": "main", "kind": "sqlite", "database": "app", "tables": 1, "rows": 41}]
    (job,) = server.json("status", exit_code=1)["jobs"]
    assert job["databases"][0]["loaded_at"] is not None
    assert "main: app loaded 2026-" in server.run("status").stdout
    shown = server.done("drill", "run", "--key", server.key_file).stdout
    assert "  loaded sqlite app: 1 table, 41 rows\nall of it is as it was saved\n" in shown
    assert "loaded" in server.done("drills").stdout
    assert not (server.state / "drills").exists()


def test_rows_that_are_not_those_of_the_dump_are_grave(server: Server) -> None:
    with closing(sqlite3.connect(server.state / "inventory.sqlite")) as inventory, inventory:
        noted = inventory.execute("SELECT tables FROM dumps").fetchone()[0]
        inventory.execute("UPDATE dumps SET tables = ?", (noted.replace(b"\x29", b"\x2a"),))
    report = drill(server, exit_code=1)
    assert report["loaded"] == []
    (finding,) = report["findings"]
    assert finding == {
        "kind": "not-loaded",
        "what": "sqlite app",
        "detail": "table orders has 41 rows, and had 42",
    }
    (job,) = server.json("status", exit_code=1)["jobs"]
    assert job["databases"][0]["loaded_at"] is None


def test_without_a_key_it_reads_back(server: Server) -> None:
    report = server.json("drill", "run")
    assert (report["grade"], report["loaded"]) == ("read back", [])


def test_the_doctor_names_databases_that_no_drill_has_loaded(server: Server) -> None:
    server.clock.sleep(timedelta(days=100).total_seconds())

    def told() -> str:
        return server.run("doctor").stdout

    assert "job main has dumps of app, and no drill has ever loaded them" in told()
    server.backup()
    drill(server)
    assert "no drill has ever loaded them" not in told()
    server.clock.sleep(timedelta(days=500).total_seconds())
    assert "job main has dumps of app, which a drill loaded last before" in told()


def test_names_of_databases_are_on_one_line_and_told_apart() -> None:
    """A kind is named where two have the name; each state once."""
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    names = [("mariadb", "shop", now), ("postgresql", "a\nb", now), ("postgresql", "shop", None)]
    proofs = [LoadProof(JobName("main"), kind, name, 1, when) for kind, name, when in names]
    assert loads_text(proofs) == "mariadb/shop, a\\x0ab loaded 2026-03-01; postgresql/shop never loaded"
    loaded = LoadedDump("main", "postgresql", "a\nb", 1, 2)
    assert load_text(loaded) == "loaded postgresql a\\x0ab: 1 table, 2 rows"


def test_tables_and_rows_are_compared() -> None:
    noted = [("a", 3, 3), ("busy", 90, 110), ("gone", 1, 1), ("empty", 0, 0)]
    assert list(differences(noted, (("a", 3, 3), ("busy", 71, 71), ("gone", 1, 1)))) == []
    loaded = (("a", 2, 2), ("busy", 131, 131), ("new", 1, 1))
    assert list(differences(noted, loaded)) == [
        "table a has 2 rows, and had 3",
        "table busy has 131 rows, and had 90 to 110",
        "it has no table gone",
        "it has a table new that was not there",
    ]
