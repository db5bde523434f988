"""The doctor asks vaults: which vault it is, what its lock keeps, and what each role may do there."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from backup.app.doctor import examine
from backup.app.doctor.finding import DoctorContext, Finding
from backup.app.doctor.rights import roles_at_work
from backup.config import load_config
from tests.support.doubles import ManualClock
from tests.support.healthy_servers import HealthyServer, healthy_server
from tests.support.servers import Cloud, Server, running_cloud

OF_VAULTS = {"credentials", "vault", "identity", "vault-lock", "bucket", "role", "work", "check"}


@pytest.fixture
def healthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HealthyServer:
    return healthy_server(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running_cloud(tmp_path_factory.mktemp("cloud")) as made:
        yield made


@pytest.fixture(params=["glacier", "s3"])
def server(
    request: pytest.FixtureRequest, cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Server:
    return set_up(request.param, cloud, tmp_path, monkeypatch)


@pytest.fixture
def cold(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    return set_up("glacier", cloud, tmp_path, monkeypatch)


def set_up(kind: str, cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "home")
    made = cloud.server(tmp_path / "server", vault=f"asked-{os.urandom(4).hex()}", kind=kind)
    made.init()
    made.backup()
    if kind == "s3":
        rule: dict[str, Any] = {"ID": "x", "Status": "Enabled", "Filter": {"Prefix": ""}}
        rule["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": 7}
        name = load_config(str(made.config)).vaults[0].bucket
        cloud.admin("s3").put_bucket_lifecycle_configuration(
            Bucket=name, LifecycleConfiguration={"Rules": [rule]}
        )
    shutil.move(made.key_file, tmp_path / "recovery.key")
    return made


def findings(server: Server, *, fresh: bool = False) -> list[Finding]:
    report = examine(load_config(str(server.config)), server.clock, seconds=5, fresh=fresh)
    return [finding for finding in report.findings if finding.check in OF_VAULTS]


def told(server: Server, *, fresh: bool = False) -> dict[str, str]:
    """What is found, by kind."""
    return {finding.check: finding.what for finding in findings(server, fresh=fresh)}


ALWAYS = {
    "glacier": {"glacier:DescribeVault": 1, "glacier:GetVaultLock": 1, "glacier:DeleteArchive": 3},
    "s3": {
        "s3:ListBucket": 1,
        "s3:GetLifecycleConfiguration": 1,
        "s3:GetBucketVersioning": 1,
        "s3:DeleteObjectVersion": 3,
        "s3:DeleteObject": 1,  # in one request with one of these
    },
}
"""The requests of one look by a server with three roles, by the right that each needs."""
RETRIEVAL = {"glacier": {"glacier:InitiateJob": 1}, "s3": {"s3:RestoreObject": 1}}
UPLOAD = {
    "glacier": {"glacier:InitiateMultipartUpload": 1, "glacier:AbortMultipartUpload": 1},
    "s3": {"s3:PutObject": 1, "s3:AbortMultipartUpload": 1},
}
"""Those that are left out after nights that did the same."""


def test_what_it_asks_of_a_vault(server: Server, cloud: Cloud, tmp_path: Path) -> None:
    kind = load_config(str(server.config)).vaults[0].kind

    def asked(*, fresh: bool = False) -> Counter[str]:
        before = rights_asked(cloud)
        assert told(server, fresh=fresh) == {}
        return rights_asked(cloud) - before

    retrieval = Counter(ALWAYS[kind]) + Counter(RETRIEVAL[kind])
    assert asked() == retrieval, "the backup was a minute ago"
    server.run(*("restore", "latest", "--target", tmp_path / "out", "--key", tmp_path / "recovery.key"))
    assert asked() == Counter(ALWAYS[kind])
    everything = retrieval + Counter(UPLOAD[kind])
    assert asked(fresh=True) == everything
    os.utime(server.config, (time.time() + 1, time.time() + 1))  # it may name another role now
    assert asked() == everything


def test_what_worked_more_than_a_week_ago_is_tried(server: Server) -> None:
    def notes() -> str:
        return " ".join(examine(load_config(str(server.config)), server.clock, seconds=5).notes)

    assert "not tried, as it worked lately: an upload (20" in notes()
    assert "--fresh tries it" in notes()
    os.utime(server.config, (0, 0))
    with closing(sqlite3.connect(server.state / "inventory.sqlite")) as db, db:
        for days, is_tried in ((6, False), (8, True)):
            db.execute("UPDATE archives SET stored_at = ?", (int((time.time() - days * 86400) * 1e6),))
            db.commit()
            assert ("worked lately" not in notes()) is is_tried


def test_a_right_that_was_taken_away_since_is_seen_when_tried_anew(
    server: Server, cloud: Cloud, rights: Path
) -> None:
    whole = rights.read_text()
    kind = load_config(str(server.config)).vaults[0].kind
    action = next(iter(UPLOAD[kind]))
    write(rights, whole.replace(action, f"{kind}:Nothing"))
    assert told(server) == {}
    assert "backups are denied an upload" in told(server, fresh=True)["work"]
    write(rights, whole)


def rights_asked(cloud: Cloud) -> Counter[str]:
    """How often each right was needed until now."""
    found: Counter[str] = Counter()
    for request in cloud.emulator.asked():
        found[request["action"]] += request["allowed"] + request["refused"]
    return found


# Which vault.


def test_another_disk_is_another_vault(healthy: HealthyServer) -> None:
    place = healthy.server.folder / "vault"
    place.rename(healthy.server.folder / "right disk")
    other = HealthyServer(healthy.server, healthy.key)
    assert "vault" in other.found()
    text = healthy.server.config.read_text()
    healthy.server.config.write_text(
        text.replace('name = "cold"', 'name = "cold"').replace("/state", "/state2")
    )
    healthy.server.done("init", "--non-interactive", "--key-file", healthy.server.folder / "other.key")
    healthy.server.config.write_text(text)
    (healthy.server.folder / "other.key").unlink()
    (found,) = [finding for finding in healthy.findings() if finding.check == "identity"]
    assert "is another one than before" in found.what
    assert "nightvault vaults accept cold" in found.command
    shutil.rmtree(place)
    (healthy.server.folder / "right disk").rename(place)
    assert healthy.found() == set()


def test_what_to_do_about_a_vault_that_is_gone(healthy: HealthyServer) -> None:
    """`init` makes one that was never used, and no other."""
    place = healthy.server.folder / "vault"
    place.rename(healthy.server.folder / "unmounted")
    (found,) = [finding for finding in healthy.findings() if finding.check == "vault"]
    assert found.what.startswith("vault cold was ")
    assert found.what.endswith(f", and is not there: {place}")
    assert found.command.startswith("mount its disk, or find out what became of it")
    assert "`nightvault vaults accept cold` makes a new one" in found.command
    config = healthy.server.config.read_text()
    vault = f'\n[[vault]]\nname = "new"\nkind = "directory"\npath = "{place}-new"\n'
    healthy.server.config.write_text(config + vault)
    _, found = [finding for finding in healthy.findings() if finding.check == "vault"]
    assert found.what == f"vault new is not there: {place}-new"
    assert found.command.startswith("`nightvault init` makes it")
    healthy.server.config.write_text(config)
    shutil.move(healthy.server.state / "inventory.sqlite", healthy.server.folder / "lost.sqlite")
    (found,) = [finding for finding in healthy.findings() if finding.check == "vault"]
    assert (found.what, found.command) == (f"vault cold is not there: {place}", "nightvault init")


def test_a_vault_that_was_made_anew_is_another_one(server: Server, cloud: Cloud) -> None:
    assert told(server) == {}
    settings = load_config(str(server.config)).vaults[0]
    if settings.kind == "s3":
        admin = cloud.admin("s3")
        for line in admin.list_objects_v2(Bucket=settings.bucket).get("Contents", ()):
            admin.delete_object(Bucket=settings.bucket, Key=line["Key"])
    else:
        admin = cloud.admin("glacier")
        cloud.emulator.make_inventories()
        everything = json.loads(server.run("--json", "archives").stdout)
        for archive in everything:
            admin.delete_archive(vaultName=settings.vault, archiveId=archive["archive_id"])
        cloud.emulator.advance(86400)
        cloud.emulator.make_inventories()
        admin.delete_vault(vaultName=settings.vault)
        admin.create_vault(vaultName=settings.vault)
    assert "is another one than before" in told(server)["identity"]


# A lock.


def policy(days: int | None) -> str:
    condition: dict[str, Any] = {}
    if days is not None:
        condition = {"Condition": {"NumericLessThan": {"glacier:ArchiveAgeInDays": str(days)}}}
    statement = {"Sid": "keep", "Principal": "*", "Effect": "Deny", "Action": "glacier:DeleteArchive"}
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [{**statement, **condition, "Resource": "arn:aws:glacier:::x"}],
        }
    )


def locked(cloud: Cloud, server: Server, days: int | None) -> tuple[Any, str, str]:
    owner, name = cloud.admin("glacier"), load_config(str(server.config)).vaults[0].vault or ""
    arn = owner.describe_vault(vaultName=name)["VaultARN"]
    text = policy(days).replace("arn:aws:glacier:::x", arn)
    return owner, name, owner.initiate_vault_lock(vaultName=name, policy={"Policy": text})["lockId"]


@pytest.mark.parametrize(
    ("days", "sentence"),
    [
        (365, "its lock forbids to delete archives before they are 365 days old"),
        (90, None),  # which prunes wait for anyway
        (None, "its lock forbids to delete archives, whatever their age"),
    ],
)
def test_what_a_lock_keeps(cold: Server, cloud: Cloud, days: int | None, sentence: str | None) -> None:
    owner, name, lock_id = locked(cloud, cold, days)
    begun = {finding.what for finding in findings(cold) if finding.check == "vault-lock"}
    assert any("was begun and is not completed" in text for text in begun)
    owner.abort_vault_lock(vaultName=name)
    assert told(cold) == {}
    owner, name, lock_id = locked(cloud, cold, days)
    owner.complete_vault_lock(vaultName=name, lockId=lock_id)
    assert told(cold) == ({} if sentence is None else {"vault-lock": f"vault cold: {sentence}"})


# What roles may do.


@pytest.fixture
def rights(cloud: Cloud) -> Iterator[Path]:
    """The file of accounts, which is as before afterwards."""
    text = cloud.accounts.read_text()
    yield cloud.accounts
    write(cloud.accounts, text)


def write(path: Path, text: str) -> None:
    half = path.with_name("accounts.new")
    half.write_text(text)
    half.replace(path)


def of_roles(server: Server) -> list[Finding]:
    """What is found of roles alone."""
    return list(roles_at_work(DoctorContext(load_config(str(server.config)), server.clock, None, 5.0)))


WORK = {
    "glacier:InitiateMultipartUpload": "backups are denied an upload",
    "glacier:AbortMultipartUpload": "backups are denied an upload",
    "s3:PutObject": "backups are denied an upload",
    "glacier:InitiateJob": "restores are denied a retrieval",
    "s3:RestoreObject": "restores are denied a retrieval",
    "glacier:DeleteArchive": "prunes are denied DeleteArchive",
    "s3:DeleteObjectVersion": "prunes are denied DeleteObjectVersion",
}


def test_each_role_can_do_its_work(server: Server, cloud: Cloud, rights: Path) -> None:
    kind = load_config(str(server.config)).vaults[0].kind
    whole = rights.read_text()
    for action, sentence in WORK.items():
        if action.startswith(kind):
            assert action in whole
            write(rights, whole.replace(action, f"{kind}:Nothing"))
            (found,) = of_roles(server)
            assert sentence in found.what
            assert "nightvault aws policy --only " in found.command
    write(rights, whole)
    assert told(server) == {}
    uploads = open_uploads(server, cloud)
    assert uploads == ([1] if kind == "glacier" else []), "only the one that could not be given up"


def open_uploads(server: Server, cloud: Cloud) -> list[int]:
    """A one for each upload that was begun and not given up."""
    settings = load_config(str(server.config)).vaults[0]
    if settings.kind == "s3":
        return [
            1 for _ in cloud.admin("s3").list_multipart_uploads(Bucket=settings.bucket).get("Uploads", ())
        ]
    found = cloud.admin("glacier").list_multipart_uploads(vaultName=settings.vault)
    return [1 for _ in found["UploadsList"]]


def test_restores_that_may_delete_are_a_finding(server: Server, rights: Path) -> None:
    whole = rights.read_text()
    kind = load_config(str(server.config)).vaults[0].kind
    mine, its = ("glacier:GetJobOutput", "DeleteArchive") if kind == "glacier" else (None, None)
    if mine is None:
        mine, its = 's3:GetObjectVersion\\", \\"s3:RestoreObject', "DeleteObjectVersion"
    assert mine in whole
    write(rights, whole.replace(mine, f'{mine}\\", \\"{kind}:{its}'))
    found = {finding.what for finding in of_roles(server)}
    assert any(f"the role of restores may delete ({its})" in text for text in found)
    write(rights, whole)
    assert of_roles(server) == []


def test_a_directory_that_may_not_be_written_is_a_finding(healthy: HealthyServer) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    place = healthy.server.folder / "vault"
    for path in [place, *place.iterdir()]:
        if path.is_dir():
            path.chmod(0o500)
    assert "check" in healthy.found()
    for path in [place, *place.iterdir()]:
        if path.is_dir():
            path.chmod(0o700)
    assert healthy.found() == set()


def test_a_vault_that_is_away_is_asked_once(cold: Server) -> None:
    text = cold.config.read_text()
    old = text.split('kind = "glacier"')[1].split('endpoint = "')[1].split('"')[0]
    cold.config.write_text(text.replace(old, "http://127.0.0.1:9"))
    report = examine(load_config(str(cold.config)), cold.clock, seconds=5)
    assert {finding.check for finding in report.findings} & OF_VAULTS == {"credentials", "vault"}
    assert len([request for request in report.requests if "vault cold" in request]) == 1
    cold.config.write_text(text)
    assert told(cold) == {}


# A drill of a rebuild.


def test_a_rebuild_that_nobody_tried_is_a_finding(healthy: HealthyServer) -> None:
    clock = healthy.server.clock
    assert isinstance(clock, ManualClock)
    clock.advance(timedelta(days=91))
    (found,) = [finding for finding in healthy.findings() if finding.check == "rebuild-drill"]
    assert found.command == "nightvault rebuild --dry-run --vault cold --key FILE"
    healthy.server.done("rebuild", "--dry-run", "--key", healthy.key)
    assert "rebuild-drill" not in healthy.found()
    assert healthy.server.run("--json", "status").stdout.count('"rebuild_drilled_at":"2026-') == 1
    clock.advance(timedelta(days=399))
    assert "rebuild-drill" not in healthy.found()
    clock.advance(timedelta(days=2))
    assert "rebuild-drill" in healthy.found()
