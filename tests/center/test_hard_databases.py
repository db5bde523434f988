"""Databases that are pooled, short of connections, failed over or slow: reports arrive late, and once."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from tests.support.centers import (
    OWNER_PASSWORD,
    PROGRAMS,
    Center,
    body_of,
    center_database,
    needs_postgresql,
    new_center,
    superuser,
)
from tests.support.database_servers import RunningServer, has, pgbouncer, slow_way, standby

pytestmark = [pytest.mark.real, pytest.mark.slow, needs_postgresql]

HOSTS, REPORTS = 8, 12


@pytest.fixture
def database() -> Iterator[tuple[RunningServer, str]]:
    with center_database() as made:
        yield made


def told_at_once(center: Center, folder: str) -> list[int]:
    """The refusals that servers met, each of which told all of its reports, again and again if need be."""
    refused: list[int] = []

    def tell(name: str) -> None:
        identity = center.identity(name)
        for number in range(1, REPORTS + 1):
            body = body_of(number, None if number == 1 else {}, chain=folder * 32)
            for _ in range(200):
                status, answer = center.send(identity, body)
                if status == 200:
                    break
                refused.append(status)
                time.sleep(0.05)
            assert status == 200, answer

    threads = [threading.Thread(target=tell, args=(f"web{number}",)) for number in range(HOSTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return refused


def counts(center: Center) -> dict[str, int]:
    return {host["name"]: host["reports"] for host in center.command("list")["hosts"]}


@pytest.mark.skipif(not has("pgbouncer"), reason="PgBouncer is not installed")
def test_a_pooler_in_transaction_mode_keeps_hosts_apart(
    tmp_path: Path, database: tuple[RunningServer, str]
) -> None:
    with pgbouncer(database[0], "nightvault", "nightvault", OWNER_PASSWORD, pool=2) as pooler:
        center = new_center(tmp_path, f"postgresql://nightvault@/nightvault?host={pooler}&port=6432")
        with center.served() as log:
            assert told_at_once(center, "a") == []
            assert counts(center) == {f"web{number}": REPORTS for number in range(HOSTS)}
        assert log.read_text() == ""
        for number in range(HOSTS):  # each sees its own rows, and no setting stays with a connection
            assert center.command("show", f"web{number}")["reports"] == REPORTS
        with psycopg.connect(f"host={pooler} port=6432 user=nightvault dbname=nightvault") as connection:
            assert connection.execute("SELECT count(*) FROM hosts").fetchone() == (0,)
        assert center.command("remove", "web0")
        assert len(center.command("list")["hosts"]) == HOSTS - 1


@pytest.mark.skipif(not has("pgbouncer"), reason="PgBouncer is not installed")
def test_a_pooler_that_ends_and_comes_again_is_a_later_again(
    tmp_path: Path, database: tuple[RunningServer, str]
) -> None:
    server, url = database
    center = new_center(tmp_path, url)
    web = center.server("web1")
    with pgbouncer(server, "nightvault", "nightvault", OWNER_PASSWORD, pool=2) as pooler:
        center.url = f"postgresql://nightvault@/nightvault?host={pooler}&port=6432"
        with center.served() as log:
            web.done("center", "tell", center.address)
            with closing(superuser(server)) as connection:  # each connection behind it is cut
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'nightvault'"
                )
            for _ in range(2):
                web.run("center", "tell", center.address)
            assert web.json("center", "tell", center.address)["began_anew"] is False
        assert "Traceback" not in log.read_text()
        shown = center.command("show", "web1")
        assert (shown["reports"], shown["set_back_at"]) == (4, None)


def test_out_of_connections_is_a_later_again(tmp_path: Path, database: tuple[RunningServer, str]) -> None:
    server, url = database
    center = new_center(tmp_path, url)
    web = center.server("mail")
    with center.served() as log, closing(superuser(server)) as connection:
        connection.execute("ALTER ROLE nightvault CONNECTION LIMIT 0")
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'nightvault'"
        )
        began = time.monotonic()
        web.fails(15, "center", "tell", center.address)
        assert time.monotonic() - began < 15
        web.backup()  # a host goes on
        connection.execute("ALTER ROLE nightvault CONNECTION LIMIT 3")  # of the eight that it would use
        refused = told_at_once(center, "b")
        connection.execute("ALTER ROLE nightvault CONNECTION LIMIT -1")
        assert set(refused) <= {503}
        assert counts(center) == {f"web{number}": REPORTS for number in range(HOSTS)}
        assert web.json("center", "tell", center.address)["number"] == 2
    assert "too many connections" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert center.command("show", "mail")["reports"] == 2


@pytest.mark.parametrize("is_behind", [False, True], ids=["in step", "behind"])
def test_a_failover_to_a_standby_counts_each_report_once(
    tmp_path: Path, database: tuple[RunningServer, str], is_behind: bool
) -> None:
    assert PROGRAMS is not None
    primary, _ = database
    with standby(PROGRAMS, primary) as second:
        center = new_center(
            tmp_path,
            "postgresql://nightvault@/nightvault"
            f"?host={primary.host},{second.host}&target_session_attrs=read-write",
        )
        web = center.server("web1")
        with center.served() as log:
            for _ in range(2):
                web.done("center", "tell", center.address)
            in_step(primary)
            if is_behind:
                cut_off(primary, second)
            web.done("center", "tell", center.address)
            if not is_behind:
                in_step(primary)
            primary.kill()
            web.fails(15, "center", "tell", center.address)  # it stands still: nobody was promoted yet
            with closing(superuser(second)) as connection:
                connection.execute("SELECT pg_promote()")
            told = web.json("center", "tell", center.address)
            assert told["began_anew"] is is_behind
            assert web.json("center", "tell", center.address)["began_anew"] is False
        assert "Traceback" not in log.read_text()
        shown = center.command("show", "web1")
        assert (shown["reports"], shown["set_back_at"]) == (2 if is_behind else 6, None)


def in_step(primary: RunningServer) -> None:
    """Until the standby has all that the primary wrote."""
    with closing(superuser(primary)) as connection:
        until = time.monotonic() + 30
        while connection.execute(
            "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn = pg_current_wal_lsn()"
        ).fetchone() != (1,):
            assert time.monotonic() < until
            time.sleep(0.05)


def cut_off(primary: RunningServer, second: RunningServer) -> None:
    """The standby gets nothing more of what the primary writes."""
    with closing(superuser(second)) as connection:
        connection.execute("ALTER SYSTEM SET primary_conninfo = ''")
        connection.execute("SELECT pg_reload_conf()")
    with closing(superuser(primary)) as connection:
        until = time.monotonic() + 30
        while connection.execute("SELECT count(*) FROM pg_stat_replication").fetchone() != (0,):
            assert time.monotonic() < until
            time.sleep(0.05)


def test_a_database_that_takes_half_a_second_for_each_statement(
    tmp_path: Path, database: tuple[RunningServer, str]
) -> None:
    server, url = database
    center = new_center(tmp_path, url)
    with slow_way(server, 0.5) as folder:
        slow = Center(center.folder, f"postgresql://nightvault@/nightvault?host={folder}", center.authority)
        web = center.server("web1")
        with slow.served() as log:
            began = time.monotonic()
            assert web.json("center", "tell", slow.address)["number"] == 1
            assert 3 < time.monotonic() - began < 40
        assert log.read_text() == ""
    assert center.command("show", "web1")["reports"] == 1


def test_out_of_disk_is_a_later_again(tmp_path: Path, database: tuple[RunningServer, str]) -> None:
    server, url = database
    center = new_center(tmp_path, url)
    web, mail = center.server("web1"), center.identity("mail")
    with small_disk(server.folder / "small") as disk, closing(superuser(server, "nightvault")) as connection:
        connection.execute(f"CREATE TABLESPACE small LOCATION '{disk}'")
        for table in ("hosts", "chains", "days"):
            connection.execute(f"ALTER TABLE {table} SET TABLESPACE small")
        with center.served() as log:
            web.done("center", "tell", center.address)
            with suppress(OSError), open(disk / "filler", "wb", buffering=0) as filler:
                while True:
                    filler.write(bytes(4096))
            large = {"to": {"well": True, "text": os.urandom(150_000).hex()}}
            status, answer = center.send(mail, body_of(changes=large))
            assert (status, answer) == (503, {"error": "the center's database is away"})
            web.backup()  # a host goes on
            assert center.send(mail, body_of(changes=large))[0] == 503
            (disk / "filler").unlink()
            assert center.send(mail, body_of(changes=large)) == (200, {"taken": "new"})
            assert center.send(mail, body_of(changes=large)) == (200, {"taken": "again"})
            assert web.json("center", "tell", center.address)["number"] == 2
        assert "No space left on device" in log.read_text()
        assert "Traceback" not in log.read_text()
        assert {host["name"]: host["reports"] for host in center.command("list")["hosts"]} == {
            "web1": 2,
            "mail": 1,
        }
        server.kill()  # the disk is in use until then


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk of 8 MiB for whoever owns the folder that it is in; skipped where none can be mounted."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        owner = folder.parent.stat()
        os.chown(folder, owner.st_uid, owner.st_gid)
        folder.chmod(0o700)
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
