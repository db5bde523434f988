"""Questions about the schedule of backups, how long they are kept, and how often they are checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache

from msgspec.structs import replace

from backup.app.beginning.answers import CHECK_AGE, Answers
from backup.cli.begin.question import NONE, Facts, Question, is_none, one_of
from backup.cli.begin.what_and_where import constant
from backup.config import PROPOSED, RetentionSettings
from backup.config.retention import COUNTS, SPANS, check_count, check_span
from backup.config.values import local_zone
from backup.errors import ConfigError, UsageError
from backup.retention.simulate import simulate
from backup.retention.table import table
from backup.schedule import least_gap, parse_schedule

_NIGHTLY = "daily at 02:30"
_LEAST_GAP = timedelta(hours=6)
STANDARD, ALL = "standard", "all"
_SHORT: Mapping[str, str | int] = {"keep_within": "14d", "keep_weekly": 4}
PRESETS: Mapping[str, Mapping[str, str | int]] = {STANDARD: PROPOSED, "short": _SHORT}
_RULE = re.compile(r"(?:keep_)?([a-z_]+)\s*=\s*(\S+)")


def _schedule(answers: Answers, text: str, _facts: Facts) -> Answers:
    if is_none(text):
        return replace(answers, schedule=None)
    try:
        parse_schedule(text, "UTC")
    except ConfigError as error:
        raise UsageError(str(error)) from error
    return replace(answers, schedule=text)


def _keep(answers: Answers, text: str, _facts: Facts) -> Answers:
    words = text.strip().lower()
    if words == ALL:
        return replace(answers, keep=None)
    if words in PRESETS:
        return replace(answers, keep=PRESETS[words])
    rules: dict[str, str | int] = {}
    for word in text.replace(",", " ").split():
        match = _RULE.fullmatch(word)
        if match is None or f"keep_{match[1]}" not in COUNTS | SPANS:
            known = ", ".join(sorted(name.removeprefix("keep_") for name in COUNTS | SPANS))
            raise UsageError(
                f"{word!r} is no rule: write {', '.join(PRESETS)}, {ALL}, or rules such as daily=7 weekly=4; "
                f"there are {known}"
            )
        rules[f"keep_{match[1]}"] = _value(f"keep_{match[1]}", match[2])
    if not rules or RetentionSettings(**rules).policy.is_empty:  # type: ignore[arg-type]
        raise UsageError("this would keep nothing")
    return replace(answers, keep=rules)


def _value(name: str, words: str) -> str | int:
    """The value of a rule. `UsageError`."""
    value: str | int = int(words) if words.isdecimal() and len(words) < 9 else words
    try:
        (check_count if name in COUNTS else check_span)(str(value) if name in SPANS else value)
    except ValueError as error:
        raise UsageError(f"{name.removeprefix('keep_')}={words}: {error}") from error
    return value


def keep_words(rules: Mapping[str, str | int] | None) -> str:
    """Return a policy as it is typed in an answer."""
    if rules is None:
        return ALL
    named = next((name for name, preset in PRESETS.items() if preset == rules), None)
    return named or " ".join(f"{name.removeprefix('keep_')}={value}" for name, value in rules.items())


def _picture(answers: Answers, facts: Facts) -> str:
    """The nights that stay over a year, as `forget --simulate` shows them."""
    if answers.keep is None:
        return "All snapshots are kept for ever: the vault only grows, and `doctor` says so."
    words = answers.schedule or _NIGHTLY
    return _drawn(tuple(answers.keep.items()), _NIGHTLY if _is_often(words) else words, facts.now)


@lru_cache(maxsize=8)
def _drawn(rules: tuple[tuple[str, str | int], ...], words: str, now: datetime) -> str:
    policy = RetentionSettings(**dict(rules)).policy  # type: ignore[arg-type]
    try:
        return table(simulate(policy, parse_schedule(words, local_zone()), begin=now, years=1)).rstrip()
    except UsageError as error:
        return str(error)


def _is_often(words: str) -> bool:
    """Whether there are so many times that a picture would take long."""
    return least_gap(parse_schedule(words, "UTC")) < _LEAST_GAP


def _check(answers: Answers, text: str, _facts: Facts) -> Answers:
    chosen = one_of(text, (*CHECK_AGE, NONE))
    return replace(answers, check=None if chosen == NONE else chosen)


WHEN_AND_KEEP = (
    Question(
        name="schedule",
        title="When?",
        help=(
            'Such as "daily at 02:30", "every 6h", "weekly", or five fields as in a crontab: "30 2 * * 1-5"; '
            "none: only when you say `nightvault backup`. The daemon keeps schedules, in this machine's time "
            "zone; `nightvault install --systemd` starts it."
        ),
        default=constant(_NIGHTLY),
        read=_schedule,
        keys=("job[1].schedule",),
    ),
    Question(
        name="keep",
        title="Which snapshots are kept?",
        help=(
            f"{STANDARD}: all of 30 days, then 8 weekly, 12 monthly, 3 yearly. short: all of 14 days, 4 "
            f"weekly. {ALL}: none is ever forgotten. Or rules of your own: daily=7 weekly=4 within=30d; "
            "another policy is drawn first. docs/retention.md has more. Forgotten ones come back until a "
            "prune deletes them."
        ),
        lead=_picture,
        default=lambda answers, _facts: keep_words(answers.keep),
        read=_keep,
        keys=("job[1].retention",),
        confirms=True,
    ),
    Question(
        name="check",
        title="How often is the vault checked?",
        help=(
            "monthly, weekly, daily or none. A check compares the vault's own list with what was stored: it "
            "reads no data and costs next to nothing. `status` warns if the last good one is too old."
        ),
        default=constant("monthly"),
        read=_check,
        keys=("vault[1].check", "monitoring"),
    ),
)
