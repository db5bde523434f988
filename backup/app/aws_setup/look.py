"""Looks for the parts of a set-up in AWS: found by its tag, never by a name that anybody may use twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any, TypeVar

from backup.app.aws_setup.absorb import anchor_of, crl_of, profile_of
from backup.app.aws_setup.calls import AwsCalls
from backup.app.aws_setup.documents import TAG
from backup.app.aws_setup.model import DESCRIPTION, Found, FoundPlace, FoundRole, Wanted, WantedBucket
from backup.errors import DeniedError

T = TypeVar("T")

MOST_ROLES = 1000
"""Of one page of the list of roles: an account has a thousand, if its quota was not raised."""


def look(calls: AwsCalls, wanted: Wanted, *, known: frozenset[str] = frozenset()) -> Found:
    """All that carries the tag, and the roles and the place of wanted names; `known` ARNs come first."""
    profiles = _tagged(calls, wanted.name, "profiles", "profileArn", profile_of)
    names = {role.name for role in wanted.roles}
    names |= {arn.rsplit("/", 1)[-1] for profile in profiles for arn in profile.role_arns}
    roles = {name: role for name in sorted(names) if (role := _role(calls, wanted.name, name)) is not None}
    unseen = _add_roles_of_before(calls, wanted.name, names, roles)
    anchors = _tagged(calls, wanted.name, "trust_anchors", "trustAnchorArn", anchor_of)
    return Found(
        anchors=tuple(sorted(anchors, key=lambda one: one.arn not in known)),
        profiles=tuple(sorted(profiles, key=lambda one: one.arn not in known)),
        crls=tuple(_tagged(calls, wanted.name, "crls", "crlArn", crl_of)),
        roles=roles,
        place=_place(calls, wanted),
        unseen=unseen,
    )


_MEMBERS = {"trust_anchors": "trustAnchors", "profiles": "profiles", "crls": "crls"}


def _tagged(
    calls: AwsCalls, name: str, kind: str, arn: str, read: Callable[[Mapping[str, Any]], T]
) -> list[T]:
    """The things of a kind that carry our tag, the oldest first."""
    details = sorted(
        calls.all("rolesanywhere", f"list_{kind}", _MEMBERS[kind]), key=lambda one: str(one["createdAt"])
    )
    return [read(detail) for detail in details if _is_tagged(calls, name, detail[arn])]


def _is_tagged(calls: AwsCalls, name: str, arn: str) -> bool:
    answer = calls.find("rolesanywhere", "list_tags_for_resource", resourceArn=arn)
    tags = {tag["key"]: tag["value"] for tag in (answer or {}).get("tags", ())}
    return tags.get(TAG) == name


def _role(calls: AwsCalls, setup: str, name: str) -> FoundRole | None:
    answer = calls.find("iam", "get_role", RoleName=name)
    if answer is None:
        return None
    role = answer["Role"]
    tags = {tag["Key"]: tag["Value"] for tag in role.get("Tags", ())}
    is_ours = tags.get(TAG) == setup
    policies = dict(_policies(calls, name)) if is_ours else {}
    attached = tuple(_attached(calls, name)) if is_ours else ()
    return FoundRole(name, role["Arn"], role["AssumeRolePolicyDocument"], policies, is_ours, attached)


def _add_roles_of_before(
    calls: AwsCalls, setup: str, known: Container[str], roles: dict[str, FoundRole]
) -> tuple[str, ...]:
    """Add the roles with our tag that neither config nor profile names; those whose tags may not be read.

    The list has no tags. One role after another is asked for only if its description is that of a set-up.
    """
    unseen = []
    for listed in calls.all("iam", "list_roles", "Roles", MaxItems=MOST_ROLES):
        name = listed["RoleName"]
        if name in known or not listed.get("Description", "").startswith(DESCRIPTION):
            continue
        try:
            role = _role(calls, setup, name)
        except DeniedError:
            unseen.append(name)
            continue
        if role is not None and role.is_ours:
            roles[name] = role
    return tuple(unseen)


def _attached(calls: AwsCalls, name: str) -> Iterator[str]:
    """The ARNs of a role's managed policies."""
    for one in calls.all("iam", "list_attached_role_policies", "AttachedPolicies", RoleName=name):
        yield one["PolicyArn"]


def _policies(calls: AwsCalls, name: str) -> Iterator[tuple[str, Any]]:
    for policy in calls.all("iam", "list_role_policies", "PolicyNames", RoleName=name):
        answer = calls.find("iam", "get_role_policy", RoleName=name, PolicyName=policy)
        if answer is not None:
            yield policy, answer["PolicyDocument"]


def _place(calls: AwsCalls, wanted: Wanted) -> FoundPlace | None:
    if wanted.bucket is not None:
        return _bucket(calls, wanted.name, wanted.bucket)
    if wanted.vault is None:
        return None
    given = {"accountId": "-", "vaultName": wanted.vault}
    there = calls.find("glacier", "describe_vault", **given)
    if there is None:
        return None
    tags = calls.read("glacier", "list_tags_for_vault", **given).get("Tags", {})
    return FoundPlace(
        is_ours=tags.get(TAG) == wanted.name,
        holds=bool(there.get("NumberOfArchives")),
        is_others=tags.get(TAG, wanted.name) != wanted.name,
    )


def _bucket(calls: AwsCalls, setup: str, bucket: WantedBucket) -> FoundPlace | None:
    """A bucket with the settings that a set-up makes; of one that is not ours only that it is there."""
    where = bucket.where
    try:
        there = calls.find("s3", "head_bucket", **where)
    except DeniedError as error:
        _require_strangers(calls, bucket, error)
        return FoundPlace(is_ours=False, holds=True, is_strangers=True)
    if there is None:
        return None
    answer = calls.find("s3", "get_bucket_tagging", **where)
    tags = {tag["Key"]: tag["Value"] for tag in (answer or {}).get("TagSet", ())}
    settings: dict[str, Any] = {"region": there.get("BucketRegion")}
    if tags.get(TAG) != setup:
        return FoundPlace(is_ours=False, holds=True, settings=settings)
    settings |= _bucket_settings(calls, where)
    return FoundPlace(is_ours=True, holds=holds(calls, where), settings=settings)


def _require_strangers(calls: AwsCalls, bucket: WantedBucket, denial: DeniedError) -> None:
    """Raise the denial if the bucket is of the account of these credentials, or if nobody knows.

    S3 denies a bucket of another account as one that lacks a permission; the list of our own tells which.
    """
    try:
        own = calls.all("s3", "list_buckets", "Buckets", Prefix=bucket.name)
    except DeniedError:
        doubt = (
            f"bucket {bucket.name} may belong to another account than {bucket.owner}: whoever may list your "
            "buckets (s3:ListAllMyBuckets) sees it"
        )
        raise DeniedError(str(denial), advice=f"{doubt}; if it is yours: {denial.advice}") from denial
    if any(listed["Name"] == bucket.name for listed in own):
        raise denial


def holds(calls: AwsCalls, where: Mapping[str, str]) -> bool:
    """Whether a bucket holds anything: S3 deletes none with old versions or delete markers, either."""
    page = calls.read("s3", "list_object_versions", **where, MaxKeys=1)
    return any(page.get(kind) for kind in ("Versions", "DeleteMarkers", "IsTruncated"))


def _bucket_settings(calls: AwsCalls, where: Mapping[str, str]) -> dict[str, Any]:

    block = calls.find("s3", "get_public_access_block", **where)
    policy = calls.find("s3", "get_bucket_policy", **where)
    lifecycle = calls.find("s3", "get_bucket_lifecycle_configuration", **where)
    versioning = calls.read("s3", "get_bucket_versioning", **where)
    return {
        "block": (block or {}).get("PublicAccessBlockConfiguration"),
        "policy": json.loads(policy["Policy"]) if policy else None,
        "lifecycle": {"Rules": lifecycle["Rules"]} if lifecycle else None,
        "versioning": {"Status": versioning["Status"]} if "Status" in versioning else None,
    }
