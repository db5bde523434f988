"""Chooses archives to compact: their live chunks are stored again, so that they can be deleted; pure.

An archive that is mostly dead but holds chunks of files that are on the server's disk today is billed for
ever. Once those chunks are stored again it can be deleted, as soon as no kept snapshot needs its other
chunks. No retrieval is needed: the files are on the disk.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal

from msgspec import Struct

from backup.cost import Price, shortfall

_LEAST_SHARE = 5  # without prices: a fifth of an archive must come free
_A_DAY = timedelta(days=1)
_REQUESTS = 3  # begin, parts, complete


class Partly(Struct, frozen=True):
    """A stored archive of which only a part is needed.

    `length` is that of all its chunks before compression, `live` of those that a file on the disk has now.
    `needed_until`: when the last kept snapshot that needs its other chunks is forgotten; None: not known.
    """

    number: int
    pack_id: bytes
    size: int
    stored_at: datetime
    free_at: datetime
    length: int
    live: int
    needed_until: datetime | None

    @property
    def stored_anew(self) -> int:
        """The bytes that its live chunks will take in a new archive."""
        return self.size * self.live // self.length if self.length else 0


class Compaction(Struct, frozen=True):
    """An archive to retire, when it can be deleted, and what that saves.

    `gain` in dollars over the horizon; None where no price is known: then `freed` bytes decide.
    """

    archive: Partly
    gone_at: datetime
    gain: Decimal | None

    @property
    def freed(self) -> int:
        """The bytes by which the vault shrinks in the end."""
        return self.archive.size - self.archive.stored_anew


class CompactRules(Struct, frozen=True):
    """Horizon, grace of a prune, size of new packs, and the least gain (dollars) that is worth it."""

    horizon: timedelta
    grace: timedelta
    pack_size: int
    min_gain: Decimal = Decimal(0)


def plan_compact(
    archives: Iterable[Partly], rules: CompactRules, price: Price | None, *, now: datetime
) -> tuple[Compaction, ...]:
    """The archives whose compaction saves more than it costs, the largest saving first."""
    found: list[Compaction] = []
    for archive in archives:
        if archive.needed_until is None or not archive.live or archive.live >= archive.length:
            continue
        gone_at = max(archive.needed_until, archive.free_at, now + rules.grace + _A_DAY)
        gain = None if price is None else _gain(archive, rules, price, now, gone_at)
        choice = Compaction(archive, gone_at, gain)
        if gain is None:
            is_worth_it = archive.needed_until <= now and choice.freed * _LEAST_SHARE >= archive.size
        else:
            is_worth_it = gain > 0 and gain >= rules.min_gain
        if is_worth_it:
            found.append(choice)
    return tuple(
        sorted(
            found,
            key=lambda compaction: (
                -(compaction.gain or Decimal(compaction.freed)),
                compaction.archive.number,
            ),
        )
    )


def _gain(archive: Partly, rules: CompactRules, price: Price, now: datetime, gone_at: datetime) -> Decimal:
    """Dollars saved over the horizon: the old archive's storage once it is gone, less what is stored anew.

    What is stored anew is paid from today, beside the old archive, with its share of a pack's overhead and
    requests.
    """
    saved_days = (now + rules.horizon - gone_at).days
    if saved_days <= 0:
        return Decimal(0)
    saved = price.storing(archive.size, 1, saved_days, short=shortfall(archive.size))
    share = Decimal(archive.stored_anew) / rules.pack_size
    overhead = price.storing(price.overhead, 0, rules.horizon.days) * share
    requests = price.uploading(1, _REQUESTS) * share
    return saved - price.storing(archive.stored_anew, 0, rules.horizon.days) - overhead - requests
