"""Databases of a job: each a stream of its own, whole or yesterday's, and no password where others see it."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest

from backup.inventory.content.dumps import dump_of
from backup.inventory.content.entries import entry_at
from backup.inventory.store.database import open_inventory
from tests.databases.fake_clients import Clients
from tests.support.doubles import ManualClock
from tests.support.notified_servers import notified_server
from tests.support.pages import Page, running_page
from tests.support.processes import watching
from tests.support.servers import Server, directory_server

CLIENTS = {f"environ: {name}" for name in ("psql", "pg_dump", "pg_dumpall", "pg_restore")}
SHOP = "/.streams/databases/postgresql/shop.dump"


@pytest.fixture
def clients(tmp_path: Path) -> Clients:
    return Clients(tmp_path / "clients")


@pytest.fixture
def server(tmp_path: Path, clients: Clients) -> Server:
    made = directory_server(tmp_path / "server")
    made.init()
    saving(made, clients.section('name = "all"'))
    return made


def saving(server: Server, section: str) -> None:
    """Have the job save what a section says."""
    text = server.config.read_text().partition("\n[[job.database]]")[0]
    server.config.write_text(text + section)


def dumped(server: Server, path: str = SHOP, snapshot: str = "latest") -> str:
    """What a snapshot has of a dump."""
    found = server.done("dump", f"{snapshot}:{path}", "--key", server.key_file)
    return found.stdout


def names(server: Server) -> list[str]:
    """The dumps of the newest snapshot."""
    rows = server.json("find", "*.dump") + server.json("find", "*.sql")
    return sorted(row["path"] for row in rows)


def test_all_databases_are_streams_of_their_own_and_roles_come_first(
    server: Server, clients: Clients
) -> None:
    clients.has("shop", "a'b;$(x)\n")
    report = server.backup()
    assert (report["outcome"], report["problems"]) == ("done", [])
    folder = "/.streams/databases/postgresql"
    assert names(server) == [f"{folder}/a%27b%3B%24%28x%29%0A.dump", f"{folder}/globals.sql", SHOP]
    assert dumped(server) == "PGDMP of shop\na row\n"
    assert dumped(server, f"{folder}/a%27b%3B%24%28x%29%0A.dump").startswith("PGDMP of dbname='a\\'b;$(x)\n'")
    assert len(server.json("versions", SHOP)) == 1


def test_what_is_known_of_a_dump_lies_beside_it_and_a_rebuild_brings_it_back(
    server: Server, clients: Clients, tmp_path: Path
) -> None:
    saving(server, clients.section('name = "shop"', 'exclude_tables = ["log_*"]'))
    server.backup()

    def known() -> tuple[object, ...]:
        inventory = open_inventory(
            f"sqlite:///{server.state}/inventory.sqlite", lock_directory=str(server.state)
        )
        with inventory.reading() as tx:
            entry = entry_at(tx, 1, SHOP.encode(), 1)
            assert entry is not None
            found = dump_of(tx, entry.number)
        inventory.close()
        assert found is not None
        return found.engine, found.database, found.version, found.charset, found.back, found.tables

    back = ["pg_restore", "--exit-on-error", "--dbname=shop"]
    before = ("postgresql", "shop", "17.2", "UTF8", back, [("public.orders", 41, 41)])
    assert known() == before
    server.state.rename(tmp_path / "gone")
    server.done("rebuild", "--vault", "cold", "--key", server.key_file, "--wait")
    assert known() == before


FAILURES = {
    "fails": (
        "sys.exit('pg_dump: error: disk full')",
        "pg_dump ended with status 1: pg_dump: error: disk full",
    ),
    "empty": ("sys.exit()", "pg_dump printed nothing"),
    "killed": ("sys.stdout.write('PGDMP'); sys.stdout.flush(); os.kill(os.getpid(), 9)", "signal 9"),
    "no dump": ("print('Welcome!'); sys.exit()", "what came is no dump: it begins otherwise"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_dump_that_fails_leaves_yesterday_s_and_the_others_go_on(
    server: Server, clients: Clients, failure: str
) -> None:
    clients.has("accounts", "shop")
    server.backup()
    clients.holds("another row\n")
    how, words = FAILURES[failure]
    clients.dumps(f"if name == 'accounts': {how}")
    result = server.run("--json", "backup", "main")
    assert result.exit_code == 3, result.output
    assert words in result.stdout
    assert dumped(server) == "PGDMP of shop\nanother row\n"
    assert dumped(server, SHOP.replace("shop", "accounts")) == "PGDMP of accounts\na row\n"


def test_roles_that_end_early_are_named(server: Server, clients: Clients) -> None:
    (clients.folder / "pg_dumpall").write_text("#!/bin/sh\necho 'CREATE ROLE app;'\n")
    result = server.run("--json", "backup", "main")
    assert (result.exit_code, "the dump ended early" in result.stdout) == (3, True)
    assert dumped(server) == "PGDMP of shop\na row\n"


def test_a_server_that_is_away_is_named_and_the_files_are_saved(server: Server, clients: Clients) -> None:
    server.backup()
    (clients.folder / "psql").write_text("#!/bin/sh\necho 'connection refused' >&2\nexit 2\n")
    result = server.run("--json", "backup", "main")
    assert result.exit_code == 3
    assert "psql ended with status 2: connection refused" in result.stdout
    assert dumped(server) == "PGDMP of shop\na row\n"
    for name in ("psql", "pg_dump", "pg_dumpall"):
        (clients.folder / name).unlink()
    result = server.run("--json", "backup", "main")
    assert (result.exit_code, "No such file or directory" in result.stdout) == (3, True)
    assert "there is no program" in server.done("config", "check").stderr


def test_a_wrong_password_is_told_and_not_shown(server: Server, clients: Clients) -> None:
    clients.password_file.write_text("secret-of-mine")
    text = '#!/bin/sh\necho "psql: no entry with password $PGPASSWORD" >&2\nexit 2\n'
    (clients.folder / "psql").write_text(text)
    result = server.run("--json", "backup", "main")
    assert (result.exit_code, "no entry with password ***" in result.stdout) == (3, True)
    assert "secret-of-mine" not in result.output
    clients.password_file.unlink()
    assert "cannot be read" in server.run("--json", "backup", "main").stdout


def test_commands_are_run_around_each_dump(server: Server, clients: Clients, tmp_path: Path) -> None:
    noted = tmp_path / "noted"
    hooks = [f'{when} = ["/bin/sh", "-c", "echo {when} >> {noted}"]' for when in ("before", "after")]
    saving(server, clients.section('name = "shop"', "[job.database.hooks]", *hooks))
    clients.dumps(f"open({str(noted)!r}, 'a').write(name + chr(10))")
    assert server.backup()["outcome"] == "done"
    assert noted.read_text().split() == ["before", "shop", "after"]
    saving(
        server, clients.section('name = "shop"', "[job.database.hooks]", 'before = ["/bin/false"]', hooks[1])
    )
    result = server.run("--json", "backup", "main")
    assert (result.exit_code, "/bin/false ended with status 1" in result.stdout) == (3, True)
    assert noted.read_text().split()[3:] == ["after"]


def test_clients_are_run_in_a_container(
    server: Server, clients: Clients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the words of `docker exec`, with the name of the variable that has the password, not its value."""
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\nshift 6\n[ "$1" = db ] || exit 9\nshift\nexec "$@"\n'
    )
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", str(docker.parent), prepend=":")
    saving(server, clients.section('name = "shop"', 'container = "db"', 'run_as = "postgres"'))
    assert server.backup()["outcome"] == "done"
    asked = (tmp_path / "asked").read_text().splitlines()
    assert {line.partition(" db ")[0] for line in asked} == {
        "exec --interactive --user postgres --env PGPASSWORD"
    }
    assert dumped(server) == "PGDMP of shop\na row\n"


def test_nobody_sees_the_password(clients: Clients, tmp_path: Path) -> None:
    """On no command line, in no environment but those of the clients, in nothing that is kept or told."""
    with notified_server(tmp_path / "server", ManualClock()) as notified:
        notified.configure('told = ["failed"]', "")
        server = notified.server
        saving(server, clients.section('name = "all"'))
        clients.dumps("time.sleep(0.6)")
        again = ("restore", "--database", "shop", "--as", "other", "--key", server.key_file)
        with watching(clients.password) as seen:
            server.backup()
            server.done(*again)
        assert {"environ: psql", "environ: pg_dump", "environ: pg_restore"} <= seen <= CLIENTS
        refuse = "sys.exit('no entry with password ' + os.environ['PGPASSWORD'])"
        clients.dumps(refuse)
        server.json("backup", "main", exit_code=3)
        server.fails(1, *again)
        server.done("config", "show")
        server.run("status")
        told = [*server.printed, *(mail.as_string() for mail in notified.mail.mails)]
        told += [request.body.decode() for request in (*notified.hook.taken, *notified.ping.taken)]
        with running_page(server) as page:
            told += pages(page)
    for place in (server.printed, map(str, notified.mail.mails), told[-100:]):
        assert any("no entry with password ***" in text for text in place)
    assert not [text for text in told if clients.password in text]
    files = [path for path in server.folder.rglob("*") if path.is_file()]
    assert not [path for path in files if clients.password.encode() in path.read_bytes()]


def pages(page: Page) -> list[str]:
    """Every page that the first one leads to."""
    client = page.login()
    found: dict[str, str] = {}
    wanted = ["/"]
    while wanted and len(found) < 100:
        path = wanted.pop()
        found[path] = client.get(path).text
        links = map(unescape, re.findall(r'href="(/[^"#]*)', found[path]))
        wanted += [link for link in links if link not in found and link not in wanted]
    return list(found.values())


def test_config_show_prints_what_is_run(server: Server, clients: Clients) -> None:
    saving(server, clients.section('name = "shop"', 'exclude_tables = ["log_*"]', 'host = "/run/postgresql"'))
    assert ", postgresql/shop to cold, every 6h" in server.done("config", "check").stdout
    shown = server.done("config", "show").stdout
    words = "--host=/run/postgresql --no-password --format=custom --compress=0"
    left_out = "'--exclude-table=*.\"log_\"*'"
    assert f"# runs: {clients.folder}/pg_dump {words} {left_out} --dbname=shop" in shown.splitlines()
    assert server.json("config", "show")["dumps"] == {
        "job[1]": [[f"{clients.folder}/pg_dump", *words.split(), left_out.strip("'"), "--dbname=shop"]]
    }
    assert server.json("backup", "main", "--dry-run", "--list")
