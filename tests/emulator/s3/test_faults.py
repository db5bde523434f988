"""Planned faults of S3's operations, each counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, HTTPClientError, ResponseStreamingError

from tests.support.emulated import RunningEmulator
from tests.support.s3_clients import code


@pytest.fixture(autouse=True)
def _no_faults_remain(emulator: RunningEmulator) -> Iterator[None]:
    yield
    emulator.set_faults([])


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("SlowDown", 503), ("InternalError", 500), ("ConditionalRequestConflict", 409), ("ExpiredToken", 400)],
)
def test_errors_by_operation_bucket_and_key(
    s3: Any, bucket: str, emulator: RunningEmulator, name: str, wanted: int
) -> None:
    emulator.set_faults([{"operation": "s3:PutObject", "vault": bucket, "key": "a/*", "code": name}])
    s3.put_object(Bucket=bucket, Key="b", Body=b"")
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=bucket, Key="a/b", Body=b"x")
    assert code(error) == (wanted, name)
    s3.put_object(Bucket=bucket, Key="a/b", Body=b"x", IfNoneMatch="*")
    assert emulator.faults()[0]["met"] == 1


def test_expedited_capacity_may_be_short(s3: Any, bucket: str, emulator: RunningEmulator) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"", StorageClass="GLACIER")
    emulator.set_faults([{"operation": "s3:RestoreObject", "code": "GlacierExpeditedRetrievalNotAvailable"}])
    with pytest.raises(ClientError) as error:
        s3.restore_object(Bucket=bucket, Key="k", RestoreRequest={"Days": 1})
    assert code(error) == (503, "GlacierExpeditedRetrievalNotAvailable")


@pytest.mark.parametrize("after", [False, True])
def test_complete_fails_within_a_200(s3: Any, bucket: str, emulator: RunningEmulator, after: bool) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    where["UploadId"] = s3.create_multipart_upload(**where)["UploadId"]
    part = s3.upload_part(**where, PartNumber=1, Body=b"x")
    parts = [{"PartNumber": 1, "ETag": part["ETag"], "ChecksumCRC32": part["ChecksumCRC32"]}]
    emulator.set_faults(
        [
            {
                "operation": "s3:CompleteMultipartUpload",
                "code": "InternalError",
                "in_body": True,
                "after": after,
            }
        ]
    )
    with pytest.raises(ClientError) as error:
        s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
    assert error.value.response["Error"]["Code"] == "InternalError"
    assert ("Contents" in s3.list_objects_v2(Bucket=bucket)) == after
    s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})


def test_resets_cuts_and_flipped_bits(s3: Any, bucket: str, emulator: RunningEmulator) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    emulator.set_faults(
        [
            {"operation": "s3:GetObject", "reset": True},
            {"operation": "s3:GetObject", "truncate": 3},
            {"operation": "s3:GetObject", "corrupt": True},
        ]
    )
    with pytest.raises((HTTPClientError, EndpointConnectionError)):
        s3.get_object(Bucket=bucket, Key="k")
    with pytest.raises((ResponseStreamingError, HTTPClientError)):
        s3.get_object(Bucket=bucket, Key="k", ChecksumMode="DISABLED")["Body"].read()
    wrong = s3.get_object(Bucket=bucket, Key="k", Range="bytes=0-9")["Body"].read()
    assert (len(wrong), wrong != b"0123456789") == (10, True)
    assert [fault["met"] for fault in emulator.faults()] == [1, 1, 1]


def test_a_star_of_s3_meets_no_vault(s3: Any, bucket: str, emulator: RunningEmulator) -> None:
    emulator.set_faults([{"operation": "s3:*", "code": "SlowDown", "count": 2}])
    for action in (s3.list_objects_v2, s3.get_bucket_location):
        with pytest.raises(ClientError) as error:
            action(Bucket=bucket)
        assert code(error) == (503, "SlowDown")


@pytest.mark.parametrize("after", [False, True])
def test_single_keys_of_a_deletion_fail(s3: Any, bucket: str, emulator: RunningEmulator, after: bool) -> None:
    for key in ("a/1", "a/2", "b"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    fault = {"operation": "s3:DeleteObjects", "vault": bucket, "key": "a/*", "code": "SlowDown"}
    emulator.set_faults([{**fault, "after": after}])
    objects = [{"Key": key} for key in ("b", "a/1", "a/2")]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": objects})
    assert [deleted["Key"] for deleted in answer["Deleted"]] == ["b", "a/2"]
    assert [(error["Key"], error["Code"]) for error in answer["Errors"]] == [("a/1", "SlowDown")]
    left = s3.list_objects_v2(Bucket=bucket).get("Contents", ())
    assert [error["Key"] for error in left] == ([] if after else ["a/1"])
    assert emulator.faults()[0]["met"] == 1


def test_a_deletion_fails_as_a_whole(s3: Any, bucket: str, emulator: RunningEmulator) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"x")
    emulator.set_faults([{"operation": "s3:DeleteObjects", "code": "SlowDown"}])
    with pytest.raises(ClientError) as error:
        s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "a"}]})
    assert code(error) == (503, "SlowDown")
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 1
