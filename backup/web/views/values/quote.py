"""What a restore of a selection costs by each tier, and the command for it."""

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
    """One tier: what is retrieved and paid, and how many hours it takes; `total` None: no price is known.

    The other amounts are parts of `total`. `hours` are the least and the most, None where nobody knows.
    `command` is the whole restore with this tier, to be copied into a shell.
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

    `command` restores with the config's tier; `is_too_much`: there are more entries than a page may count
    (`limit`), and the command with `--dry-run` tells the price: then `tiers` is empty.
    `is_free`: nothing is retrieved or paid, as from a directory. `missing` are paths that it does not have.
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
