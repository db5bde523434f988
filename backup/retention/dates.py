"""Finds snapshots whose dates cannot be right; no rule of a policy may count them.

Snapshots are numbered in the order in which they were made, and a clock may be wrong. Two kinds of dates
prove it: one later than now, and one against the order. Of two snapshots against the order one is wrong,
but which? The answer is by majority: the longest chain of snapshots whose dates run with their numbers is
taken to be right. A snapshot that does not belong to every such chain is in doubt.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

FUTURE: Final = timedelta(minutes=5)
"""How much later than now a snapshot may be dated: clocks differ by this much."""
STEP: Final = timedelta(days=1)
"""How far a clock may be set back without doubt about the dates: a snapshot is near its true date then."""


def in_doubt(dates: Sequence[datetime]) -> frozenset[int]:
    """The positions of dates that contradict the order; `dates` are in the order of snapshot numbers."""
    if all(earlier <= later for earlier, later in pairwise(dates)):
        return frozenset()
    seconds = [date.timestamp() for date in dates]
    up_to = _longest_chains(seconds)
    from_here = _longest_chains([-second for second in reversed(seconds)])[::-1]
    longest = max(up_to)
    # A longest chain has one snapshot on each level; one that is alone there is part of every such chain.
    on_longest = {n for n in range(len(dates)) if up_to[n] + from_here[n] - 1 == longest}
    on_level = Counter(up_to[n] for n in on_longest)
    return frozenset(n for n in range(len(dates)) if n not in on_longest or on_level[up_to[n]] > 1)


def _longest_chains(seconds: Sequence[float]) -> list[int]:
    """For each position the length of the longest chain that ends there; no step goes back by over `STEP`."""
    ranks = sorted(set(seconds))
    best = [0] * (len(ranks) + 1)  # a Fenwick tree: the longest chain that ends at or before a rank
    lengths: list[int] = []
    for second in seconds:
        rank, length = bisect_right(ranks, second + STEP.total_seconds()), 0
        while rank:
            length = max(length, best[rank])
            rank &= rank - 1
        lengths.append(length + 1)
        rank = bisect_right(ranks, second)
        while rank <= len(ranks):
            best[rank] = max(best[rank], length + 1)
            rank += rank & -rank
    return lengths
