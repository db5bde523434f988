"""When something is wrong: one clear sentence, the documented exit code, no traceback, and nothing lost."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest

from tests.support.emulated import ACCOUNT_ID
from tests.support.local_account import BACKUP_ROLE
from tests.support.servers import (
    Cloud,
    HurryingClock,
    Server,
    assert_well,
    directory_server,
    replace,
    running_cloud,
)
from tests.support.trees import assert_same_tree

pytestmark = pytest.mark.no_cover  # many variants of what other tests reach, too

MIB = 1 << 20


class Impatient:
    """Real time, but a sleep is only written down."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> datetime:
        """The real time."""
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        """Do not wait."""
        self.slept.append(seconds)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running_cloud(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture
def server(tmp_path: Path) -> Server:
    made = directory_server(tmp_path)
    made.init()
    return made


@pytest.fixture
def remote(cloud: Cloud, tmp_path: Path) -> Server:
    made = cloud.server(tmp_path, vault=tmp_path.name, clock=HurryingClock(cloud.emulator))
    made.init()
    return made


def wait_until(seen: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# Config, inventory, locks, words.


def test_a_wrong_config_names_the_key(server: Server, tmp_path: Path) -> None:
    good = server.config.read_text()
    replace(server, 'kind = "directory"', 'kind = "directroy"')
    told = server.fails(2, "backup")
    assert "vault[1].kind: must be directory, glacier or s3" in told
    server.config.write_text(good + 'excludes = ["x"]\n')
    assert "did you mean" in server.fails(2, "backup")
    server.config.write_text(good)
    assert_well(server, tmp_path / "out")


def test_no_config_at_all(tmp_path: Path) -> None:
    assert str(tmp_path / "config.toml") in Server(tmp_path).fails(2, "backup")


@pytest.mark.parametrize(
    "words",
    [["backup"], ["snapshots"], ["ls", "latest"], ["runs"], ["vaults"], ["archives"], ["restores"],
     ["restore", "latest", "--target", "x"], ["restore", "resume", "x"], ["listing", "show"],
     ["key", "request"], ["key", "status"], ["backup", "--dry-run"], ["daemon"]],
)  # fmt: skip
def test_without_an_inventory_every_command_says_so(tmp_path: Path, words: list[str]) -> None:
    told = directory_server(tmp_path).fails(10, *words)
    assert "no inventory at" in told
    assert "nightvault init" in told
    assert not (tmp_path / "state" / "inventory.sqlite").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["backup", "nope"], "nope"),
        (["ls", "latest:relative"], "must be absolute"),
        (["ls", "feedface"], "no snapshot 'feedface'"),
        (["ls", "latest:/nope"], "has no /nope"),
        (["restore", "latest"], "--target"),
        (["restore", "latest:/nope", "--target", "x"], "/nope"),
        (["archives", "--vault", "nope"], "nope"),
        (["frobnicate"], "there is no command"),
        (["backup", "--frob"], "--frob"),
        (["key", "accept", "nope.json"], "cannot read nope.json"),
        (["demo", "--source", "/nope"], "/nope is not a directory"),
    ],
)
def test_words_that_do_not_fit(server: Server, words: list[str], told: str) -> None:
    server.backup()
    assert told in server.fails(2, *words)


def test_only_one_backup_at_a_time(server: Server, tmp_path: Path) -> None:
    (server.source / "large.bin").write_bytes(os.urandom(16 * MIB))
    with server.process("backup") as first:
        wait_until(lambda: server.json("runs"))
        wait_until(lambda: stops_between_writes(first, server.state / "inventory.sqlite"))
        told = server.fails(11, "backup")
        first.send_signal(signal.SIGCONT)
        assert "another backup is running" in told
        assert "the lock ends with the process" in told
        assert first.wait(60) == 0
    assert_same_tree(server.restore(tmp_path / "out"), server.source)


def stops_between_writes(process: subprocess.Popen[str], inventory: Path) -> bool:
    """Stop a process, unless it is writing to the inventory: then others would wait a minute for it."""
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    with closing(sqlite3.connect(inventory, timeout=0)) as database:
        try:
            database.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            process.send_signal(signal.SIGCONT)
            return False
    return True


# Signals.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_loses_and_repeats_nothing(
    cloud: Cloud, tmp_path: Path, number: signal.Signals
) -> None:
    server = cloud.server(tmp_path, vault=tmp_path.name, clock=HurryingClock(cloud.emulator))
    server.init()
    for name in range(24):
        (server.source / f"{name:02}.bin").write_bytes(os.urandom(MIB))
    replace(server, "[[vault]]\n", '[[vault]]\nupload_limit = "3MiB/s"\n')  # there is time for the signal
    with server.process("backup") as process:
        wait_until(lambda: any(archive["state"] == "stored" for archive in server.json("archives")))
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 130, err
    assert "stopping" in err
    told = ("the backup was stopped; what was uploaded", "stopped on request; what was sent")
    assert any(f"nightvault: job main: {source} is not " in err for source in told)
    assert "Traceback" not in err
    assert out == ""
    assert [run["outcome"] for run in server.json("runs")] == ["interrupted"]
    assert server.json("snapshots") == []

    sent = sum(archive["size"] for archive in server.json("archives") if archive["state"] == "stored")
    assert sent > 0
    replace(server, 'upload_limit = "3MiB/s"\n', "")
    report = server.backup()
    assert report["outcome"] == "done"
    assert report["bytes_uploaded"] < 26 * MIB - sent  # what was stored is not sent again
    assert_same_tree(server.restore(tmp_path / "out"), server.source)


# The identity and what AWS thinks of it.


def test_a_missing_certificate(remote: Server, tmp_path: Path) -> None:
    certificate = tmp_path / "identity" / "web1.pem"
    certificate.rename(tmp_path / "away")
    told = remote.fails(13, "backup")
    assert str(certificate) in told
    (tmp_path / "away").rename(certificate)
    assert_well(remote, tmp_path / "out")


def test_an_expired_certificate(remote: Server, tmp_path: Path) -> None:
    class Later(HurryingClock):
        def now(self) -> datetime:
            return super().now() + timedelta(days=400)

    clock, remote.clock = remote.clock, Later(remote.clock._emulator)  # type: ignore[attr-defined]
    told = remote.fails(13, "backup")
    assert "expired" in told
    assert "ca issue" in told
    remote.clock = clock
    assert_well(remote, tmp_path / "out")


def test_an_authority_that_aws_does_not_know(remote: Server, tmp_path: Path) -> None:
    remote.done("ca", "create", "--dir", tmp_path / "other", "--name", "Other CA")
    identity = tmp_path / "identity"
    identity.rename(tmp_path / "good")
    remote.done("ca", "issue", "web1", "--dir", tmp_path / "other", "--out", identity)
    told = remote.fails(14, "backup")
    assert "does not lead to the trust anchor" in told
    assert "is it the anchor made from the CA that issued the certificate" in told
    shutil.rmtree(identity)
    (tmp_path / "good").rename(identity)
    assert_well(remote, tmp_path / "out")


def test_a_role_that_the_profile_does_not_list(remote: Server, tmp_path: Path) -> None:
    replace(remote, f'role_arn = "{BACKUP_ROLE}"', f'role_arn = "{BACKUP_ROLE}-2"')
    told = remote.fails(14, "backup")
    assert "is not in the profile" in told
    assert "add the role to the profile" in told
    replace(remote, f"{BACKUP_ROLE}-2", BACKUP_ROLE)
    assert_well(remote, tmp_path / "out")


# The network, the disk, the vault.


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize("which", ["glacier", "anywhere"])
@pytest.mark.parametrize("words", [["backup"], ["vaults"], ["init"]])
def test_an_endpoint_that_does_not_answer(
    remote: Server, cloud: Cloud, tmp_path: Path, which: str, words: list[str]
) -> None:
    port = free_port()
    good, clock = remote.config.read_text(), Impatient()
    url = {"glacier": cloud.emulator.glacier_url, "anywhere": cloud.emulator.rolesanywhere_url}[which]
    replace(remote, f'endpoint = "{url}"', f'endpoint = "http://127.0.0.1:{port}"')
    remote.clock, before = clock, remote.clock
    if words == ["vaults"]:
        (vault,) = remote.json(*words, exit_code=15)
        told = vault["error"]
    else:
        told = remote.fails(15, *words)
    assert f"127.0.0.1:{port}" in told
    assert sum(clock.slept) < 60, clock.slept  # a first contact: seconds, not minutes
    remote.config.write_text(good)
    remote.clock = before
    assert_well(remote, tmp_path / "out")


def test_a_full_disk_in_the_spool(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    (server.source / "large.bin").write_bytes(os.urandom(8 * MIB))
    spool = server.state / "spool"
    mounted = os.system(f"mount -t tmpfs -o size=2m,mode=0700 tmpfs {spool} 2>/dev/null")
    if mounted != 0:
        pytest.skip("no small disk can be mounted here")
    try:
        told = server.fails(1, "backup")
    finally:
        assert os.system(f"umount {spool}") == 0
    assert "spool" in told
    assert "No space left" in told or "no space left" in told
    assert "nothing is lost" in told
    assert server.json("snapshots") == []
    assert_well(server, tmp_path / "out")


def test_a_directory_vault_that_vanished(server: Server, tmp_path: Path) -> None:
    server.backup()
    (tmp_path / "vault").rename(tmp_path / "away")
    (server.source / "new.txt").write_text("new")
    told = server.fails(1, "backup")
    assert str(tmp_path / "vault") in told
    assert not (tmp_path / "vault").exists()  # an unmounted disk is not replaced by a folder
    (vault,) = server.json("vaults")
    assert vault["exists"] is False
    server.fails(1, "restore", "latest", "--target", tmp_path / "no", "--key", server.key_file)
    (tmp_path / "away").rename(tmp_path / "vault")
    assert_well(server, tmp_path / "out")


def test_a_glacier_vault_that_was_deleted(remote: Server, cloud: Cloud, tmp_path: Path) -> None:
    with cloud.accounts.open("a") as file:
        file.write('[[account.key]]\naccess_key_id = "AKIAADMIN"\nsecret_access_key = "secret"\n')
    glacier = boto3.client(
        "glacier",
        region_name="eu-central-1",
        endpoint_url=cloud.emulator.glacier_url,
        aws_access_key_id="AKIAADMIN",
        aws_secret_access_key="secret",
    )
    glacier.delete_vault(accountId=ACCOUNT_ID, vaultName=tmp_path.name)
    told = remote.fails(1, "backup")
    assert tmp_path.name in told
    assert "nightvault init" in told
    (vault,) = remote.json("vaults")
    assert vault["exists"] is False
    remote.done("init")
    assert_well(remote, tmp_path / "out")


# Recovery keys, and entries that cannot be read.


def test_a_wrong_recovery_key(server: Server, tmp_path: Path) -> None:
    server.backup()
    server.done("key", "generate", "--out", tmp_path / "other.key")
    words = ("restore", "latest", "--target", tmp_path / "out")
    assert "key" in server.fails(12, *words, "--key", tmp_path / "other.key")
    assert "cannot read the key file" in server.fails(12, *words, "--key", tmp_path / "none.key")
    (tmp_path / "bad.key").write_text("NVK1-THIS-IS-NO-KEY\n")
    server.fails(12, *words, "--key", tmp_path / "bad.key")
    assert "--key" in server.fails(12, *words)
    assert not (tmp_path / "out").exists()
    assert server.json("restores", "--all") == []
    assert list((server.state / "restores").iterdir()) == []
    assert_same_tree(server.restore(tmp_path / "out"), server.source)


def test_a_source_that_is_not_there_is_partial(server: Server, tmp_path: Path) -> None:
    replace(server, f'sources = ["{server.source}"]', f'sources = ["{server.source}", "/nope all"]')
    result = server.run("backup")
    assert result.exit_code == 3
    assert "/nope all" in result.stderr
    (report,) = server.json("backup", exit_code=3)
    assert (report["outcome"], [problem["path"] for problem in report["problems"]]) == (
        "partial",
        ["/nope all"],
    )
    assert_same_tree(server.restore(tmp_path / "out"), server.source)


def test_a_restore_that_cannot_write_is_partial_and_says_what(server: Server, tmp_path: Path) -> None:
    server.backup()
    target = tmp_path / "out"
    (Path(str(target) + str(server.source)) / "a.txt").mkdir(parents=True)
    (Path(str(target) + str(server.source)) / "a.txt" / "mine").write_text("keep me")
    words = ("restore", "latest", "--target", target, "--key", server.key_file)
    result = server.run(*words)
    assert result.exit_code == 3, result.output
    assert "a.txt" in result.stderr
    assert "not everything could be restored" in result.stderr
    assert (Path(str(target) + str(server.source)) / "a.txt" / "mine").read_text() == "keep me"
