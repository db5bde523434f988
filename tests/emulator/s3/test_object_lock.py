"""Object Lock of the emulator's buckets, as boto3 sees it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.support.clocks import EmulatorClock
from tests.support.emulated import RunningEmulator, write_accounts
from tests.support.s3_clients import S3Talker, client, new_bucket, new_bucket_name, refused

KEY = "a key"
LOCATION = {"LocationConstraint": "eu-central-1"}


@pytest.fixture
def locked(s3: Any) -> str:
    """A bucket with Object Lock, that locks nothing by itself."""
    name = new_bucket_name()
    s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True, CreateBucketConfiguration=LOCATION)
    return name


def configuration(**kept: Any) -> dict[str, Any]:
    """A configuration with a default retention."""
    return {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": kept}}


def in_hours(emulator: RunningEmulator, hours: int) -> datetime:
    """A time from now on, to the second, by the emulator's clock: other tests advance it."""
    return EmulatorClock(emulator).now().replace(microsecond=0) + timedelta(hours=hours)


def put(s3: Any, bucket: str) -> str:
    """Put the key; its version."""
    return str(s3.put_object(Bucket=bucket, Key=KEY, Body=b"abc")["VersionId"])


def delete(s3: Any, bucket: str, version: str, **how: Any) -> tuple[int, str] | None:
    """Delete a version; the refusal, if it is one."""
    given = {"Bucket": bucket, "Key": KEY, "VersionId": version, **how}
    try:
        s3.delete_object(**given)
    except s3.exceptions.ClientError:
        return refused(s3.delete_object, **given)
    return None


def deny(s3: Any, bucket: str, actions: list[str], condition: dict[str, Any]) -> None:
    """Have the bucket's policy deny actions on its objects to everybody."""
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": actions,
        "Resource": f"arn:aws:s3:::{bucket}/*",
    }
    policy = {"Version": "2012-10-17", "Statement": [{**statement, "Condition": condition}]}
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))


def test_a_bucket_that_is_made_with_it(s3: Any, locked: str) -> None:
    """It keeps versions, and that cannot be taken back."""
    assert s3.get_bucket_versioning(Bucket=locked)["Status"] == "Enabled"
    found = s3.get_object_lock_configuration(Bucket=locked)["ObjectLockConfiguration"]
    assert found == {"ObjectLockEnabled": "Enabled"}
    how = {"VersioningConfiguration": {"Status": "Suspended"}}
    assert refused(s3.put_bucket_versioning, Bucket=locked, **how) == (409, "InvalidBucketState")


def test_a_bucket_that_gets_it_later(s3: Any, bucket: str) -> None:
    """Only where versions are kept; a rule has one mode, and days or years."""
    ask = s3.put_object_lock_configuration
    good = configuration(Mode="GOVERNANCE", Days=3)
    given = {"Bucket": bucket, "ObjectLockConfiguration": good}
    assert refused(ask, **given) == (409, "InvalidBucketState")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for wrong in (
        configuration(Mode="GOVERNANCE"),
        configuration(Mode="GOVERNANCE", Days=3, Years=1),
        configuration(Mode="OTHER", Days=3),
        {"Rule": good["Rule"]},
    ):
        assert refused(ask, Bucket=bucket, ObjectLockConfiguration=wrong) == (400, "MalformedXML")
    ask(**given)
    assert s3.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"] == good


def test_the_default_retention(s3: Any, locked: str, raw: S3Talker, emulator: RunningEmulator) -> None:
    """Each new version has it; a plain deletion still adds a marker; without a checksum nothing is stored."""
    lock = configuration(Mode="COMPLIANCE", Days=2)
    s3.put_object_lock_configuration(Bucket=locked, ObjectLockConfiguration=lock)
    version = put(s3, locked)
    head = s3.head_object(Bucket=locked, Key=KEY)
    assert head["ObjectLockMode"] == "COMPLIANCE"
    assert abs(head["ObjectLockRetainUntilDate"] - in_hours(emulator, 48)) < timedelta(seconds=30)
    assert "ObjectLockLegalHoldStatus" not in head
    assert delete(s3, locked, version) == (403, "AccessDenied")
    assert delete(s3, locked, version, BypassGovernanceRetention=True) == (403, "AccessDenied")
    marker = s3.delete_object(Bucket=locked, Key=KEY)["VersionId"]
    assert delete(s3, locked, marker) is None
    named = {"Objects": [{"Key": KEY, "VersionId": version}]}
    (error,) = s3.delete_objects(Bucket=locked, Delete=named)["Errors"]
    assert (error["Code"], error["Message"]) == (
        "AccessDenied",
        "Access Denied because object protected by object lock.",
    )
    assert raw.ask("PUT", f"/{locked}/other", b"abc").status == 400


def test_retention_of_a_version(s3: Any, locked: str, emulator: RunningEmulator) -> None:
    """COMPLIANCE only grows; GOVERNANCE is shortened, and deleted, by a bypass."""
    version = put(s3, locked)
    there = {"Bucket": locked, "Key": KEY}
    assert refused(s3.get_object_retention, **there) == (404, "NoSuchObjectLockConfiguration")

    def given(mode: str, hours: int) -> dict[str, Any]:
        return {**there, "Retention": {"Mode": mode, "RetainUntilDate": in_hours(emulator, hours)}}

    retain, bypass = s3.put_object_retention, {"BypassGovernanceRetention": True}
    assert refused(retain, **given("GOVERNANCE", -1)) == (400, "InvalidArgument")
    retain(**given("GOVERNANCE", 5))
    assert refused(retain, **given("GOVERNANCE", 2)) == (403, "AccessDenied")
    retain(**given("GOVERNANCE", 2), **bypass)
    assert delete(s3, locked, version) == (403, "AccessDenied")
    assert delete(s3, locked, version, BypassGovernanceRetention=True) is None
    put(s3, locked)
    retain(**given("GOVERNANCE", 2))
    retain(**given("COMPLIANCE", 3))
    for mode, hours in (("COMPLIANCE", 2), ("GOVERNANCE", 9)):
        assert refused(retain, **given(mode, hours), **bypass) == (403, "AccessDenied")
    retain(**given("COMPLIANCE", 9))
    kept = s3.get_object_retention(**there)["Retention"]
    assert (kept["Mode"], abs(kept["RetainUntilDate"] - in_hours(emulator, 9)) < timedelta(seconds=30)) == (
        "COMPLIANCE",
        True,
    )


def test_a_legal_hold(s3: Any, locked: str, bucket: str) -> None:
    version = put(s3, locked)
    there = {"Bucket": locked, "Key": KEY}
    assert refused(s3.get_object_legal_hold, **there) == (404, "NoSuchObjectLockConfiguration")
    s3.put_object_legal_hold(**there, LegalHold={"Status": "ON"})
    assert s3.get_object_legal_hold(**there)["LegalHold"] == {"Status": "ON"}
    assert s3.get_object(**there)["ObjectLockLegalHoldStatus"] == "ON"
    assert delete(s3, locked, version, BypassGovernanceRetention=True) == (403, "AccessDenied")
    s3.put_object_legal_hold(**there, LegalHold={"Status": "OFF"})
    assert delete(s3, locked, version) is None
    s3.put_object(Bucket=bucket, Key=KEY, Body=b"abc")
    how = {"Bucket": bucket, "Key": KEY, "LegalHold": {"Status": "ON"}}
    assert refused(s3.put_object_legal_hold, **how) == (400, "InvalidRequest")


def store_in_parts(s3: Any, bucket: str, **how: Any) -> str:
    """Store the key by an upload in parts; its version."""
    upload = {"Bucket": bucket, "Key": KEY}
    upload |= {"UploadId": s3.create_multipart_upload(**upload, **how)["UploadId"]}
    part = s3.upload_part(**upload, PartNumber=1, Body=b"abc")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    return str(s3.complete_multipart_upload(**upload, MultipartUpload=parts)["VersionId"])


def test_a_lock_by_the_headers_of_an_upload(s3: Any, locked: str, emulator: RunningEmulator) -> None:
    """It is the version's from its first moment, and counts instead of the bucket's default."""
    until = in_hours(emulator, 9)
    how = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until}
    default = configuration(Mode="GOVERNANCE", Days=9)
    s3.put_object_lock_configuration(Bucket=locked, ObjectLockConfiguration=default)
    there = {"Bucket": locked, "Key": KEY}
    for store in (
        lambda **how: s3.put_object(**there, Body=b"abc", **how)["VersionId"],
        lambda **how: s3.copy_object(**there, CopySource=f"{locked}/from", **how)["VersionId"],
        lambda **how: store_in_parts(s3, locked, **how),
    ):
        s3.put_object(Bucket=locked, Key="from", Body=b"abc")
        version = store(**how)
        head = s3.head_object(**there, VersionId=version)
        assert (head["ObjectLockMode"], head["ObjectLockRetainUntilDate"]) == ("COMPLIANCE", until)
        assert "ObjectLockLegalHoldStatus" not in head
        assert delete(s3, locked, version, BypassGovernanceRetention=True) == (403, "AccessDenied")
        held = store(ObjectLockLegalHoldStatus="ON")
        head = s3.head_object(**there, VersionId=held)
        assert (head["ObjectLockMode"], head["ObjectLockLegalHoldStatus"]) == ("GOVERNANCE", "ON")


def test_a_lock_that_no_version_can_have(
    s3: Any, locked: str, bucket: str, raw: S3Talker, emulator: RunningEmulator
) -> None:
    until = {"ObjectLockRetainUntilDate": in_hours(emulator, 9)}
    mode = {"ObjectLockMode": "GOVERNANCE"}
    past = {"ObjectLockRetainUntilDate": in_hours(emulator, -1)}
    for ask in (s3.put_object, s3.create_multipart_upload):
        for how in (mode, until, {"ObjectLockMode": "OTHER", **until}, {**mode, **past}):
            assert refused(ask, Bucket=locked, Key=KEY, **how) == (400, "InvalidArgument")
        wrong = {"ObjectLockLegalHoldStatus": "MAYBE"}
        assert refused(ask, Bucket=locked, Key=KEY, **wrong) == (400, "InvalidArgument")
        assert refused(ask, Bucket=bucket, Key=KEY, **mode, **until) == (400, "InvalidRequest")
    date = (in_hours(emulator, 9)).strftime("%Y-%m-%dT%H:%M:%SZ")
    headers = {"x-amz-object-lock-mode": "GOVERNANCE", "x-amz-object-lock-retain-until-date": date}
    assert raw.ask("PUT", f"/{locked}/other", b"abc", headers).status == 400  # without a checksum


def test_a_policy_bounds_locks(s3: Any, locked: str, emulator: RunningEmulator) -> None:
    """By the days that remain, a part of one as a whole: of uploads, and of what is locked later."""
    beyond = {"NumericGreaterThan": {"s3:object-lock-remaining-retention-days": "3"}}
    deny(s3, locked, ["s3:PutObject", "s3:PutObjectRetention"], beyond)
    there = {"Bucket": locked, "Key": KEY}
    for hours, outcome in ((71, None), (73, (403, "AccessDenied")), (876_000, (403, "AccessDenied"))):
        lock = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": in_hours(emulator, hours)}
        retention = {"Mode": "GOVERNANCE", "RetainUntilDate": in_hours(emulator, hours)}
        for ask, how in (
            (s3.put_object, {**there, **lock}),
            (s3.create_multipart_upload, {**there, **lock}),
            (s3.put_object_retention, {**there, "Retention": retention}),
        ):
            if outcome is None:
                ask(**how)
            else:
                assert refused(ask, **how) == outcome
    deny(s3, locked, ["s3:PutObjectRetention"], {"StringEquals": {"s3:object-lock-mode": "COMPLIANCE"}})
    for mode, outcome in (("GOVERNANCE", None), ("COMPLIANCE", (403, "AccessDenied"))):
        how = {**there, "Retention": {"Mode": mode, "RetainUntilDate": in_hours(emulator, 100)}}
        if outcome is None:
            s3.put_object_retention(**how)
        else:
            assert refused(s3.put_object_retention, **how) == outcome
    deny(s3, locked, ["s3:PutObjectLegalHold"], {"StringEquals": {"s3:object-lock-legal-hold": "OFF"}})
    s3.put_object_legal_hold(**there, LegalHold={"Status": "ON"})
    off = {**there, "LegalHold": {"Status": "OFF"}}
    assert refused(s3.put_object_legal_hold, **off) == (403, "AccessDenied")


def test_to_lock_by_headers_is_a_right_of_its_own(s3: Any, locked: str, emulator: RunningEmulator) -> None:
    there = {"Bucket": locked, "Key": KEY}
    lock = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": in_hours(emulator, 9)}
    for action, how in (
        ("s3:PutObjectRetention", lock),
        ("s3:PutObjectLegalHold", {"ObjectLockLegalHoldStatus": "ON"}),
    ):
        deny(s3, locked, [action], {})
        for ask in (s3.put_object, s3.create_multipart_upload):
            assert refused(ask, **there, **how) == (403, "AccessDenied")
        s3.put_object(**there)


def test_a_policy_demands_conditional_deletions(s3: Any, bucket: str) -> None:
    """Of DeleteObjects, too, key by key; to name an ETag is a right to read."""
    deny(s3, bucket, ["s3:DeleteObject"], {"Null": {"s3:if-match": "true"}})
    there = {"Bucket": bucket, "Key": KEY}
    etag = s3.put_object(**there, Body=b"abc")["ETag"]
    assert refused(s3.delete_object, **there) == (403, "AccessDenied")

    def code(**more: str) -> str | None:
        answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": KEY, **more}]})
        return answer["Errors"][0]["Code"] if "Errors" in answer else None

    assert (code(), code(ETag='"other"')) == ("AccessDenied", "PreconditionFailed")
    deny(s3, bucket, ["s3:GetObject"], {})
    assert refused(s3.delete_object, **there, IfMatch=etag) == (403, "AccessDenied")
    assert code(ETag=etag) == "AccessDenied"
    s3.delete_bucket_policy(Bucket=bucket)
    assert code(ETag=etag) is None
    assert refused(s3.head_object, **there)[0] == 404


def test_a_retention_ends_by_the_emulators_clock(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("locks")
    with RunningEmulator(folder / "state", write_accounts(folder / "accounts.toml")) as running:
        s3 = client(running.s3_url)
        bucket = new_bucket(s3)
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        lock = configuration(Mode="COMPLIANCE", Days=2)
        s3.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=lock)
        version = put(s3, bucket)
        running.advance(47 * 3600)
        assert delete(s3, bucket, version) == (403, "AccessDenied")
        running.advance(2 * 3600)
        assert delete(s3, bucket, version) is None
