"""The steps of a rebuild, which may be hours apart: an inventory from the vault and a recovery key alone.

    find (line or listing, retrieve, verify) → apply → confirm → read uncovered packs → keep the keys → name

It can be run again after any interruption: nothing is requested twice, a half-built inventory is discarded,
and the inventory gets its name last.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec.structs import replace

from backup.errors import DeniedError, FormatError
from backup.format.keys import ChunkSecret, Recipient, Signer
from backup.inventory.content.archives import ArchiveState
from backup.inventory.content.identities import numbers_skipped
from backup.inventory.questions import compared
from backup.inventory.rebuilt.building import Builder, building
from backup.inventory.store import schema
from backup.inventory.store.states import StepStage
from backup.inventory.store.times import micros
from backup.model import (
    ArchiveId,
    Generation,
    InventoryId,
    ListedArchive,
    Listing,
    PackId,
    PackKind,
    VaultIdentity,
)
from backup.protocols import phase
from backup.rebuilder.applying.apply import Applier, JobState, UnusableCatalogError
from backup.rebuilder.applying.uncovered_packs import Recovered, read_uncovered
from backup.rebuilder.catalogs.candidates import NothingToRebuildError, candidates_of
from backup.rebuilder.catalogs.found import FoundJob
from backup.rebuilder.catalogs.intake import WaitsError
from backup.rebuilder.context import RebuildContext, ServerKeys, Wish
from backup.rebuilder.find_states import StateFinder
from backup.rebuilder.floor import acceptance
from backup.rebuilder.members import NewerCatalogError, OlderStateError, OtherNameError
from backup.rebuilder.record_ranges import MOST_NUMBERS
from backup.rebuilder.report import RebuildReport, RebuiltJob
from backup.transfer.fetching.fetch import ArchiveFetcher
from backup.transfer.fetching.journal import Journal
from backup.wording import sentences


def rebuild(wish: Wish, context: RebuildContext) -> RebuildReport:
    """Run one step: "waiting" until the vault is ready, then "done". Errors leave no inventory behind.

    Raises what `StateFinder.find` raises, and `NightvaultError` if there is an inventory already.
    """
    began = context.clock.now()
    with Journal.opened(context.folder, context.vault.name) as journal:
        bringer = context.fetcher(journal, wish.tier)
        finder = StateFinder(wish, context, bringer)
        try:
            report = _find_and_build(wish, context, bringer, finder)
        except WaitsError as wait:
            return RebuildReport(StepStage.WAITING, context.vault.name, waits_for=str(wait))
        except (OlderStateError, NothingToRebuildError):
            journal.forget_listing()  # a newer list may show more
            raise
        except OtherNameError as error:
            journal.tell_name(error.name)
            raise
        if not context.keeps_what_came:
            journal.clear()
    return replace(report, seconds=(context.clock.now() - began).total_seconds())


def waits_for(wish: Wish, context: RebuildContext) -> str:
    """Return what the vault must still prepare, which is requested now; empty once nothing is missing.

    Raises what `StateFinder.find` raises.
    """
    with Journal.opened(context.folder, context.vault.name) as journal:
        bringer = context.fetcher(journal, wish.tier)
        try:
            StateFinder(wish, context, bringer).find()
        except WaitsError as wait:
            return str(wait)
    return ""


def _find_and_build(
    wish: Wish, context: RebuildContext, bringer: ArchiveFetcher, finder: StateFinder
) -> RebuildReport:
    """Of the newest state whose full catalog can be applied; one that cannot is as good as damaged."""
    while True:
        inventory_id, jobs = finder.find()
        try:
            return _Building(wish, context, bringer, finder).build(inventory_id, jobs)
        except UnusableCatalogError as error:
            finder.give_up(error.member, str(error))
        except NewerCatalogError as error:
            if wish.tip is None:
                raise
            finder.pass_over(error.member)


class _Building:
    """From chains to an inventory in its place."""

    def __init__(
        self, wish: Wish, context: RebuildContext, bringer: ArchiveFetcher, finder: StateFinder
    ) -> None:
        self._wish = wish
        self._context = context
        self._bringer = bringer
        self._finder = finder
        self._listed: Sequence[ListedArchive] = finder.listing.archives if finder.listing else ()

    def build(self, inventory_id: InventoryId, jobs: Sequence[FoundJob]) -> RebuildReport:
        """Build the whole inventory, or nothing."""
        with (
            phase(self._context.progress, "Rebuilding the inventory", counts="record"),
            building(self._context.url) as builder,
        ):
            ancestors = (inventory_id, *self._finder.ancestors(inventory_id))
            applier, states = self._apply(builder, jobs, numbers_skipped(ancestors))
            self._tell_copy(inventory_id, applier.written_into)
            self._tell_newer(inventory_id, jobs)
            self._confirm(builder)
            keys = _keys(applier, [key.recipient for key in self._context.recovery_keys])
            keys = replace(keys, ancestors=ancestors)
            self._note_passed(builder, inventory_id, jobs)
            recovered = self._deep(builder, inventory_id, keys.signer.public)
            builder.finish(
                inventory_id=self._context.new_id,
                signer_public=keys.signer.public,
                ancestors=keys.ancestors,
                began_at=self._began_at(),
            )
            report = self._report(builder, inventory_id, list(zip(jobs, states, strict=True)), keys, applier)
            self._context.keep_keys(self._context.new_id, keys)
        return replace(report, recovered_packs=recovered.packs, recovered_chunks=recovered.chunks)

    def _note_passed(self, builder: Builder, inventory_id: InventoryId, jobs: Sequence[FoundJob]) -> None:
        """Record the lineage's catalogs in the list that are older than this state: they are not requested.

        Where lists cost nothing, one is fetched for that even if a recovery line sufficed. What another
        inventory stored after the catalog that the state begins with, by the list's dates, is not: it is
        named where the vault has a clock of its own.
        """
        listed = self._listed
        if not listed and self._context.vault.traits.lists_for_nothing:
            listing = self._bringer.listing()
            listed = listing.archives if listing else ()
        lineage = self._finder.claimed(inventory_id)
        doubled = _stored_twice(listed)
        bases = {job.id: job.chain.base for job in jobs if job.chain and job.chain.base}
        dates = {archive.archive_id: archive.created_at for archive in listed}
        passed: list[bytes] = []
        for line in listed:
            label = line.label
            base = bases.get(label.job_id or b"") if label else None
            if label is None or base is None or label.kind is not PackKind.CATALOG:
                continue
            if label.inventory_id not in lineage or label.number >= base.catalog.number:
                continue
            is_before = line.created_at <= dates.get(base.archive_id, line.created_at)
            if label.pack_id in doubled:
                detail = (
                    f"delta {label.number} of inventory {label.inventory_id.hex()[:8]} is there twice, once "
                    f"as pack {label.pack_id.hex()}: two copies of this server were at work, and this state "
                    "has the nights of one. Those of the other: --tip PACK-ID"
                )
                self._finder.suspect("newer", line.archive_id, detail)
            elif is_before or label.inventory_id == base.inventory_id:
                passed.append(label.pack_id)
            elif not self._context.vault.traits.lists_for_nothing:
                detail = (
                    f"catalog {label.number} of inventory {label.inventory_id.hex()[:8]} came after catalog "
                    f"{base.catalog.number}, with which this state begins, and is not part of it: an older "
                    "machine of this server may be at work"
                )
                self._finder.suspect("newer", line.archive_id, detail)
        builder.pass_catalogs(passed)

    def _began_at(self) -> datetime:
        """When the rebuild began: what fell due since then nobody has done."""
        now = self._context.clock.now()
        return min(self._bringer.began_at or now, now)

    def _apply(
        self, builder: Builder, jobs: Sequence[FoundJob], skipped: int
    ) -> tuple[Applier, list[JobState]]:
        applier = Applier(
            builder,
            self._context.recovery_keys,
            self._context.vault.name,
            advance=lambda rows: self._context.progress.advance(files=rows),
            archive_ids={
                archive.label.pack_id: archive.archive_id for archive in self._listed if archive.label
            },
            suspect=self._finder.suspect,
            floor=self._wish.floor,
            accepted=self._accepted(),
            now=self._context.clock.now(),
            identity=next(iter(self._identities(self._context.new_id)), None),
        )
        states: list[JobState] = []
        for number, job in enumerate(jobs, 1):
            states.append(JobState(number, job.id))
            if job.chain is not None:
                applier.apply(states[-1], job.chain, self._finder.files)
        for job, state in zip(jobs, states, strict=True):
            state.next_catalog = self._finder.next_catalog(job) + skipped
            state.next_snapshot = state.last_snapshot + 1 + len(job.not_covered)
        applier.finish(states)
        return applier, states

    def _accepted(self) -> Mapping[ArchiveId, datetime]:
        """When the vault accepted each catalog, as its list says."""
        listing = self._finder.listing
        if listing is None:
            return {}
        has_clock = not self._context.vault.traits.lists_for_nothing
        return acceptance(candidates_of(listing), listing.as_of, has_clock=has_clock)

    def _identities(self, inventory_id: InventoryId) -> Sequence[VaultIdentity]:
        """The identities of the vault; left to the next backup where no list was needed, or is allowed."""
        if self._finder.listing is None:
            return ()
        try:
            return self._context.patience.call(lambda: self._context.vault.identities(inventory_id))
        except DeniedError:
            return ()

    def _tell_copy(self, inventory_id: InventoryId, written_into: str) -> None:
        """Name a vault that is not the one that the catalogs were written into: a copy of it, or worse."""
        found = self._identities(inventory_id) if written_into else ()
        if found and written_into not in found:
            self._context.progress.note(
                f"the catalogs were written into vault {written_into}, this is {found[0]}: a copy of it? "
                "`nightvault check` tells what it lacks"
            )

    def _tell_newer(self, inventory_id: InventoryId, jobs: Sequence[FoundJob]) -> None:
        """Name catalogs of later nights than the recovery lines know, where a look costs nothing."""
        vault = self._context.vault
        if self._finder.listing is not None or not vault.traits.lists_for_nothing:
            return
        known = {job.id: job.chain.number for job in jobs if job.chain is not None}
        for archive in self._context.patience.call(lambda: vault.newest_catalogs(inventory_id, known)):
            label = archive.label
            if label is None or label.generation is not Generation.DELTA:
                continue
            if label.is_catalog_of(inventory_id) and label.number > known.get(
                label.job_id or b"", MOST_NUMBERS
            ):
                detail = (
                    f"catalog {label.number} is newer than the line: give a newer one, or none, to have it"
                )
                self._finder.suspect("newer", archive.archive_id, detail)

    def _confirm(self, builder: Builder) -> None:
        """Confirm what the list shows, and name what it should show and does not: that is lost."""
        listing = self._finder.listing
        if listing is None:
            return
        at_once = self._context.vault.traits.lists_at_once
        builder.confirm(
            listing.archives,
            settled_before=compared.settled_before(listing.as_of, at_once=at_once),
        )
        listed = {archive.archive_id for archive in listing.archives}
        late = self._covered_until(listing)
        differing: list[str] = []
        withheld: list[str] = []
        for archive_id, size, stored_at in builder.unseen():
            if archive_id in listed:
                differing.append(archive_id)
                detail = f"the vault lists it with another size or hash than was stored ({size} bytes)"
                self._finder.suspect("differs", archive_id, detail)
            elif stored_at < late:
                withheld.append(archive_id)
                hint = self._context.vault.traits.if_missing
                detail = sentences("a catalog names it, but the vault's list does not show it", hint)
                self._finder.suspect("withheld", archive_id, detail)
        builder.mark(differing, ArchiveState.DAMAGED)
        builder.mark(withheld, ArchiveState.LOST)
        builder.settle_condemned(self._context.vault.name, listed, late, self._context.clock.now())

    def _covered_until(self, listing: Listing) -> float:
        """The time (microseconds since 1970) before which all that was stored must be in the list.

        That is all, where a list is made at once: it was made before what speaks of archives was read. A
        recovery line may name a catalog that came later.
        """
        if self._context.vault.traits.lists_at_once and not self._wish.lines:
            return math.inf
        return micros(compared.covers_until(listing.as_of))

    def _deep(self, builder: Builder, inventory_id: InventoryId, signer: bytes) -> Recovered:
        if not self._wish.deep:
            return Recovered()
        return read_uncovered(
            builder, self._listed, inventory_id, signer, self._context, self._bringer, self._finder.suspect
        )

    def _report(
        self,
        builder: Builder,
        inventory_id: InventoryId,
        jobs: Sequence[tuple[FoundJob, JobState]],
        keys: ServerKeys,
        applier: Applier,
    ) -> RebuildReport:
        listing = self._finder.listing
        own = {key.recipient.id for key in self._context.recovery_keys}
        return RebuildReport(
            StepStage.DONE,
            self._context.vault.name,
            inventory_id=self._context.new_id,
            predecessor=inventory_id,
            jobs=[_rebuilt_job(job, builder.count_snapshots(state.number)) for job, state in jobs],
            entries=builder.count(schema.entries),
            archives=builder.count(schema.archives),
            unconfirmed=len(builder.unconfirmed()),
            missing_recipients=len(keys.recipient_ids) - len(keys.recipients),
            not_enrolled=tuple(recipient.hex() for recipient in keys.recipient_ids if recipient not in own),
            listed_at=listing.as_of if listing else None,
            condemned_catalogs=applier.condemned,
            suspicions=tuple(self._finder.suspicions),
        )


def _rebuilt_job(job: FoundJob, snapshots: int) -> RebuiltJob:
    chain = job.chain
    number, catalogs = (chain.number, len(chain.members)) if chain else (0, 0)
    return RebuiltJob(job.name, number, snapshots, catalogs, job.not_covered, job.line is not None)


def _stored_twice(listed: Sequence[ListedArchive]) -> set[PackId]:
    """The packs of deltas that share inventory, job and number with another pack: two wrote as one."""
    places: dict[tuple[InventoryId, bytes | None, int], set[PackId]] = {}
    for line in listed:
        label = line.label
        if label is not None and label.kind is PackKind.CATALOG and label.generation is Generation.DELTA:
            place = label.inventory_id, label.job_id, label.number
            places.setdefault(place, set()).add(label.pack_id)
    return {pack for packs in places.values() if len(packs) > 1 for pack in packs}


def _keys(applier: Applier, own: Sequence[Recipient]) -> ServerKeys:
    """The server's keys, as the newest full catalogs carry them; `own` are the recovery keys' recipients."""
    secrets = applier.secrets
    if secrets is None:
        raise FormatError("no full catalog carries the inventory's keys")
    ids = [stanza.recipient_id for stanza in applier.newest_header.stanzas]
    public = applier.recipients | {recipient.id: recipient.public for recipient in own}
    known = [public[recipient] for recipient in ids if recipient in public]
    return ServerKeys(Signer(secrets.signer_seed), ChunkSecret(secrets.chunk_secret), known, ids)
