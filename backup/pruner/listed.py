"""Reads the vault's list for a prune; stops if it shows more than this inventory knows, or less."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from backup.errors import NightvaultError
from backup.format.enrolment import HeirMark
from backup.format.pack import parse_description
from backup.inventory.content import pruning, strangers
from backup.inventory.content.pruning import StoredArchive
from backup.inventory.questions import compared
from backup.inventory.records.retrievals import ListedRow, ListingRow
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import Inventory
from backup.inventory.store.times import moment
from backup.model import ArchiveLabel, InventoryId, PackKind
from backup.protocols import Clock, Vault
from backup.transfer.recognise import compare_clocks
from backup.transfer.retry import RetryPolicy
from backup.transfer.succession import (
    Successors,
    accept_made_up,
    advice_on,
    look_for_others,
    one_each,
    told_of,
)
from backup.wording import counted


class PruneStoppedError(NightvaultError):
    """The vault or a clock is not as a prune requires; nothing was deleted.

    `accept` are pack ids that a person may say to ignore, so that the prune can go on.
    """

    def __init__(self, message: str, *, advice: str = "", accept: Sequence[str] = ()) -> None:
        super().__init__(message, advice=advice)
        self.accept = tuple(accept)


class ListedContent(Struct, frozen=True):
    """The result: the list has everything stored before `until`; `missing` are our archives that it lacks."""

    until: datetime
    missing: frozenset[int]


def require_same_time(vault: Vault, clock: Clock, patience: RetryPolicy) -> bool:
    """`PruneStoppedError` if this machine's clock and the vault's differ by more than five minutes.

    Returns whether the vault has a clock.
    """
    clocks = compare_clocks(vault, clock, patience)
    if clocks.are_apart:
        raise PruneStoppedError(
            clocks.text(vault.name),
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
    by: Successors,
    *,
    has_clock: bool,
) -> ListedContent:
    """Read the stored list with that head. `PruneStoppedError` if it must not be used."""
    at_once = vault.traits.lists_at_once
    stored = frozenset(archive.number for archive in archives) if at_once else None
    covered = compared.must_show(tx, head, vault.name, now, at_once=at_once, stored=stored)
    _refuse_unknown(tx, inventory, vault, head, by, has_clock=has_clock)
    missing = [
        archive for archive in archives if archive.listed_at is None and _must_be_shown(archive, covered)
    ]
    relied_on = [archive for archive in missing if not archive.is_condemned]
    if relied_on:  # others may be held dispensable because of them
        catalogs = sum(archive.kind is PackKind.CATALOG for archive in relied_on)
        count = catalogs or len(relied_on)
        what = counted(count, "catalog" if catalogs else "archive")
        were = "was" if count == 1 else "were"
        raise PruneStoppedError(
            f"the list of vault {vault.name} lacks {what} that {were} stored before it",
            advice=f"`nightvault check --vault {vault.name}` says what else is missing, and what to do",
        )
    asked = moment(head.requested_at)
    until = asked if at_once else min(covered.until, head.made_at, asked)
    return ListedContent(until, frozenset(archive.number for archive in missing))


def _must_be_shown(archive: StoredArchive, covered: compared.Covered) -> bool:
    if covered.numbers is not None:
        return archive.number in covered.numbers
    return not covered.until <= archive.stored_at <= covered.future


def _refuse_unknown(
    tx: Transaction,
    inventory: Inventory,
    vault: Vault,
    head: ListingRow,
    by: Successors,
    *,
    has_clock: bool,
) -> None:
    """`PruneStoppedError` if another machine wrote catalogs of this server, or of its jobs."""
    lines = compared.unknown_lines(tx, head.number)
    others = look_for_others(tx, inventory, vault, lines, by)
    if others.heirs:
        raise PruneStoppedError(str(others.heirs[0]), advice=others.heirs[0].advice)
    known = pruning.pack_ids(tx) | strangers.passed_catalogs(tx)
    oldest = pruning.oldest_listed_catalogs(tx, head.number)
    ids = inventory.id, inventory.ancestors
    own = unknown_of_lineage(lines, *ids, known, oldest, has_clock=has_clock)
    stops = [_stop_by_own(own, inventory, vault)] if own else []
    if others.strangers:
        stops.append(
            PruneStoppedError(
                told_of(others.strangers, vault.name),
                advice=advice_on(others.strangers, vault.name, "prune"),
                accept=[stranger.pack_id.hex() for stranger in one_each(others.strangers)],
            )
        )
    if stops:
        raise PruneStoppedError(
            "; ".join(map(str, stops)),
            advice=". ".join(stop.advice for stop in stops),
            accept=[pack for stop in stops for pack in stop.accept]
            if all(stop.accept for stop in stops)
            else (),
        )


def unknown_of_lineage(
    lines: Sequence[ListedRow],
    inventory_id: InventoryId,
    ancestors: Collection[InventoryId],
    known: Collection[bytes],
    oldest: Mapping[bytes, tuple[int, datetime]],
    *,
    has_clock: bool,
) -> list[tuple[ArchiveLabel, datetime]]:
    """Catalogs of an inventory and its ancestors that are unknown, and not from before a rebuild; pure.

    `oldest` has, for each job, number and date of the oldest known catalog that the list shows.
    """
    marks = [(HeirMark.from_text(line.description), moment(line.created_at)) for line in lines]
    began = min((at for mark, at in marks if mark and mark.heir == inventory_id), default=None)
    found: list[tuple[ArchiveLabel, datetime]] = []
    for line in lines:
        label, at = parse_description(line.description), moment(line.created_at)
        if label is None or label.kind is not PackKind.CATALOG or label.pack_id in known:
            continue
        if label.inventory_id in ancestors:
            if has_clock and _is_before(label, at, oldest) and (began is None or at <= began):
                continue  # from before a rebuild, or this server's first run after it
        elif label.inventory_id != inventory_id:
            continue
        found.append((label, at))
    return found


def _stop_by_own(
    found: Sequence[tuple[ArchiveLabel, datetime]], inventory: Inventory, vault: Vault
) -> PruneStoppedError:
    """The error for such catalogs; a person may say that those of ancestors are known, or made up."""
    own = [(label, at) for label, at in found if label.inventory_id == inventory.id]
    label, at = max(own or found, key=lambda labelled: labelled[1])
    whose = label.inventory_id.hex()
    advice = (
        "stop the other machine, then prune again. If that one is to go on instead of this one: `nightvault "
        f"rebuild --set-aside --inventory {whose} --key FILE`, which leaves out what this one stored since. "
    )
    if own:
        advice += accept_made_up(vault.name, label.pack_id)
    else:
        advice += (
            "If they are from before a rebuild, and nothing that only they hold is wanted: "
            f"`nightvault prune --vault {vault.name} --accept {label.pack_id.hex()}`"
        )
    return PruneStoppedError(
        f"vault {vault.name} holds {len(found)} catalogs of this server that this inventory does not "
        f"know, the newest number {label.number} of {at:%Y-%m-%d %H:%M} UTC (inventory {whose[:8]}): "
        "another machine works with a copy of it, it is an old copy, or a rebuild left some jobs out",
        advice=advice,
        accept=() if own else [label.pack_id.hex()],
    )


def _is_before(label: ArchiveLabel, at: datetime, oldest: Mapping[bytes, tuple[int, datetime]]) -> bool:
    """Whether a catalog is older than all known ones of its job: by number, and by the vault's clock.

    A machine that was thought to be gone may write on with low numbers.
    """
    found = oldest.get(label.job_id or b"")
    return found is not None and label.number < found[0] and at <= found[1]
