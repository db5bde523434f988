"""Versions and delete markers of the emulator's buckets, as boto3 sees them."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.emulated import RunningEmulator, write_accounts
from tests.support.s3_clients import S3Talker, client, new_bucket, refused

KEY = "a key"
DAY = 24 * 3600


def switch(s3: Any, bucket: str, status: str) -> None:
    """Enable or suspend versioning."""
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})


@pytest.fixture
def kept(s3: Any, bucket: str) -> str:
    """A bucket that keeps versions."""
    switch(s3, bucket, "Enabled")
    return bucket


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    """An emulator whose clock may be stepped."""
    folder = tmp_path_factory.mktemp("versions")
    with RunningEmulator(folder / "state", write_accounts(folder / "accounts.toml")) as running:
        yield running


def put(s3: Any, bucket: str, body: bytes, **how: Any) -> str:
    """Put the key; the version of it."""
    return str(s3.put_object(Bucket=bucket, Key=KEY, Body=body, **how)["VersionId"])


def read(s3: Any, bucket: str, **how: Any) -> bytes:
    """The contents of the key."""
    return bytes(s3.get_object(Bucket=bucket, Key=KEY, **how)["Body"].read())


def headers_of(answer: Any) -> dict[str, str]:
    """The headers of an answer of boto3."""
    return dict(answer["ResponseMetadata"]["HTTPHeaders"])


def test_the_switch(s3: Any, bucket: str, raw: S3Talker) -> None:
    """Never set, enabled, suspended; nothing else, and no way back."""
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    for status in ("Enabled", "Suspended", "Enabled"):
        switch(s3, bucket, status)
        assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == status
    how = {"Status": "Enabled", "MFADelete": "Enabled"}
    assert refused(s3.put_bucket_versioning, Bucket=bucket, VersioningConfiguration=how)[0] == 501
    for body in (
        b"<VersioningConfiguration/>",
        b"<VersioningConfiguration><Status>Off</Status>" + b"</VersioningConfiguration>",
    ):
        assert raw.ask("PUT", f"/{bucket}", body, query="versioning=").status == 400
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"


def test_each_version_stays(s3: Any, kept: str) -> None:
    """Three of a key, put, copied and completed: each is read by its id, and the newest without one."""
    first = put(s3, kept, b"one")
    copied = s3.copy_object(
        Bucket=kept, Key=KEY, CopySource=f"{kept}/{KEY}?versionId={first}", StorageClass="GLACIER_IR"
    )
    upload = s3.create_multipart_upload(Bucket=kept, Key=KEY)["UploadId"]
    part = s3.upload_part(Bucket=kept, Key=KEY, UploadId=upload, PartNumber=1, Body=b"three")
    named = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    completed = s3.complete_multipart_upload(Bucket=kept, Key=KEY, UploadId=upload, MultipartUpload=named)
    again = s3.complete_multipart_upload(Bucket=kept, Key=KEY, UploadId=upload, MultipartUpload=named)
    versions = [first, copied["VersionId"], completed["VersionId"]]
    assert len(set(versions)) == 3
    assert again["VersionId"] == completed["VersionId"]
    assert copied["CopySourceVersionId"] == first
    assert [read(s3, kept, VersionId=version) for version in versions] == [b"one", b"one", b"three"]
    assert read(s3, kept) == b"three"
    heads = [s3.head_object(Bucket=kept, Key=KEY, VersionId=version) for version in versions]
    assert [head["VersionId"] for head in heads] == versions
    assert s3.head_object(Bucket=kept, Key=KEY)["VersionId"] == versions[-1]
    assert (
        s3.get_object_attributes(Bucket=kept, Key=KEY, ObjectAttributes=["ObjectSize"], VersionId=first)[
            "ObjectSize"
        ]
        == 3
    )
    assert len(s3.list_objects_v2(Bucket=kept)["Contents"]) == 1


def test_a_deletion_leaves_a_marker(s3: Any, kept: str) -> None:
    """The key is gone by its name alone; GET and HEAD say why; without the marker it is back."""
    version = put(s3, kept, b"one")
    marker = s3.delete_object(Bucket=kept, Key=KEY)
    assert marker["DeleteMarker"] is True
    assert marker["VersionId"] != version
    for ask in (s3.get_object, s3.head_object):
        with pytest.raises(s3.exceptions.ClientError) as error:
            ask(Bucket=kept, Key=KEY)
        headers = headers_of(error.value.response)
        assert headers["x-amz-delete-marker"] == "true"
        assert headers["x-amz-version-id"] == marker["VersionId"]
        with pytest.raises(s3.exceptions.ClientError) as error:
            ask(Bucket=kept, Key=KEY, VersionId=marker["VersionId"])
        answer = error.value.response["ResponseMetadata"]
        assert (answer["HTTPStatusCode"], answer["HTTPHeaders"]["x-amz-delete-marker"]) == (405, "true")
    assert "Contents" not in s3.list_objects_v2(Bucket=kept)
    assert read(s3, kept, VersionId=version) == b"one"
    assert refused(s3.delete_bucket, Bucket=kept) == (409, "BucketNotEmpty")
    undone = s3.delete_object(Bucket=kept, Key=KEY, VersionId=marker["VersionId"])
    assert (undone["DeleteMarker"], undone["VersionId"]) == (True, marker["VersionId"])
    assert read(s3, kept) == b"one"
    gone = s3.delete_object(Bucket=kept, Key=KEY, VersionId=version)
    assert "DeleteMarker" not in gone
    assert refused(s3.get_object, Bucket=kept, Key=KEY, VersionId=version) == (404, "NoSuchVersion")
    s3.delete_object(Bucket=kept, Key=KEY, VersionId=version)  # once more, and it is no error
    s3.delete_bucket(Bucket=kept)


def test_many_at_once(s3: Any, kept: str) -> None:
    """DeleteObjects says of each which version went, or which marker came."""
    version = put(s3, kept, b"one")
    done = s3.delete_objects(Bucket=kept, Delete={"Objects": [{"Key": KEY}, {"Key": "none"}]})["Deleted"]
    assert [deleted["DeleteMarker"] for deleted in done] == [True, True]
    markers = [{"Key": deleted["Key"], "VersionId": deleted["DeleteMarkerVersionId"]} for deleted in done]
    named = [
        *markers,
        {"Key": KEY, "VersionId": version},
        {"Key": KEY, "VersionId": "0" * 32},
        {"Key": KEY, "VersionId": "?"},
    ]
    done = s3.delete_objects(Bucket=kept, Delete={"Objects": named})
    assert [deleted["VersionId"] for deleted in done["Deleted"]] == [
        named_version["VersionId"] for named_version in named[:4]
    ]
    assert [deleted.get("DeleteMarker", False) for deleted in done["Deleted"]] == [True, True, False, False]
    assert [(error["Code"], error["VersionId"]) for error in done["Errors"]] == [("InvalidArgument", "?")]
    assert not s3.list_object_versions(Bucket=kept).keys() & {"Versions", "DeleteMarkers"}


def test_a_marker_counts_as_absent_for_conditions(s3: Any, kept: str) -> None:
    """`If-None-Match: *` lets a deleted key be written again, and no other."""
    put(s3, kept, b"one")
    how = {"Bucket": kept, "Key": KEY, "Body": b"two", "IfNoneMatch": "*"}
    assert refused(s3.put_object, **how) == (412, "PreconditionFailed")
    s3.delete_object(Bucket=kept, Key=KEY)
    s3.put_object(**how)
    assert read(s3, kept) == b"two"


def test_suspended_versioning_writes_the_version_null(s3: Any, kept: str) -> None:
    """Older versions stay, and each write replaces the one before it."""
    first = put(s3, kept, b"one")
    switch(s3, kept, "Suspended")
    assert "VersionId" not in s3.put_object(Bucket=kept, Key=KEY, Body=b"two")
    s3.put_object(Bucket=kept, Key=KEY, Body=b"three")
    assert s3.head_object(Bucket=kept, Key=KEY)["VersionId"] == "null"
    listed = s3.list_object_versions(Bucket=kept)["Versions"]
    assert [(version["VersionId"], version["IsLatest"]) for version in listed] == [
        ("null", True),
        (first, False),
    ]
    marker = s3.delete_object(Bucket=kept, Key=KEY)
    assert (marker["DeleteMarker"], marker["VersionId"]) == (True, "null")
    listed = s3.list_object_versions(Bucket=kept)
    assert [version["VersionId"] for version in listed["Versions"]] == [first]
    assert [deletion["IsLatest"] for deletion in listed["DeleteMarkers"]] == [True]


def test_an_object_from_before_versioning_is_null(s3: Any, bucket: str) -> None:
    """It becomes the older one, and can be brought back by a copy."""
    s3.put_object(Bucket=bucket, Key=KEY, Body=b"old")
    assert "VersionId" not in s3.head_object(Bucket=bucket, Key=KEY)
    switch(s3, bucket, "Enabled")
    assert s3.head_object(Bucket=bucket, Key=KEY)["VersionId"] == "null"
    put(s3, bucket, b"new")
    s3.copy_object(Bucket=bucket, Key=KEY, CopySource=f"{bucket}/{KEY}?versionId=null")
    assert read(s3, bucket) == b"old"
    assert len(s3.list_object_versions(Bucket=bucket)["Versions"]) == 3


def test_a_frozen_version_is_restored_by_its_id(own: RunningEmulator) -> None:
    """RestoreObject of an older version makes that one readable, and no other."""
    s3 = client(own.s3_url)
    bucket = new_bucket(s3)
    switch(s3, bucket, "Enabled")
    first, second = (put(s3, bucket, body, StorageClass="GLACIER") for body in (b"one", b"two"))
    s3.restore_object(Bucket=bucket, Key=KEY, VersionId=first, RestoreRequest={"Days": 1})
    own.advance(6 * 3600)
    assert read(s3, bucket, VersionId=first) == b"one"
    assert refused(s3.get_object, Bucket=bucket, Key=KEY, VersionId=second)[1] == "InvalidObjectState"


def test_every_version_is_billed_until_it_is_deleted(own: RunningEmulator) -> None:
    """Three noncurrent days of one GLACIER_IR version, and a marker as long as its key."""
    s3 = client(own.s3_url)
    bucket = new_bucket(s3)
    switch(s3, bucket, "Enabled")
    body = bytes(1 << 20)
    first = put(s3, bucket, body)
    marker = s3.delete_object(Bucket=bucket, Key=KEY)["VersionId"]
    own.advance(40 * DAY)
    stored = _byte_months(own, bucket)
    assert stored > Decimal(len(body)) * Decimal("1.2")
    s3.delete_object(Bucket=bucket, Key=KEY, VersionId=first)
    before = _byte_months(own, bucket)
    own.advance(40 * DAY)
    grown = _byte_months(own, bucket) - before
    assert Decimal(len(KEY)) * Decimal("1.2") < grown < Decimal(len(KEY)) * Decimal("1.5")
    s3.delete_object(Bucket=bucket, Key=KEY, VersionId=marker)
    before = _byte_months(own, bucket)
    own.advance(40 * DAY)
    assert _byte_months(own, bucket) - before < 1


def _byte_months(own: RunningEmulator, bucket: str) -> Decimal:
    lines = [
        line for position in own.bill()["bill"] if position["name"] == bucket for line in position["lines"]
    ]
    return sum((Decimal(line["quantity"]) for line in lines if line["item"] == "storage"), Decimal(0)) * 2**30


def test_what_expires_is_hidden(own: RunningEmulator) -> None:
    """A lifecycle rule acts on the newest version alone, and leaves a marker."""
    s3 = client(own.s3_url)
    bucket = new_bucket(s3)
    switch(s3, bucket, "Enabled")
    versions = [put(s3, bucket, body) for body in (b"one", b"two")]
    rule = {"ID": "x", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 2}}
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})
    own.advance(10 * DAY)
    listed = s3.list_object_versions(Bucket=bucket)
    assert [version["VersionId"] for version in listed["Versions"]] == versions[::-1]
    assert len(listed["DeleteMarkers"]) == 1
    moving: dict[str, Any] = {"ID": "x", "Status": "Enabled", "Filter": {"ObjectSizeGreaterThan": 0}}
    moving["Transitions"] = [{"Days": 1, "StorageClass": "GLACIER"}]
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [moving]})
    own.advance(10 * DAY)
    classes = {version["StorageClass"] for version in s3.list_object_versions(Bucket=bucket)["Versions"]}
    assert classes == {"STANDARD"}


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "delete", "delete version", "enable", "suspend"]),
        st.sampled_from(["a/1", "a/2", "b"]),
        st.integers(0, 5),
    ),
    max_size=25,
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, size=st.integers(1, 4))
def test_any_history_is_listed_and_read(s3: Any, steps: list[tuple[str, str, int]], size: int) -> None:
    """A model of a dictionary of lists: pages of any size, every version's bytes, and the plain list."""
    bucket = new_bucket(s3)
    model: dict[str, list[tuple[str, bytes | None]]] = {}  # the newest first; None is a marker
    status = ""
    for number, (what, key, which) in enumerate(steps):
        kept = model.setdefault(key, [])
        if what in ("enable", "suspend"):
            status = "Enabled" if what == "enable" else "Suspended"
            switch(s3, bucket, status)
        elif what == "put":
            body = str(number).encode()
            version = s3.put_object(Bucket=bucket, Key=key, Body=body).get("VersionId", "null")
            model[key] = [(version, body), *(older for older in kept if older[0] != version)]
        elif what == "delete":
            version = s3.delete_object(Bucket=bucket, Key=key).get("VersionId", "null")
            rest = [older for older in kept if older[0] != version]
            model[key] = [(version, None), *rest] if status else rest
        elif kept:
            version, _ = kept.pop(which % len(kept))
            s3.delete_object(Bucket=bucket, Key=key, VersionId=version)
    _same(s3, bucket, model, size)


def _same(s3: Any, bucket: str, model: dict[str, list[tuple[str, bytes | None]]], size: int) -> None:
    wanted = [
        (key, *version, version is versions[0])
        for key, versions in sorted(model.items())
        for version in versions
    ]
    pages = list(
        s3.get_paginator("list_object_versions").paginate(Bucket=bucket, PaginationConfig={"PageSize": size})
    )
    found = [
        version for page in pages for version in (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))
    ]
    assert all(len(page.get("Versions", ())) + len(page.get("DeleteMarkers", ())) <= size for page in pages)
    assert {(version["Key"], version["VersionId"], version["IsLatest"]) for version in found} == {
        (key, version, latest) for key, version, _, latest in wanted
    }
    assert len(found) == len(wanted)
    for kind, is_marker in (("Versions", False), ("DeleteMarkers", True)):
        ordered = [(version["Key"], version["VersionId"]) for page in pages for version in page.get(kind, ())]
        assert ordered == [(key, version) for key, version, body, _ in wanted if (body is None) is is_marker]
    for key, version, body, _ in wanted:
        if body is not None:
            got = s3.get_object(Bucket=bucket, Key=key, VersionId=version)
            assert got["Body"].read() == body
    plain = [listed["Key"] for listed in s3.list_objects_v2(Bucket=bucket).get("Contents", ())]
    assert plain == sorted(key for key, versions in model.items() if versions and versions[0][1] is not None)


def test_pages_go_on_behind_what_was_deleted_meanwhile(s3: Any, kept: str) -> None:
    """As a tool does that empties a bucket: list a page, delete it, list the next one by its markers."""
    for number in range(7):
        put(s3, kept, str(number).encode())
    switch(s3, kept, "Suspended")
    s3.put_object(Bucket=kept, Key=KEY, Body=b"null")
    markers: dict[str, str] = {}
    while True:
        page = s3.list_object_versions(Bucket=kept, MaxKeys=1, **markers)
        for version in page["Versions"]:
            s3.delete_object(Bucket=kept, Key=KEY, VersionId=version["VersionId"])
        if not page["IsTruncated"]:
            break
        markers = {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page["NextVersionIdMarker"]}
    s3.delete_bucket(Bucket=kept)
