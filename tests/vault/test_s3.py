"""What the S3 vault sends, and what it makes of the answers that only S3 gives."""

from __future__ import annotations

import hashlib
from typing import Any

import botocore.auth
import pytest
from msgspec.structs import replace

from backup.errors import (
    ArchiveMissingError,
    ArchiveTakenError,
    DeniedError,
    IntegrityError,
    NightvaultError,
    RetrievalExpiredError,
    RetrievalNotReadyError,
    ThrottledError,
    UnreachableError,
    UploadExpiredError,
    VaultError,
    VaultMissingError,
)
from backup.format.crc64 import crc64
from backup.format.treehash import tree_hash
from backup.model import MIB, ByteRange, PackId, PackKind, RetrievalState, Tier
from backup.vault.s3 import keys
from backup.vault.s3.answers import encode_crc, whole_tag
from tests.support.archives import CATALOG, complete, cut, part_of, send, some_bytes, some_label, store
from tests.support.rigs import s3_vault
from tests.vault.scripted_s3 import Answer, ScriptedS3, refusal

DATA = b"abc"
LABEL = some_label()
KEY = keys.key_of(LABEL)
UPLOAD = keys.upload_id_of(KEY, "1")
TAG = hashlib.md5(DATA, usedforsecurity=False).hexdigest()
WHOLE_TAG = whole_tag([TAG])
PARTS = Answer(
    body=(
        f"<ListPartsResult><Part><PartNumber>1</PartNumber><Size>3</Size><ETag>{TAG}</ETag>"
        "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Part></ListPartsResult>"
    )
)
SAME_CRC = {"content-length": "3", "x-amz-checksum-crc64nvme": encode_crc(crc64(DATA))}
OURS = Answer(headers={**SAME_CRC, "etag": f'"{WHOLE_TAG}"'})
NOT_THERE = Answer(404)


def text_of(value: bytes | str | int) -> str:
    """A header as text, however botocore keeps it."""
    return value.decode() if isinstance(value, bytes) else str(value)


def completing(answer: Answer | list[Answer], head: Answer = NOT_THERE) -> ScriptedS3:
    """A service with our one part, that says this to Complete."""
    return ScriptedS3(
        ListParts=PARTS,
        CompleteMultipartUpload=answer,
        HeadObject=head,
        HeadBucket=Answer(),
        AbortMultipartUpload=Answer(204),
    )


# Complete.


def test_complete_never_overwrites_and_names_the_crc_of_the_whole() -> None:
    s3 = completing(Answer(body="<CompleteMultipartUploadResult/>"))
    assert complete(s3.vault(), UPLOAD, LABEL, DATA) == KEY
    (_, request) = s3.sent[-1]
    assert request.headers["If-None-Match"] in {"*", b"*"}
    sent = {name.lower(): value for name, value in request.headers.items()}
    wanted = {
        "x-amz-checksum-crc64nvme": encode_crc(crc64(DATA)),
        "x-amz-checksum-type": "FULL_OBJECT",
        "x-amz-mp-object-size": "3",
    }
    assert wanted.items() <= {name: text_of(value) for name, value in sent.items()}.items()


@pytest.mark.parametrize(
    ("code", "status"),
    [("PreconditionFailed", 412), ("ConditionalRequestConflict", 409), ("NoSuchUpload", 404)],
)
def test_what_is_ours_already_is_the_answer(code: str, status: int) -> None:
    s3 = completing(refusal(code, status), OURS)
    assert complete(s3.vault(), UPLOAD, LABEL, DATA) == KEY
    assert s3.operations()[-1] == "AbortMultipartUpload"


@pytest.mark.parametrize("head", [
    {"content-length": "4"}, {"content-length": "3", "crc": "other"}, SAME_CRC,
    {**SAME_CRC, "etag": f'"{whole_tag([hashlib.md5(b"abd").hexdigest()])}"'},
    {"content-length": "4", "etag": f'"{WHOLE_TAG}"'},
])  # fmt: skip
@pytest.mark.parametrize("code", ["PreconditionFailed", "NoSuchUpload"])
def test_something_else_at_our_name_is_said(code: str, head: dict[str, str]) -> None:
    headers = dict(head)
    if headers.pop("crc", None):
        headers["x-amz-checksum-crc64nvme"] = encode_crc(1)
    s3 = completing(refusal(code, 412), Answer(headers=headers))
    with pytest.raises(ArchiveTakenError, match="something else lies at data/") as caught:
        complete(s3.vault(), UPLOAD, LABEL, DATA)
    assert "nothing was overwritten" in caught.value.advice
    assert not isinstance(caught.value, UploadExpiredError)
    assert s3.operations()[-1] == "AbortMultipartUpload"


def test_what_nothing_tells_from_others_is_not_ours() -> None:
    head = Answer(headers={"content-length": "3"})
    s3 = ScriptedS3(ListParts=refusal("NoSuchUpload", 404), HeadObject=head, AbortMultipartUpload=Answer(204))
    parts = [replace(part, tag="") for part in cut(DATA)]
    with pytest.raises(ArchiveTakenError):
        s3.vault().complete_upload(UPLOAD, LABEL, 3, tree_hash(DATA), parts)


def test_what_was_put_in_place_of_our_part_is_not_completed() -> None:
    other = Answer(body=PARTS.body.replace(TAG, hashlib.md5(b"abd").hexdigest()))
    s3 = ScriptedS3(ListParts=other, UploadPart=Answer(headers={"etag": f'"{TAG}"'}))
    vault, parts = s3.vault(), [replace(part, tag="") for part in cut(DATA)]
    with pytest.raises(IntegrityError, match="other bytes as part 1"):  # nothing shows what was sent
        vault.complete_upload(UPLOAD, LABEL, 3, tree_hash(DATA), parts)
    send(vault, UPLOAD, DATA, parts)
    with pytest.raises(IntegrityError, match="other bytes as part 1"):
        vault.complete_upload(UPLOAD, LABEL, 3, tree_hash(DATA), parts)
    s3.answer(ListParts=PARTS, CompleteMultipartUpload=Answer(body="<CompleteMultipartUploadResult/>"))
    assert vault.complete_upload(UPLOAD, LABEL, 3, tree_hash(DATA), parts) == KEY
    assert (vault.take_version(KEY), vault.take_version(KEY)) == (WHOLE_TAG, "")


def test_after_a_conflict_another_upload_is_wanted() -> None:
    s3 = completing(refusal("ConditionalRequestConflict", 409))
    with pytest.raises(UploadExpiredError):
        complete(s3.vault(), UPLOAD, LABEL, DATA)
    assert s3.operations()[-1] == "AbortMultipartUpload"


def test_an_error_in_the_body_of_a_200_is_an_error_and_may_be_tried_again() -> None:
    late = refusal("InternalError", 200, "We encountered an internal error. Please try again.")
    s3 = completing(late)
    with pytest.raises(UnreachableError) as caught:
        complete(s3.vault(), UPLOAD, LABEL, DATA)
    assert caught.value.retryable


def test_a_role_that_may_not_read_knows_its_own_by_the_list() -> None:
    s3 = ScriptedS3(
        ListParts=refusal("NoSuchUpload", 404),
        HeadObject=Answer(403),
        ListObjectsV2=[
            Answer(
                body=f"<ListBucketResult><Contents><Key>{KEY}</Key><Size>3</Size><ETag>{WHOLE_TAG}</ETag>"
                "</Contents></ListBucketResult>"
            ),
            Answer(
                body=f"<ListBucketResult><Contents><Key>{KEY}x</Key><Size>3</Size></Contents></ListBucketResult>"
            ),
        ],
        AbortMultipartUpload=Answer(204),
    )
    assert complete(s3.vault(), UPLOAD, LABEL, DATA) == KEY
    with pytest.raises(UploadExpiredError):
        complete(s3.vault(), UPLOAD, LABEL, DATA)


@pytest.mark.parametrize("code", ["InvalidPart", "InvalidPartOrder", "EntityTooSmall", "BadDigest"])
def test_parts_that_the_service_refuses(code: str) -> None:
    with pytest.raises(IntegrityError):
        complete(completing(refusal(code)).vault(), UPLOAD, LABEL, DATA)


# Parts.


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes botocore has hashed, piece by piece."""
    seen: list[int] = []

    class Counting:
        def __init__(self, data: bytes = b"") -> None:
            self._real = hashlib.sha256()
            self.update(data)

        def update(self, data: bytes) -> None:
            seen.append(len(data))
            self._real.update(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

    monkeypatch.setattr(botocore.auth, "sha256", Counting)
    return seen


def test_tls_and_crc_spare_a_part_the_signers_hash(hashed: list[int]) -> None:
    s3 = ScriptedS3(UploadPart=Answer())
    body = some_bytes(8 * MIB)
    send(s3.vault(), UPLOAD, body, cut(body, 8 * MIB))
    ((_, request),) = s3.sent
    assert request.headers["X-Amz-Content-SHA256"] == b"UNSIGNED-PAYLOAD"
    assert request.headers["x-amz-checksum-crc64nvme"].decode() == encode_crc(crc64(body))
    assert "aws-chunked" not in str(request.headers)
    assert 0 < sum(hashed) < 10_000


def test_without_crc_the_signature_covers_a_parts_hash(hashed: list[int]) -> None:
    s3 = ScriptedS3(UploadPart=Answer())
    body = some_bytes(8 * MIB)
    send(s3.vault(checksums="none"), UPLOAD, body, cut(body, 8 * MIB))
    ((_, request),) = s3.sent
    assert request.headers["X-Amz-Content-SHA256"].decode() == hashlib.sha256(body).hexdigest()
    assert "x-amz-checksum-crc64nvme" not in request.headers
    assert sum(hashed) > len(body)


def test_each_kind_goes_into_its_class() -> None:
    begun = "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>"
    s3 = ScriptedS3(CreateMultipartUpload=Answer(body=begun))
    vault = s3.vault(storage_class="GLACIER", catalog_class="STANDARD_IA", prefix="web1/")
    vault.begin_upload(CATALOG, 8 * MIB)
    vault.begin_upload(some_label(), 8 * MIB)
    classes = [request.headers["x-amz-storage-class"] for _, request in s3.sent]
    assert [
        str(storage_class, "ascii") if isinstance(storage_class, bytes) else storage_class
        for storage_class in classes
    ] == [
        "STANDARD_IA",
        "GLACIER",
    ]
    assert "/some-bucket/web1/meta/" in s3.sent[0][1].url
    assert "/some-bucket/web1/data/" in s3.sent[1][1].url


# Retrievals.


@pytest.mark.parametrize(
    "answer",
    [
        Answer(202),
        Answer(200),
        refusal("RestoreAlreadyInProgress", 409),
        refusal("ObjectAlreadyInActiveTierError", 403),
        refusal("InvalidObjectState", 403, "Restore is not allowed for the object's current storage class"),
    ],
)
def test_a_retrieval_is_asked_for_however_often(answer: Answer) -> None:
    s3 = ScriptedS3(RestoreObject=answer)
    vault = s3.vault(kept_days=9)
    retrieval_id = vault.request_retrieval(KEY, None, Tier.BULK, "t")
    assert retrieval_id == keys.retrieval_id_of(KEY, None)
    ((_, request),) = s3.sent
    body = request.body if isinstance(request.body, bytes) else str(request.body).encode()
    assert b"<Days>9</Days>" in body
    assert b"<Tier>Bulk</Tier>" in body


def test_sold_out_expedited_retrievals_say_what_to_do() -> None:
    s3 = ScriptedS3(RestoreObject=refusal("GlacierExpeditedRetrievalNotAvailable", 503))
    with pytest.raises(VaultError) as caught:
        s3.vault(storage_class="GLACIER").request_retrieval(KEY, None, Tier.EXPEDITED, "t")
    assert "--tier standard" in caught.value.advice


@pytest.mark.parametrize(
    ("restore", "error"),
    [('ongoing-request="true"', RetrievalNotReadyError), ("", RetrievalExpiredError)],
)
def test_a_frozen_object_is_not_ready_or_no_longer(restore: str, error: type[NightvaultError]) -> None:
    head = {"x-amz-storage-class": "DEEP_ARCHIVE", **({"x-amz-restore": restore} if restore else {})}
    s3 = ScriptedS3(GetObject=refusal("InvalidObjectState", 403), HeadObject=Answer(headers=head))
    with pytest.raises(error):
        s3.vault().fetch(keys.retrieval_id_of(KEY, None), ByteRange(0, 3))


def test_a_frozen_catalog_is_retrieved_though_the_vault_reads_at_once() -> None:
    frozen = Answer(headers={"content-length": "3", "x-amz-storage-class": "GLACIER"})
    s3 = ScriptedS3(HeadObject=frozen, RestoreObject=Answer(202))
    vault = s3.vault(storage_class="GLACIER_IR")
    catalog = keys.key_of(CATALOG)
    retrieval_id = vault.request_retrieval(catalog, None, Tier.STANDARD, "t")
    assert s3.operations() == ["HeadObject", "RestoreObject"]
    assert vault.retrieval_statuses([retrieval_id])[retrieval_id].state is RetrievalState.EXPIRED


def test_states_of_many_are_read_from_few_lists() -> None:
    labels = [replace(LABEL, pack_id=PackId(bytes([n]) * 16)) for n in range(50)]
    ids = [keys.retrieval_id_of(keys.key_of(label), None) for label in labels]

    def page(wanted: list[str], *, more: bool) -> Answer:
        lines = "".join(
            f"<Contents><Key>{key}</Key><StorageClass>GLACIER</StorageClass><RestoreStatus>"
            "<IsRestoreInProgress>true</IsRestoreInProgress></RestoreStatus></Contents>"
            for key in wanted
        )
        truncated = f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>"
        return Answer(body=f"<ListBucketResult>{truncated}{lines}</ListBucketResult>")

    s3 = ScriptedS3(ListObjectsV2=[page(list(ids[:30]), more=True), page(list(ids[30:49]), more=False)])
    statuses = s3.vault(storage_class="GLACIER").retrieval_statuses(ids)
    assert s3.operations() == ["ListObjectsV2", "ListObjectsV2"]
    assert [statuses[retrieval_id].state for retrieval_id in ids[:49]] == [RetrievalState.WAITING] * 49
    assert statuses[ids[49]].state is RetrievalState.EXPIRED  # it is not there
    asked = s3.sent[1][1]
    assert "optional-object-attributes" in str(asked.headers).lower()


ONE_LINE = (
    "<Contents><Key>data/{}</Key><Size>1</Size><LastModified>2026-11-26T00:00:00Z</LastModified></Contents>"
)


@pytest.mark.parametrize("key", ["", ONE_LINE.format("a")])
def test_a_list_that_never_ends_is_given_up(key: str) -> None:
    """Empty pages, or the same again and again, each with another token."""
    pages = [
        Answer(
            body=f"<ListBucketResult><IsTruncated>true</IsTruncated>{key}"
            f"<NextContinuationToken>t{number}</NextContinuationToken></ListBucketResult>"
        )
        for number in range(400)
    ]
    s3 = ScriptedS3(HeadBucket=Answer(), ListObjectsV2=pages)
    vault = s3.vault()
    with pytest.raises(VaultError, match="does not end"):
        vault.fetch_listing(vault.request_listing("look"))
    assert len(s3.sent) < 110


def test_a_list_with_empty_pages_in_it_is_read_to_its_end() -> None:
    def page(number: int, key: str, *, more: bool) -> Answer:
        token = f"<NextContinuationToken>t{number}</NextContinuationToken>" if more else ""
        line = ONE_LINE.format(key) if key else ""
        told = f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>{token}{line}"
        return Answer(body=f"<ListBucketResult>{told}</ListBucketResult>")

    names = [f"k{number:04d}" if number % 60 == 0 else "" for number in range(300)]
    pages = [page(n, name, more=n < len(names) - 1) for n, name in enumerate(names)]
    s3 = ScriptedS3(HeadBucket=Answer(), ListObjectsV2=pages)
    vault = s3.vault()
    vault.fetch_listing(vault.request_listing("look"))
    assert s3.operations().count("ListObjectsV2") == len(names)


def test_what_a_list_does_not_tell_a_head_does() -> None:
    labels = [replace(LABEL, pack_id=PackId(bytes([n]) * 16)) for n in range(5)]
    ids = [keys.retrieval_id_of(keys.key_of(label), None) for label in labels]
    lines = "".join(
        f"<Contents><Key>{key}</Key><StorageClass>GLACIER</StorageClass></Contents>" for key in ids
    )
    head = {"x-amz-storage-class": "GLACIER", "x-amz-restore": 'ongoing-request="true"'}
    s3 = ScriptedS3(
        ListObjectsV2=Answer(body=f"<ListBucketResult>{lines}</ListBucketResult>"),
        HeadObject=Answer(headers=head),
    )
    statuses = s3.vault(storage_class="GLACIER").retrieval_statuses(ids)
    assert {status.state for status in statuses.values()} == {RetrievalState.WAITING}
    assert s3.operations().count("HeadObject") == 5


# One sentence each.


@pytest.mark.parametrize(
    ("code", "status", "kind", "advice"),
    [
        ("AccessDenied", 403, DeniedError, "compare the role's policy with `nightvault aws policy`"),
        ("RequestTimeTooSkewed", 403, DeniedError, "set this machine's clock"),
        ("InvalidAccessKeyId", 403, DeniedError, "check the role"),
        ("ExpiredToken", 400, DeniedError, "the temporary keys ran out"),
        ("NoSuchBucket", 404, VaultMissingError, "check the bucket's name"),
        ("AuthorizationHeaderMalformed", 400, DeniedError, "set the vault's region"),
        ("IllegalLocationConstraintException", 400, VaultError, "set the vault's region"),
        ("InvalidStorageClass", 400, VaultError, "set storage_class"),
        ("NotImplemented", 501, VaultError, "docs/s3.md"),
        ("SlowDown", 503, ThrottledError, ""),
        ("InternalError", 500, UnreachableError, ""),
        ("OperationAborted", 409, UnreachableError, ""),
    ],
)
def test_refusals_are_one_sentence(code: str, status: int, kind: type[NightvaultError], advice: str) -> None:
    s3 = ScriptedS3(CreateMultipartUpload=refusal(code, status, "It says no."))
    with pytest.raises(kind) as caught:
        s3.vault().begin_upload(LABEL, 8 * MIB)
    assert str(caught.value) == f"cannot begin an upload (bucket some-bucket): It says no. ({code})"
    assert advice in caught.value.advice


def test_a_bucket_in_another_region_is_not_followed_there() -> None:
    elsewhere = refusal("PermanentRedirect", 301, "Use another endpoint.")
    s3 = ScriptedS3(ListMultipartUploads=elsewhere, HeadBucket=Answer(301))
    with pytest.raises(VaultError) as caught:
        s3.vault().list_uploads()
    assert "set the vault's region" in caught.value.advice


def test_a_bucket_in_another_region_is_named() -> None:
    s3 = ScriptedS3(HeadBucket=Answer(400, headers={"x-amz-bucket-region": "us-west-2"}))
    with pytest.raises(VaultError, match="bucket some-bucket is in us-west-2, not in eu-central-1") as caught:
        s3.vault().state()
    assert 'set region = "us-west-2"' in caught.value.advice


# Buckets that keep versions.


VERSIONED = Answer(body="<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>")


def test_the_version_that_is_there_is_deleted() -> None:
    deleted = Answer(body=f"<DeleteResult><Deleted><Key>{KEY}</Key></Deleted></DeleteResult>")
    head = Answer(headers={"x-amz-version-id": "v7"})
    s3 = ScriptedS3(GetBucketVersioning=VERSIONED, HeadObject=head, DeleteObjects=deleted)
    assert s3.vault().delete_archives({KEY: None}) == {}
    wanted = b"<VersionId>v7</VersionId>"
    assert wanted in s3.sent[-1][1].body, "a plain deletion would hide it, and bill it on"


def test_what_was_deleted_already_gets_no_second_marker() -> None:
    there = Answer(404, headers={"x-amz-delete-marker": "true"})
    marker = f"<DeleteMarker><Key>{KEY}</Key><VersionId>m</VersionId><IsLatest>true</IsLatest></DeleteMarker>"
    versions = Answer(body=f"<ListVersionsResult>{marker}</ListVersionsResult>")
    s3 = ScriptedS3(
        GetBucketVersioning=VERSIONED, HeadObject=there, ListObjectVersions=versions, HeadBucket=Answer()
    )
    assert s3.vault().delete_archives({KEY: None}) == {}
    assert s3.operations() == ["GetBucketVersioning", "HeadObject", "ListObjectVersions", "HeadBucket"]


@pytest.mark.parametrize(
    ("storage_class", "operation"), [("GLACIER_IR", "HeadObject"), ("GLACIER", "RestoreObject")]
)
def test_below_a_delete_marker_there_may_be_something(storage_class: str, operation: str) -> None:
    buried = Answer(404, "<Error><Code>NoSuchKey</Code></Error>", {"x-amz-delete-marker": "true"})
    denied = Answer(403, "<Error><Code>AccessDenied</Code></Error>")
    s3 = ScriptedS3(**{operation: buried}, ListObjectVersions=denied, HeadBucket=Answer())
    vault = s3.vault(storage_class=storage_class)
    with pytest.raises(ArchiveMissingError) as caught:
        vault.request_retrieval(KEY, None, Tier.STANDARD, "token")
    assert "once its delete marker is deleted it is there again" in caught.value.advice


# On a server that is not ours.


@pytest.mark.real
def test_seaweedfs_lets_nothing_be_written_over_what_is_there(seaweedfs: Any) -> None:
    vault = s3_vault(seaweedfs, "shared", prefix="over/", storage_class="STANDARD")
    key = store(vault, b"first", LABEL)
    upload_id = vault.begin_upload(LABEL, 8 * MIB)
    send(vault, upload_id, b"other", cut(b"other", 8 * MIB))
    with pytest.raises(VaultError, match="something else lies"):
        complete(vault, upload_id, LABEL, b"other")
    assert bytes(vault.fetch(keys.retrieval_id_of(key, None), ByteRange(0, 5)).data) == b"first"


@pytest.mark.real
def test_seaweedfs_checks_the_crc_of_parts_and_whole(seaweedfs: Any) -> None:
    vault = s3_vault(seaweedfs, "shared", prefix="crc/", storage_class="STANDARD")
    body, label = some_bytes(1000), some_label()
    part = part_of(body, 0, 8 * MIB)
    upload_id = vault.begin_upload(label, 8 * MIB)
    with pytest.raises(IntegrityError):
        vault.put_part(upload_id, replace(part, crc64=1), memoryview(body))
    vault.put_part(upload_id, part, memoryview(body))
    with pytest.raises(IntegrityError):
        vault.complete_upload(upload_id, label, 1000, tree_hash(body), [replace(part, crc64=1)])
    assert complete(vault, upload_id, label, body)


@pytest.mark.real
def test_a_versioned_bucket_of_seaweedfs_keeps_nothing_of_what_was_deleted(seaweedfs: Any) -> None:
    seaweedfs.create_bucket(Bucket="versioned")
    seaweedfs.put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
    vault = s3_vault(seaweedfs, "versioned", storage_class="STANDARD")
    key = store(vault, b"abc")
    vault.delete_archives({key: None})
    left = seaweedfs.list_object_versions(Bucket="versioned")
    assert not left.get("Versions")
    assert not left.get("DeleteMarkers")


@pytest.mark.real
def test_ministack_finds_a_retrieval_under_way(ministack: Any) -> None:
    vault = s3_vault(ministack, "shared", prefix="twice/", storage_class="GLACIER", checksums="none")
    for _ in range(5):  # it takes two seconds only: on a busy machine we may come too late
        archive_id = store(vault, some_bytes(100))
        retrieval_id = vault.request_retrieval(archive_id, None, Tier.STANDARD, "t")
        assert vault.request_retrieval(archive_id, None, Tier.STANDARD, "other") == retrieval_id
        if vault.retrieval_statuses([retrieval_id])[retrieval_id].state is RetrievalState.WAITING:
            return
    raise AssertionError("it was never seen to wait")


@pytest.mark.real
def test_ministack_keeps_catalogs_readable(ministack: Any) -> None:
    vault = s3_vault(ministack, "shared", prefix="hot/", storage_class="GLACIER", checksums="none")
    catalog = store(vault, b"catalog", replace(CATALOG, kind=PackKind.CATALOG))
    data = store(vault, b"data")
    retrieval_id = vault.request_retrieval(catalog, None, Tier.STANDARD, "t")
    assert bytes(vault.fetch(retrieval_id, ByteRange(0, 7)).data) == b"catalog"
    with pytest.raises(RetrievalExpiredError):
        vault.fetch(keys.retrieval_id_of(data, None), ByteRange(0, 4))


# Whose bucket it is.

NOTHING = Answer(body="<ListBucketResult/>")


def asked_of(s3: ScriptedS3, **settings: Any) -> list[tuple[str, str | None]]:
    """The operations of a vault's life, each with the account that it expects."""
    vault = s3.vault(**settings)
    vault.create()
    vault.state()
    vault.identities(LABEL.inventory_id)
    vault.newest_catalogs(LABEL.inventory_id, {})
    vault.add_mark("mark")
    vault.fetch_listing(vault.request_listing("token"))
    complete(vault, vault.begin_upload(LABEL, 8 * MIB), LABEL, DATA)
    vault.abort_upload(UPLOAD)
    vault.delete_archives({KEY: None}, {KEY: "0" * 32})
    told = []
    for operation, request in s3.sent:
        sent = {name.lower(): text_of(value) for name, value in request.headers.items()}
        told.append((operation, sent.get("x-amz-expected-bucket-owner")))
    return told


@pytest.mark.parametrize("owner", ["123456789012", None])
def test_each_request_but_create_names_the_account_that_must_own_the_bucket(owner: str | None) -> None:
    """Services without accounts are sent nothing that they might not know."""
    s3 = ScriptedS3(
        HeadBucket=[refusal("404", 404), Answer()],
        CreateBucket=Answer(),
        ListObjectsV2=NOTHING,
        PutObject=Answer(),
        CreateMultipartUpload=Answer(body="<R><UploadId>1</UploadId></R>"),
        ListParts=PARTS,
        HeadObject=NOT_THERE,
        CompleteMultipartUpload=Answer(body="<CompleteMultipartUploadResult/>"),
        AbortMultipartUpload=Answer(204),
        GetBucketVersioning=Answer(body="<VersioningConfiguration/>"),
        DeleteObjects=Answer(body=f"<DeleteResult><Deleted><Key>{KEY}</Key></Deleted></DeleteResult>"),
    )
    told = asked_of(s3, owner=owner)
    assert {operation for operation, _ in told} >= {"CreateBucket", "PutObject", "DeleteObjects", "ListParts"}
    assert [request for request in told if request[1] != owner] == ([("CreateBucket", None)] if owner else [])


@pytest.mark.parametrize(
    ("reason", "is_strangers"),
    [
        ("Access Denied", True),
        ("User: u is not authorized to perform: s3:ListBucket", False),
        ("Access Denied because object protected by object lock.", False),
    ],
)
def test_a_denial_without_a_reason_is_another_accounts_bucket(reason: str, *, is_strangers: bool) -> None:
    """The answer to HeadBucket never has a reason, so a list is asked for one."""
    s3 = ScriptedS3(HeadBucket=refusal("403", 403), ListObjectsV2=refusal("AccessDenied", 403, reason))
    with pytest.raises(DeniedError) as error:
        s3.vault(owner="123456789012").create()
    named = "belong to another account than 123456789012" in str(error.value.advice)
    assert named == is_strangers
    assert "compare the role's policy" in str(error.value.advice)
    with pytest.raises(DeniedError) as error:
        s3.vault().create()
    assert "S3 gives no reason here" in str(error.value.advice)
    with pytest.raises(DeniedError) as error:
        s3.vault(prefix="below/").create()
    assert "another account than" not in str(error.value.advice)
