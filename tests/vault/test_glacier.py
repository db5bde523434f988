"""What is Glacier's alone: one attempt a call, each byte hashed once, faults of the service, pages."""

from __future__ import annotations

import hashlib
import threading
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import boto3
import botocore.auth
import botocore.utils
import pytest
from botocore.credentials import RefreshableCredentials
from botocore.session import get_session

from backup.errors import (
    DeniedError,
    IdentityError,
    NightvaultError,
    RetrievalExpiredError,
    ThrottledError,
    UnreachableError,
    UploadExpiredError,
    VaultError,
)
from backup.format.treehash import tree_hash
from backup.model import MIB, ByteRange, RetrievalState, Tier, UploadId, VaultName
from backup.vault.aws import make_client
from backup.vault.glacier import GlacierVault
from tests.support.archives import CATALOG, complete, cut, part_of, send, some_bytes, some_label, store
from tests.support.emulated import REGION, RunningEmulator
from tests.support.rigs import HOUR, glacier_client, ripen

BODY = some_bytes(4 * MIB)


# Each byte is hashed once, and copied never.


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many bytes botocore has hashed since the test began."""
    lock, total = threading.Lock(), [0]

    class Counting:
        def __init__(self, data: bytes = b"") -> None:
            self._real = hashlib.sha256()
            self.update(data)

        def update(self, data: bytes) -> None:
            with lock:
                total[0] += len(data)
            self._real.update(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

    monkeypatch.setattr(botocore.utils, "hashlib", SimpleNamespace(**{**vars(hashlib), "sha256": Counting}))
    monkeypatch.setattr(botocore.auth, "sha256", Counting)
    return lambda: total[0]


def test_boto_hashes_no_body(glacier: GlacierVault, hashed: Callable[[], int]) -> None:
    upload_id = glacier.begin_upload(some_label(), 4 * MIB)
    before = hashed()
    glacier.put_part(upload_id, part_of(BODY, 0), memoryview(BODY))
    assert 0 < hashed() - before < 10_000
    assert [part.length for part in glacier.list_parts(upload_id, MIB)] == [len(BODY)]


def test_boto_would_hash_it_three_times_otherwise(
    glacier: GlacierVault, client: Any, hashed: Callable[[], int]
) -> None:
    upload_id = glacier.begin_upload(some_label(), 4 * MIB)
    before = hashed()
    client.upload_multipart_part(
        vaultName=glacier._vault, uploadId=upload_id, range=f"bytes 0-{len(BODY) - 1}/*", body=BODY
    )
    assert hashed() - before > 2 * len(BODY)


def test_a_part_is_not_copied(glacier: GlacierVault) -> None:
    upload_id = glacier.begin_upload(some_label(), 4 * MIB)
    glacier.put_part(upload_id, part_of(BODY[:MIB], 0), memoryview(BODY)[:MIB])
    tracemalloc.start()
    glacier.put_part(upload_id, part_of(BODY, 0), memoryview(BODY))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MIB


def test_each_thread_sends_its_own_hash(glacier: GlacierVault) -> None:
    bodies = [some_bytes(MIB + 1 + number) for number in range(12)]
    upload_id = glacier.begin_upload(some_label(), 2 * MIB)

    def put(number: int) -> None:
        part = part_of(bodies[number], number * 2 * MIB)
        glacier.put_part(upload_id, part, memoryview(bodies[number]))

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(put, range(len(bodies))))
    stored = glacier.list_parts(upload_id, MIB)
    assert [part.tree_hash for part in stored] == [tree_hash(body) for body in bodies]


# Failures of the service: one attempt each, in our words.

SERVICE_FAULTS: list[tuple[dict[str, Any], type[NightvaultError]]] = [
    ({"code": "ThrottlingException"}, ThrottledError),
    ({"code": "ServiceUnavailableException"}, UnreachableError),
    ({"code": "ServiceUnavailableException", "status": 503}, UnreachableError),
    ({"code": "RequestTimeoutException"}, UnreachableError),
    ({"code": "AccessDeniedException"}, DeniedError),
    ({"code": "ExpiredTokenException"}, DeniedError),
    ({"code": "NoLongerSupportedException", "status": 400}, VaultError),
    ({"reset": True}, UnreachableError),
    ({"reset": True, "after": True}, UnreachableError),
]


@pytest.mark.parametrize(("fault", "expected"), SERVICE_FAULTS, ids=str)
@pytest.mark.parametrize("operation", ["UploadMultipartPart", "ListParts", "CompleteMultipartUpload"])
def test_a_failing_service_is_asked_once(
    emulator: RunningEmulator,
    glacier: GlacierVault,
    operation: str,
    fault: dict[str, Any],
    expected: type[NightvaultError],
) -> None:
    data = some_bytes(MIB)
    upload_id = glacier.begin_upload(CATALOG, MIB)
    calls: dict[str, Callable[[], object]] = {
        "UploadMultipartPart": lambda: send(glacier, upload_id, data, cut(data)),
        "ListParts": lambda: glacier.list_parts(upload_id, MIB),
        "CompleteMultipartUpload": lambda: complete(glacier, upload_id, CATALOG, data),
    }
    if operation == "CompleteMultipartUpload":
        send(glacier, upload_id, data, cut(data))
    emulator.set_faults([{"operation": operation, "count": 9, **fault}])
    with pytest.raises(NightvaultError) as caught:
        calls[operation]()
    assert type(caught.value) is expected
    assert [fault["met"] for fault in emulator.faults()] == [1]
    emulator.set_faults([])
    calls[operation]()


def test_an_archive_whose_answer_was_lost_is_found_by_completing_again(
    emulator: RunningEmulator, glacier: GlacierVault
) -> None:
    data = some_bytes(MIB + 1)
    upload_id = glacier.begin_upload(CATALOG, MIB)
    send(glacier, upload_id, data, cut(data))
    emulator.set_faults([{"operation": "CompleteMultipartUpload", "after": True, "reset": True}])
    with pytest.raises(UnreachableError):
        complete(glacier, upload_id, CATALOG, data)
    archive_id = complete(glacier, upload_id, CATALOG, data)
    emulator.make_inventories()
    listing_id = glacier.request_listing("t")
    emulator.advance(6 * HOUR)
    assert [archive.archive_id for archive in glacier.fetch_listing(listing_id).archives] == [archive_id]


def test_a_request_whose_answer_was_lost_is_found_by_its_token(
    emulator: RunningEmulator, glacier: GlacierVault
) -> None:
    archive_id = store(glacier, b"abc")
    emulator.set_faults([{"operation": "InitiateJob", "after": True, "reset": True}])
    with pytest.raises(UnreachableError):
        glacier.request_retrieval(archive_id, None, Tier.EXPEDITED, "mine")
    retrieval_id = glacier.open_retrievals()["mine"]
    emulator.advance(1 * HOUR)
    assert glacier.fetch(retrieval_id, ByteRange(0, 3)).data == b"abc"


def test_sold_out_expedited_retrievals_have_an_advice(
    emulator: RunningEmulator, glacier: GlacierVault
) -> None:
    archive_id = store(glacier, b"abc")
    emulator.set_faults([{"operation": "InitiateJob", "code": "InsufficientCapacityException"}])
    with pytest.raises(VaultError) as caught:
        glacier.request_retrieval(archive_id, None, Tier.EXPEDITED, "t")
    assert "--tier standard" in caught.value.advice


@pytest.mark.parametrize("operation", ["whole", "piece", "listing"])
@pytest.mark.parametrize("cut_off", [0, 20])
def test_output_that_is_cut_short_is_no_output(
    emulator: RunningEmulator, glacier: GlacierVault, operation: str, cut_off: int
) -> None:
    archive_id = store(glacier, some_bytes(MIB))
    emulator.make_inventories()
    retrieval_id = glacier.request_retrieval(archive_id, None, Tier.BULK, "t")
    listing_id = glacier.request_listing("l")
    ripen(emulator)
    calls: dict[str, Callable[[], object]] = {
        "whole": lambda: glacier.fetch(retrieval_id, ByteRange(0, MIB)),
        "piece": lambda: glacier.fetch(retrieval_id, ByteRange(0, 100)),
        "listing": lambda: glacier.fetch_listing(listing_id),
    }
    emulator.set_faults([{"operation": "GetJobOutput", "truncate": cut_off}])
    with pytest.raises(UnreachableError):
        calls[operation]()
    calls[operation]()


def test_changed_output_is_told_by_the_tree_hash(emulator: RunningEmulator, glacier: GlacierVault) -> None:
    data = some_bytes(5 * MIB + 5)
    retrieval_id = glacier.request_retrieval(store(glacier, data), None, Tier.BULK, "t")
    ripen(emulator)
    for extent in (ByteRange(0, len(data)), ByteRange(0, 4 * MIB), ByteRange(4 * MIB, len(data))):
        fetched = glacier.fetch(retrieval_id, extent)
        assert fetched.tree_hash == tree_hash(fetched.data) == tree_hash(data[extent.start : extent.end])
        emulator.set_faults([{"operation": "GetJobOutput", "corrupt": True}])
        fetched = glacier.fetch(retrieval_id, extent)
        assert fetched.tree_hash != tree_hash(fetched.data)
    assert glacier.fetch(retrieval_id, ByteRange(MIB, 3 * MIB)).tree_hash is None


def test_a_service_that_is_not_there(glacier: GlacierVault) -> None:
    session = boto3.Session("A", "B")
    client = make_client(session, "glacier", region=REGION, endpoint="http://127.0.0.1:9")
    with pytest.raises(UnreachableError) as caught:
        GlacierVault(VaultName("cold"), client, "x").state()
    assert caught.value.retryable


def test_keys_that_aws_does_not_know(emulator: RunningEmulator) -> None:
    client = make_client(boto3.Session("A", "B"), "glacier", region=REGION, endpoint=emulator.glacier_url)
    with pytest.raises(DeniedError):
        GlacierVault(VaultName("cold"), client, "x").create()


def test_failures_of_the_credential_source_come_out_unchanged(emulator: RunningEmulator) -> None:
    ours = IdentityError("the certificate has expired", advice="renew it")

    def renew() -> Any:
        raise ours

    expired = {"access_key": "A", "secret_key": "B", "token": "C", "expiry_time": "2020-01-01T00:00:00Z"}
    inner = get_session()
    inner._credentials = RefreshableCredentials.create_from_metadata(expired, renew, "test")
    session = boto3.Session(botocore_session=inner)
    client = make_client(session, "glacier", region=REGION, endpoint=emulator.glacier_url)
    with pytest.raises(IdentityError) as caught:
        GlacierVault(VaultName("cold"), client, "x").state()
    assert caught.value is ours


# Time, pages and other clients.


def test_retrievals_expire(emulator: RunningEmulator, glacier: GlacierVault) -> None:
    retrieval_id = glacier.request_retrieval(store(glacier, b"abc"), None, Tier.BULK, "t")
    emulator.advance(24 * 30 * HOUR)
    assert glacier.retrieval_statuses([retrieval_id])[retrieval_id].state is RetrievalState.EXPIRED
    assert glacier.open_retrievals() == {}
    with pytest.raises(RetrievalExpiredError):
        glacier.fetch(retrieval_id, ByteRange(0, 3))


def test_more_than_a_page_of_parts(glacier: GlacierVault) -> None:
    data, label = some_bytes(2 * MIB), some_label()
    upload_id = glacier.begin_upload(label, MIB)
    for number in range(53):
        body = data[number : number + 10]
        glacier.put_part(upload_id, part_of(body, number * MIB), memoryview(body))
    assert [part.offset for part in glacier.list_parts(upload_id, MIB)] == [n * MIB for n in range(53)]


def test_more_than_a_page_of_uploads(glacier: GlacierVault) -> None:
    ids = {glacier.begin_upload(CATALOG, MIB) for _ in range(53)}
    assert {upload.upload_id for upload in glacier.list_uploads()} == ids


def test_more_than_a_page_of_retrievals(emulator: RunningEmulator, glacier: GlacierVault) -> None:
    archive_id = store(glacier, b"abc")
    asked = {f"t{n}": glacier.request_retrieval(archive_id, None, Tier.BULK, f"t{n}") for n in range(53)}
    assert glacier.open_retrievals() == asked
    statuses = glacier.retrieval_statuses(asked.values())
    assert {status.state for status in statuses.values()} == {RetrievalState.WAITING}
    assert len(statuses) == 53


def test_what_other_clients_do_is_seen_as_theirs(glacier: GlacierVault, client: Any) -> None:
    client.initiate_multipart_upload(
        vaultName=glacier._vault, archiveDescription="mt2 e30", partSize=str(MIB)
    )
    (upload,) = glacier.list_uploads()
    assert upload.label is None
    archive_id = store(glacier, b"abc")
    job = {"Type": "archive-retrieval", "ArchiveId": archive_id, "Description": "mtijob1 x"}
    client.initiate_job(vaultName=glacier._vault, jobParameters=job)
    assert glacier.open_retrievals() == {}


def test_a_vault_tells_its_state(emulator: RunningEmulator, glacier: GlacierVault) -> None:
    store(glacier, b"abc")
    emulator.make_inventories()
    state = glacier.state()
    assert state.location.endswith(f":vaults/{glacier._vault}")
    assert (state.archives, state.size) == (1, 3 + 32768)
    assert state.listed_at is not None


def test_a_listing_before_the_first_is_an_error_with_an_advice(glacier: GlacierVault) -> None:
    with pytest.raises(VaultError) as caught:
        glacier.request_listing("t")
    assert "day" in caught.value.advice


def test_ids_cannot_lead_elsewhere(glacier: GlacierVault) -> None:
    glacier.begin_upload(CATALOG, MIB)
    glacier.abort_upload(UploadId(".."))
    with pytest.raises(UploadExpiredError):
        glacier.list_parts(UploadId("../jobs"), MIB)
    assert glacier.state().exists
    assert len(glacier.list_uploads()) == 1


def test_the_account_can_be_named(emulator: RunningEmulator) -> None:
    vault = GlacierVault(VaultName("cold"), glacier_client(emulator), "named", account_id="123456789012")
    vault.create()
    assert vault.state().exists
    other = GlacierVault(VaultName("cold"), glacier_client(emulator), "named", account_id="999999999999")
    with pytest.raises(DeniedError):
        other.state()
