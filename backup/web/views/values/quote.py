"""Values of a quote: the cost of a restore of chosen paths for each tier, and its command."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal

from msgspec import Struct

from backup.model import Tier, VaultName
from backup.web.views.values.browse import Place
from backup.web.views.values.names import Name
from backup.web.views.values.snapshot_line import SnapshotLine


class TierQuote(Struct, frozen=True):
    """The quote for a tier: bytes retrieved, costs, and hours; `total` None: no price is known.

    The other amounts are parts of `total`. `hours` are the least and the most, None if unknown. `command`
    restores with this tier, and can be copied into a shell.
    """

    tier: Tier
    retrievals: int
    archives: int
    retrieved: int
    total: Decimal | None
    retrieval: Decimal | None
    requests: Decimal | None
    egress: Decimal | None
    copies: Decimal | None
    hours: tuple[float, float] | None
    unverified: Sequence[str]
    command: str


class QuotePage(Struct, frozen=True):
    """The quote for some paths of a snapshot.

    `command` restores with the config's tier. `is_too_much`: there are more entries than a page may count
    (`limit`); `tiers` is empty then, and the command with `--dry-run` shows the price.
    `is_free`: nothing is retrieved or paid, as from a directory. `missing` are paths not in the snapshot.
    """

    snapshot: SnapshotLine
    vault: VaultName
    paths: Sequence[Name]
    missing: Sequence[Name]
    files: int
    bytes: int
    tiers: Sequence[TierQuote]
    is_free: bool
    is_too_much: bool
    limit: int
    currency: str
    prices_of: date | None
    places: Sequence[Place]
    command: str
    dry_run_command: str
