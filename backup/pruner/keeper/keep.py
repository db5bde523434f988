"""Deletes in place of servers that may not delete, based on their catalogs and the vault's dates alone.

    keep(context)      # one step; "waiting" while the vault makes its list or retrieves catalogs

For each server in the vault's list two states are rebuilt into scratch inventories: the newest, and one that
retains everything since the floor (`rebuilder/floor.py`). An archive is deleted if both agree (`rules.py`). A
catalog that is in neither stops the deletions for that server. No inventory and no key is stored, and an
interrupted step is simply decided again.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from msgspec.structs import replace

from backup.errors import (
    FormatError,
    IntegrityError,
    InventoryDamagedError,
    NightvaultError,
    RecoveryKeyError,
    UsageError,
    VaultError,
)
from backup.inventory.store.states import StepStage
from backup.model import ArchiveId, InventoryId, Listing, PackKind, Tier
from backup.protocols import phase
from backup.pruner.delete import Deleting, delete_all
from backup.pruner.keeper.folder import KeeperFolder
from backup.pruner.keeper.lineages import (
    Lineage,
    answered_pairs,
    lineages,
    require_covered,
    require_its_own,
    was_answered,
)
from backup.pruner.keeper.report import InventoryReport, KeeperReport
from backup.pruner.keeper.rules import Decision, KeeperRules, decide
from backup.pruner.keeper.shares import refused_shares, share_of, waiting_shares
from backup.pruner.keeper.signs import find_signs
from backup.pruner.keeper.state import State, read_state
from backup.pruner.keeper.validity import Validity
from backup.pruner.listed import PruneStoppedError, require_same_time
from backup.rebuilder.catalogs.candidates import NothingToRebuildError
from backup.rebuilder.catalogs.families import find_family
from backup.rebuilder.catalogs.intake import WaitsError
from backup.rebuilder.context import CatalogRun, RebuildContext, Wish
from backup.rebuilder.floor import Floor
from backup.rebuilder.members import ForkError, OlderStateError, QuestionError, TwoSignersError
from backup.rebuilder.rebuild import rebuild, waits_for
from backup.retention.prune import DEFAULT_GRACE, LISTS_FOLLOW
from backup.transfer.fetching.journal import Journal
from backup.transfer.succession import MOST_NAMED
from backup.wording import counted

KEEP_WITHIN = timedelta(days=30)
_STALE = timedelta(days=3)  # catalogs of a cold vault take half a day, and some are asked for after others
_SETTLED_BY_A_HUMAN = (
    ForkError, TwoSignersError, OlderStateError, QuestionError, NothingToRebuildError, PruneStoppedError,
    RecoveryKeyError,
    FormatError, IntegrityError, InventoryDamagedError, UsageError,
)  # fmt: skip


class KeeperContext(CatalogRun, frozen=True, kw_only=True):
    """All inputs of a keeper. `vault` is by a role that reads catalogs and deletes, and cannot write.

    `folder` is its own, 0700. Nothing is deleted that was needed within `keep_within`, or `grace` if that is
    longer. `accept` are pack ids, or their beginnings, of strangers' catalogs that `who` says to ignore.
    """

    folder: str
    keep_within: timedelta = KEEP_WITHIN
    grace: timedelta = DEFAULT_GRACE
    tier: Tier = Tier.STANDARD
    threads: int = 8
    accept: Sequence[str] = ()
    who: str = ""


def keep(context: KeeperContext, *, only_plan: bool = False) -> KeeperReport:
    """Run one step. A server whose catalogs cannot be relied on is skipped, and the report says why.

    `LockedError` while another keeper is running; `PruneStoppedError` if the clocks differ.
    """
    begun = context.clock.now()
    with KeeperFolder.opened(context.folder) as folder:
        require_same_time(context.vault, context.clock, context.patience)
        listing = list_of(context, folder)
        if listing is None:
            return KeeperReport(StepStage.WAITING, context.vault.name, waits_for="the vault's own list")
        rules = rules_of(context, listing)
        done = folder.done(listing.as_of, is_plan=only_plan)
        found = servers_in(context, folder, listing)
        if isinstance(found, str):
            return KeeperReport(StepStage.WAITING, context.vault.name, waits_for=found)
        waits: list[str] = []
        not_believed = 0
        for lineage in found:
            name = lineage.newest.hex()
            not_believed += not lineage.signers
            if name in done.reports:
                continue
            if not lineage.signers and not_believed > MOST_NAMED:  # anybody may invent ten thousand of them
                done.reports[name] = InventoryReport(
                    name,
                    stopped="none of its newest catalogs can be believed with these keys",
                    advice="see the advice on the servers above, of which no catalog can be believed either",
                )
                continue
            try:
                report = KeptServer(context, folder, lineage, rules, begun).step(listing, only_plan=only_plan)
            except Waits as wait:
                waits.append(str(wait))
                continue
            except _SETTLED_BY_A_HUMAN as error:
                report = _stopped(lineage.newest, error)
            done.reports[name] = report
            if not lineage.strangers:
                folder.keep_done(done)
        if waits:
            folder.keep_done(done)
        else:
            folder.clear()
        return KeeperReport(
            StepStage.WAITING if waits else StepStage.DONE,
            context.vault.name,
            waits_for="; ".join(dict.fromkeys(waits)),
            is_plan=only_plan,
            listed_at=listing.as_of,
            floor=rules.floor,
            inventories=[done.reports[name] for name in sorted(done.reports)],
        )


def list_of(context: KeeperContext, folder: KeeperFolder) -> Listing | None:
    """Return the vault's list, requested within the last days; None while it is not ready.

    The list of a vault that does not change may be older: the floor is computed from it.
    """
    with Journal.opened(folder.listing, context.vault.name) as journal:
        asked = journal.listing.asked_at if journal.listing else None
        if asked is not None and abs(context.clock.now() - asked) > _STALE:
            folder.forget_rounds()
            journal.forget_listing()
        try:
            return context.fetcher(journal, context.tier).listing()
        except VaultError:
            if context.vault.traits.waits and context.patience.call(context.vault.state).listed_at is None:
                return None  # it makes its first list within a day
            raise


def servers_in(context: KeeperContext, folder: KeeperFolder, listing: Listing) -> list[Lineage] | str:
    """The servers of the list; what it waits for while the vault retrieves a catalog of each inventory."""
    try:
        family = find_family(listing, Wish(tier=context.tier), _rebuilding(context, folder, folder.family))
    except WaitsError as wait:
        return str(wait)
    answers = folder.answers(context.vault.name)
    has_clock = not context.vault.traits.lists_for_nothing
    if context.accept:
        known = lineages(listing, family, answers, has_clock=has_clock)
        for pack in context.accept:
            meant = answered_pairs(known, listing, pack)
            if not (meant or was_answered(answers, listing, pack)):
                raise UsageError(
                    f"nothing in vault {context.vault.name} waits for an answer on {pack}",
                    advice="give the pack id, or its first 8 digits or more, as this command names it",
                )
            answers = folder.answer(context.vault.name, meant, context.who, context.clock.now())
    return lineages(listing, family, answers, has_clock=has_clock)


def _rebuilding(context: KeeperContext, folder: KeeperFolder, asked: str) -> RebuildContext:
    return context.rebuild_at(f"sqlite:///{os.path.join(folder.scratch, 'inventory.sqlite')}", asked)


def rules_of(context: KeeperContext, listing: Listing) -> KeeperRules:
    """By the earlier of the vault's time and this machine's.

    A vault in which nothing happens makes no newer list: as long as there is none, its last one shows all
    that it held until some days ago.
    """
    now, at = context.clock.now(), listing.as_of
    if context.vault.traits.waits and not context.vault.traits.lists_at_once:
        newest = context.patience.call(context.vault.state).listed_at
        if newest is not None and newest <= listing.as_of:
            at = max(at, now - LISTS_FOLLOW)
    at = min(now, at)
    traits = context.vault.traits
    hot = timedelta(0) if traits.keeps_metadata_hot else traits.minimum_storage
    minimum = {PackKind.DATA: traits.minimum_storage, PackKind.CATALOG: hot}
    return KeeperRules(at, at - max(context.keep_within, context.grace), minimum)


def _stopped(inventory_id: InventoryId, error: NightvaultError) -> InventoryReport:
    whose, advice = inventory_id.hex(), error.advice
    if isinstance(error, QuestionError):  # a rebuild takes another answer than this command
        advice = f"`nightvault rebuild --inventory {whose}` on a machine that you trust asks about it"
    return InventoryReport(whose, stopped=str(error), advice=advice)


class Waits(Exception):  # noqa: N818 (no error)
    """The vault retrieves catalogs; `str` says how many."""


class KeptServer:
    """One server of the vault."""

    def __init__(
        self,
        context: KeeperContext,
        folder: KeeperFolder,
        lineage: Lineage,
        rules: KeeperRules,
        begun: datetime,
    ) -> None:
        self._context = context
        self._folder = folder
        self._lineage = lineage
        self._rules = rules
        self._begun = begun

    def step(self, listing: Listing, *, only_plan: bool) -> InventoryReport:
        """Rebuild both states, decide, delete. `Waits`; the errors of `StateFinder.find`."""
        require_its_own(self._lineage)
        floor, newest = self.states(listing)
        require_covered(self._lineage, newest, floor)
        decided = decide(self._lineage, newest, floor, self._rules)
        report = InventoryReport(
            self._lineage.newest.hex(),
            jobs=sorted(newest.jobs.values()),
            deleted=share_of(decided.delete),
            waiting=waiting_shares(decided),
            findings=find_signs(self._lineage, newest, floor, self._rules),
            warnings=_warnings(decided),
        )
        return report if only_plan else self._delete(decided, newest, report)

    def states(self, listing: Listing, forgotten_since: datetime | None = None) -> tuple[State, State]:
        """The floor's state and the newest, in this order: the newest is as new as can be.

        With `forgotten_since` snapshots that were forgotten before then need nothing. `Waits`.
        """
        self._folder.share(self._lineage.newest)
        wish = Wish(inventory=self._lineage.newest.hex(), tier=self._context.tier)
        held = Wish(
            inventory=wish.inventory,
            tier=wish.tier,
            floor=Floor(self._rules.floor, self._lineage.inventories),
        )
        self._go_by(listing)
        traits = self._context.vault.traits
        if traits.waits and not traits.keeps_metadata_hot:  # ask for all at once
            waiting = [waits_for(marks, self._rebuilding()) for marks in (held, wish)]
            if any(waiting):
                raise Waits("; ".join(dict.fromkeys(filter(None, waiting))))
        floor = self._state(held, forgotten_since)
        self._go_by(listing)
        newest = self._state(wish, forgotten_since)
        self._folder.forget_asked(self._lineage.newest)
        return floor, newest

    def _go_by(self, listing: Listing) -> None:
        """Have the next rebuild use this list, or by a new one where that comes at once."""
        asked = self._folder.asked(self._lineage.newest)
        with Journal.opened(asked, self._context.vault.name) as journal:
            journal.forget_listing()
            journal.keep_listing(listing)

    def _state(self, wish: Wish, forgotten_since: datetime | None) -> State:
        """Rebuild one state; its inventory is deleted when this returns."""
        context = self._rebuilding()
        report = rebuild(wish, context)
        if report.state is StepStage.WAITING:
            raise Waits(report.waits_for)
        try:
            return read_state(
                context.url, self._folder.scratch, self._context.vault.name, report, forgotten_since
            )
        finally:
            self._folder.wipe()

    def _rebuilding(self) -> RebuildContext:
        return _rebuilding(self._context, self._folder, self._folder.asked(self._lineage.newest))

    def _delete(self, decided: Decision, newest: State, report: InventoryReport) -> InventoryReport:
        """Delete what goes, unless a catalog came meanwhile, or may have come."""
        due = decided.delete
        if not due:
            return report
        context = self._context
        valid = self._validity(newest)
        work = Deleting(
            context.vault,
            context.patience,
            context.progress,
            context.threads,
            context.stop,
            self._versions,
            before_batch=valid.renew,
            before_request=valid.require,
        )
        total = sum(archive.size for archive in due)
        title = f"Deleting {counted(len(due), 'archive')} from {context.vault.name}"
        with phase(context.progress, title, total, counts="archive"):
            came_of_it = delete_all(due, work, lambda *_: None)
        return replace(report, deleted=share_of(came_of_it.gone), refused=refused_shares(came_of_it))

    def _versions(self, ids: Collection[ArchiveId]) -> Mapping[ArchiveId, str]:
        lines = self._lineage.lines
        return {key: lines[key].version for key in ids if key in lines and lines[key].version}

    def _validity(self, newest: State) -> Validity:
        """`PruneStoppedError` if the server stored a catalog since, where a look costs nothing."""
        clock = self._context.clock
        if not self._context.vault.traits.lists_at_once:
            return Validity(clock, self._begun, None)
        looked_at = clock.now()
        self._require_nothing_new(newest)
        return Validity(clock, looked_at, lambda: self._require_nothing_new(newest))

    def _require_nothing_new(self, newest: State) -> None:
        vault = self._context.vault
        known = {job.number for job in newest.report.jobs}
        numbers = dict.fromkeys(newest.jobs, min(known, default=0))
        for archive in self._context.patience.call(
            lambda: vault.newest_catalogs(newest.inventory_id, numbers)
        ):
            if archive.archive_id not in newest.applied and archive.archive_id not in self._lineage.lines:
                raise PruneStoppedError(
                    f"the server stored a catalog while its state was rebuilt ({archive.archive_id[:40]})",
                    advice="run it again while no backup of that server runs",
                )


def _warnings(decided: Decision) -> list[str]:
    """Archives that catalogs name by the id of another's."""
    if not decided.strange:
        return []
    text = (
        f"{len(decided.strange)} condemned archives are listed as something else, or another server's, such "
        f"as {decided.strange[0][:40]}: they are not touched"
    )
    return [text]
