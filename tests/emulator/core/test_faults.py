"""Planned faults of every kind, met by boto3 and by bare connections."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import botocore.config
import pytest
import urllib3
from botocore.exceptions import ClientError, ConnectionClosedError, HTTPClientError

from backup.emulator.core.errors import EmulatorError
from backup.emulator.core.http.faults import Fault, FaultPlan, parse_fault, read_faults
from tests.support.emulated import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, RunningEmulator, write_accounts
from tests.support.emulator_clients import (
    MIB,
    Talker,
    client,
    code_and_message,
    new_vault_name,
    pattern,
    tree_hash,
)

NAMES = frozenset({"CreateVault"})
DATA = pattern(MIB + 9)


@pytest.fixture
def faulty(emulator: RunningEmulator) -> Iterator[RunningEmulator]:
    yield emulator
    emulator.set_faults([])


@pytest.fixture
def once(emulator: RunningEmulator) -> Any:
    """boto3 without retries."""
    return boto3.client(
        "glacier",
        endpoint_url=emulator.glacier_url,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET_ACCESS_KEY,
        config=botocore.config.Config(retries={"total_max_attempts": 1}),
    )


@pytest.fixture
def vault(once: Any) -> str:
    name = new_vault_name()
    once.create_vault(vaultName=name)
    return name


@pytest.fixture
def ready(emulator: RunningEmulator, once: Any, vault: str) -> str:
    """A finished job over DATA."""
    archive = once.upload_archive(vaultName=vault, body=DATA)["archiveId"]
    wanted = {"Type": "archive-retrieval", "ArchiveId": archive}
    job = once.initiate_job(vaultName=vault, jobParameters=wanted)["jobId"]
    emulator.advance(4 * 3600)
    return str(job)


def _met(emulator: RunningEmulator) -> list[int]:
    return [fault["met"] for fault in emulator.faults()]


def test_boto3_retries_what_it_should(faulty: RunningEmulator, vault: str) -> None:
    glacier = client(faulty.glacier_url)
    for code, status in (
        ("ServiceUnavailableException", 500),
        ("ThrottlingException", 400),
        ("RequestTimeoutException", 408),
        ("InsufficientCapacityException", 503),
    ):
        faulty.set_faults([{"operation": "DescribeVault", "vault": vault, "code": code, "count": 2}])
        answer = glacier.describe_vault(vaultName=vault)
        assert answer["ResponseMetadata"]["RetryAttempts"] == 2, (code, status)
        assert _met(faulty) == [2]


def test_an_error_before_and_after_the_effect(faulty: RunningEmulator, once: Any) -> None:
    before, after = new_vault_name(), new_vault_name()
    plan = {"operation": "CreateVault", "code": "ServiceUnavailableException"}
    faulty.set_faults([{**plan, "vault": before}, {**plan, "vault": after, "after": True}])
    for name in (before, after):
        with pytest.raises(ClientError) as refused:
            once.create_vault(vaultName=name)
        assert code_and_message(refused) == ("ServiceUnavailableException", "The service is unavailable.")
    with pytest.raises(ClientError, match="Vault not found"):
        once.describe_vault(vaultName=before)
    assert once.describe_vault(vaultName=after)["VaultName"] == after
    assert _met(faulty) == [1, 1]


def test_own_message_and_status(faulty: RunningEmulator, talker: Talker, vault: str) -> None:
    plan = {"operation": "ListJobs", "code": "Odd", "status": 599, "message": "so it is"}
    faulty.set_faults([plan])
    reply = talker.ask("GET", f"/-/vaults/{vault}/jobs")
    assert reply.error == (599, "Odd", "so it is")
    assert reply.json["type"] == "Server"


def test_skip_and_count_and_vault(faulty: RunningEmulator, talker: Talker, vault: str) -> None:
    plan = {"operation": "ListJobs", "vault": vault, "code": "ThrottlingException", "skip": 1, "count": 2}
    faulty.set_faults([plan])
    other = new_vault_name()
    talker.ask("PUT", f"/-/vaults/{other}")
    assert talker.ask("GET", f"/-/vaults/{other}/jobs").status == 200
    statuses = [talker.ask("GET", f"/-/vaults/{vault}/jobs").status for _ in range(5)]
    assert statuses == [200, 400, 400, 200, 200]
    assert faulty.faults()[0]["met"] == 2


def test_a_lost_answer_to_a_part(faulty: RunningEmulator, once: Any, vault: str) -> None:
    upload = once.initiate_multipart_upload(vaultName=vault, partSize=str(MIB))["uploadId"]
    faulty.set_faults([{"operation": "UploadMultipartPart", "reset": True, "after": True}])
    send = {"vaultName": vault, "uploadId": upload, "range": f"bytes 0-{MIB - 1}/*", "body": bytes(MIB)}
    with pytest.raises((ConnectionClosedError, HTTPClientError)):
        once.upload_multipart_part(**send)
    parts = once.list_parts(vaultName=vault, uploadId=upload)["Parts"]
    assert [part["SHA256TreeHash"] for part in parts] == [tree_hash(bytes(MIB))]


def test_a_reset_before_the_effect(faulty: RunningEmulator, talker: Talker) -> None:
    vault = new_vault_name()
    faulty.set_faults([{"operation": "CreateVault", "reset": True}])
    with pytest.raises(ConnectionResetError):
        talker.ask("PUT", f"/-/vaults/{vault}")
    assert talker.ask("GET", f"/-/vaults/{vault}").status == 404
    assert talker.ask("PUT", f"/-/vaults/{vault}").status == 201


def test_a_reset_in_a_long_upload(faulty: RunningEmulator, once: Any, vault: str) -> None:
    faulty.set_faults([{"operation": "UploadArchive", "vault": vault, "reset": True}])
    with pytest.raises((ConnectionClosedError, HTTPClientError)):
        once.upload_archive(vaultName=vault, body=bytes(8 * MIB))
    assert _met(faulty) == [1]
    assert once.upload_archive(vaultName=vault, body=bytes(8 * MIB))["checksum"] == tree_hash(bytes(8 * MIB))


def test_an_error_to_a_long_upload_is_readable(faulty: RunningEmulator, once: Any, vault: str) -> None:
    faulty.set_faults([{"operation": "UploadArchive", "vault": vault, "code": "ThrottlingException"}])
    with pytest.raises(ClientError) as refused:
        once.upload_archive(vaultName=vault, body=bytes(8 * MIB))
    assert code_and_message(refused) == ("ThrottlingException", "Rate exceeded")


@pytest.mark.parametrize("after", [False, True])
def test_stalling(faulty: RunningEmulator, talker: Talker, vault: str, after: bool) -> None:
    faulty.set_faults([{"operation": "DescribeVault", "stall_seconds": 0.3, "after": after}])
    began = time.monotonic()
    assert talker.ask("GET", f"/-/vaults/{vault}").status == 200
    assert 0.3 <= time.monotonic() - began < 3
    assert _met(faulty) == [1]


def test_a_job_is_unknown_for_a_while_after_it_was_accepted(
    faulty: RunningEmulator, once: Any, vault: str
) -> None:
    archive = once.upload_archive(vaultName=vault, body=DATA)["archiveId"]
    wanted = {"Type": "archive-retrieval", "ArchiveId": archive}
    faulty.set_faults([{"operation": "InitiateJob", "unknown_seconds": 60}])
    hidden, seen = (once.initiate_job(vaultName=vault, jobParameters=wanted)["jobId"] for _ in range(2))

    def listed() -> list[str]:
        return [job["JobId"] for job in once.list_jobs(vaultName=vault)["JobList"]]

    for ask in (once.describe_job, once.get_job_output):
        with pytest.raises(ClientError) as caught:
            ask(vaultName=vault, jobId=hidden)
        assert caught.value.response["Error"]["Code"] == "ResourceNotFoundException"
    assert once.describe_job(vaultName=vault, jobId=seen)["StatusCode"] == "InProgress"
    assert listed() == [seen]
    faulty.advance(61)
    assert once.describe_job(vaultName=vault, jobId=hidden)["StatusCode"] == "InProgress"
    assert listed() == [hidden, seen]
    assert _met(faulty) == [1]


@pytest.mark.parametrize("kept", [0, 1, 1000, MIB + 5])
def test_truncated_output(faulty: RunningEmulator, talker: Talker, vault: str, ready: str, kept: int) -> None:
    faulty.set_faults([{"operation": "GetJobOutput", "truncate": kept}])
    with pytest.raises(http.client.IncompleteRead) as cut:
        talker.ask("GET", f"/-/vaults/{vault}/jobs/{ready}/output")
    assert cut.value.partial == DATA[:kept]
    assert talker.ask("GET", f"/-/vaults/{vault}/jobs/{ready}/output").body == DATA


def test_corrupt_output_keeps_its_declared_hash(
    faulty: RunningEmulator, talker: Talker, vault: str, ready: str
) -> None:
    faulty.set_faults([{"operation": "GetJobOutput", "corrupt": True}])
    reply = talker.ask("GET", f"/-/vaults/{vault}/jobs/{ready}/output")
    assert reply.status == 200
    assert reply.body[1:] == DATA[1:]
    assert reply.body[0] == DATA[0] ^ 1
    assert reply.headers["x-amz-sha256-tree-hash"] == tree_hash(DATA)


def test_faults_of_create_session(faulty: RunningEmulator) -> None:
    faulty.set_faults([{"operation": "CreateSession", "code": "AccessDeniedException", "message": "planned"}])
    answer = urllib3.request("POST", f"{faulty.rolesanywhere_url}/sessions", body=b"{}")
    assert (answer.status, answer.json()) == (403, {"message": "planned"})
    assert _met(faulty) == [1]


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (3, "must be an object"),
        ({"operation": "CreateVault", "cuont": 1}, "no key 'cuont'"),
        ({"operation": "Nothing"}, "no operation 'Nothing'"),
        ({"operation": "CreateVault", "count": 0}, "at least 1"),
        ({"operation": "CreateVault", "count": True}, "count must be of type int"),
        ({"operation": "CreateVault", "code": "Odd"}, "give its status"),
        ({}, "must name its operation"),
        ({"operation": "*", "probability": 0}, "probability must be greater"),
        ({"operation": "*", "seconds": -1}, "must not be negative"),
        ({"operation": "*", "bytes_per_second": 0}, "bytes_per_second must be at least 1"),
    ],
)
def test_plans_that_make_no_sense(raw: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_fault(raw, NAMES)


def test_the_first_ripe_fault_is_met_and_hides_the_call_from_later_ones() -> None:
    plan = FaultPlan()
    first, second = Fault("ListJobs", count=1), Fault("ListJobs", skip=1, count=1)
    plan.replace([first, second])
    assert [plan.meet("ListJobs", "v") for _ in range(4)] == [first, None, second, None]
    assert [entry["met"] for entry in plan.report()] == [1, 1]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("faults", b"{"),
        ("faults", b"{}"),
        ("faults", b'[{"operation":"No"}]'),
        ("clock", b"{}"),
        ("clock", b'{"advance_seconds": -1}'),
        ("clock", b'{"advance_seconds": true}'),
        ("clock", b'{"advance_seconds": 1e99}'),
        ("inventories", b'{"vault": 3}'),
    ],
)
def test_admin_refuses_mistakes(emulator: RunningEmulator, path: str, body: bytes) -> None:
    answer = urllib3.request("POST", f"{emulator.admin_url}/_admin/{path}", body=body)
    assert answer.status == 400
    assert answer.json()["message"]


def test_inventories_of_one_vault(emulator: RunningEmulator, once: Any, vault: str) -> None:
    other = new_vault_name()
    once.create_vault(vaultName=other)
    answer = urllib3.request("POST", f"{emulator.admin_url}/_admin/inventories", json={"vault": vault})
    assert [arn.rsplit("/", 1)[1] for arn in answer.json()["inventories"]] == [vault]


def test_bursts_come_again_and_again(faulty: RunningEmulator, talker: Talker, vault: str) -> None:
    burst = {"operation": "*", "vault": vault, "skip": 2, "count": 3, "repeat": True}
    faulty.set_faults([{**burst, "code": "ThrottlingException"}])
    statuses = [talker.ask("GET", f"/-/vaults/{vault}").status for _ in range(10)]
    assert statuses == [200, 200, 400, 400, 400] * 2
    assert _met(faulty) == [6]


def test_chance_is_the_same_each_time() -> None:
    rounds = []
    for _ in range(2):
        plan = FaultPlan([Fault("*", probability=0.25, seed=7)])
        rounds.append([plan.meet("ListJobs", "v") is not None for _ in range(400)])
    assert rounds[0] == rounds[1]
    assert 60 < sum(rounds[0]) < 140
    limited = FaultPlan([Fault("*", probability=0.25, count=2)])
    assert sum(limited.meet("ListJobs", "v") is not None for _ in range(400)) == 2


def test_a_while_out_of_service(faulty: RunningEmulator, talker: Talker, vault: str) -> None:
    faulty.set_faults(
        [
            {
                "operation": "*",
                "vault": vault,
                "code": "ServiceUnavailableException",
                "status": 503,
                "seconds": 0.6,
            }
        ]
    )
    path = f"/-/vaults/{vault}"
    assert talker.ask("GET", path).error[:2] == (503, "ServiceUnavailableException")
    assert talker.ask("GET", f"{path}/jobs").status == 503
    time.sleep(0.7)
    assert talker.ask("GET", path).status == 200
    assert _met(faulty) == [2]


def test_a_slow_body(faulty: RunningEmulator, talker: Talker, vault: str, ready: str) -> None:
    faulty.set_faults([{"operation": "GetJobOutput", "bytes_per_second": 2 * MIB}])
    began = time.monotonic()
    assert talker.ask("GET", f"/-/vaults/{vault}/jobs/{ready}/output").body == DATA
    assert 0.4 < time.monotonic() - began < 5
    assert _met(faulty) == [1]


def test_a_right_body_with_a_wrong_hash(
    faulty: RunningEmulator, talker: Talker, vault: str, ready: str
) -> None:
    faulty.set_faults([{"operation": "GetJobOutput", "wrong_hash": True}])
    reply = talker.ask("GET", f"/-/vaults/{vault}/jobs/{ready}/output")
    assert reply.body == DATA
    assert reply.headers["x-amz-sha256-tree-hash"] == tree_hash(DATA)[::-1]
    assert _met(faulty) == [1]


def test_credentials_that_expire_in_mid_upload(faulty: RunningEmulator, once: Any, vault: str) -> None:
    upload = once.initiate_multipart_upload(vaultName=vault, partSize=str(MIB))["uploadId"]
    faulty.set_faults([{"operation": "UploadMultipartPart", "skip": 1, "expire_credentials": True}])
    send = {"vaultName": vault, "uploadId": upload}
    once.upload_multipart_part(**send, range=f"bytes 0-{MIB - 1}/*", body=bytes(MIB))
    for _ in range(2):
        with pytest.raises(ClientError) as refused:
            once.upload_multipart_part(**send, range=f"bytes {MIB}-{MIB}/*", body=b"x")
        assert code_and_message(refused)[0] == "ExpiredTokenException"
    with pytest.raises(ClientError, match="expired"):
        once.list_vaults()
    assert _met(faulty) == [1]
    faulty.set_faults([])
    assert len(once.list_parts(**send)["Parts"]) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("f.toml", '[[fault]]\noperation = "ListVaults"\ncode = "ThrottlingException"\n'),
        ("f.json", '[{"operation": "ListVaults", "code": "ThrottlingException"}]'),
    ],
)
def test_a_file_at_the_start(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    options = ("--faults", str(tmp_path / name))
    accounts = write_accounts(tmp_path / "accounts.toml")
    with RunningEmulator(tmp_path / "state", accounts, options=options) as running:
        talker = Talker(running.glacier_url)
        assert [talker.ask("GET", "/-/vaults").status for _ in range(2)] == [400, 200]
        assert _met(running) == [1]


@pytest.mark.parametrize("text", ["{", "{}", '[{"operation": "No"}]'])
def test_files_that_make_no_sense(tmp_path: Path, text: str) -> None:
    (tmp_path / "f.json").write_text(text)
    with pytest.raises(EmulatorError, match=r"Cannot use the faults in .*f\.json"):
        read_faults(tmp_path / "f.json", NAMES)
