"""Jobs and their outputs over HTTP: waiting, ranges, hashes, expiry."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.emulator.glacier.aligned_ranges import SEVEN
from tests.support.emulated import ACCOUNT_ID, RunningEmulator
from tests.support.emulator_clients import (
    MIB,
    Talker,
    arn_of,
    client,
    code_and_message,
    new_vault_name,
    pattern,
    tree_hash,
)

FIELDS = [
    *("Action", "ArchiveId", "ArchiveSHA256TreeHash", "ArchiveSizeInBytes", "Completed", "CompletionDate"),
    *("CreationDate", "InventoryRetrievalParameters", "InventorySizeInBytes", "JobDescription", "JobId"),
    *(
        "JobOutputPath",
        "OutputLocation",
        "RetrievalByteRange",
        "SelectParameters",
        "SHA256TreeHash",
        "SNSTopic",
    ),
    *("StatusCode", "StatusMessage", "Tier", "VaultARN"),
]
HOUR = 3600
INVALID = "InvalidParameterValueException"
SEVEN_LEAVES = pattern(6 * MIB + MIB // 2)


@pytest.fixture
def glacier(emulator: RunningEmulator) -> Any:
    return client(emulator.glacier_url)


@pytest.fixture
def vault(glacier: Any) -> str:
    name = new_vault_name()
    glacier.create_vault(vaultName=name)
    return name


@pytest.fixture(scope="module")
def seven(emulator: RunningEmulator) -> tuple[str, str]:
    """A vault and in it an archive of seven leaves in parts of 2 MiB."""
    glacier, name = client(emulator.glacier_url), new_vault_name()
    glacier.create_vault(vaultName=name)
    begun = glacier.initiate_multipart_upload(
        vaultName=name, partSize=str(2 * MIB), archiveDescription="seven"
    )
    upload = begun["uploadId"]
    for at in range(0, len(SEVEN_LEAVES), 2 * MIB):
        part = SEVEN_LEAVES[at : at + 2 * MIB]
        where = f"bytes {at}-{at + len(part) - 1}/*"
        glacier.upload_multipart_part(vaultName=name, uploadId=upload, range=where, body=part)
    size, whole = str(len(SEVEN_LEAVES)), tree_hash(SEVEN_LEAVES)
    done = glacier.complete_multipart_upload(
        vaultName=name, uploadId=upload, archiveSize=size, checksum=whole
    )
    return name, done["archiveId"]


def _retrieve(glacier: Any, vault: str, archive: str, **more: str) -> str:
    wanted = {"Type": "archive-retrieval", "ArchiveId": archive, **more}
    return str(glacier.initiate_job(vaultName=vault, jobParameters=wanted)["jobId"])


def test_an_archive_job_from_begin_to_end(
    emulator: RunningEmulator, glacier: Any, talker: Talker, seven: tuple[str, str]
) -> None:
    vault, archive = seven
    topic = "arn:aws:sns:eu-central-1:123456789012:done"
    job = _retrieve(glacier, vault, archive, Description="for me", SNSTopic=topic)
    path = f"/-/vaults/{vault}/jobs/{job}"
    described = talker.ask("GET", path).json
    assert list(described) == FIELDS
    whole = tree_hash(SEVEN_LEAVES)
    expected = {
        "Action": "ArchiveRetrieval",
        "ArchiveId": archive,
        "ArchiveSHA256TreeHash": whole,
        "ArchiveSizeInBytes": len(SEVEN_LEAVES),
        "Completed": False,
        "CompletionDate": None,
        "InventoryRetrievalParameters": None,
        "InventorySizeInBytes": None,
        "JobDescription": "for me",
        "JobId": job,
        "RetrievalByteRange": f"0-{len(SEVEN_LEAVES) - 1}",
        "SHA256TreeHash": whole,
        "SNSTopic": topic,
        "StatusCode": "InProgress",
        "StatusMessage": None,
        "Tier": "Standard",
        "VaultARN": arn_of(vault),
    }
    assert {key: described[key] for key in expected} == expected
    early = talker.ask("GET", path + "/output")
    assert early.error == (400, INVALID, f"The job is not currently available for download: {job}")
    emulator.advance(4 * HOUR)
    done = talker.ask("GET", path).json
    assert (done["Completed"], done["StatusCode"], done["StatusMessage"]) == (True, "Succeeded", "Succeeded")
    assert done["CompletionDate"] > done["CreationDate"]
    output = talker.ask("GET", path + "/output")
    assert output.status == 200
    assert output.body == SEVEN_LEAVES
    headers = {
        "content-type": "application/octet-stream",
        "accept-ranges": "bytes",
        "x-amz-archive-description": "seven",
        "x-amz-sha256-tree-hash": whole,
        "content-length": str(len(SEVEN_LEAVES)),
    }
    assert {key: output.headers.get(key) for key in headers} == headers
    assert "content-range" not in output.headers
    emulator.advance(24 * HOUR)
    for gone in (path, path + "/output"):
        assert talker.ask("GET", gone).error == (
            404,
            "ResourceNotFoundException",
            f"The job ID was not found: {job}",
        )


def test_location_of_a_job(talker: Talker, seven: tuple[str, str]) -> None:
    vault, archive = seven
    body = f'{{"Type":"archive-retrieval","ArchiveId":"{archive}"}}'.encode()
    form = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    reply = talker.ask("POST", f"/-/vaults/{vault}/jobs", body, form)
    assert (reply.status, reply.body) == (202, b"")
    job = reply.headers["x-amz-job-id"]
    assert len(job) == 92
    assert reply.headers["location"] == f"/{ACCOUNT_ID}/vaults/{vault}/jobs/{job}"


@pytest.mark.parametrize(
    ("tier", "too_early", "enough"),
    [("Expedited", 60, 300), ("Standard", 3 * HOUR, 5 * HOUR), ("Bulk", 5 * HOUR, 12 * HOUR)],
)
def test_tiers(
    emulator: RunningEmulator, glacier: Any, seven: tuple[str, str], tier: str, too_early: int, enough: int
) -> None:
    job = _retrieve(glacier, *seven, Tier=tier)
    emulator.advance(too_early)
    described = glacier.describe_job(vaultName=seven[0], jobId=job)
    assert (described["Completed"], described["Tier"]) == (False, tier)
    emulator.advance(enough - too_early)
    assert glacier.describe_job(vaultName=seven[0], jobId=job)["Completed"]


def test_hash_header_exactly_for_aligned_ranges_of_seven(
    emulator: RunningEmulator, glacier: Any, talker: Talker, seven: tuple[str, str]
) -> None:
    path = f"/-/vaults/{seven[0]}/jobs/{_retrieve(glacier, *seven)}/output"
    emulator.advance(4 * HOUR)
    size = len(SEVEN_LEAVES)
    for first in range(7):
        for last in range(first + 1, 8):
            start, end = first * MIB, min(last * MIB, size)
            reply = talker.ask("GET", path, headers={"Range": f"bytes={start}-{end - 1}"})
            assert reply.status == 206
            assert reply.body == SEVEN_LEAVES[start:end]
            assert reply.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
            expected = tree_hash(reply.body) if (first, last) in SEVEN else None
            assert reply.headers.get("x-amz-sha256-tree-hash") == expected


def test_odd_download_ranges(
    emulator: RunningEmulator, glacier: Any, talker: Talker, seven: tuple[str, str]
) -> None:
    path = f"/-/vaults/{seven[0]}/jobs/{_retrieve(glacier, *seven)}/output"
    emulator.advance(4 * HOUR)
    size = len(SEVEN_LEAVES)
    for malformed in ("bytes 0-1", "0-1", "bytes=5-4", "bytes=0-1,3-4", "bytes=-5", "chunks=0-1"):
        reply = talker.ask("GET", path, headers={"Range": malformed})
        assert (reply.status, len(reply.body)) == (200, size)
    for text, shown, length in (
        ("bytes=0-1", "bytes 0-1", 2),
        (f"bytes={size - 3}-", f"bytes {size - 3}-{size - 1}", 3),
        (f"bytes={size - 1}-99999999", f"bytes {size - 1}-{size - 1}", 1),
        (f"bytes=0-{size - 1}", f"bytes 0-{size - 1}", size),
    ):
        reply = talker.ask("GET", path, headers={"Range": text})
        assert (reply.status, reply.headers["content-range"]) == (206, f"{shown}/{size}")
        assert len(reply.body) == length
        assert ("x-amz-sha256-tree-hash" in reply.headers) is (length == size)
    beyond = talker.ask("GET", path, headers={"Range": f"bytes={size}-{size + 5}"})
    message = f"The start of the range is larger than size of retrieved data: bytes={size}-{size + 5}"
    assert beyond.error == (400, INVALID, message)


@pytest.mark.parametrize(("first", "last"), [(0, 4), (4, 7), (1, 3), (2, 4), (3, 7)])
def test_ranged_retrievals(
    emulator: RunningEmulator, glacier: Any, talker: Talker, seven: tuple[str, str], first: int, last: int
) -> None:
    start, end = first * MIB, min(last * MIB, len(SEVEN_LEAVES))
    data, aligned = SEVEN_LEAVES[start:end], (first, last) in SEVEN
    job = _retrieve(glacier, *seven, RetrievalByteRange=f"{start}-{end - 1}")
    described = talker.ask("GET", f"/-/vaults/{seven[0]}/jobs/{job}").json
    assert described["RetrievalByteRange"] == f"{start}-{end - 1}"
    assert described["SHA256TreeHash"] == (tree_hash(data) if aligned else None)
    assert described["ArchiveSHA256TreeHash"] == tree_hash(SEVEN_LEAVES)
    emulator.advance(4 * HOUR)
    path = f"/-/vaults/{seven[0]}/jobs/{job}/output"
    whole = talker.ask("GET", path)
    assert whole.body == data
    assert whole.headers.get("x-amz-sha256-tree-hash") == (tree_hash(data) if aligned else None)
    piece = talker.ask("GET", path, headers={"Range": f"bytes=0-{MIB - 1}"})
    assert piece.headers["content-range"] == f"bytes 0-{MIB - 1}/{len(data)}"
    assert piece.headers.get("x-amz-sha256-tree-hash") == (tree_hash(data[:MIB]) if aligned else None)


def test_requests_that_are_refused(talker: Talker, seven: tuple[str, str]) -> None:
    vault, archive = seven
    size = len(SEVEN_LEAVES)
    job = f'"Type":"archive-retrieval","ArchiveId":"{archive}"'
    for body, expected in (
        ("{", (400, "SerializationException")),
        ("[]", (400, "SerializationException")),
        ('{"Type":7}', (400, "SerializationException")),
        ("{}", (400, "MissingParameterValueException")),
        ('{"jobParameters":{"Type":"inventory-retrieval"}}', (400, "MissingParameterValueException")),
        ('{"Type":"archive-retrieval"}', (400, "MissingParameterValueException")),
        ('{"Type":"select"}', (400, INVALID)),
        (f'{{{job},"Tier":"Fast"}}', (400, INVALID)),
        (f'{{{job},"Format":"JSON"}}', (400, INVALID)),
        (f'{{{job},"Description":"caf\u00e9"}}', (400, INVALID)),
        (f'{{{job},"RetrievalByteRange":"0-1"}}', (400, INVALID)),
        (f'{{{job},"RetrievalByteRange":"1-1048575"}}', (400, INVALID)),
        (f'{{{job},"RetrievalByteRange":"0-{size}"}}', (400, INVALID)),
        (f'{{{job},"RetrievalByteRange":"x"}}', (400, INVALID)),
        ('{"Type":"inventory-retrieval","ArchiveId":"x"}', (400, INVALID)),
        ('{"Type":"inventory-retrieval","RetrievalByteRange":"0-1048575"}', (400, INVALID)),
        ('{"Type":"inventory-retrieval","Tier":"Bulk"}', (400, INVALID)),
        ('{"Type":"inventory-retrieval","Format":"XML"}', (400, INVALID)),
        ('{"Type":"inventory-retrieval","InventoryRetrievalParameters":{"Limit":"0"}}', (400, INVALID)),
        (
            '{"Type":"inventory-retrieval","InventoryRetrievalParameters":{"StartDate":"2013"}}',
            (400, INVALID),
        ),
        ('{"Type":"inventory-retrieval","InventoryRetrievalParameters":{"Marker":"?"}}', (400, INVALID)),
        ('{"Type":"archive-retrieval","ArchiveId":"-x"}', (404, "ResourceNotFoundException")),
    ):
        assert talker.ask("POST", f"/-/vaults/{vault}/jobs", body.encode()).error[:2] == expected, body


def test_an_archive_of_another_vault(glacier: Any, vault: str, seven: tuple[str, str]) -> None:
    with pytest.raises(ClientError) as refused:
        _retrieve(glacier, vault, seven[1])
    assert code_and_message(refused) == (
        "ResourceNotFoundException",
        f"The archive ID was not found: {seven[1]}",
    )


def test_listing_filters_and_pages(
    emulator: RunningEmulator, glacier: Any, talker: Talker, vault: str
) -> None:
    archive = glacier.upload_archive(vaultName=vault, body=b"abc")["archiveId"]
    jobs = [_retrieve(glacier, vault, archive) for _ in range(2)]
    emulator.advance(4 * HOUR)
    jobs += [_retrieve(glacier, vault, archive, Tier="Bulk") for _ in range(2)]

    def listed(**how: str) -> list[str]:
        pages = glacier.get_paginator("list_jobs").paginate(
            vaultName=vault, PaginationConfig={"PageSize": 1}, **how
        )
        return [job["JobId"] for page in pages for job in page["JobList"]]

    assert listed() == jobs
    assert listed(completed="true") == jobs[:2]
    assert listed(completed="false") == jobs[2:]
    assert listed(statuscode="InProgress") == jobs[2:]
    assert listed(statuscode="Succeeded") == jobs[:2]
    assert listed(statuscode="Failed") == []
    assert listed(statuscode="Succeeded", completed="false") == []
    page = talker.ask("GET", f"/-/vaults/{vault}/jobs", query="limit=1").json
    assert list(page) == ["JobList", "Marker"]
    assert page["Marker"] == jobs[1]
    for query, message in (
        ("statuscode=Nope", "The job status code is not valid: Nope"),
        ("completed=maybe", "The value of completed is not valid: maybe"),
        ("marker=zzz", "Invalid marker: zzz"),
    ):
        assert talker.ask("GET", f"/-/vaults/{vault}/jobs", query=query).error == (400, INVALID, message)


def test_deleting_an_archive_under_its_jobs(emulator: RunningEmulator, glacier: Any, vault: str) -> None:
    archive = glacier.upload_archive(vaultName=vault, body=b"abc")["archiveId"]
    ready = _retrieve(glacier, vault, archive, Tier="Expedited")
    emulator.advance(HOUR)
    waiting = _retrieve(glacier, vault, archive)
    glacier.delete_archive(vaultName=vault, archiveId=archive)
    assert glacier.get_job_output(vaultName=vault, jobId=ready)["body"].read() == b"abc"
    emulator.advance(4 * HOUR)
    failed = glacier.describe_job(vaultName=vault, jobId=waiting)
    assert (failed["Completed"], failed["StatusCode"]) == (True, "Failed")
    with pytest.raises(ClientError, match="not currently available"):
        glacier.get_job_output(vaultName=vault, jobId=waiting)
    assert glacier.get_job_output(vaultName=vault, jobId=ready)["body"].read() == b"abc"


def test_a_step_past_the_life_of_an_output(emulator: RunningEmulator, glacier: Any, vault: str) -> None:
    archive = glacier.upload_archive(vaultName=vault, body=b"abc")["archiveId"]
    job = _retrieve(glacier, vault, archive)
    emulator.advance(20 * HOUR)
    assert glacier.get_job_output(vaultName=vault, jobId=job)["body"].read() == b"abc"
    emulator.advance(8 * HOUR)
    with pytest.raises(ClientError, match="The job ID was not found"):
        glacier.describe_job(vaultName=vault, jobId=job)


def test_a_download_ends_with_what_it_began(emulator: RunningEmulator, glacier: Any, vault: str) -> None:
    data, before = os.urandom(32 * MIB), set((emulator.state / "files").iterdir())
    archive = glacier.upload_archive(vaultName=vault, body=data)["archiveId"]
    (file,) = set((emulator.state / "files").iterdir()) - before
    job = _retrieve(glacier, vault, archive)
    emulator.advance(5 * 3600)
    body = glacier.get_job_output(vaultName=vault, jobId=job)["body"]
    begun = body.read(MIB)
    glacier.delete_archive(vaultName=vault, archiveId=archive)
    emulator.advance(25 * 3600)
    with pytest.raises(ClientError) as gone:
        glacier.get_job_output(vaultName=vault, jobId=job)
    assert code_and_message(gone)[0] == "ResourceNotFoundException"
    assert begun + body.read() == data
    until = time.monotonic() + 10
    while file.exists() and time.monotonic() < until:
        time.sleep(0.01)
    assert not file.exists(), "once it was sent it goes"
