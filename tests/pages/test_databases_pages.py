"""docs/databases-and-containers.md on a real server, as it stands; configs and commands of its neighbours."""

from __future__ import annotations

import shlex
import shutil
import signal
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from backup.config import config_of
from backup.databases.dumps import engine_of
from backup.databases.engine import GLOBALS
from backup.databases.server import Server
from tests.pages.machine import Machine
from tests.pages.page import RUN, SHOWN, Block, blocks_of
from tests.pages.scenes import DIRECTORY, run, write_config
from tests.support.command_line import parsed
from tests.support.database_servers import newest_postgresql
from tests.support.emulated import REPOSITORY
from tests.support.podman import Podman, needs_podman, podman_service

DOCS = REPOSITORY / "docs"
PAGE = DOCS / "databases-and-containers.md"
PROGRAMS = newest_postgresql()
CONFIG = "/etc/nightvault/config.toml"
JOB = '[[job]]\nname = "it"\nvault = "cold"\n'


@contextmanager
def going_by_peer(folder: Path) -> Iterator[Path]:
    """A server of PostgreSQL as Debian has it, of `postgres`, asked by `peer`; where its socket is."""
    shutil.chown(folder, "postgres", "postgres")
    who: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": [], "cwd": "/"}
    made = [f"{PROGRAMS}/initdb", "--auth=peer", "--no-sync", "-D", f"{folder}/data"]
    subprocess.run(made, check=True, capture_output=True, **who)
    words = [f"{PROGRAMS}/postgres", "-D", f"{folder}/data", "-k", str(folder), "-c", "listen_addresses="]
    with open(folder / "log", "wb") as log, subprocess.Popen(words, stdout=log, stderr=log, **who) as server:
        try:
            ends = time.monotonic() + 60
            while subprocess.run([f"{PROGRAMS}/pg_isready", "-q", "-h", folder], check=False).returncode:
                assert time.monotonic() < ends, (folder / "log").read_text()
                time.sleep(0.1)
            yield folder
        finally:
            server.send_signal(signal.SIGINT)


@contextmanager
def the_server(folder: Path) -> Iterator[tuple[Machine, Podman, Path]]:
    """The page's machine: with two databases, two containers, and a night that is over."""
    machine = Machine.create(folder)
    machine.use_forks()
    write_config(machine, DIRECTORY)
    shutil.copytree("/etc/pam.d", machine.place("/etc/pam.d"))  # runuser asks it
    config = machine.place(CONFIG)
    config.write_text(config.read_text().replace('"cold"', '"backups"'))
    with (
        podman_service(folder / "podman") as podman,
        tempfile.TemporaryDirectory(prefix="nv-db-", dir="/tmp") as name,
        going_by_peer(Path(name)) as socket,
    ):
        client = machine.folder / "bin" / "podman"
        client.write_text(f'#!/bin/sh\nexec {shutil.which("podman")} --remote --url {podman.address} "$@"\n')
        client.chmod(0o755)
        machine.environment["PATH"] = f"{machine.folder}/bin:{PROGRAMS}:{machine.environment['PATH']}"
        machine.environment |= {"PGHOST": str(socket), "PAGER": "cat"}
        labels = dict(line.split("#")[0].strip().replace('"', "").split(": ") for line in labels_of_page())
        (podman.volume("wiki_files") / "page").write_text("a page")
        podman.run("wiki", "wiki_files:/files", labels=labels)
        podman.volume("wiki_db")
        podman.run_postgresql("wiki_db", "wiki_db", PROGRAMS)
        yield machine, podman, socket


def labels_of_page() -> list[str]:
    """The lines of labels in the compose file."""
    (compose,) = (block.text for block in blocks_of(PAGE) if block.language == "yaml")
    return [line for line in compose.splitlines() if line.strip().startswith("nightvault.")]


FIRST = """\
runuser -u postgres -- createdb shop
runuser -u postgres -- psql -qc 'CREATE TABLE orders AS SELECT * FROM generate_series(1, 1000) AS number' shop
podman exec wiki_db createdb -U postgres wiki
podman exec wiki_db psql -qU postgres -c 'CREATE TABLE pages AS SELECT 7 AS number' wiki
nightvault init --key-file recovery.key
"""
LOST = """\
podman exec wiki_db psql -qU postgres -c 'UPDATE pages SET number = 8' wiki
"""
LAST = """\
echo "orders: $(runuser -u postgres -- psql -Atc 'SELECT count(*) FROM orders' shop)"
echo "pages: $(podman exec wiki_db psql -U postgres -Atc 'SELECT number FROM pages' wiki)"
"""


@pytest.mark.real
@pytest.mark.slow
@needs_podman
@pytest.mark.skipif(PROGRAMS is None, reason="PostgreSQL is not installed")
def test_every_command_of_the_page(tmp_path: Path) -> None:
    blocks = [block for block in blocks_of(PAGE) if block.language != "yaml"]
    with the_server(tmp_path) as (machine, podman, socket):
        given = []
        for block in blocks:
            text = block.text.replace("unix:///run/podman/podman.sock", podman.address)
            text = text.replace("/run/postgresql", str(socket))
            if block.language == "toml":
                text = f"cat >> {CONFIG} <<'END'\n\n{text}END\n"
            given.append(replace(block, language=RUN, text=text))
        place = next(at for at, block in enumerate(given) if block.section.startswith("3."))
        given.insert(place, Block(RUN, LOST, "", 0))
        place = next(at for at, block in enumerate(given) if block.section.startswith("4."))
        files = podman.done("volume", "inspect", "--format", "{{.Mountpoint}}", "wiki_files")
        given.insert(place, Block(RUN, f"rm {files}/page\n", "", 0))
        ended = run(machine, [Block(RUN, FIRST, "", 0), *given, Block(RUN, LAST, "", 0)])
        assert ended.failures == [], (ended.failures, ended.output)
        assert (Path(files) / "page").read_text() == "a page"
        assert podman.running() == {"wiki", "wiki_db"}
    assert "\njob databases: postgresql/all to backups, daily at 02:00" in ended.output, ended.output
    assert "\njob containers: postgresql/wiki, volumes of containers to backups" in ended.output
    assert "\n1000\n" in ended.output
    assert "\norders: 1000\npages: 7\n" in ended.output, ended.output
    assert "  loaded postgresql shop: 1 table, 1,000 rows\n" in ended.output
    assert "all of it is as it was saved" in ended.output


@pytest.mark.parametrize("name", ["databases.md", "repositories.md", "databases-and-containers.md"])
def test_configs_and_commands_of_a_page(name: str, tmp_path: Path) -> None:
    """Its blocks of TOML, together, are a config; what it shows of ours are commands."""
    vault = '[[vault]]\nname = "{name}"\nkind = "directory"\npath = "/mnt/{name}"\n'
    text = vault.format(name="cold") + vault.format(name="backups")
    for block in blocks_of(DOCS / name):
        if block.language == "toml":
            is_below = block.text.startswith("[[job.")
            text += f"{JOB if is_below else ''}{block.text}"
        elif block.language == SHOWN:
            for line in block.text.splitlines():
                if line.startswith("$ nightvault "):
                    parsed(shlex.split(line, comments=True)[2:])
    assert config_of(tomllib.loads(text), str(tmp_path / "config.toml")).jobs


def test_the_table_of_databases_says_what_is_run() -> None:
    """Each word of its commands is one of those that `config show` prints."""
    rows = [line.split("|") for line in (DOCS / "databases.md").read_text().splitlines() if line[:3] == "| `"]
    told = {words[1].strip(" `"): words[2].strip(" `") for words in rows if words[2].strip().startswith("`")}
    for kind in ("postgresql", "mariadb", "redis"):
        words = engine_of(Server(kind=kind)).shown("shop")
        assert set(told[kind].split()) <= set(words), kind
    globals_ = {words[1].strip(" `"): words[3].partition("`: ")[0].strip(" `") for words in rows}
    for kind in ("postgresql", "mariadb"):
        assert set(globals_[kind].split()) <= set(engine_of(Server(kind=kind)).shown(GLOBALS)), kind
