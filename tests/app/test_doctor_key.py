"""The doctor and a recovery key: whether it opens the newest catalogs, without paying for a retrieval."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from backup.app.base.opened import opened
from backup.app.doctor import Report, recovery
from backup.format.keys import RecoveryKey, parse_key_file
from backup.inventory.content import archives
from backup.inventory.content.archives import Archive
from backup.inventory.records import runs
from backup.model import JobName
from tests.support.healthy_servers import HealthyServer, healthy_server
from tests.support.servers import Cloud, running_cloud

OTHER = RecoveryKey.from_seed(b"o" * 32)


@pytest.fixture
def healthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HealthyServer:
    return healthy_server(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running_cloud(tmp_path_factory.mktemp("cloud")) as made:
        yield made


def in_cloud(
    cloud: Cloud, folder: Path, monkeypatch: pytest.MonkeyPatch, *, vault: str, kind: str
) -> HealthyServer:
    """A server with a vault in AWS, and one backup."""
    (folder / "home").mkdir()
    monkeypatch.setenv("HOME", str(folder / "home"))
    monkeypatch.chdir(folder / "home")
    server = cloud.server(folder / "server", vault=vault, kind=kind)
    server.init()
    server.backup()
    return HealthyServer(server, Path(shutil.move(server.key_file, folder / "recovery.key")))


def key_of(healthy: HealthyServer) -> RecoveryKey:
    return parse_key_file(healthy.key.read_bytes())


def newest_catalog(healthy: HealthyServer) -> Archive:
    with closing(opened(healthy.config)) as inventory, inventory.reading() as tx:
        job = runs.find_job(tx, JobName("main"))
        assert job is not None
        return archives.stored_catalogs(tx, job.number, inventory.id)[-1][0]


def kinds(report: Report) -> set[str]:
    return {finding.check for finding in report.findings}


def of_the_key(notes: Sequence[str]) -> list[str]:
    """Without the note on the disk, which these vaults share with their sources."""
    return [note for note in notes if "lies on one file system" not in note]


def test_the_right_key_opens_what_the_vault_gives(healthy: HealthyServer) -> None:
    before = left_over()
    document = healthy.server.json("doctor", "--key", healthy.key)
    assert document["findings"] == []
    assert of_the_key(document["notes"]) == [
        "the recovery key opens the newest catalog of job main, read back from vault cold"
    ]
    assert document["requests"] == []
    assert {"the key given", "the newest catalog"} <= set(document["looked_at"])
    assert left_over() <= before, "nothing stays"


def left_over() -> set[str]:
    return {path.name for path in Path(tempfile.gettempdir()).glob("nightvault-doctor-*")}


def test_another_key_is_a_finding_also_offline(healthy: HealthyServer) -> None:
    for offline in (False, True):
        report = healthy.examined(keys=[OTHER], offline=offline)
        (found,) = report.findings
        assert found.check == "key"
        assert found.what.startswith("the recovery key does not open the newest catalog of job main: ")
        assert found.why
        assert "nightvault key status" in found.command
    assert healthy.examined(keys=[OTHER, key_of(healthy)]).findings == []
    offline_notes = healthy.examined(keys=[key_of(healthy)], offline=True).notes
    assert of_the_key(offline_notes) == [
        "the recovery key was tried with the headers of catalogs alone, because of --offline"
    ]
    (healthy.server.state / "inventory.sqlite").unlink()
    assert of_the_key(healthy.examined(keys=[OTHER]).notes) == [
        "the recovery key was not tried, as the inventory cannot be read"
    ]


def test_a_catalog_that_was_changed_in_the_vault_or_is_gone(healthy: HealthyServer) -> None:
    name = newest_catalog(healthy).archive_id
    (path,) = (file for file in (healthy.server.folder / "vault").rglob("*") if file.name == name)
    whole = path.read_bytes()
    half = len(whole) // 2
    for spoiled in (whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:], whole[:half], None):
        path.unlink()
        if spoiled is not None:
            path.write_bytes(spoiled)
        (found,) = healthy.examined(keys=[key_of(healthy)]).findings
        assert found.check == "key"
        assert found.what.startswith("cannot open the newest catalog of job main in vault cold: ")
        assert found.command == "nightvault check --vault cold"
    path.write_bytes(whole)
    assert healthy.examined(keys=[key_of(healthy)]).findings == []


def test_a_large_catalog_is_not_read_back(healthy: HealthyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "LARGEST", 1000)
    report = healthy.examined(keys=[key_of(healthy)])
    assert report.findings == []
    (note,) = of_the_key(report.notes)
    assert "was not read back: it has 64.0 KiB" in note


def test_a_bucket_keeps_catalogs_readable_and_is_read(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = in_cloud(cloud, tmp_path, monkeypatch, vault=f"bucket-{os.urandom(4).hex()}", kind="s3")
    report = healthy.examined(keys=[key_of(healthy)])
    assert "key" not in kinds(report)
    assert report.notes[2:] == [
        "the recovery key opens the newest catalog of job main, read back from vault cold"
    ]
    assert "not tried, as it worked lately: an upload" in report.notes[1]
    assert sum("GetObject" in request for request in report.requests) == 1
    bucket = healthy.config.vaults[0]
    name = f"{bucket.prefix}{newest_catalog(healthy).archive_id}"
    client = cloud.admin("s3")
    client.delete_object(Bucket=bucket.bucket, Key=name)
    assert "key" in kinds(healthy.examined(keys=[key_of(healthy)]))


def test_a_cold_vault_is_asked_for_no_retrieval(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = in_cloud(cloud, tmp_path, monkeypatch, vault="cold-one", kind="glacier")
    report = healthy.examined(keys=[key_of(healthy)])
    assert "key" not in kinds(report)
    deletes, worked, note = report.notes
    assert deletes.startswith("vault cold: this server deletes there, by ")
    assert "not tried, as it worked lately: an upload" in worked
    assert "was not read back: vault cold makes it readable for money only" in note
    jobs = cloud.admin("glacier").list_jobs(accountId="-", vaultName="cold-one")["JobList"]
    assert jobs == []
    assert "key" in kinds(healthy.examined(keys=[OTHER]))


def test_that_no_enrolment_proves_ancestors_is_noted(healthy: HealthyServer) -> None:
    """Advice, and no finding: everything works as before."""
    about = "no enrolment proves from which inventory this one was rebuilt"
    signed = healthy.server.state / "keys" / "signed-enrolments"
    signed.write_text("")
    before = healthy.examined()
    assert not any(about in note for note in before.notes), "it was not rebuilt"
    shutil.rmtree(healthy.server.state)
    healthy.server.json("rebuild", "--key", healthy.key)
    with_proof = healthy.examined()
    assert not any(about in note for note in with_proof.notes)
    signed.write_text("")
    without = healthy.examined()
    assert without.findings == with_proof.findings
    (note,) = (note for note in without.notes if about in note)
    for command in ("key request", "key enroll", "key accept"):
        assert f"`nightvault {command}`" in note
