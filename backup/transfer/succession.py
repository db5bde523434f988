"""Makes sure, before a run writes, that the inventory is as new as the vault, and that it has no heir.

A server may have been restored from its own backup, or rebuilt elsewhere. What a recovery key vouches for
stops the run before it writes. A hint that anybody who may store could have left only makes it careful: it
builds upon nothing that the vault's list does not show.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from msgspec import Struct

from backup.errors import (
    DeniedError,
    FormatError,
    HeirError,
    NewerFormatError,
    NightvaultError,
    OlderInventoryError,
    VaultError,
)
from backup.format.enrolment import EnrolmentKey, HeirMark
from backup.format.header import LARGEST_HEADER, read_header, verify_header
from backup.format.pack import parse_description
from backup.inventory.content import identities, lost, strangers
from backup.inventory.content.archives import ArchiveState
from backup.inventory.content.identities import KnownCatalog
from backup.inventory.content.strangers import OpenStranger
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import Inventory
from backup.lineage import Stranger, heirs_by_marks, marks_in
from backup.lineage import strangers as strangers_among
from backup.model import ArchiveLabel, ByteRange, InventoryId, ListedArchive, Tier, VaultName
from backup.protocols import Clock, Vault
from backup.transfer.recognise import recognise
from backup.transfer.retry import RetryPolicy
from backup.wording import counted

if TYPE_CHECKING:
    from backup.inventory.records.retrievals import ListedRow

MOST_NAMED = 20
"""Of so many others a message tells."""

OLDER = (
    "if this state directory was brought back from a copy: `nightvault rebuild --set-aside --key FILE` makes "
    "the inventory anew from the vault, and deletes nothing; if another machine works with a copy of it, "
    "stop that one first"
)


class Successors(Struct, frozen=True):
    """The keys that prove an heir, and this inventory's signature in its own mark (zeros without one)."""

    vouching: Sequence[EnrolmentKey]
    signer_public: bytes
    signature: bytes


NOBODY = Successors((), b"", b"")


def require_vault(
    inventory: Inventory,
    vault: Vault,
    clock: Clock,
    patience: RetryPolicy,
    by: Successors,
    *,
    note: Callable[[str], None] | None = None,
    leaves_marks: bool = True,
) -> list[OpenStranger]:
    """Raise, before anything is written, if the vault is away, denied, missing, another one or newer than we.

    One whose identity is not known yet gets one, if it shows what the inventory has in it; a rebuilt
    inventory leaves its mark, unless a machine before it went on. One or two lists, or one DescribeVault. A
    backup marks catalogs as lost that are not there, and stores them again. Returns the strangers without an
    answer. `VaultMissingError`, `OtherVaultError`, `OlderInventoryError`, `HeirError`.
    """
    recognise(inventory, vault, patience)
    before: Sequence[InventoryId] = ()
    if inventory.ancestors and leaves_marks:
        with inventory.reading() as tx:
            before = inventory.ancestors if identities.began_to_store(tx) is None else ()
    shown = look(inventory, vault, patience, before)
    _refuse_older(inventory, vault, patience, shown, by, note)
    if before:
        _refuse_overtaken(inventory, vault, clock, patience, shown, by)
    hints = _refuse_heirs(inventory, vault, shown, by)
    with inventory.writing() as tx:
        jobs = strangers.job_ids(tx, vault.name)
        passed = strangers.passed_catalogs(tx)
        labels = [catalog.label for catalog in shown.catalogs if catalog.label.pack_id not in passed]
        hints += strangers_among(labels, {inventory.id, *inventory.ancestors}, jobs)
        found = strangers.note_strangers(tx, vault.name, hints, clock.now())
    if note is not None:
        _lose_missing(inventory, vault, shown, note)
    if leaves_marks:
        _leave_marks(inventory, vault, patience, by)
    return found


class ShownCatalog(Struct, frozen=True):
    """A catalog in the vault by its label; `archive` is set if it can be read at once."""

    label: ArchiveLabel
    created_at: datetime
    archive: ListedArchive | None = None


class Shown(Struct, frozen=True):
    """The part of a vault's list that counts before a run: catalogs, and marks of heirs.

    `is_complete`: every catalog of this inventory since its jobs' newest full ones is among them.
    """

    catalogs: Sequence[ShownCatalog]
    marks: Sequence[HeirMark]
    is_complete: bool


def look(
    inventory: Inventory, vault: Vault, patience: RetryPolicy, before: Sequence[InventoryId] = ()
) -> Shown:
    """Return what the vault shows now; where lists take hours, what the newest fetched list shows.

    With the catalogs of the inventories `before` this one, too.
    """
    if vault.traits.lists_at_once:
        with inventory.reading() as tx:
            begins = identities.chains_begin(tx, vault.name)
        listed = patience.call(lambda: vault.newest_catalogs(inventory.id, begins))
        marks = marks_in(line.description for line in listed)
        every = {line.archive_id: line for line in listed}
        for ancestor in before:
            more = patience.call(partial(vault.newest_catalogs, ancestor, begins))
            every |= {line.archive_id: line for line in more}
        found = [ShownCatalog(line.label, line.created_at, line) for line in every.values() if line.label]
        return Shown(found, marks, is_complete=True)
    with inventory.reading() as tx:
        lines = strangers.shown_catalogs(tx, vault.name, inventory.id, strangers.job_ids(tx, vault.name))
    labels = [(parse_description(description), at) for description, at in lines]
    found = [ShownCatalog(label, at) for label, at in labels if label is not None]
    return Shown(found, marks_in(description for description, _ in lines), is_complete=False)


# Is the inventory as new as the vault.


class Ahead(Struct, frozen=True):
    """A catalog labelled as this inventory's that it never wrote, at least as new as its newest."""

    shown: ShownCatalog
    known: KnownCatalog | None  # the job's newest in that vault that the inventory knows

    @property
    def label(self) -> ArchiveLabel:
        """The label in its description."""
        return self.shown.label

    def text(self) -> str:
        """Both catalogs, with numbers and dates."""
        job = f"job {self.known.job}" if self.known else "a job that this inventory does not know"
        ours = (
            f"here the newest is catalog {self.known.number} of {self.known.submitted_at:%Y-%m-%d %H:%M} UTC"
            if self.known
            else "here there is none"
        )
        return (
            f"catalog {self.label.number} of {job}, of {self.shown.created_at:%Y-%m-%d %H:%M} UTC, and {ours}"
        )


def as_new_as_known(
    catalogs: Iterable[ShownCatalog], inventory_id: InventoryId, known: Mapping[bytes, KnownCatalog]
) -> list[Ahead]:
    """The catalogs labelled as an inventory's that are at least as new as the newest that it knows; pure."""
    newer = [
        Ahead(catalog, known.get(catalog.label.job_id or b""))
        for catalog in catalogs
        if catalog.label.is_catalog_of(inventory_id)
    ]
    return [ahead for ahead in newer if ahead.known is None or ahead.label.number >= ahead.known.number]


def newer_than_rebuild(
    catalogs: Iterable[ShownCatalog],
    ancestors: Collection[InventoryId],
    known: Mapping[bytes, KnownCatalog],
    begins: Mapping[bytes, int],
) -> list[Ahead]:
    """The catalogs of ancestors with numbers that their rebuild had not met: from `begins` on; pure."""
    return [
        Ahead(catalog, known.get(catalog.label.job_id or b""))
        for catalog in catalogs
        if catalog.label.inventory_id in ancestors
        and catalog.label.number >= begins.get(catalog.label.job_id or b"", catalog.label.number + 1)
    ]


def _refuse_older(
    inventory: Inventory,
    vault: Vault,
    patience: RetryPolicy,
    shown: Shown,
    by: Successors,
    note: Callable[[str], None] | None,
) -> None:
    """`OlderInventoryError` if the vault has newer catalogs of this inventory than it knows itself.

    Anybody who may store can label something as this inventory's: what can be read at once must bear its
    signature; the rest stops the run until a person says that it takes no part (`accept_catalogs`).
    """
    with inventory.reading() as tx:
        newer = as_new_as_known(shown.catalogs, inventory.id, identities.newest_known(tx, vault.name))
        unknown = identities.unknown_packs(tx, (ahead.label.pack_id for ahead in newer))
        unknown -= strangers.passed_catalogs(tx)
    newer = [ahead for ahead in newer if ahead.label.pack_id in unknown]
    for ahead in sorted(newer, key=lambda ahead: (ahead.shown.created_at, ahead.label.number), reverse=True):
        pack, archive = ahead.label.pack_id, ahead.shown.archive
        if archive is None or _may_be_by(by, vault, archive, patience):
            raise OlderInventoryError(
                f"this inventory is older than what it wrote: vault {vault.name} holds {ahead.text()}",
                advice=f"{OLDER}. {accept_made_up(vault.name, pack)}",
            )
        if note is not None:
            note(
                f"vault {vault.name} holds something that is called catalog {ahead.label.number} of this "
                f"server (pack {pack.hex()}) and does not bear its signature: it takes no part"
            )


def _refuse_overtaken(
    inventory: Inventory, vault: Vault, clock: Clock, patience: RetryPolicy, shown: Shown, by: Successors
) -> None:
    """`OlderInventoryError` if a machine before this one stored catalogs that its rebuild did not know.

    What these condemn may be deleted at any moment, though the list still shows it. Asked until the rebuilt
    inventory has stored something: from then on its mark stops the other one.
    """
    from backup.transfer.retrievals.listing import see_to_listing  # once in the life of an inventory

    with inventory.reading() as tx:
        known = identities.newest_known(tx, vault.name)
        begins = identities.next_catalogs(tx, vault.name, inventory.ancestors)
        newer = newer_than_rebuild(shown.catalogs, inventory.ancestors, known, begins)
        unknown = identities.unknown_packs(tx, (ahead.label.pack_id for ahead in newer))
        unknown -= strangers.passed_catalogs(tx)
    for ahead in sorted(newer, key=lambda ahead: ahead.label.number, reverse=True):
        pack, archive = ahead.label.pack_id, ahead.shown.archive
        if pack not in unknown or not (archive is None or _may_be_by(by, vault, archive, patience)):
            continue
        with suppress(NightvaultError):  # an answer goes by a list that is kept
            see_to_listing(inventory, vault, clock, patience, lambda _: None)
        raise OlderInventoryError(
            f"the machine before this one went on: since the rebuild vault {vault.name} holds {ahead.text()} "
            f"(inventory {ahead.label.inventory_id.hex()[:8]})",
            advice="stop that machine; then `nightvault rebuild --set-aside --key FILE` makes the inventory "
            "anew with what it stored, and deletes nothing. If nothing of that is wanted: "
            f"`nightvault prune --vault {vault.name} --accept {pack.hex()}`",
        )


def _may_be_by(by: Successors, vault: Vault, archive: ListedArchive, patience: RetryPolicy) -> bool:
    """Whether an archive bears this server's signature under the label's pack id, or cannot be read now."""
    first = ByteRange(0, min(LARGEST_HEADER, archive.size))
    try:
        retrieval = patience.call(
            lambda: vault.request_retrieval(archive.archive_id, None, Tier.BULK, "header")
        )
        header = read_header(patience.call(lambda: vault.fetch(retrieval, first)).data)
        verify_header(header, by.signer_public)
    except (NewerFormatError, VaultError, DeniedError):
        return True
    except FormatError:
        return False
    return archive.label is not None and header.fields.pack_id == archive.label.pack_id


def accept_made_up(vault: VaultName, pack: bytes) -> str:
    """The advice for a catalog that is labelled as this inventory's and was stored by somebody else."""
    return (
        "If neither is so, another server that may store here made it up: look at that one; then "
        f"`nightvault prune --vault {vault} --accept {pack.hex()}`"
    )


def _lose_missing(inventory: Inventory, vault: Vault, shown: Shown, note: Callable[[str], None]) -> None:
    """Mark catalogs of this inventory as lost that a rebuild needs and the vault does not show any more."""
    if not shown.is_complete:
        return
    there = {catalog.archive.archive_id for catalog in shown.catalogs if catalog.archive is not None}
    with inventory.reading() as tx:
        chain = identities.chain_archives(tx, vault.name, inventory.id)
    missing = [number for number, archive_id in chain if archive_id not in there]
    if missing:
        with inventory.writing() as tx:
            lost.mark(tx, missing, ArchiveState.LOST)
        count = counted(len(missing), "catalog")
        note(f"vault {vault.name} does not show {count} that a rebuild needs: a full one is stored now")


# Does somebody else go on.


def heir_of(mark: HeirMark, vault: Vault) -> HeirError:
    """The error for a proven heir; the advice says how to go on with the newer inventory."""
    heir = mark.heir.hex()
    return HeirError(
        f"inventory {heir} was rebuilt from this one and goes on with its jobs in vault {vault.name}",
        advice="if this server goes on elsewhere now: stop the backups here. If this machine is to go on: "
        f"stop the other one, then `nightvault rebuild --set-aside --inventory {heir} --key FILE` here",
    )


def _refuse_heirs(inventory: Inventory, vault: Vault, shown: Shown, by: Successors) -> list[Stranger]:
    """`HeirError` for a proven heir; the marks that prove nothing."""
    proven, hints = heirs_by_marks(shown.marks, inventory.id, inventory.ancestors, by.vouching)
    if proven:
        raise heir_of(proven[0], vault)
    return hints


class Others(Struct, frozen=True):
    """Other inventories in a vault's list: proven heirs, as errors, and strangers without an answer."""

    heirs: Sequence[HeirError]
    strangers: Sequence[Stranger]


def look_for_others(
    tx: Transaction, inventory: Inventory, vault: Vault, lines: Iterable[ListedRow], by: Successors
) -> Others:
    """Look for heirs and strangers in lines of the vault's list."""
    descriptions = [line.description for line in lines]
    proven, found = heirs_by_marks(marks_in(descriptions), inventory.id, inventory.ancestors, by.vouching)
    labels, passed = (parse_description(text) for text in descriptions), strangers.passed_catalogs(tx)
    jobs, lineage = strangers.job_ids(tx, vault.name), {inventory.id, *inventory.ancestors}
    unknown = (label for label in labels if label is not None and label.pack_id not in passed)
    found += strangers_among(unknown, lineage, jobs)
    answered = strangers.answered_pairs(tx, vault.name)
    heirs = {mark.heir for mark in proven}
    left = [
        stranger
        for stranger in found
        if (stranger.inventory_id, stranger.job_id) not in answered and stranger.inventory_id not in heirs
    ]
    return Others([heir_of(mark, vault) for mark in proven], left)


def one_each(found: Sequence[Stranger]) -> list[Stranger]:
    """One stranger of each inventory: an answer to it is one to all that the inventory asks now."""
    return list({stranger.inventory_id: stranger for stranger in reversed(found)}.values())[::-1]


def told_of(found: Sequence[Stranger], vault: VaultName) -> str:
    """A sentence on strangers."""
    ids = sorted({stranger.inventory_id.hex() for stranger in found})
    more = f" and {len(ids) - MOST_NAMED} more" if len(ids) > MOST_NAMED else ""
    return (
        f"in vault {vault} inventory {', '.join(ids[:MOST_NAMED])}{more} has catalogs of this server's jobs, "
        "or a mark that it goes on with them; nothing proves that it is this server"
    )


def advice_on(found: Sequence[Stranger], vault: VaultName, command: str) -> str:
    """The advice on strangers, with the exact command."""
    named = one_each(found)[:MOST_NAMED]  # it asks again about the others
    options = " ".join(f"--accept {stranger.pack_id.hex()}" for stranger in named)
    return (
        "if this server was rebuilt on another machine, go on there, and stop this one. If it was not, "
        "another server that may store in this vault wrote them: look at it. They are left out, and deleting "
        f"goes on, with `nightvault {command} --vault {vault} {options}`"
    )


def _leave_marks(inventory: Inventory, vault: Vault, patience: RetryPolicy, by: Successors) -> None:
    """Leave this inventory's mark for each of its ancestors, once, and again once a key vouches for it."""
    if not inventory.ancestors:
        return
    signature = by.signature or bytes(64)
    marks = [
        HeirMark(inventory_id, inventory.id, by.signer_public, signature)
        for inventory_id in inventory.ancestors
    ]
    first = marks[0].to_text()
    with inventory.reading() as tx:
        if strangers.heir_mark(tx, vault.name) == first:
            return
    for mark in marks:
        patience.call(partial(vault.add_mark, mark.to_text()))
    with inventory.writing() as tx:
        strangers.set_heir_mark(tx, vault.name, first)
