"""Make sure, before a run writes, that the inventory is as new as the vault, and that nobody else goes on.

A server may have been restored from its own backup, or rebuilt elsewhere. What a recovery key vouches for
stops the run before it writes. A hint that anybody who may store could have left only makes it careful: it
builds upon nothing that the vault's list does not show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from msgspec import Struct

from backup.errors import HeirError, NightvaultError, OlderInventoryError, UsageError
from backup.format.enrolment import EnrolmentKey, HeirMark
from backup.format.pack import parse_description
from backup.inventory import compared, identities, lost, retrievals, strangers
from backup.inventory.archives import ArchiveState
from backup.inventory.connections import Transaction
from backup.inventory.database import Inventory
from backup.inventory.identities import KnownCatalog
from backup.inventory.stages import ListingStage
from backup.inventory.strangers import OpenStranger
from backup.lineage import NO_JOB, Stranger, heirs_by_marks, is_named, marks_in, require_one
from backup.lineage import strangers as strangers_among
from backup.model import ArchiveLabel, PackId, PackKind, VaultName
from backup.protocols import Clock, Vault
from backup.transfer.recognise import recognise
from backup.transfer.retry import Patience
from backup.wording import counted

if TYPE_CHECKING:
    from backup.inventory.retrievals import ListedRow

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
    patience: Patience,
    by: Successors,
    *,
    note: Callable[[str], None] | None = None,
    leaves_marks: bool = True,
) -> list[OpenStranger]:
    """Learn before anything is written that the vault is away, denied, gone, another one, or ahead of us.

    One whose identity is not known yet gets one, if it shows what the inventory has in it; a rebuilt
    inventory leaves its mark. One or two lists, or one DescribeVault. A backup, which stores them anew, marks
    catalogs as lost that are not there. Returns the strangers that nobody answered to.
    `VaultMissingError`, `OtherVaultError`, `OlderInventoryError`, `HeirError`.
    """
    recognise(inventory, vault, patience)
    shown = look(inventory, vault, patience)
    _refuse_older(inventory, vault, shown)
    hints = _refuse_heirs(inventory, vault, shown, by)
    with inventory.writing() as tx:
        jobs = strangers.job_ids(tx, vault.name)
        passed = strangers.passed_catalogs(tx)
        labels = [label for label, _ in shown.catalogs if label.pack_id not in passed]
        hints += strangers_among(labels, {inventory.id, *inventory.ancestors}, jobs)
        found = strangers.note_strangers(tx, vault.name, hints, clock.now())
    if note is not None:
        _lose_missing(inventory, vault, shown, note)
    if leaves_marks:
        _leave_marks(inventory, vault, patience, by)
    return found


class Shown(Struct, frozen=True):
    """The part of a vault's list that counts before a run: catalogs with their times, and marks of heirs.

    `is_complete`: every catalog of this inventory since its jobs' newest full ones is among them.
    """

    catalogs: Sequence[tuple[ArchiveLabel, datetime]]
    marks: Sequence[HeirMark]
    is_complete: bool


def look(inventory: Inventory, vault: Vault, patience: Patience) -> Shown:
    """What the vault shows now; where lists take hours, what the newest one that was fetched shows."""
    at_once = vault.traits.lists_at_once
    with inventory.reading() as tx:
        if at_once:
            begins = identities.chains_begin(tx)
        else:
            jobs = strangers.job_ids(tx, vault.name)
            lines = strangers.shown_catalogs(tx, vault.name, inventory.id, jobs)
    if at_once:
        listed = patience.call(lambda: vault.newest_catalogs(inventory.id, begins))
        lines = [(one.description, one.created_at) for one in listed]
    labels = [(parse_description(description), at) for description, at in lines]
    marks = marks_in(description for description, _ in lines)
    return Shown([(label, at) for label, at in labels if label is not None], marks, at_once)


# Is the inventory as new as the vault.


class Ahead(Struct, frozen=True):
    """A catalog of this inventory in the vault that it never wrote, though it is as new as its newest."""

    label: ArchiveLabel
    created_at: datetime
    known: KnownCatalog | None  # the job's newest that the inventory knows

    def told(self) -> str:
        """Both, with numbers and dates."""
        job = f"job {self.known.job}" if self.known else "a job that this inventory does not know"
        ours = (
            f"here the newest is catalog {self.known.number} of {self.known.submitted_at:%Y-%m-%d %H:%M} UTC"
            if self.known
            else "here there is none"
        )
        return f"catalog {self.label.number} of {job}, of {self.created_at:%Y-%m-%d %H:%M} UTC, and {ours}"


def _refuse_older(inventory: Inventory, vault: Vault, shown: Shown) -> None:
    """`OlderInventoryError` if the vault has newer catalogs of this inventory than it knows itself."""
    with inventory.reading() as tx:
        known = identities.newest_known(tx)
        newer = [
            Ahead(label, created_at, known.get(label.job_id or b""))
            for label, created_at in shown.catalogs
            if label.is_catalog_of(inventory.id)
        ]
        newer = [one for one in newer if one.known is None or one.label.number >= one.known.number]
        unknown = identities.unknown_packs(tx, (one.label.pack_id for one in newer))
    newer = [one for one in newer if one.label.pack_id in unknown]
    newest = max(newer, key=lambda one: (one.created_at, one.label.number), default=None)
    if newest is not None:
        raise OlderInventoryError(
            f"this inventory is older than what it wrote: vault {vault.name} holds {newest.told()}",
            advice=OLDER,
        )


def _lose_missing(inventory: Inventory, vault: Vault, shown: Shown, note: Callable[[str], None]) -> None:
    """Mark catalogs of this inventory as lost that a rebuild needs and the vault does not show any more."""
    if not shown.is_complete:
        return
    there = {label.pack_id for label, _ in shown.catalogs}
    with inventory.reading() as tx:
        chain = identities.chain_packs(tx, vault.name, inventory.id)
    missing = [number for number, pack in chain if pack not in there]
    if missing:
        with inventory.writing() as tx:
            lost.mark(tx, missing, ArchiveState.LOST)
        count = counted(len(missing), "catalog")
        note(f"vault {vault.name} does not show {count} that a rebuild needs: a full one is stored now")


# Does somebody else go on.


def heir_of(mark: HeirMark, vault: Vault) -> HeirError:
    """The error of a proven heir, with the way to the newer side."""
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
    """Others at work by a whole list: proven heirs as errors, and strangers nobody answered to."""

    heirs: Sequence[HeirError]
    strangers: Sequence[Stranger]


def look_for_others(
    tx: Transaction, inventory: Inventory, vault: Vault, lines: Iterable[ListedRow], by: Successors
) -> Others:
    """Look for them among lines of the vault's list."""
    descriptions = [line.description for line in lines]
    proven, found = heirs_by_marks(marks_in(descriptions), inventory.id, inventory.ancestors, by.vouching)
    labels, passed = (parse_description(text) for text in descriptions), strangers.passed_catalogs(tx)
    jobs, lineage = strangers.job_ids(tx, vault.name), {inventory.id, *inventory.ancestors}
    unknown = (label for label in labels if label is not None and label.pack_id not in passed)
    found += strangers_among(unknown, lineage, jobs)
    answered = strangers.answered_pairs(tx, vault.name)
    heirs = {mark.heir for mark in proven}
    left = [
        one
        for one in found
        if (one.inventory_id, one.job_id) not in answered and one.inventory_id not in heirs
    ]
    return Others([heir_of(mark, vault) for mark in proven], left)


def accept_catalogs(
    inventory: Inventory, vault: VaultName, packs: Sequence[str], who: str, now: datetime
) -> list[str]:
    """Record a person's answers: each pack id, or its beginning, stands for all that its inventory asks now.

    One of an ancestor's stands for all catalogs of ancestors that the newest list that was fetched shows:
    they are known from then on. Others' catalogs of this server's jobs take no part, now and later. Returns a
    sentence for each. `UsageError`.
    """
    told: list[str] = []
    with inventory.writing() as tx:
        labels = _note_unknown(tx, inventory, vault, packs, now)
        own = [one for one in labels if one.inventory_id in inventory.ancestors]
        for pack in packs:
            named = [one for one in labels if is_named(one.inventory_id, one.pack_id, pack)]
            asked = [one.stranger for one in strangers.open_strangers(tx, vault)]
            ids = [(one.inventory_id, one.pack_id) for one in named]
            ids += [(one.inventory_id, one.pack_id) for one in asked]
            ids = [one for one in ids if is_named(*one, pack)]
            others = [one for one in ids if one[0] not in inventory.ancestors]
            mine = [one for one in ids if one[0] in inventory.ancestors]
            require_one([*others, *mine[:1]], pack)
            pairs = {(one.inventory_id, one.job_id or NO_JOB) for one in named}
            before = strangers.answered_pairs(tx, vault)
            answered = strangers.answer(tx, vault, who, now, {one for one, _ in others})
            passed = own if mine else []
            if not answered and not passed and not pairs & before:
                raise UsageError(
                    f"nothing in vault {vault} waits for an answer on {pack}",
                    advice="give the pack id, or its first 8 digits or more, as `nightvault check` names it",
                )
            strangers.pass_catalogs(tx, [one.pack_id for one in passed])
            told += [
                f"inventory {one.inventory_id.hex()} takes no part in this server's jobs"
                for one in one_each(answered)
            ]
            told += [f"{len(passed)} older catalogs of this server are not asked about any more"] * bool(
                passed
            )
    return told


def _note_unknown(
    tx: Transaction, inventory: Inventory, vault: VaultName, packs: Sequence[str], now: datetime
) -> list[ArchiveLabel]:
    """Record the strangers of the newest list, and the marks that are named; its unknown catalogs."""
    lines = _unknown_lines(tx, vault)
    labels = _unknown_labels(tx, inventory, lines)
    lineage, jobs = {inventory.id, *inventory.ancestors}, strangers.job_ids(tx, vault)
    hints = [
        Stranger(mark.heir, NO_JOB, PackId(mark.heir))
        for mark in marks_in(lines)
        if mark.predecessor in lineage and any(is_named(mark.heir, mark.heir, one) for one in packs)
    ]
    strangers.note_strangers(tx, vault, [*hints, *strangers_among(labels, lineage, jobs)], now)
    return labels


def _unknown_lines(tx: Transaction, vault: VaultName) -> list[str]:
    """The descriptions in the newest list that was fetched of what this inventory does not know."""
    head = retrievals.newest_listing(tx, vault, state=ListingStage.KEPT)
    return [] if head is None else [one.description for one in compared.unknown_lines(tx, head.number)]


def _unknown_labels(tx: Transaction, inventory: Inventory, lines: Iterable[str]) -> list[ArchiveLabel]:
    """The catalogs among them that another inventory wrote."""
    found = [parse_description(line) for line in lines]
    labels = [one for one in found if one is not None and one.kind is PackKind.CATALOG]
    unknown = identities.unknown_packs(tx, (one.pack_id for one in labels))
    return [one for one in labels if one.pack_id in unknown and one.inventory_id != inventory.id]


def one_each(found: Sequence[Stranger]) -> list[Stranger]:
    """One stranger of each inventory: an answer to it is one to all that the inventory asks now."""
    return list({one.inventory_id: one for one in reversed(found)}.values())[::-1]


def told_of(found: Sequence[Stranger], vault: VaultName) -> str:
    """A sentence on strangers."""
    ids = sorted({stranger.inventory_id.hex() for stranger in found})
    more = f" and {len(ids) - MOST_NAMED} more" if len(ids) > MOST_NAMED else ""
    return (
        f"in vault {vault} inventory {', '.join(ids[:MOST_NAMED])}{more} has catalogs of this server's jobs, "
        "or a mark that it goes on with them; nothing proves that it is this server"
    )


def advice_on(found: Sequence[Stranger], vault: VaultName, command: str) -> str:
    """What to do about them, with the exact command."""
    named = one_each(found)[:MOST_NAMED]  # it asks again about the others
    options = " ".join(f"--accept {stranger.pack_id.hex()}" for stranger in named)
    return (
        "if this server was rebuilt on another machine, go on there, and stop this one. If it was not, "
        "another server that may store in this vault wrote them: look at it. They are left out, and deleting "
        f"goes on, with `nightvault {command} --vault {vault} {options}`"
    )


def _leave_marks(inventory: Inventory, vault: Vault, patience: Patience, by: Successors) -> None:
    """Leave this inventory's mark for each of its ancestors, once, and again once a key vouches for it."""
    if not inventory.ancestors:
        return
    signature = by.signature or bytes(64)
    marks = [HeirMark(one, inventory.id, by.signer_public, signature) for one in inventory.ancestors]
    first = marks[0].to_text()
    with inventory.reading() as tx:
        if strangers.heir_mark(tx, vault.name) == first:
            return
    for mark in marks:
        patience.call(partial(vault.add_mark, mark.to_text()))
    with inventory.writing() as tx:
        strangers.set_heir_mark(tx, vault.name, first)


def build_on_what_is_shown(
    inventory: Inventory, vault: Vault, clock: Clock, patience: Patience, note: Callable[[str], None]
) -> int:
    """Mark archives as lost that the vault's list should show and does not; returns their number.

    For a run beside which somebody else may delete: it stores anew what is missing. Where lists take hours it
    goes by the newest that was fetched, and asks for a newer one.
    """
    from backup.transfer.retrievals.listing import newest_kept_head, see_to_listing  # hardly ever needed

    with inventory.reading() as tx:
        stored = compared.stored_numbers(tx, vault.name) if vault.traits.lists_at_once else None
    try:
        see_to_listing(inventory, vault, clock, patience, note)
    except NightvaultError as error:  # a role that may not list must not keep a backup from running
        note(f"the vault gives no list: {error}")
    with inventory.writing() as tx:
        head = newest_kept_head(tx, vault)
        if head is None:
            return 0
        at_once = vault.traits.lists_at_once
        covered = compared.must_show(tx, head, vault.name, clock.now(), at_once=at_once, stored=stored)
        missing, _ = compared.absent_archives(tx, head.number, vault.name, covered)
        lost.mark(tx, [one.number for one in missing], ArchiveState.LOST)
    return len(missing)
