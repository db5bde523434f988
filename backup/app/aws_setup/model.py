"""The resources wanted in AWS, those found there, and the steps from one to the other; pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from backup.app.aws_setup.documents import AwsSetup, Document, trust_policy

T = TypeVar("T")

POLICY = "nightvault"
"""The name of each role's inline policy."""

DESCRIPTION = "nightvault: "
"""How the description of each role begins; a list of roles has descriptions, but no tags."""

UNKNOWN_ANCHOR = "TRUST-ANCHOR-ARN"
"""Stands in plans for the ARN that AWS gives to a trust anchor when it is made."""


class Resource(StrEnum):
    """The kinds of resources that a set-up makes."""

    ANCHOR = "trust anchor"
    CRL = "revocation list"
    ROLE = "role"
    PROFILE = "profile"
    VAULT = "vault"
    BUCKET = "bucket"


class Verb(StrEnum):
    """The kinds of change that a step makes."""

    MAKE = "make"
    CHANGE = "change"
    DELETE = "delete"


class AwsAccount(Struct, frozen=True):
    """The account of the credentials, and the identity that they belong to."""

    id: str
    partition: str
    caller: str


class WantedRole(Struct, frozen=True):
    """A role: its purpose, name and ARN, its one inline policy, and the subject that may assume it.

    `is_named`: the config has its ARN, and it was not made up for a config that has none.
    """

    purpose: str
    name: str
    arn: str
    policy: Document
    common_name: str | None
    unit: str | None
    is_named: bool = True

    @property
    def path(self) -> str:
        """The path in its ARN, as `/` or `/backup/`."""
        return self.arn.partition(":role")[2].removesuffix(self.name)


def in_bucket(name: str, owner: str) -> dict[str, str]:
    """A bucket in a call of S3, which AWS denies if it does not belong to this account."""
    return {"Bucket": name, "ExpectedBucketOwner": owner}


class WantedBucket(Struct, frozen=True):
    """A bucket: the documents of its settings; `versioning`, `locks` only if they were wanted.

    `owner` is the account that it must belong to.
    """

    name: str
    region: str
    policy: Document
    versioning: bool
    owner: str
    locks: bool = False

    @property
    def where(self) -> Mapping[str, str]:
        """The parameters that name the bucket in a call; AWS denies it if another account owns the bucket."""
        return in_bucket(self.name, self.owner)

    @property
    def is_reserved(self) -> bool:
        """Whether its name belongs to one account and region (`…-ACCOUNT-REGION-an`)."""
        return self.name.endswith("-an")


class Wanted(Struct, frozen=True):
    """All resources of one set-up, by name; `certificates` and `crl` are in PEM, `vault` is a Glacier vault.

    A config with several vaults has one for each, that differ by their place; the roles are of all. `others`
    are vaults of the config that it is not for, with the roles that they name, `other_places` the buckets and
    Glacier vaults of all but this one. `deletes_by`: the role that deletes in this vault. `is_noted`: a note
    says that this set-up was about to make the vault, so that it may be ours without a tag.
    """

    name: str
    setup: AwsSetup
    region: str  # of trust anchor and profile
    certificates: str
    roles: tuple[WantedRole, ...]
    seconds: int
    takes_session_names: bool
    vault: str | None = None
    bucket: WantedBucket | None = None
    crl: str | None = None
    others: Mapping[str, Collection[str]] = field(default_factory=dict)
    other_places: frozenset[str] = frozenset()
    deletes_by: str | None = None
    is_noted: bool = False

    def trust_of(self, role: WantedRole, anchor_arn: str) -> Document:
        """Return the role's trust policy for one trust anchor."""
        for_role = replace(self.setup, common_name=role.common_name, unit=role.unit, is_shared=False)
        return trust_policy(replace(for_role, trust_anchor_arn=anchor_arn))


class FoundAnchor(Struct, frozen=True):
    """A trust anchor with our tag."""

    id: str
    arn: str
    certificates: str
    enabled: bool


class FoundProfile(Struct, frozen=True):
    """A profile with our tag."""

    id: str
    arn: str
    role_arns: tuple[str, ...]
    seconds: int
    takes_session_names: bool
    enabled: bool


class FoundCrl(Struct, frozen=True):
    """A revocation list with our tag."""

    id: str
    anchor_arn: str
    text: str
    enabled: bool


class FoundRole(Struct, frozen=True):
    """A role of a wanted name, ours or not, or one of ours that is not wanted any more.

    `policies` are inline, `attached` the ARNs of managed ones; none of a role that is not ours.
    """

    name: str
    arn: str
    trust: Document
    policies: Mapping[str, Document]
    is_ours: bool
    attached: tuple[str, ...] = ()

    @property
    def others(self) -> tuple[str, ...]:
        """The inline policies that no set-up made."""
        return tuple(sorted(set(self.policies) - {POLICY}))


class FoundPlace(Struct, frozen=True):
    """The vault or bucket, if it exists: whether it is ours, whether it is empty, its settings.

    `is_others`: it carries the tag of a set-up of another name. `is_strangers`: a bucket of another account.
    """

    is_ours: bool
    holds: bool
    is_others: bool = False
    is_strangers: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)


class OldPlace(Struct, frozen=True):
    """A bucket or vault with our tag that the config does not name, and whether it is empty."""

    kind: Resource
    name: str
    holds: bool


class FoundResources(Struct, frozen=True):
    """All resources found. `anchors`, `profiles` and `crls` have our tag; the first is the one to keep.

    `unseen` are roles that look like ours, and whose tags may not be read. `old_places` are searched only on
    request; `not_looked` are sentences on what could not be read.
    """

    anchors: tuple[FoundAnchor, ...] = ()
    profiles: tuple[FoundProfile, ...] = ()
    crls: tuple[FoundCrl, ...] = ()
    roles: Mapping[str, FoundRole] = field(default_factory=dict)
    place: FoundPlace | None = None
    unseen: tuple[str, ...] = ()
    old_places: tuple[OldPlace, ...] = ()
    not_looked: tuple[str, ...] = ()

    @property
    def anchor_arn(self) -> str | None:
        """The ARN of the trust anchor, once there is one."""
        return self.anchors[0].arn if self.anchors else None


class PlannedCall(Struct, frozen=True):
    """One call that changes something, and a description of it."""

    verb: Verb
    kind: Resource
    name: str
    words: str
    service: str
    operation: str
    parameters: Mapping[str, Any]


class Plan(Struct, frozen=True):
    """The steps from what was found to what is wanted, the obstacles, and what is left alone.

    A sentence in `left` may have commands below it, each on a line of its own.
    """

    steps: Sequence[PlannedCall]
    obstacles: Sequence[str] = ()
    left: Sequence[str] = ()


def together(plans: Sequence[Plan]) -> Plan:
    """Return one plan for all vaults of a set-up: a step that several of them need comes once."""
    return Plan(
        _once(step for plan in plans for step in plan.steps),
        _once(obstacle for plan in plans for obstacle in plan.obstacles),
        _once(left for plan in plans for left in plan.left),
    )


def _once(values: Iterable[T]) -> tuple[T, ...]:
    found: list[T] = []
    for value in values:
        if value not in found:
            found.append(value)
    return tuple(found)


def same_document(one: object, other: object) -> bool:
    """Whether two documents mean the same: AWS reorders lists, and returns a list of one as its item."""
    return _plain(one) == _plain(other)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        made = sorted((_plain(part) for part in value), key=repr)
        return made[0] if len(made) == 1 else made
    return value
