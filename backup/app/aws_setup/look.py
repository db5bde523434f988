"""Reads which parts of a set-up exist in AWS: by tag, as a name alone could be anybody's.

Buckets and vaults with the tag that the config does not name any more are found, too. The lists have no tags,
so each resource is asked for its own. Buckets of other regions are left out.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from msgspec.structs import replace

from backup.app.aws_setup.calls import AwsCalls
from backup.app.aws_setup.documents import TAG
from backup.app.aws_setup.model import (
    DESCRIPTION,
    FoundAnchor,
    FoundCrl,
    FoundPlace,
    FoundProfile,
    FoundResources,
    FoundRole,
    OldPlace,
    Resource,
    Wanted,
    WantedBucket,
    in_bucket,
)
from backup.errors import DeniedError, NightvaultError

T = TypeVar("T")
IsTagged = Callable[[str], bool]

MOST_ROLES = 1000
"""Of one page of the list of roles: an account has a thousand, if its quota was not raised."""

MOST_BUCKETS = 1000
"""Of one page of the list of buckets."""

SHOWN = 5
"""The most names that a sentence lists."""


@dataclass(slots=True)
class VaultSetup:
    """One vault of a set-up: what is wanted, the clients for its region, and what was found.

    Trust anchor, profile and roles are those of all parts; each has a vault or bucket of its own.
    """

    vault: str
    wanted: Wanted
    calls: AwsCalls
    found: FoundResources = dataclasses.field(default_factory=FoundResources)


def look(
    parts: Sequence[VaultSetup], *, known: frozenset[str] = frozenset(), is_thorough: bool = False
) -> None:
    """Read what exists in AWS into the parts; resources with `known` ARNs come first.

    What all parts share is read once. Resources that the config does not name any more are searched once in
    each region, if `is_thorough`.
    """
    shared = _shared(parts[0].calls, parts[0].wanted, known)
    regions = set[str]()
    for part in parts:
        part.found = replace(shared, place=_place(part.calls, part.wanted))
        region = part.wanted.setup.region
        if is_thorough and region not in regions:
            part.found = _with_old_places(part.calls, part.wanted, part.found)
        regions.add(region)


def _shared(calls: AwsCalls, wanted: Wanted, known: frozenset[str]) -> FoundResources:
    """All but the place that carries the tag, and the roles of wanted names."""
    profiles = _tagged(calls, wanted.name, "profiles", "profileArn", _profile_of)
    names = {role.name for role in wanted.roles}
    names |= {arn.rsplit("/", 1)[-1] for profile in profiles for arn in profile.role_arns}
    roles = {name: role for name in sorted(names) if (role := _role(calls, wanted.name, name)) is not None}
    unseen = _add_roles_of_before(calls, wanted.name, names, roles)
    anchors = _tagged(calls, wanted.name, "trust_anchors", "trustAnchorArn", _anchor_of)
    return FoundResources(
        anchors=tuple(sorted(anchors, key=lambda anchor: anchor.arn not in known)),
        profiles=tuple(sorted(profiles, key=lambda profile: profile.arn not in known)),
        crls=tuple(_tagged(calls, wanted.name, "crls", "crlArn", _crl_of)),
        roles=roles,
        unseen=unseen,
    )


_MEMBERS = {"trust_anchors": "trustAnchors", "profiles": "profiles", "crls": "crls"}


def _tagged(
    calls: AwsCalls, name: str, kind: str, arn: str, read: Callable[[Mapping[str, Any]], T]
) -> list[T]:
    """The things of a kind that carry our tag, the oldest first."""
    details = sorted(
        calls.all("rolesanywhere", f"list_{kind}", _MEMBERS[kind]),
        key=lambda detail: str(detail["createdAt"]),
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

    The list has no tags. A role's tags are read only if its description is that of a set-up.
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
    for policy in calls.all("iam", "list_attached_role_policies", "AttachedPolicies", RoleName=name):
        yield policy["PolicyArn"]


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
    if bucket.locks:
        lock = calls.find("s3", "get_object_lock_configuration", **where)
        settings["object lock"] = (lock or {}).get("ObjectLockConfiguration")
    return FoundPlace(is_ours=True, holds=_holds(calls, where), settings=settings)


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


def _holds(calls: AwsCalls, where: Mapping[str, str]) -> bool:
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


def _anchor_of(detail: Mapping[str, Any]) -> FoundAnchor:
    """A trust anchor as Roles Anywhere shows it."""
    return FoundAnchor(
        detail["trustAnchorId"],
        detail["trustAnchorArn"],
        detail["source"]["sourceData"].get("x509CertificateData", ""),
        detail["enabled"],
    )


def _profile_of(detail: Mapping[str, Any]) -> FoundProfile:
    """A profile as Roles Anywhere shows it."""
    return FoundProfile(
        detail["profileId"],
        detail["profileArn"],
        tuple(detail.get("roleArns", ())),
        detail.get("durationSeconds", 3600),
        detail.get("acceptRoleSessionName", False),
        detail["enabled"],
    )


def _crl_of(detail: Mapping[str, Any]) -> FoundCrl:
    """A revocation list as Roles Anywhere shows it."""
    data = detail["crlData"]
    text = data.decode("ascii", "replace") if isinstance(data, bytes) else str(data)
    return FoundCrl(detail["crlId"], detail["trustAnchorArn"], text, detail["enabled"])


def _with_old_places(calls: AwsCalls, wanted: Wanted, found: FoundResources) -> FoundResources:
    """Return the findings with those places, and sentences on what could not be read."""
    told: list[str] = []
    places = (*_old_vaults(calls, wanted, told), *_old_buckets(calls, wanted, told))
    return replace(found, old_places=places, not_looked=tuple(told))


def _old_buckets(calls: AwsCalls, wanted: Wanted, told: list[str]) -> Iterator[OldPlace]:
    region = wanted.setup.region
    try:
        listed = calls.all("s3", "list_buckets", "Buckets", MaxBuckets=MOST_BUCKETS)
    except NightvaultError as error:
        told.append(_unlisted("buckets", "s3:ListAllMyBuckets", error))
        return
    named = wanted.other_places | {wanted.bucket.name if wanted.bucket else ""}
    names = [bucket["Name"] for bucket in listed if bucket.get("BucketRegion", region) == region]

    def is_tagged(name: str) -> bool:
        answer = calls.find("s3", "get_bucket_tagging", **in_bucket(name, wanted.setup.account)) or {}
        return {"Key": TAG, "Value": wanted.name} in answer.get("TagSet", ())

    for name in _names_tagged([name for name in names if name not in named], is_tagged, "buckets", told):
        yield OldPlace(Resource.BUCKET, name, holds=_holds(calls, in_bucket(name, wanted.setup.account)))


def _old_vaults(calls: AwsCalls, wanted: Wanted, told: list[str]) -> Iterator[OldPlace]:
    try:
        listed = calls.all("glacier", "list_vaults", "VaultList", accountId="-")
    except NightvaultError as error:
        told.append(_unlisted("vaults", "glacier:ListVaults", error))
        return
    filled = {vault["VaultName"]: bool(vault.get("NumberOfArchives")) for vault in listed}

    def is_tagged(name: str) -> bool:
        answer = calls.find("glacier", "list_tags_for_vault", accountId="-", vaultName=name) or {}
        return bool(answer.get("Tags", {}).get(TAG) == wanted.name)

    for name in _names_tagged(
        [name for name in filled if name not in wanted.other_places | {wanted.vault}],
        is_tagged,
        "vaults",
        told,
    ):
        yield OldPlace(Resource.VAULT, name, holds=filled[name])


def _names_tagged(names: list[str], is_tagged: IsTagged, kind: str, told: list[str]) -> Iterator[str]:
    """Yield the names of resources with our tag; `told` gets a sentence on those with unreadable tags."""
    unseen = []
    for name in names:
        try:
            if is_tagged(name):
                yield name
        except NightvaultError as error:
            if error.retryable:
                raise
            unseen.append(name)
    if unseen:
        more = f" and {len(unseen) - SHOWN} more" if len(unseen) > SHOWN else ""
        shown = ", ".join(unseen[:SHOWN])
        told.append(f"{kind} of which you may not see the tags may be of this set-up: {shown}{more}")


def _unlisted(kind: str, action: str, error: NightvaultError) -> str:
    return f"{kind} that this config does not name were not looked for ({action}): {error}"
