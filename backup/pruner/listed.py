"""The vault's list that a prune uses: it stops where the list shows more than this inventory knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from backup.errors import NightvaultError
from backup.format.pack import parse_description
from backup.inventory import compared, pruning
from backup.inventory.connections import Transaction
from backup.inventory.database import Inventory
from backup.inventory.pruning import StoredArchive
from backup.inventory.retrievals import ListingRow
from backup.inventory.times import moment
from backup.model import ArchiveLabel, PackKind
from backup.protocols import Clock, Vault
from backup.transfer.recognise import compare_clocks
from backup.transfer.retry import Patience
from backup.wording import counted


class PruneStoppedError(NightvaultError):
    """Something is not as a prune must find it; nothing was deleted."""


class Shown(Struct, frozen=True):
    """What a list shows: what was stored before `until` is in it; `missing` are ours that it must show."""

    until: datetime
    missing: frozenset[int]


def require_same_time(vault: Vault, clock: Clock, patience: Patience) -> bool:
    """`PruneStoppedError` if this machine's clock and the vault's differ by more than five minutes.

    Returns whether the vault has a clock.
    """
    clocks = compare_clocks(vault, clock, patience)
    if clocks.are_apart:
        raise PruneStoppedError(
            clocks.told(vault.name),
            advice="set the clock right: what may be deleted, and when, is decided by it",
        )
    return clocks.there is not None


def read_listing(
    tx: Transaction,
    inventory: Inventory,
    vault: Vault,
    head: ListingRow,
    archives: Sequence[StoredArchive],
    now: datetime,
    *,
    has_clock: bool,
) -> Shown:
    """What the kept list with that head shows. `PruneStoppedError` if it must not be used."""
    at_once = vault.traits.lists_at_once
    stored = frozenset(one.number for one in archives) if at_once else None
    covered = compared.must_show(tx, head, vault.name, now, at_once=at_once, stored=stored)
    _refuse_unknown(tx, inventory, vault, head, has_clock=has_clock)
    missing = [one for one in archives if one.listed_at is None and _must_be_shown(one, covered)]
    relied_on = [one for one in missing if not one.is_condemned]
    if relied_on:  # others may be held dispensable because of them
        catalogs = sum(one.kind is PackKind.CATALOG for one in relied_on)
        count = catalogs or len(relied_on)
        what = counted(count, "catalog" if catalogs else "archive")
        were = "was" if count == 1 else "were"
        raise PruneStoppedError(
            f"the list of vault {vault.name} lacks {what} that {were} stored before it",
            advice=f"`nightvault check {vault.name}` says what else is missing, and what to do",
        )
    asked = moment(head.requested_at)
    until = asked if at_once else min(covered.until, head.made_at, asked)
    return Shown(until, frozenset(one.number for one in missing))


def _must_be_shown(one: StoredArchive, covered: compared.Covered) -> bool:
    if covered.numbers is not None:
        return one.number in covered.numbers
    return not covered.until <= one.stored_at <= covered.future


def _refuse_unknown(
    tx: Transaction, inventory: Inventory, vault: Vault, head: ListingRow, *, has_clock: bool
) -> None:
    """`PruneStoppedError` if somebody else wrote catalogs of this inventory or of its jobs."""
    jobs, packs = pruning.job_ids(tx), pruning.pack_ids(tx)
    oldest = pruning.oldest_listed_catalogs(tx, head.number)
    strangers: list[tuple[ArchiveLabel, datetime]] = []
    for line in compared.unknown_lines(tx, head.number):
        label = parse_description(line.description)
        if label is None or label.kind is not PackKind.CATALOG or label.pack_id in packs:
            continue
        at = moment(line.created_at)
        is_own = label.inventory_id == inventory.id
        if not is_own and _is_before(label, at if has_clock else None, oldest):
            continue  # from before a rebuild: it was not needed for it
        if is_own or label.inventory_id == inventory.predecessor or label.job_id in jobs:
            strangers.append((label, at))
    if strangers:
        label, at = max(strangers, key=lambda one: one[1])
        raise PruneStoppedError(
            f"vault {vault.name} holds {len(strangers)} catalogs of this server's jobs that this inventory "
            f"does not know, the newest number {label.number} of {at:%Y-%m-%d %H:%M} UTC (inventory "
            f"{label.inventory_id.hex()[:8]}): another machine works with a copy of it, or it is an old copy",
            advice="stop the other one, or `nightvault rebuild --set-aside --key FILE` here, which deletes "
            "nothing; then prune again",
        )


def _is_before(
    label: ArchiveLabel, at: datetime | None, oldest: Mapping[bytes, tuple[int, datetime]]
) -> bool:
    """Whether a catalog is older than all known ones of its job: by number, and by the vault's clock.

    A machine that was thought to be gone may write on with low numbers.
    """
    found = oldest.get(label.job_id or b"")
    return found is not None and label.number < found[0] and (at is None or at <= found[1])
