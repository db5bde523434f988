"""Until when a policy will keep each snapshot, if nights go on as the schedule says; pure.

An estimate, good enough to decide whether keeping an old archive costs more than storing its live files anew:
every night is taken as whole and untagged, and only one snapshot a day is considered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from backup.retention.dates import FUTURE, in_doubt
from backup.retention.history import Candidate, Dated, History
from backup.retention.policy import Policy, kept_positions
from backup.retention.rules import Tagged
from backup.schedule import Schedule, next_due

_A_DAY: Final = timedelta(days=1)


def ends_of(
    policy: Policy | None,
    schedule: Schedule | None,
    candidates: Sequence[Candidate],
    *,
    now: datetime,
    zone: ZoneInfo,
    horizon: timedelta,
) -> Mapping[int, datetime | None]:
    """Return when each snapshot will be forgotten, by number; None: after the horizon, or not known.

    Without a policy or a schedule nothing is ever forgotten by itself.
    """
    ends: dict[int, datetime | None] = dict.fromkeys((candidate.number for candidate in candidates), None)
    if policy is None or schedule is None or policy.is_empty:
        return ends
    staying = _taking_part(policy, candidates, now, zone)
    left = {dated.candidate.number for dated in staying}
    number, at = max(left, default=0), now
    while left and (at := next_due(schedule, at, at)) < now + horizon:
        number += 1
        staying.insert(0, Dated.of(Candidate(number, at), zone))
        kept = kept_positions(policy, History(staying, zone))
        for position, dated in enumerate(staying):
            if position not in kept and dated.candidate.number in left:
                left.discard(dated.candidate.number)
                ends[dated.candidate.number] = at
        staying = [dated for position, dated in enumerate(staying) if position in kept]
        at = max(at, at + _A_DAY - timedelta(hours=2))
    return ends


def _taking_part(
    policy: Policy, candidates: Sequence[Candidate], now: datetime, zone: ZoneInfo
) -> list[Dated]:
    """Snapshots that rules forget some day, newest first: neither pinned, tagged to stay, nor misdated."""
    tagged = [rule for rule in policy.rules() if isinstance(rule, Tagged)]
    past = sorted(
        (candidate for candidate in candidates if candidate.started_at <= now + FUTURE),
        key=lambda candidate: candidate.number,
    )
    doubtful = set(in_doubt([candidate.started_at for candidate in past]))
    dated = [Dated.of(candidate, zone) for position, candidate in enumerate(past) if position not in doubtful]
    dated.reverse()
    history = History(dated, zone)
    stay = {position for rule in tagged for position in rule.apply(history).kept} if dated else set()
    return [
        snapshot
        for position, snapshot in enumerate(dated)
        if position not in stay and not snapshot.candidate.is_pinned
    ]
