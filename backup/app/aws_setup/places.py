"""The steps that make a vault or a bucket, with its settings; pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from backup.app.aws_setup.documents import TAG, same_document
from backup.app.aws_setup.model import FoundPlace, Kind, Step, Verb, Wanted, WantedBucket

BLOCKED: Mapping[str, bool] = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}
LIFECYCLE: Mapping[str, Any] = {
    "Rules": [
        {
            "ID": "end-incomplete-uploads",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
        }
    ]
}
HOME = "us-east-1"
"""The region of buckets that name none."""


def steps_of_place(wanted: Wanted, found: FoundPlace | None) -> Iterator[Step]:
    """What makes the place of archives; one that is there and not ours is used as it is."""
    if wanted.bucket is not None:
        yield from _bucket(wanted.name, wanted.bucket, found)
    elif wanted.vault is not None:
        yield from _vault(wanted.name, wanted.vault, found)


def place_obstacles(wanted: Wanted, found: FoundPlace | None) -> Iterator[str]:
    """What keeps the place from being made."""
    bucket = wanted.bucket
    if bucket is not None and found is not None and found.is_strangers:
        yield (
            f"bucket {bucket.name} belongs to another account than {bucket.owner}: choose another name, or "
            "set account_id of the vault to that account if it is the right one"
        )
    elif bucket is not None and found is None and bucket.owner != wanted.setup.account:
        yield (
            f"bucket {bucket.name} is to be in account {bucket.owner} (account_id), and your credentials are "
            f"of {wanted.setup.account}: make it with credentials of {bucket.owner}, or correct account_id"
        )
    if wanted.bucket is not None and found is not None and found.settings.get("region"):
        there = found.settings["region"]
        if there != wanted.bucket.region:
            yield f"bucket {wanted.bucket.name} is in {there}, not in {wanted.bucket.region}: set region"


def _vault(name: str, vault: str, found: FoundPlace | None) -> Iterator[Step]:
    """A vault takes its tag only once it is there; an empty one without a tag is taken for one cut short."""
    given = {"accountId": "-", "vaultName": vault}
    if found is None:
        yield Step(Verb.MAKE, Kind.VAULT, vault, "keeps the archives", "glacier", "create_vault", given)
    if found is None or not (found.is_ours or found.holds or found.is_others):
        change = {**given, "Tags": {TAG: name}}
        yield Step(
            Verb.CHANGE, Kind.VAULT, vault, f"gets the tag {TAG}", "glacier", "add_tags_to_vault", change
        )


def _bucket(name: str, bucket: WantedBucket, found: FoundPlace | None) -> Iterator[Step]:
    if found is None:
        made: dict[str, Any] = {"Tags": [{"Key": TAG, "Value": name}]}
        if bucket.region != HOME:
            made["LocationConstraint"] = bucket.region
        given: dict[str, Any] = {"Bucket": bucket.name, "CreateBucketConfiguration": made}
        if bucket.is_reserved:
            given["BucketNamespace"] = "account-regional"
        words = "keeps the archives" + ("; nobody else can take its name" if bucket.is_reserved else "")
        yield Step(Verb.MAKE, Kind.BUCKET, bucket.name, words, "s3", "create_bucket", given)
    elif not found.is_ours:
        return
    settings: Mapping[str, Any] = {} if found is None else found.settings
    for setting, value, words, operation, member in _settings(bucket):
        if not same_document(settings.get(setting), value):
            shown = json.dumps(value) if setting == "policy" else value
            given = {**bucket.where, member: shown}
            yield Step(Verb.CHANGE, Kind.BUCKET, bucket.name, words, "s3", operation, given)


def _settings(bucket: WantedBucket) -> Iterator[tuple[str, Any, str, str, str]]:
    """Each setting: its name among what was found, its value, words, operation, and parameter."""
    words = "nobody outside the account can be let in"
    member = "PublicAccessBlockConfiguration"
    yield "block", dict(BLOCKED), words, "put_public_access_block", member
    plain = ", no plain HTTP" if "NothingInTheClear" in json.dumps(bucket.policy) else ""
    words = f"its policy: no other class, nothing overwritten{plain}"
    yield "policy", bucket.policy, words, "put_bucket_policy", "Policy"
    words = "uploads that were given up are ended after 7 days"
    operation = "put_bucket_lifecycle_configuration"
    yield "lifecycle", dict(LIFECYCLE), words, operation, "LifecycleConfiguration"
    if bucket.versioning:
        words = "keeps versions of what is deleted or replaced"
        yield "versioning", {"Status": "Enabled"}, words, "put_bucket_versioning", "VersioningConfiguration"
