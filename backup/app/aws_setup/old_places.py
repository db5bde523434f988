"""Looks for buckets and vaults that carry the tag of a set-up, and that its config does not name any more.

Neither list has tags, so each thing is asked for its own. Buckets of other regions are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec.structs import replace

from backup.app.aws_setup.calls import AwsCalls
from backup.app.aws_setup.documents import TAG
from backup.app.aws_setup.look import holds
from backup.app.aws_setup.model import Found, Kind, OldPlace, Wanted, in_bucket
from backup.errors import NightvaultError

PAGE = 1000
SHOWN = 5
"""The most names that a sentence lists."""

IsTagged = Callable[[str], bool]


def with_old_places(calls: AwsCalls, wanted: Wanted, found: Found) -> Found:
    """The findings with those places, and sentences on what could not be looked at."""
    told: list[str] = []
    places = (*_vaults(calls, wanted, told), *_buckets(calls, wanted, told))
    return replace(found, old_places=places, not_looked=tuple(told))


def _buckets(calls: AwsCalls, wanted: Wanted, told: list[str]) -> Iterator[OldPlace]:
    region = wanted.setup.region
    try:
        listed = calls.all("s3", "list_buckets", "Buckets", MaxBuckets=PAGE)
    except NightvaultError as error:
        told.append(_unlisted("buckets", "s3:ListAllMyBuckets", error))
        return
    named = wanted.other_places | {wanted.bucket.name if wanted.bucket else ""}
    names = [one["Name"] for one in listed if one.get("BucketRegion", region) == region]

    def is_tagged(name: str) -> bool:
        answer = calls.find("s3", "get_bucket_tagging", **in_bucket(name, wanted.setup.account)) or {}
        return {"Key": TAG, "Value": wanted.name} in answer.get("TagSet", ())

    for name in _tagged([name for name in names if name not in named], is_tagged, "buckets", told):
        yield OldPlace(Kind.BUCKET, name, holds=holds(calls, in_bucket(name, wanted.setup.account)))


def _vaults(calls: AwsCalls, wanted: Wanted, told: list[str]) -> Iterator[OldPlace]:
    try:
        listed = calls.all("glacier", "list_vaults", "VaultList", accountId="-")
    except NightvaultError as error:
        told.append(_unlisted("vaults", "glacier:ListVaults", error))
        return
    filled = {one["VaultName"]: bool(one.get("NumberOfArchives")) for one in listed}

    def is_tagged(name: str) -> bool:
        answer = calls.find("glacier", "list_tags_for_vault", accountId="-", vaultName=name) or {}
        return bool(answer.get("Tags", {}).get(TAG) == wanted.name)

    for name in _tagged(
        [name for name in filled if name not in wanted.other_places | {wanted.vault}],
        is_tagged,
        "vaults",
        told,
    ):
        yield OldPlace(Kind.VAULT, name, holds=filled[name])


def _tagged(names: list[str], is_tagged: IsTagged, kind: str, told: list[str]) -> Iterator[str]:
    """The names of what carries our tag; who may not see tags is told of which."""
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
