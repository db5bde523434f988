"""The pytest plugin, in another project's test run."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

THEIR_TESTS = """
import boto3
import pytest

def test_theirs(nightvault_emulator):
    glacier = boto3.client("glacier", **nightvault_emulator.client)
    glacier.create_vault(vaultName="theirs")
    archive = glacier.upload_archive(vaultName="theirs", body=b"abc")["archiveId"]
    wanted = {"Type": "archive-retrieval", "ArchiveId": archive}
    job = glacier.initiate_job(vaultName="theirs", jobParameters=wanted)["jobId"]
    nightvault_emulator.advance(5 * 3600)
    assert glacier.get_job_output(vaultName="theirs", jobId=job)["body"].read() == b"abc"

def test_theirs_in_s3(nightvault_emulator, monkeypatch):
    s3 = boto3.client("s3", **nightvault_emulator.s3_client)
    s3.create_bucket(Bucket="theirs")
    s3.put_object(Bucket="theirs", Key="k", Body=b"abc", StorageClass="DEEP_ARCHIVE")
    with pytest.raises(s3.exceptions.InvalidObjectState):
        s3.get_object(Bucket="theirs", Key="k")
    s3.restore_object(Bucket="theirs", Key="k", RestoreRequest={"Days": 1})
    nightvault_emulator.advance(13 * 3600)
    for name, value in nightvault_emulator.environment.items():
        monkeypatch.setenv(name, value)
    assert boto3.client("s3").get_object(Bucket="theirs", Key="k")["Body"].read() == b"abc"

def test_admin(nightvault_emulator, monkeypatch):
    for name, value in nightvault_emulator.environment.items():
        monkeypatch.setenv(name, value)
    nightvault_emulator.make_inventories()
    nightvault_emulator.change_settings(tag_limit=50)
    nightvault_emulator.set_faults([{"operation": "ListVaults", "code": "ThrottlingException"}])
    glacier = boto3.client("glacier")
    assert [vault["VaultName"] for vault in glacier.list_vaults()["VaultList"]] == ["theirs"]
    assert nightvault_emulator.faults()[0]["met"] == 1
"""


def test_in_two_lines(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(THEIR_TESTS)
    plain = ("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:cov")
    chosen = () if _is_registered() else ("-p", "backup.emulator.pytest_plugin")
    result = pytester.runpytest_subprocess(*plain, *chosen)
    result.assert_outcomes(passed=3)


def _is_registered() -> bool:
    """Whether this environment was made after the entry point was added."""
    from importlib.metadata import entry_points

    return any(entry.name == "nightvault_emulator" for entry in entry_points(group="pytest11"))
