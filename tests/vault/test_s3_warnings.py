"""A bucket's own settings that would harm a vault are told, by whatever the service answers."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from backup.vault.s3.requests import Bucket, BucketRequests
from backup.vault.s3.warnings import warnings_of

VERSIONS = {"Status": "Enabled"}
ABORT = {"ID": "abort", "Status": "Enabled", "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}}


def freezing(**how: Any) -> dict[str, Any]:
    """A rule that freezes what it concerns after a day."""
    return {"ID": "cold", "Status": "Enabled", "Transitions": [{"Days": 1, "StorageClass": "GLACIER"}], **how}


class Answering:
    """A client that answers each operation with what was laid out for it, or refuses it."""

    def __init__(self, rules: list[dict[str, Any]], **others: Any) -> None:
        self._answers: dict[str, Any] = {
            "head_bucket": {"BucketRegion": "eu-central-1"},
            "list_objects_v2": "AccessDenied",  # asked for after a HeadBucket that is denied
            "get_bucket_lifecycle_configuration": {"Rules": rules},
            "get_bucket_versioning": {},
            "get_object_lock_configuration": "ObjectLockConfigurationNotFoundError",
            **others,
        }

    def __getattr__(self, name: str) -> Any:
        def answer(**_: Any) -> Any:
            found = self._answers[name]
            if isinstance(found, str):
                raise ClientError({"Error": {"Code": found, "Message": "no"}}, name)
            return found

        return answer


def told(rules: list[dict[str, Any]], prefix: str = "", **others: Any) -> list[str]:
    """The warnings of a bucket."""
    bucket = Bucket("some-bucket", "eu-central-1", prefix)
    return list(warnings_of(BucketRequests(Answering(rules, **others), bucket)))


@pytest.mark.parametrize(
    "rule",
    [
        freezing(Filter={"Prefix": ""}),
        freezing(Filter={"Prefix": "meta/"}),
        freezing(Filter={"Prefix": "me"}),
        freezing(Filter={"Prefix": "meta/0000"}),
        freezing(Filter={"And": {"Prefix": "meta/", "ObjectSizeGreaterThan": 5}}),
        freezing(Prefix="meta/"),  # as rules were written before 2016
        freezing(),
    ],
)
def test_a_rule_that_freezes_catalogs(rule: dict[str, Any]) -> None:
    (warning,) = told([ABORT, rule])
    assert warning == "lifecycle rule cold freezes meta/, which must stay readable: limit it to data/"


@pytest.mark.parametrize(
    "rule",
    [
        freezing(Filter={"Prefix": "data/"}),
        freezing(Filter={"Prefix": "other/"}),
        freezing(Filter={"Tag": {"Key": "cold", "Value": "yes"}}),
        freezing(Filter={"Prefix": ""}, Status="Disabled"),
        freezing(Filter={"Prefix": ""}, Transitions=[{"Days": 30, "StorageClass": "STANDARD_IA"}]),
    ],
)
def test_a_rule_that_does_no_harm(rule: dict[str, Any]) -> None:
    assert told([ABORT, rule]) == []


def test_a_prefix_of_the_vault_counts() -> None:
    assert told([ABORT, freezing(Filter={"Prefix": "meta/"})], "web1/") == []
    (warning,) = told([ABORT, freezing(Filter={"Prefix": "web1/"})], "web1/")
    assert "freezes web1/meta/" in warning


def test_a_rule_that_deletes() -> None:
    rule = {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": "data/"}, "Expiration": {"Days": 400}}
    (warning,) = told([ABORT, rule])
    assert warning.startswith("lifecycle rule old deletes what lies in data/")


def test_uploads_that_nobody_ends() -> None:
    for rules in ([], [{**ABORT, "Status": "Disabled"}]):
        (warning,) = told(rules)
        assert "incomplete uploads" in warning


def test_other_facts() -> None:
    assert "is in us-east-1: set region" in told([ABORT], head_bucket={"BucketRegion": "us-east-1"})[0]
    assert "MFA" in told([ABORT], get_bucket_versioning={"Status": "Enabled", "MFADelete": "Enabled"})[0]
    lock = {"ObjectLockConfiguration": {"Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 90}}}}
    (warning,) = told([ABORT], get_bucket_versioning=VERSIONS, get_object_lock_configuration=lock)
    assert "locks what is stored for 90 days (COMPLIANCE)" in warning


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("404", "there is no bucket some-bucket yet"),
        ("403", "compare the role's policy"),
        ("301", "set the vault's region"),
        ("SlowDown", "cannot look at bucket"),
    ],
)
def test_a_bucket_that_cannot_be_looked_at(code: str, sentence: str) -> None:
    (warning,) = told([], head_bucket=code)
    assert sentence in warning


def test_what_may_not_be_seen_is_said_and_the_rest_is_looked_at() -> None:
    lock = {"ObjectLockConfiguration": {"Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Years": 1}}}}
    denied = {"get_bucket_lifecycle_configuration": "AccessDenied", "get_bucket_versioning": "AccessDenied"}
    found = told([], **denied, get_object_lock_configuration=lock)
    assert "cannot see lifecycle rules" in found[0]
    assert "cannot see whether it keeps versions" in found[1]
    assert "1 years" in found[2]


def test_a_bucket_that_keeps_no_versions_is_not_asked_for_its_lock() -> None:
    assert told([ABORT], get_object_lock_configuration="AccessDenied") == []
    (warning,) = told([ABORT], get_bucket_versioning=VERSIONS, get_object_lock_configuration="AccessDenied")
    assert "cannot see its object lock" in warning


def test_a_service_that_has_no_such_things() -> None:
    assert len(told([], get_bucket_lifecycle_configuration="NotImplemented")) == 1
