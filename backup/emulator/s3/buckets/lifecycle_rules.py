"""Lifecycle rules as values, parsed from XML.

Source: S3 API Reference (PutBucketLifecycleConfiguration), S3 User Guide (object-lifecycle-mgmt).
"""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec import Struct

from backup.emulator.core.s3_errors import S3Error
from backup.emulator.core.state.clock import DAY_MS
from backup.emulator.s3.xml import Element, parse

RANKS = (
    *("STANDARD", "STANDARD_IA", "INTELLIGENT_TIERING", "ONEZONE_IA", "GLACIER_IR", "GLACIER"),
    "DEEP_ARCHIVE",
)
RULES = 1000
LONGEST_ID = 255
_UNKNOWN = ("Tag", "NoncurrentVersionTransition", "NoncurrentVersionExpiration")


class When(Struct, frozen=True):
    """The time of a rule: an age in days, or a date (ms since the epoch)."""

    days: int | None
    date_ms: int | None

    def born_before(self, now_ms: int) -> int:
        """The creation time before which objects are due; ages are rounded up to the next midnight UTC."""
        if self.date_ms is not None:
            return now_ms + 1 if now_ms >= self.date_ms else 0
        midnight = now_ms - now_ms % DAY_MS
        return midnight - (self.days or 0) * DAY_MS

    def is_not_before(self, other: When) -> bool:
        """Whether it is as late as another time of the same kind, or later."""
        return (self.days or 0, self.date_ms or 0) >= (other.days or 0, other.date_ms or 0)


class LifecycleRule(Struct, frozen=True):
    """One rule: a filter of objects, and the actions with their times."""

    enabled: bool
    prefix: bytes
    larger_than: int | None
    smaller_than: int | None
    transitions: tuple[tuple[When, str], ...]
    expiration: When | None
    abort_days: int | None


def parse_lifecycle(body: bytes) -> list[LifecycleRule]:
    """The rules of a configuration; MalformedXML, or NotImplemented for what would not be done here."""
    rules = parse(body, "LifecycleConfiguration").children("Rule")
    if not 1 <= len(rules) <= RULES:
        raise S3Error("MalformedXML")
    return [_rule(rule) for rule in rules]


def check_lifecycle(body: bytes) -> None:
    """Refuse what S3 refuses of a configuration that could be parsed; one that is stored is not asked."""
    rules = parse(body, "LifecycleConfiguration").children("Rule")
    named = [text for rule in rules if (text := rule.get("ID"))]
    if any(len(text) > LONGEST_ID for text in named):
        raise S3Error("InvalidArgument", f"ID length should not exceed allowed limit of {LONGEST_ID}")
    if len(set(named)) < len(named):
        raise S3Error("InvalidArgument", "Rule ID must be unique. Found same ID for more than one rule")
    for rule in parse_lifecycle(body):
        _check(rule)


def _check(rule: LifecycleRule) -> None:
    """Check that the actions of a rule fit together."""
    where = f"filter '(prefix={rule.prefix.decode()})'"
    classes = [target for _, target in rule.transitions]
    if len(set(classes)) < len(classes):
        told = f"'StorageClass' must be different for 'Transition' actions in same 'Rule' with {where}"
        raise S3Error("InvalidRequest", told)
    times, last = [when for when, _ in rule.transitions], rule.expiration
    every = times if last is None else [*times, last]
    if any((when.date_ms or 0) % DAY_MS for when in every):
        raise S3Error("InvalidArgument", "'Date' must be at midnight GMT")
    if len({when.days is None for when in every}) > 1:
        told = "Found mixed 'Date' and 'Days' based Expiration and Transition actions in lifecycle rule"
        raise S3Error("InvalidRequest", f"{told} for {where}")
    if last is not None and any(when.is_not_before(last) for when in times):
        kind = "Date" if last.days is None else "Days"
        after = f"must be greater than '{kind}' in the Transition action"
        raise S3Error("InvalidArgument", f"'{kind}' in the Expiration action for {where} {after}")


def _rule(rule: Element) -> LifecycleRule:
    held = rule.child("Filter") or rule
    held = held.child("And") or held
    for name in _UNKNOWN:
        if held.child(name) is not None or rule.child(name) is not None:
            raise S3Error("NotImplemented", f"The emulator does not know {name} in a lifecycle rule.")
    status = rule.get("Status")
    if status not in ("Enabled", "Disabled") or (rule.child("Filter") is None) == (
        rule.child("Prefix") is None
    ):
        raise S3Error("MalformedXML")
    expiration = rule.child("Expiration")
    abort = rule.child("AbortIncompleteMultipartUpload")
    transitions = tuple((_when(node, low=0), _target(node)) for node in rule.children("Transition"))
    if not transitions and expiration is None and abort is None:
        raise S3Error("InvalidRequest", "At least one action needs to be specified in a rule.")
    return LifecycleRule(
        status == "Enabled",
        (held.get("Prefix") or "").encode(),
        held.number("ObjectSizeGreaterThan", high=2**50),
        held.number("ObjectSizeLessThan", high=2**50),
        transitions,
        None if expiration is None else _when(expiration, low=1),
        None if abort is None else abort.number("DaysAfterInitiation", low=1),
    )


def _target(node: Element) -> str:
    wanted = node.required("StorageClass")
    if wanted not in RANKS[1:]:
        raise S3Error("MalformedXML")
    return wanted


def _when(node: Element, *, low: int) -> When:
    days, date = node.number("Days", low=low), node.get("Date")
    if (days is None) == (date is None):
        raise S3Error("MalformedXML")
    if date is None:
        return When(days, None)
    try:
        moment = datetime.fromisoformat(date)
    except ValueError as error:
        raise S3Error("MalformedXML") from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return When(None, int(moment.timestamp() * 1000))
