"""Decides which snapshots of a job stay: policy and snapshots in, a decision with reasons for each out; pure.

    policy = Policy(within=parse_span("30d"), weekly=8, monthly=12, yearly=3)
    for decision in decide(policy, candidates, now=now, zone=ZoneInfo("Europe/Berlin")): ...

Rules and words are restic's (`rules.py`). Whatever the policy says, these stay, each with that reason:
pinned snapshots; those with a date that cannot be right (`dates.py`), which no rule counts; the last whole
snapshot, and the newest. Pinned and tagged snapshots are counted as all others are, as restic counts those
with a kept tag.

A partial snapshot stands for a period only if no whole one does. `keep_last` and `keep_within` have no
periods: the first keeps the same number of whole ones as well, the second measures from the newest whole one.
So a partial snapshot never pushes out a whole one of its period, of the last ones, or by its age.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from msgspec import Struct

from backup.errors import ConfigError
from backup.retention.dates import FUTURE, in_doubt
from backup.retention.history import Candidate, Dated, History
from backup.retention.periods import Period
from backup.retention.rules import ALL, Count, Counted, CountedWithin, Last, Rule, Tagged, Within
from backup.retention.spans import NO_SPAN, Span

__all__ = ["ALL", "Candidate", "Count", "Decision", "Policy", "Span", "decide", "unknown_tags"]

_ALL_PERIODS = tuple(Period)


class Policy(Struct, frozen=True):
    """A policy: counts (0: no such rule), spans (`NO_SPAN`: none), and sets of tags that go together."""

    last: Count = 0
    hourly: Count = 0
    daily: Count = 0
    weekly: Count = 0
    monthly: Count = 0
    yearly: Count = 0
    within: Span = NO_SPAN
    within_hourly: Span = NO_SPAN
    within_daily: Span = NO_SPAN
    within_weekly: Span = NO_SPAN
    within_monthly: Span = NO_SPAN
    within_yearly: Span = NO_SPAN
    tags: tuple[frozenset[str], ...] = ()

    def __post_init__(self) -> None:
        """Refuse counts below 0, and an empty set of tags, which every snapshot would have."""
        counts = (self.last, *(getattr(self, period.adverb) for period in _ALL_PERIODS))
        if any(count is not ALL and count < 0 for count in counts) or not all(self.tags):
            raise ConfigError("a policy needs counts of 0 or more, and tags that are not empty")

    @property
    def is_empty(self) -> bool:
        """Whether it has no rule, and so would keep nothing."""
        return self == Policy()

    def rules(self) -> list[Rule]:
        """Its rules, in the order in which their reasons are listed."""
        found: list[Rule] = [Tagged(self.tags)] if self.tags else []
        found += [Within(self.within)] if self.within else []
        found += [Last(self.last)] if self.last else []
        counts = ((period, getattr(self, period.adverb)) for period in _ALL_PERIODS)
        spans = ((period, getattr(self, f"within_{period.adverb}")) for period in _ALL_PERIODS)
        found += [Counted(period, count) for period, count in counts if count]
        return found + [CountedWithin(period, span) for period, span in spans if span]

    def __str__(self) -> str:
        """In words: "all within 30 days, 8 weekly, 12 monthly, 3 yearly"."""
        return ", ".join(map(str, self.rules())) or "nothing"


class Decision(Struct, frozen=True):
    """Whether a snapshot is kept; `reasons`: one of each rule that keeps it, else one of each that does not.

    `is_misdated`: its date cannot be right, so it is kept and no rule counts it. Reports have to name it.
    """

    number: int
    is_kept: bool
    reasons: tuple[str, ...]
    is_misdated: bool = False


def decide(
    policy: Policy | None, candidates: Iterable[Candidate], *, now: datetime, zone: ZoneInfo
) -> tuple[Decision, ...]:
    """One decision for each snapshot of a job, in the order of their numbers. Without a policy all are kept.

    `zone` is the job's: its days, weeks and years count. `now` must be right: a clock that is ahead makes
    wrong dates look right. `ConfigError` if the policy has no rule, or if none of its rules keeps anything,
    and some of it would be forgotten: a tag may be misspelt.
    """
    ordered = sorted(candidates, key=lambda candidate: candidate.number)
    if len({candidate.number for candidate in ordered}) < len(ordered):
        raise ValueError("two snapshots of a job have the same number")
    if policy is None:
        return tuple(Decision(candidate.number, True, ("there is no policy",)) for candidate in ordered)
    if policy.is_empty:
        raise ConfigError("this policy would keep nothing", advice="set one of keep_last, keep_within …")
    wrong = _wrong_dates(ordered, now, zone)
    dated = [Dated.of(candidate, zone) for candidate in reversed(ordered) if candidate.number not in wrong]
    found = _judge(policy, History(dated, zone)) if dated else {}
    found |= {number: Decision(number, True, (sentence,), True) for number, sentence in wrong.items()}
    return tuple(_with_pin(candidate, found[candidate.number]) for candidate in ordered)


def kept_positions(policy: Policy, history: History) -> set[int]:
    """The positions that the policy keeps of a history whose dates are right: `decide` without reasons."""
    kept = {0, history.newest}
    for rule in policy.rules():
        kept.update(rule.apply(history).kept)
    return kept


def unknown_tags(policy: Policy, candidates: Iterable[Candidate]) -> list[str]:
    """Tags of `keep_tags` that no snapshot has: possibly misspelt."""
    there = frozenset[str]().union(*(candidate.tags for candidate in candidates))
    return sorted(frozenset[str]().union(*policy.tags) - there)


def _wrong_dates(ordered: Sequence[Candidate], now: datetime, zone: ZoneInfo) -> dict[int, str]:
    """A sentence for each snapshot whose date cannot be right, by number."""

    def date(candidate: Candidate) -> str:
        return f"{candidate.started_at.astimezone(zone):%Y-%m-%d %H:%M}"

    future = [candidate for candidate in ordered if candidate.started_at > now + FUTURE]
    wrong = {
        candidate.number: f"dated in the future, {date(candidate)}: no rule counts it" for candidate in future
    }
    past = [candidate for candidate in ordered if candidate.number not in wrong]
    for candidate in (past[position] for position in in_doubt([candidate.started_at for candidate in past])):
        wrong[candidate.number] = (
            f"dated {date(candidate)}, against the order of the snapshots: no rule counts it"
        )
    return wrong


def _judge(policy: Policy, history: History) -> dict[int, Decision]:
    """The decisions on snapshots that take part in the rules, by number. `ConfigError` if none is kept."""
    applied = [rule.apply(history) for rule in policy.rules()]
    kept_anything = any(rule.kept for rule in applied)
    found: dict[int, Decision] = {}
    for position, dated in enumerate(history.newest_first):
        number = dated.candidate.number
        reasons = [rule.kept[position] for rule in applied if position in rule.kept]
        if not reasons and position == history.newest and dated.candidate.is_whole:
            reasons = ["the last whole snapshot: always kept"]
        elif not reasons and position == 0:
            reasons = ["the newest snapshot: always kept"]
        if reasons:
            found[number] = Decision(number, True, tuple(reasons))
            continue
        if not kept_anything and not dated.candidate.is_pinned:
            raise ConfigError(
                f"no rule of this policy ({policy}) keeps any of these {len(history.newest_first)} snapshots",
                advice="no snapshot has a tag of keep_tags: is it misspelt? Or add another rule",
            )
        found[number] = Decision(number, False, tuple(rule.why_not(position) for rule in applied))
    return found


def _with_pin(candidate: Candidate, decision: Decision) -> Decision:
    """The decision on a snapshot that may be pinned."""
    if not candidate.is_pinned:
        return decision
    others = decision.reasons if decision.is_kept else ()
    return Decision(candidate.number, True, ("pinned", *others), decision.is_misdated)
