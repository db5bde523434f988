"""Frozen objects: refused, restored by the clock, expired; lifecycles that freeze."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.emulated import RunningEmulator, write_accounts
from tests.support.s3_clients import client, code, new_bucket

HOUR = 3600


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    """An emulator whose clock may be stepped."""
    folder = tmp_path_factory.mktemp("restore")
    with RunningEmulator(folder / "state", write_accounts(folder / "accounts.toml")) as running:
        yield running


@pytest.fixture
def frozen(own: RunningEmulator) -> tuple[Any, str]:
    """A client, and a bucket with an object in each class, named like it."""
    s3 = client(own.s3_url)
    bucket = new_bucket(s3)
    for kind in ("STANDARD", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE"):
        s3.put_object(Bucket=bucket, Key=kind, Body=kind.encode(), StorageClass=kind)
    return s3, bucket


def restore(s3: Any, bucket: str, key: str, tier: str, days: int = 5) -> int:
    request = {"Days": days, "GlacierJobParameters": {"Tier": tier}}
    answer = s3.restore_object(Bucket=bucket, Key=key, RestoreRequest=request)
    return int(answer["ResponseMetadata"]["HTTPStatusCode"])


def is_readable(s3: Any, bucket: str, key: str) -> bool:
    try:
        return bool(s3.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode())
    except s3.exceptions.InvalidObjectState as error:
        return bool(error.response["Error"]["StorageClass"] != key)


@pytest.mark.parametrize(
    ("key", "tier", "seconds"),
    [
        ("GLACIER", "Expedited", 180),
        ("GLACIER", "Standard", 4 * HOUR),
        ("GLACIER", "Bulk", 8 * HOUR),
        ("DEEP_ARCHIVE", "Standard", 12 * HOUR),
        ("DEEP_ARCHIVE", "Bulk", 48 * HOUR),
    ],
)
def test_each_tier_takes_its_time(
    own: RunningEmulator, frozen: tuple[Any, str], key: str, tier: str, seconds: int
) -> None:
    s3, bucket = frozen
    assert not is_readable(s3, bucket, key)
    assert "Restore" not in s3.head_object(Bucket=bucket, Key=key)
    asked = datetime.fromisoformat(own.now())
    assert restore(s3, bucket, key, tier) == 202
    own.advance(seconds - 60)
    assert not is_readable(s3, bucket, key)
    assert s3.head_object(Bucket=bucket, Key=key)["Restore"] == 'ongoing-request="true"'
    own.advance(120)
    assert is_readable(s3, bucket, key)
    told = s3.head_object(Bucket=bucket, Key=key)["Restore"]
    found = re.fullmatch(r'ongoing-request="false", expiry-date="([^"]+)"', told)
    assert found
    expiry = parsedate_to_datetime(found[1])
    assert expiry == expiry.replace(hour=0, minute=0, second=0)
    assert timedelta(0) <= expiry - (asked + timedelta(days=5)) <= timedelta(days=1)
    own.advance((expiry - datetime.fromisoformat(own.now())).total_seconds() + 1)
    assert not is_readable(s3, bucket, key)
    assert "Restore" not in s3.head_object(Bucket=bucket, Key=key)


def test_the_states_in_a_listing(own: RunningEmulator, frozen: tuple[Any, str]) -> None:
    s3, bucket = frozen
    restore(s3, bucket, "GLACIER", "Expedited")
    own.advance(200)
    restore(s3, bucket, "DEEP_ARCHIVE", "Bulk")
    found = s3.list_objects_v2(Bucket=bucket, OptionalObjectAttributes=["RestoreStatus"])["Contents"]
    states = {entry["Key"]: entry.get("RestoreStatus") for entry in found}
    assert states["STANDARD"] is states["GLACIER_IR"] is None
    assert states["DEEP_ARCHIVE"] == {"IsRestoreInProgress": True}
    assert states["GLACIER"]["IsRestoreInProgress"] is False
    assert states["GLACIER"]["RestoreExpiryDate"] > datetime.now(UTC)
    assert {entry["Key"]: entry["StorageClass"] for entry in found} == {name: name for name in states}


def test_asking_twice(own: RunningEmulator, frozen: tuple[Any, str]) -> None:
    s3, bucket = frozen
    restore(s3, bucket, "GLACIER", "Bulk")
    with pytest.raises(s3.exceptions.ClientError) as error:
        restore(s3, bucket, "GLACIER", "Bulk")
    assert code(error) == (409, "RestoreAlreadyInProgress")
    assert restore(s3, bucket, "GLACIER", "Expedited") == 202
    own.advance(200)
    before = s3.head_object(Bucket=bucket, Key="GLACIER")["Restore"]
    assert restore(s3, bucket, "GLACIER", "Standard", days=30) == 200
    assert s3.head_object(Bucket=bucket, Key="GLACIER")["Restore"] != before


def test_what_cannot_be_restored(own: RunningEmulator, frozen: tuple[Any, str]) -> None:
    s3, bucket = frozen
    for key, tier, wanted in (
        ("STANDARD", "Bulk", (403, "InvalidObjectState")),
        ("GLACIER_IR", "Bulk", (403, "InvalidObjectState")),
        ("DEEP_ARCHIVE", "Expedited", (400, "InvalidArgument")),
        ("GLACIER", "Soon", (400, "MalformedXML")),
        ("none", "Bulk", (404, "NoSuchKey")),
    ):
        with pytest.raises(s3.exceptions.ClientError) as error:
            restore(s3, bucket, key, tier)
        assert code(error) == wanted
    assert is_readable(s3, bucket, "STANDARD")
    assert is_readable(s3, bucket, "GLACIER_IR")


def test_a_restore_survives_a_kill(tmp_path: Path) -> None:
    with RunningEmulator(tmp_path / "state", write_accounts(tmp_path / "accounts.toml")) as running:
        s3 = client(running.s3_url)
        bucket = new_bucket(s3)
        s3.put_object(Bucket=bucket, Key="GLACIER", Body=b"GLACIER", StorageClass="GLACIER")
        restore(s3, bucket, "GLACIER", "Standard")
        running.kill()
        running.start()
        s3 = client(running.s3_url)
        assert not is_readable(s3, bucket, "GLACIER")
        running.advance(5 * HOUR)
        assert is_readable(s3, bucket, "GLACIER")


def rule(prefix: str, **action: Any) -> dict[str, Any]:
    return {"ID": prefix, "Status": "Enabled", "Filter": {"Prefix": prefix}, **action}


def test_lifecycles_freeze_by_prefix_age_and_size(own: RunningEmulator) -> None:
    s3 = client(own.s3_url)
    bucket = new_bucket(s3)
    for key, size in (("meta/small", 10), ("meta/large", 200_000), ("data/x", 200_000), ("old/x", 5)):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x" * size)
    frozen = {"Transitions": [{"Days": 2, "StorageClass": "DEEP_ARCHIVE"}]}
    rules = {"Rules": [rule("meta/", **frozen), rule("old/", Expiration={"Days": 3})]}
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=rules)
    assert s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"] == rules["Rules"]

    def classes() -> dict[str, str]:
        found = s3.list_objects_v2(Bucket=bucket)["Contents"]
        return {entry["Key"]: entry["StorageClass"] for entry in found}

    own.advance(24 * HOUR)
    assert set(classes().values()) == {"STANDARD"}
    own.advance(72 * HOUR)
    assert classes() == {"meta/small": "STANDARD", "meta/large": "DEEP_ARCHIVE", "data/x": "STANDARD"}
    with pytest.raises(s3.exceptions.InvalidObjectState):
        s3.get_object(Bucket=bucket, Key="meta/large")
    s3.put_bucket_lifecycle_configuration(
        Bucket=bucket,
        LifecycleConfiguration=rules,
        TransitionDefaultMinimumObjectSize="varies_by_storage_class",
    )
    own.advance(1)
    assert classes()["meta/small"] == "DEEP_ARCHIVE"
    s3.delete_bucket_lifecycle(Bucket=bucket)
    with pytest.raises(s3.exceptions.ClientError) as error:
        s3.get_bucket_lifecycle_configuration(Bucket=bucket)
    assert code(error) == (404, "NoSuchLifecycleConfiguration")
