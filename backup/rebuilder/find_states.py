"""Finds each job's newest state in a vault: retrieves catalogs, verifies them, goes further back if needed.

Requests as little as possible: the newest full catalog of each job and the deltas after it, all jobs at once;
older ones only if these leave a gap, or if nobody vouches for their signer and an older one may. Catalogs of
inventories outside the lineage are requested last, if at all (`backup/lineage.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from backup.lineage import marks_in
from backup.model import ArchiveId, Generation, InventoryId, Listing
from backup.rebuilder.catalogs.candidates import (
    by_inventory,
    candidates_of,
    choose_inventory,
    last_of,
    newest,
    newest_of,
    of_line,
    of_links,
    several_inventories,
)
from backup.rebuilder.catalogs.file import CatalogFile
from backup.rebuilder.catalogs.found import FoundJob
from backup.rebuilder.catalogs.intake import Intake, WaitsError
from backup.rebuilder.catalogs.old_lines import is_exhausted, needless, successor_of
from backup.rebuilder.catalogs.others import MOST_LOOKED_AT, Others
from backup.rebuilder.context import RebuildContext, Wish
from backup.rebuilder.floor import acceptance, oddly_dated
from backup.rebuilder.members import CatalogCandidate, Chain, Member, OlderStateError
from backup.rebuilder.report import Suspicion
from backup.transfer.fetching.fetch import ArchiveFetcher

_MOST_AHEAD = 10_000
"""Labels with numbers so much above all that was read say nothing: anybody can store one."""


class StateFinder:
    """One step of the search; `files`, `suspicions` and `listing` are its results."""

    def __init__(self, wish: Wish, context: RebuildContext, bringer: ArchiveFetcher) -> None:
        self._wish = wish
        self._context = context
        self._bringer = bringer
        self._intake = Intake(wish, context, bringer)
        self._trusted, self._known = self._intake.trusted, self._intake.known
        self._family, self._newer = self._trusted.family, self._intake.newer
        self._others = Others(self._intake, self._resolve, looks=context.vault.traits.lists_at_once)
        self._hidden: set[ArchiveId] = set()  # left out, as the wish says
        self._looks_everywhere = False  # also at catalogs that others wrote, by their labels

    @property
    def files(self) -> dict[bytes, CatalogFile]:
        """The trusted catalogs, by header hash."""
        return self._known.files

    @property
    def listing(self) -> Listing | None:
        """The vault's own list, if it was needed."""
        return self._known.listing

    @property
    def suspicions(self) -> list[Suspicion]:
        """Everything suspicious."""
        return self._intake.suspicions

    def ancestors(self, inventory_id: InventoryId) -> tuple[InventoryId, ...]:
        """Return the proven ancestors of an inventory, nearest first."""
        return self._family.ancestors(inventory_id)

    def claimed(self, inventory_id: InventoryId) -> frozenset[InventoryId]:
        """Return it and all that its catalogs call ancestors, except those proven to be others'."""
        named = self._family.claimed(inventory_id)
        unproven = self._family.unproven(inventory_id)
        return frozenset((inventory_id, *(ancestor for ancestor in named if ancestor not in unproven)))

    def find(self) -> tuple[InventoryId, list[FoundJob]]:
        """Return the inventory to rebuild, and its jobs with their chains, by name.

        `WaitsError` until the vault is ready; `RecoveryKeyError`, `UntrustedError`, `ForkError`,
        `QuestionError`, `OlderStateError`, `NewerFormatError`, `NothingToRebuildError`, `UsageError`.
        """
        for line in self._wish.lines:
            self._learn(of_line(line))
        of_lines = [line.inventory_id.hex() for line in self._wish.lines]
        meant = (self._wish.inventory or "").lower()
        if self._wish.deep or self._wish.before or not any(line.startswith(meant) for line in of_lines):
            self._list()
        inventory_id, jobs = self._choose()
        found = [job for job in jobs if job.chain is not None and self._is_wanted(job)]
        self._newer.refuse(jobs, found)
        for refused in self._intake.refused.values():
            if not self._trusted.is_older(refused.header):
                self.suspect("refused", refused.candidate.archive_id, str(refused.error))
        if not found:
            self._intake.give_up_all()
        for job in found:
            self._tell_old_line(job)
        self._others.tell(inventory_id, jobs)
        self._tell_left_out(jobs, found)
        return inventory_id, sorted(found, key=lambda job: job.name)

    def next_catalog(self, job: FoundJob) -> int:
        """Return a number above every number of the job's catalogs that is mentioned anywhere."""
        own = self.claimed(job.owner)
        believed = [
            member.catalog.number for member in self._trusted.members(job.id) if member.inventory_id in own
        ]
        top = max([*believed, job.line.number if job.line else 0, job.chain.number if job.chain else 0])
        said = [
            candidate.label.number
            for candidate in self._known.candidates.values()
            if candidate.label.job_id in {job.id, None}
            and candidate.label.inventory_id in own
            and candidate.label.number <= top + _MOST_AHEAD
        ]
        return max([top, *said]) + 1 + len(job.not_covered)

    def _choose(self) -> tuple[InventoryId, list[FoundJob]]:
        """The inventory that is meant, or one that goes on from it, where the line is old."""
        hint = self._context.vault.traits.if_missing
        meant = choose_inventory(self._known.candidates.values(), self._wish, hint)
        if len(meant) > 1:
            raise several_inventories(self._known.candidates.values(), meant, self._last_of(meant))
        inventory_id = meant[0]
        older: OlderStateError | None = None
        jobs: list[FoundJob] = []
        try:
            jobs = self._jobs(inventory_id)
        except OlderStateError as error:
            older = error
        if self._wish.lines and self._wish.inventory is None and all(job.chain is None for job in jobs):
            for line in self._wish.lines:
                for others in by_inventory(self._intake.offered(line.job_id)).values():
                    self._intake.fetch(newest(others, 1))
            successor = successor_of(inventory_id, self._trusted, self._known)
            if successor is not None:
                return successor, self._jobs(successor)
        if older is not None:
            raise older
        return inventory_id, jobs

    def _last_of(self, meant: Sequence[InventoryId]) -> InventoryId | None:
        """Return the newest of several inventories of one server, if that is known without a wait."""
        candidates = by_inventory(self._known.candidates.values())
        if self._context.vault.traits.lists_at_once:
            self._intake.fetch([max(candidates[inventory_id], key=_number) for inventory_id in meant])
            for inventory_id in meant:
                self._resolve(inventory_id)
        lines = self._known.listing.archives if self._known.listing else ()
        return last_of(meant, self._family, marks_in(archive.description for archive in lines))

    def _tell_old_line(self, job: FoundJob) -> None:
        """Drop suspicions about an old line's missing catalogs if a later full catalog is there."""
        gone = needless(job.line, job.chain, self.suspicions)
        if gone and job.line and job.chain:
            self._intake.suspicions = [suspicion for suspicion in self.suspicions if suspicion not in gone]
            self._context.progress.note(
                f"the recovery line of job {job.line.job} is old: the vault does not keep its catalog "
                f"{job.line.number} any more; this is the state of catalog {job.chain.number}"
            )

    def _tell_left_out(self, jobs: Sequence[FoundJob], found: Sequence[FoundJob]) -> None:
        """Name the jobs of the lineage that the new inventory will not have."""
        for job in jobs:
            if job.chain is not None and job not in found:
                self.suspect("left-out", "", f"job {job.name} of this server is not in the new inventory")

    # What is there.

    def _list(self) -> None:
        """The vault's own list, once."""
        if self._known.listing is None:
            listing = self._bringer.listing()
            if listing is None:
                raise WaitsError("the vault's own list")
            self._known.listing = listing
            self._intake.learn_sizes(listing)
            listed = candidates_of(listing)
            has_clock = not self._context.vault.traits.lists_for_nothing
            accepted = acceptance(listed, listing.as_of, has_clock=has_clock)
            if self._wish.floor:
                self._hidden |= self._wish.floor.hidden(listed, accepted)
            if self._wish.before:
                self._hidden |= {archive for archive, at in accepted.items() if at > self._wish.before}
                for archive, detail in oddly_dated(listed, accepted, self._wish.before):
                    self.suspect("newer", archive, detail)
            self._learn(listed)

    def _learn(self, candidates: Sequence[CatalogCandidate]) -> None:
        for catalog in candidates:
            if catalog.archive_id in self._hidden:
                continue
            known = self._known.candidates.get(catalog.archive_id)
            if known is None or known.tree_hash is None:
                self._known.candidates[catalog.archive_id] = catalog

    def _resolve(self, inventory_id: InventoryId) -> None:
        """Bring a catalog of each ancestor that is not seen yet: it names its own, and its signer."""
        asked: Counter[InventoryId] = Counter()
        while True:
            proven = set(self._family.ancestors(inventory_id))
            claimed = [
                ancestor
                for ancestor in self._family.claimed(inventory_id)
                if not self._family.knows(ancestor)
            ]
            wanted = newest_of(
                [ancestor for ancestor in claimed if ancestor not in proven], self._known.candidates, asked
            )
            if not wanted:
                return
            self._intake.fetch(wanted)

    def _offered(self, job_id: bytes, inventory_id: InventoryId) -> list[CatalogCandidate]:
        """The archives that may be the job's catalogs in the lineage, by their labels."""
        if self._looks_everywhere:
            return self._intake.offered(job_id)
        return self._intake.offered(job_id, {inventory_id, *self._family.claimed(inventory_id)})

    def _jobs(self, inventory_id: InventoryId) -> list[FoundJob]:
        """The jobs of the lineage, each with its newest chain.

        Descriptions name them, headers decide: one that only headers know of is found with the others'.
        """
        unnamed = [catalog for catalog in self._known.candidates.values() if catalog.label.job_id is None]
        own = {inventory_id, *self._family.claimed(inventory_id)}
        self._intake.fetch(
            [
                catalog
                for catalog in unnamed
                if catalog.label.inventory_id in own or catalog.size <= MOST_LOOKED_AT
            ]
        )
        lines = {line.job_id: line for line in self._wish.lines}
        first = sorted(self._labelled({inventory_id}))
        self._intake.fetch(
            [catalog for job_id in first for catalog in newest(self._offered(job_id, inventory_id), 1)]
        )
        found: dict[bytes, FoundJob] = {}
        seen = -1
        while len(self._known.seen) > seen:  # what was fetched for one job may turn out to be another's
            seen = len(self._known.seen)
            self._resolve(inventory_id)
            self._trusted.accept(inventory_id)
            for job_id in sorted(self._job_ids(inventory_id)):
                job = found.setdefault(job_id, FoundJob(job_id, lines.get(job_id)))
                job.owner = self._owner_of(job_id, inventory_id)
                self._find_chain(job, job.owner)
        return list(found.values())

    def _job_ids(self, inventory_id: InventoryId) -> set[bytes]:
        """The jobs that the inventory and its ancestors wrote catalogs of."""
        lineage = self._family.lineage(inventory_id)
        found = self._labelled(lineage)
        for member in lineage:
            found |= self._trusted.jobs(member) | self._newer.jobs(member)
        return found

    def _labelled(self, inventories: set[InventoryId] | frozenset[InventoryId]) -> set[bytes]:
        labels = (catalog.label for catalog in self._known.candidates.values())
        return {label.job_id for label in labels if label.inventory_id in inventories and label.job_id}

    def _owner_of(self, job_id: bytes, inventory_id: InventoryId) -> InventoryId:
        """The inventory that wrote the job's catalogs last: it, or the nearest ancestor that has any."""
        line = (inventory_id, *self._family.ancestors(inventory_id))
        said = [member for member in line if job_id in self._labelled({member}) | self._trusted.jobs(member)]
        if len(said) < 2:
            return next(iter(said), inventory_id)
        return next((member for member in said if self._has_written(member, job_id)), said[0])

    def _has_written(self, inventory_id: InventoryId, job_id: bytes) -> bool:
        """Whether a header proves it: labels only tell which catalogs to read, the newest first."""
        labels = {catalog: catalog.label for catalog in self._known.candidates.values()}
        says = [
            catalog
            for catalog, its in labels.items()
            if (its.inventory_id, its.job_id) == (inventory_id, job_id)
        ]
        for wanted in (newest(says, 1), says):
            self._intake.fetch(wanted)
            if job_id in self._trusted.jobs(inventory_id) | self._newer.jobs(inventory_id):
                return True
        refused = [
            catalog.header
            for catalog in self._intake.refused.values()
            if self._trusted.is_older(catalog.header)
        ]
        places = [(header.fields.inventory_id, header.fields.catalog) for header in refused]
        return any(writer == inventory_id and place and place.job_id == job_id for writer, place in places)

    def _find_chain(self, job: FoundJob, inventory_id: InventoryId) -> None:
        """Fetch older and older catalogs of a job until its newest state has no gap."""
        while True:
            offered = self._offered(job.id, inventory_id)
            self._intake.fetch(newest(offered, job.generations))
            self._resolve(inventory_id)
            self._trusted.accept(inventory_id)
            try:
                chain = self._chain(job, inventory_id)
            except OlderStateError:
                self._newer.note(job, self._family.lineage(inventory_id), None)
                if not self._more(job, offered) and not self._believe_others():
                    self._newer.refuse_line(job)
                    raise
                continue
            self._newer.note(job, self._family.lineage(inventory_id), chain)
            if chain is not None and chain.gap is None:
                later = self._later(job, inventory_id, chain)
                if not later:
                    job.chain = chain
                    return
                self._intake.fetch(later)
                continue
            is_elsewhere = chain is None and is_exhausted(job, inventory_id, offered, self._known)
            looks_further = not is_elsewhere and self._more(job, offered)
            if not looks_further and not self._believe_others():
                job.chain = self._chain(job, inventory_id, only_whole=True)
                self._newer.note(job, self._family.lineage(inventory_id), job.chain)
                return

    def _later(self, job: FoundJob, inventory_id: InventoryId, chain: Chain) -> list[CatalogCandidate]:
        """Return catalogs of the lineage that are newer by their labels and were not requested yet.

        Others' labels, and copies of its own old catalogs under other labels, may have led past them.
        """
        if self._wish.tip is not None:
            return []
        own = self._family.lineage(inventory_id)
        return [
            candidate
            for candidate in self._intake.offered(job.id, own)
            if candidate.label.number > chain.number and candidate.archive_id not in self._known.seen
        ]

    def _chain(self, job: FoundJob, inventory_id: InventoryId, *, only_whole: bool = False) -> Chain | None:
        return self._trusted.chain(
            job.id, inventory_id, line=job.line, chosen=self._wish.tip, only_whole=only_whole
        )

    def _more(self, job: FoundJob, offered: Sequence[CatalogCandidate]) -> bool:
        """Search further: catalogs named by known deltas, older full catalogs, the listing.

        False at the end.
        """
        if not job.has_links:
            job.has_links = True
            before = len(self._known.candidates)
            for key, file in list(self._known.files.items()):
                if self._known.starts[key].job_id == job.id:
                    self._learn(of_links(file, self._context.recovery_keys))
            if len(self._known.candidates) > before:
                return True
        fulls = {catalog.label.number for catalog in offered if catalog.label.generation is Generation.FULL}
        if job.generations <= len(fulls):
            job.generations += max(1, job.generations // 2)  # labels may lie by the thousand
            return True
        if self._known.listing is None:
            self._context.progress.note("the recovery line does not suffice: the vault's own list is needed")
            self._list()
            job.generations = 1
            return True
        if not self._looks_everywhere and len(self._intake.offered(job.id)) > len(offered):
            self._looks_everywhere = True  # labels may lie
            job.generations = 1
            return True
        return False

    def _believe_others(self) -> bool:
        """Let keys after the first vouch, once nothing more can be fetched. False if that changes nothing."""
        if not self._trusted.believe_others():
            return False
        self._intake.reconsider()
        return True

    def give_up(self, member: Member, why: str) -> None:
        """Report a catalog that cannot be applied, and find the newest state without it."""
        self._intake.give_up(member, why)

    def pass_over(self, member: Member) -> None:
        """Leave out a catalog of a later version, by a signer that is vouched for."""
        self._intake.pass_over(member)

    def suspect(self, kind: str, archive_id: str, detail: str) -> None:
        """Report something suspicious."""
        self._intake.suspect(kind, archive_id, detail)

    def _is_wanted(self, job: FoundJob) -> bool:
        if job.chain is not None:
            job.name = self._known.starts[job.chain.members[-1].header.hash].job_name
            beyond = self._trusted.beyond(job.chain, job.id, job.owner)
            job.not_covered = [member.catalog.number for member in beyond]
        return not self._wish.jobs or job.name in self._wish.jobs


def _number(candidate: CatalogCandidate) -> int:
    return candidate.label.number
