"""`[job.retention]` and `[retention.NAME]`: what a job keeps, and when it forgets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from backup.errors import ConfigError
from backup.retention.periods import Period
from backup.retention.policy import ALL, Count, Policy
from backup.retention.spans import NO_SPAN, Span, parse_span
from backup.schedule import Schedule, parse_schedule

PROPOSED: Final[Mapping[str, str | int]] = {
    "keep_within": "30d",
    "keep_weekly": 8,
    "keep_monthly": 12,
    "keep_yearly": 3,
}
"""The policy that `init` proposes to a job without one."""

COUNTS: Final = frozenset({"keep_last", *(f"keep_{period.adverb}" for period in Period)})
SPANS: Final = frozenset({"keep_within", *(f"keep_within_{period.adverb}" for period in Period)})
_ONE_TAG = r"[^,\s\x00](?:[^,\x00]*[^,\s\x00])?"
_Tags = Annotated[
    str,
    Meta(
        pattern=rf"^(?:{_ONE_TAG}(?:,{_ONE_TAG})*)\Z",
        description='must be a tag, or several that a snapshot must all have, as "release,db"',
    ),
]


class ForgetWhen(StrEnum):
    """When a job forgets, if not by a schedule of its own."""

    AFTER_BACKUP = "after backup"
    NEVER = "never"


class RetentionSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A policy as written: counts are numbers or "all", spans texts such as "30d"; 0 or absent: no such rule.

    Each of `keep_tags` is a tag, or several with commas between them that a snapshot must all have.
    """

    keep_last: int | str = 0
    keep_hourly: int | str = 0
    keep_daily: int | str = 0
    keep_weekly: int | str = 0
    keep_monthly: int | str = 0
    keep_yearly: int | str = 0
    keep_within: str | None = None
    keep_within_hourly: str | None = None
    keep_within_daily: str | None = None
    keep_within_weekly: str | None = None
    keep_within_monthly: str | None = None
    keep_within_yearly: str | None = None
    keep_tags: tuple[_Tags, ...] = ()

    @property
    def policy(self) -> Policy:
        """The policy; it may have no rule."""
        rules: dict[str, Any] = {name[5:]: parse_count(getattr(self, name)) for name in COUNTS}
        rules |= {name[5:]: _span(getattr(self, name)) for name in SPANS}
        return Policy(**rules, tags=tuple(frozenset(tags.split(",")) for tags in self.keep_tags))


def parse_count(value: object) -> Count:
    """Return the count of 7 or "all". `ValueError`, with the message for the user."""
    if value == ALL.value:
        return ALL
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError('must be a number such as 7 (0: no such rule), or "all"')
    return value


def check_count(value: object) -> object:
    """Return the count as it was written. `ValueError` if it is not valid."""
    parse_count(value)
    return value


def check_span(value: object) -> object:
    """Return the span as it was written. `ValueError` if it is not valid."""
    if not isinstance(value, str):
        raise ValueError('must be a text such as "30d", "13w" or "1y6m"')  # noqa: TRY004 (as of all values)
    try:
        parse_span(value)
    except ConfigError as error:
        raise ValueError(str(error)) from error
    return value


def parse_forget(text: str | None, timezone: str, *, has_policy: bool) -> ForgetWhen | Schedule:
    """Return when to forget: after each backup unless `text` says otherwise, never without a policy.

    `ConfigError`.
    """
    if not has_policy:
        return ForgetWhen.NEVER
    words = " ".join((text or ForgetWhen.AFTER_BACKUP).lower().split())
    if words in set(ForgetWhen):
        return ForgetWhen(words)
    try:
        return parse_schedule(words, timezone)
    except ConfigError as error:
        raise ConfigError(f'must be "after backup", "never" or a schedule: {error}') from error


def check_rules(key: str, settings: RetentionSettings) -> Iterator[tuple[str, str]]:
    """Return the mistake of a policy that has no rule, by key."""
    if settings.policy.is_empty:
        yield key, f"would keep nothing; a policy for most is {', '.join(proposed_lines())}"


def proposed_lines() -> list[str]:
    """Return the proposed policy in TOML."""
    return [f"{name} = {msgspec.json.encode(value).decode()}" for name, value in PROPOSED.items()]


def _span(text: str | None) -> Span:
    return NO_SPAN if text is None else parse_span(text)
