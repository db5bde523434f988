"""Parses a Glacier vault's lock policy: until when it keeps an archive, and why it refused a deletion.

Source: Amazon Glacier developer guide, "Vault Lock Policies": `glacier:ArchiveAgeInDays` counts whole days
since an archive was stored. The service evaluates the policy; this explains its answer, and decides nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from backup.errors import DeniedError
from backup.model import Refusal
from backup.vault.aws import denial_in, is_forbidden_by_vault, told_at

_ACTION = "glacier:deletearchive"
_AGE = "glacier:archiveageindays"
_DAYS = re.compile(r"[0-9]{1,5}")
_EXTRA_DAYS = {"numericlessthan": 0, "numericlessthanequals": 1}  # an age of N days lasts for one day
_UNDATED = Refusal("the vault's lock forbids it")


class Lock(Struct, frozen=True):
    """A vault's lock policy; until it `is_final` it lasts for a day only, until `ends_at`."""

    policy: str
    is_final: bool
    ends_at: datetime | None = None


def warnings_of(lock: Lock, least: timedelta) -> Iterator[str]:
    """Warnings about a lock: it expires soon, or forbids deletions for longer than `least`."""
    if not lock.is_final:
        gone = f"on {lock.ends_at:%Y-%m-%d %H:%M} UTC" if lock.ends_at else "a day after it was begun"
        yield f"its lock was begun and is not completed: {gone} it is gone"
    days = [_kept_days(statement.get("Condition")) for statement in _denials(lock.policy)]
    if None in days:
        yield "its lock forbids to delete archives, whatever their age"
    elif days and max(limit or 0 for limit in days) > least.days:
        longest = max(limit or 0 for limit in days)
        yield f"its lock forbids to delete archives before they are {longest} days old"


def days_of(policy: str) -> int | None:
    """For how many days a lock policy forbids to delete archives; None if for ever, or it does not by age."""
    days = [_kept_days(statement.get("Condition")) for statement in _denials(policy)]
    return None if None in days else max((limit or 0 for limit in days), default=None)


def refusal_of(
    denial: BaseException | None, stored_at: datetime | None, read_lock: Callable[[], Lock | None]
) -> Refusal | None:
    """AWS's denial of a deletion as a refusal; None if the caller lacks the permission to delete."""
    text = denial_in(denial)
    if text is None:
        return None
    by_vault = Refusal("the vault's own policy forbids it") if is_forbidden_by_vault(text) else None
    try:
        lock = read_lock()
    except DeniedError:  # no permission to read it
        return by_vault
    if lock is None:
        return by_vault
    return refusal_by(lock.policy, stored_at, told_at(denial)) or by_vault


def refusal_by(policy: str, stored_at: datetime | None, now: datetime | None) -> Refusal | None:
    """The refusal of an archive by a lock policy; None if the policy does not forbid to delete it.

    A statement with other conditions (tags, who asks, …) counts: the service has refused already.
    """
    refusals = [_refusal(statement, stored_at) for statement in _denials(policy)]
    holding = [
        refusal for refusal in refusals if not (refusal.kept_until and now and refusal.kept_until <= now)
    ]
    return max(
        holding, key=lambda refusal: refusal.kept_until.timestamp() if refusal.kept_until else 0, default=None
    )


def _denials(policy: str) -> Iterator[Mapping[str, Any]]:
    """The statements that deny deletions; none of a text that is no policy."""
    try:
        told = json.loads(policy)
    except (ValueError, RecursionError):
        return
    statements = told.get("Statement") if isinstance(told, dict) else None
    for statement in statements if isinstance(statements, list) else [statements]:
        if (
            isinstance(statement, dict)
            and statement.get("Effect") == "Deny"
            and _concerns_deletions(statement)
        ):
            yield statement


def _concerns_deletions(statement: Mapping[str, Any]) -> bool:
    if "NotAction" in statement:
        return not any(map(_names_deletions, _texts(statement["NotAction"])))
    return any(map(_names_deletions, _texts(statement.get("Action"))))


def _names_deletions(pattern: str) -> bool:
    parts = (re.escape(part).replace(r"\?", ".") for part in pattern.lower().split("*"))
    return re.fullmatch(".*".join(parts), _ACTION) is not None


def _refusal(statement: Mapping[str, Any], stored_at: datetime | None) -> Refusal:
    days = _kept_days(statement.get("Condition"))
    if days is None:
        return _UNDATED
    detail = f"the vault's lock forbids it until it is {days} days old"
    return Refusal(detail, stored_at + timedelta(days=days) if stored_at else None)


def _kept_days(conditions: Any) -> int | None:
    """For how many days a statement forbids deletions; None if not by age."""
    days: list[int] = []
    for operator, keys in conditions.items() if isinstance(conditions, dict) else ():
        extra = _EXTRA_DAYS.get(operator.lower().removesuffix("ifexists"))
        for key, values in keys.items() if isinstance(keys, dict) and extra is not None else ():
            if key.lower() == _AGE:
                days += [int(text) + (extra or 0) for text in _texts(values) if _DAYS.fullmatch(text)]
    return max(days, default=None)


def _texts(value: Any) -> Sequence[str]:
    """One value of a policy, or a list of them, as texts."""
    return [str(text) for text in (value if isinstance(value, list) else [value]) if text is not None]
