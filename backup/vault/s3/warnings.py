"""Warnings about settings of a bucket that would harm a vault in it, for the person who sets it up.

Sources: Amazon S3 API reference (GetBucketLifecycleConfiguration, GetBucketVersioning,
GetObjectLockConfiguration).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from backup.errors import NightvaultError, VaultError, VaultMissingError
from backup.vault.s3.answers import FROZEN
from backup.vault.s3.keys import DATA, META
from backup.vault.s3.requests import BucketRequests


class _NotConfiguredError(VaultError):
    """S3's codes for a bucket without such a configuration."""


_NONE_SET: Mapping[str, type[NightvaultError]] = {
    "NoSuchLifecycleConfiguration": _NotConfiguredError,
    "ObjectLockConfigurationNotFoundError": _NotConfiguredError,
    "NotImplemented": _NotConfiguredError,  # a service that has no such thing
    "MethodNotAllowed": _NotConfiguredError,
}


@dataclass(slots=True)
class KnownOfBucket:
    """Facts about a bucket that are found while looking for warnings; None: not known.

    `region`: if it is known already, it is not asked for again.
    """

    region: str | None = None
    keeps_versions: bool | None = None


def warnings_of(requests: BucketRequests, look: KnownOfBucket | None = None) -> Iterator[str]:
    """Warnings about a bucket, worst first; a setting that cannot be read (denied, unreachable) is one,
    too."""
    told = look or KnownOfBucket()
    if told.region is None:
        yield from _whereabouts(requests, told)
    if told.region is None:
        return
    if told.region != requests.bucket.region:
        yield f'bucket {requests.bucket.name} is in {told.region}: set region = "{told.region}"'
    for check in (_lifecycle, partial(_versioning, look=told), _lock):
        if check is _lock and told.keeps_versions is False and requests.bucket.lock is None:
            continue  # S3 locks versions alone: a bucket without them has no lock
        try:
            yield from check(requests)
        except NightvaultError as error:
            yield str(error)


def _whereabouts(requests: BucketRequests, look: KnownOfBucket) -> Iterator[str]:
    try:
        head = requests.require(f"look at {requests.bucket.description}")
    except VaultMissingError:
        name = requests.bucket.name
        yield f"there is no bucket {name} yet: if the name is right, `nightvault init` makes it"
        return
    except NightvaultError as error:
        yield f"{error}{'; ' * bool(error.advice)}{error.advice}"
        return
    look.region = head.get("BucketRegion") or requests.bucket.region


def _asked(requests: BucketRequests, operation: str, what: str) -> Any:
    with suppress(_NotConfiguredError):
        return requests.call(operation, f"see {what}", meaning=_NONE_SET)
    return {}


def harmful_rules(requests: BucketRequests) -> Iterator[str]:
    """A sentence for each lifecycle rule that deletes or freezes what it must not; none where they cannot be
    seen."""
    with suppress(NightvaultError):
        yield from _harms(requests, _rules(requests))


def lifecycle_told(requests: BucketRequests) -> tuple[list[str], list[str]]:
    """Return the harm that lifecycle rules do, and what they lack, as sentences. Errors as of requests."""
    harms = list(_harms(requests, enabled := _rules(requests)))
    return harms, list(_lacks(requests, enabled))


def lock_told(requests: BucketRequests) -> Iterator[str]:
    """A sentence on the lock that a bucket has, or lacks. Errors as of requests."""
    return _lock(requests)


def _rules(requests: BucketRequests) -> list[Mapping[str, Any]]:
    rules = _asked(requests, "get_bucket_lifecycle_configuration", "lifecycle rules").get("Rules", ())
    return [rule for rule in rules if rule.get("Status") == "Enabled"]


def _lifecycle(requests: BucketRequests) -> Iterator[str]:
    enabled = _rules(requests)
    yield from _harms(requests, enabled)
    yield from _lacks(requests, enabled)


def _lacks(requests: BucketRequests, enabled: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    if not any("AbortIncompleteMultipartUpload" in rule for rule in enabled):
        yield f"no lifecycle rule ends incomplete uploads of bucket {requests.bucket.name}: see docs/s3.md"


def _harms(requests: BucketRequests, enabled: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    prefix = requests.bucket.prefix
    for rule in enabled:
        named = f"lifecycle rule {rule.get('ID') or 'without a name'}"
        moves = {transition.get("StorageClass") for transition in rule.get("Transitions", ())}
        if moves & {*FROZEN, "INTELLIGENT_TIERING"} and _concerns(rule, prefix + META):
            yield f"{named} freezes {prefix}{META}, which must stay readable: limit it to {prefix}{DATA}"
        for kind in (META, DATA):
            if rule.get("Expiration", {}).keys() & {"Days", "Date"} and _concerns(rule, prefix + kind):
                yield f"{named} deletes what lies in {prefix}{kind}: nightvault alone knows what is needed"


def _concerns(rule: Mapping[str, Any], key: str) -> bool:
    """Whether a lifecycle rule may affect keys with this prefix; a rule by tags or sizes alone may affect
    any."""
    told = rule.get("Filter", {})
    prefix = told.get("Prefix", told.get("And", {}).get("Prefix", rule.get("Prefix", ""))) or ""
    tagged = "Tag" in told or "Tags" in told.get("And", {})  # ours have no tags
    return not tagged and (key.startswith(prefix) or prefix.startswith(key))


def _versioning(requests: BucketRequests, look: KnownOfBucket) -> Iterator[str]:
    versioning = _asked(requests, "get_bucket_versioning", "whether it keeps versions")
    look.keeps_versions = "Status" in versioning
    if versioning.get("MFADelete") == "Enabled":
        yield f"bucket {requests.bucket.name} wants MFA for deletions: prune cannot delete there"


def _lock(requests: BucketRequests) -> Iterator[str]:
    lock = _asked(requests, "get_object_lock_configuration", "its object lock")
    if requests.bucket.lock is not None and not lock:
        yield (
            f"bucket {requests.bucket.name} has no object lock: with `lock` of this vault nothing can be "
            "stored there; `nightvault setup aws` switches it on"
        )
    kept = lock.get("ObjectLockConfiguration", {}).get("Rule", {}).get("DefaultRetention")
    if kept:
        period = f"{kept['Days']} days" if "Days" in kept else f"{kept.get('Years')} years"
        what = f"bucket {requests.bucket.name} locks what is stored for {period} ({kept.get('Mode')})"
        yield f"{what}: nothing can be pruned sooner"
