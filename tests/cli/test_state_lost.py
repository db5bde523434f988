"""State that is lost, closed to this user, or read-only; `init` where a vault holds backups."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backup.inventory.store.database import open_inventory
from tests.support.servers import SCRIPT, Cloud, Server, directory_server, running_cloud
from tests.support.users import AS_NOBODY
from tests.support.without_coverage import unmeasured


@pytest.fixture
def server(tmp_path: Path) -> Server:
    made = directory_server(tmp_path)
    made.init()
    made.backup()
    return made


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running_cloud(tmp_path_factory.mktemp("cloud")) as made:
        yield made


def lose(server: Server) -> None:
    shutil.rmtree(server.state)


def test_lost_state_names_rebuild(server: Server) -> None:
    """The advice "run init first" is what docs/server-gone.md forbids."""
    lose(server)
    for words in (["snapshots"], ["backup"], ["restore", "latest", "--target", server.folder / "out"]):
        told = server.fails(10, *words)
        assert "nightvault rebuild" in told
        assert "do not" in told


def test_lost_state_is_told_once(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing of metrics and messages that nobody could write without it either."""
    with server.config.open("a") as config:
        config.write('[monitoring]\nmetrics_file = "nightvault.prom"\n')
    lose(server)
    told = server.fails(10, "backup")
    assert told.count("no inventory at") == 1
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_what_else_metrics_and_messages_fail_by_is_told(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with server.config.open("a") as config:
        config.write('[monitoring]\nmetrics_file = "nightvault.prom"\n')
    (server.state / "inventory.sqlite").write_bytes(b"no database" * 1000)
    server.fails(1, "backup")
    assert "the metrics were not written: " in caplog.text
    assert "no message could be recorded: " in caplog.text


def test_init_stops_at_a_directory_with_catalogs(server: Server) -> None:
    """A second, empty history beside the old one is only begun when somebody says so."""
    lose(server)
    told = server.fails(1, "init", "--key-file", server.folder / "another.key")
    assert "vault cold is not empty" in told
    assert "nightvault rebuild" in told
    assert "--new-history" in told
    assert not server.state.exists()
    assert not (server.folder / "another.key").exists()
    assert server.json("init", "--key-file", server.folder / "x.key", exit_code=1)["error"]["kind"] == (
        "occupied-vault"
    )
    server.done("init", "--new-history", "--key-file", server.folder / "another.key")
    server.done("init")  # as its inventory is there now, nothing is asked again
    server.backup()


def test_init_without_vaults_looks_all_the_same(server: Server) -> None:
    """--no-vaults makes none, but those that are there are looked at."""
    lose(server)
    server.fails(1, "init", "--no-vaults", "--key-file", server.folder / "another.key")


def test_init_goes_on_where_an_empty_vault_is(server: Server) -> None:
    """An empty vault stops nobody."""
    lose(server)
    shutil.rmtree(server.folder / "vault")
    (server.folder / "vault").mkdir()
    server.done("init", "--key-file", server.folder / "another.key")


@pytest.mark.parametrize("kind", ["glacier", "s3"])
def test_init_stops_at_a_vault_in_aws(cloud: Cloud, tmp_path: Path, kind: str) -> None:
    """A Glacier vault counts its archives, a bucket lists its catalogs."""
    server = cloud.server(tmp_path, vault=f"occupied-{kind}", kind=kind)
    server.init()
    server.backup()
    lose(server)
    if kind == "glacier":  # nothing tells of what was never counted
        cloud.emulator.make_inventories()
    told = server.fails(1, "init", "--key-file", tmp_path / "another.key")
    assert "is not empty" in told
    assert "nightvault rebuild" in told


def as_nobody(server: Server, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*AS_NOBODY, SCRIPT, "--config", str(server.config), *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env={**unmeasured(), "HOME": "/nonexistent"},
    )


@pytest.fixture
def open_server() -> Iterator[Server]:
    """A server in a folder that everybody may enter."""
    folder = Path(tempfile.mkdtemp(prefix="nightvault-test-"))
    folder.chmod(0o755)
    made = directory_server(folder)
    made.init()
    made.backup()
    yield made
    shutil.rmtree(folder)


@pytest.mark.usefixtures("nobody")
def test_a_closed_state_says_permission_denied(open_server: Server) -> None:
    """What cannot be looked at is not "no inventory", and nobody is sent to `init`."""
    open_server.state.chmod(0o700)
    for words in (["snapshots"], ["backup"], ["daemon"], ["init"]):
        ended = as_nobody(open_server, *words)
        assert ended.returncode == 1, ended.stderr
        assert "permission denied" in ended.stderr
        assert "init` first" not in ended.stderr
    open_server.state.chmod(0o755)
    (open_server.state / "inventory.sqlite").chmod(0o600)
    ended = as_nobody(open_server, "snapshots")
    assert (ended.returncode, "permission denied" in ended.stderr) == (1, True)


@pytest.mark.usefixtures("nobody")
def test_a_closed_config_says_permission_denied(open_server: Server) -> None:
    """A config that cannot be looked at is there all the same."""
    hidden = open_server.folder / "etc"
    hidden.mkdir(mode=0o700)
    open_server.config.rename(hidden / "config.toml")
    words = [*AS_NOBODY, SCRIPT, "--config", str(hidden / "config.toml"), "snapshots"]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "permission denied" in ended.stderr


# A state that can be read, no more.

LOOKS: list[list[Any]] = [
    ["snapshots"],
    ["ls", "-r", "latest"],
    ["find", "a.txt"],
    ["runs"],
    ["restores"],
    ["archives"],
    ["check", "--inventory"],
    ["restore", "latest", "--target", "/nonexistent", "--dry-run"],
]


@pytest.mark.usefixtures("nobody")
def test_a_read_only_state_can_be_looked_at(open_server: Server) -> None:
    """Everything that only looks works; what writes says why it cannot."""
    for path in (open_server.state, *open_server.state.rglob("*"), open_server.source):
        path.chmod(0o755 if path.is_dir() else 0o644)
    for words in LOOKS:
        ended = as_nobody(open_server, *words)
        assert ended.returncode == 0, (words, ended.stderr)
    ended = as_nobody(open_server, "backup")
    assert ended.returncode == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "Permission denied" in ended.stderr or "only be read" in ended.stderr
    assert not list(open_server.state.glob("*-shm"))


@pytest.mark.usefixtures("nobody")
def test_a_read_only_state_of_a_crashed_writer_is_looked_at_whole(open_server: Server) -> None:
    """Changes that SQLite has not merged yet are not passed over."""
    folder, database = open_server.state, open_server.state / "inventory.sqlite"
    writer = open_inventory(f"sqlite:///{database}", lock_directory=str(folder))
    with writer.writing() as tx:
        tx.connection.execute("UPDATE snapshots SET host = 'from-the-log'")
    log = (folder / "inventory.sqlite-wal").read_bytes()
    base = database.read_bytes()
    writer.close()
    for path in folder.glob("inventory.sqlite*"):
        path.unlink()
    database.write_bytes(base)
    (folder / "inventory.sqlite-wal").write_bytes(log)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    ended = as_nobody(open_server, "--json", "snapshots")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)[0]["host"] == "from-the-log"
