"""Find each job's newest state in a vault: retrieve catalogs, believe or refuse them, look further back.

Asks for as little as will do: the newest full catalog of each job and the deltas after it, all jobs at once;
older ones only when these leave a gap, or when nobody vouches for their signer and an older one may.
"""

from __future__ import annotations

from collections.abc import Sequence

from backup.errors import FormatError, IntegrityError, NewerFormatError, RecoveryKeyError
from backup.format.header import Header
from backup.model import ArchiveId, Generation, InventoryId, Listing
from backup.rebuilder.candidates import (
    NothingToRebuildError,
    by_inventory,
    candidates_of,
    choose_inventory,
    newest,
    of_line,
    of_links,
)
from backup.rebuilder.catalog_chain import (
    Candidate,
    Chain,
    Member,
    OlderStateError,
    TrustedCatalogs,
    UntrustedError,
)
from backup.rebuilder.catalog_file import CatalogFile, read_catalog_file
from backup.rebuilder.context import RebuildContext, Wish
from backup.rebuilder.fetch import CatalogFetcher
from backup.rebuilder.floor import accepted_later
from backup.rebuilder.found import FoundJob, Known, Refused
from backup.rebuilder.newer_catalogs import NewerCatalogs
from backup.rebuilder.old_lines import is_exhausted, needless, successor_of
from backup.rebuilder.record_ranges import MOST_NUMBERS
from backup.rebuilder.report import Suspicion
from backup.rebuilder.wants import whole

_REFUSED = (FormatError, IntegrityError)


_FROZEN = ", which something has frozen: `nightvault config check` names it"


class WaitsError(Exception):
    """The vault is not ready; `str` says with what."""


class StateFinder:
    """One step of looking; `files`, `suspicions` and `listing` are what came of it."""

    def __init__(self, wish: Wish, context: RebuildContext, bringer: CatalogFetcher) -> None:
        self._wish = wish
        self._context = context
        self._bringer = bringer
        self._trusted = TrustedCatalogs(context.recovery_keys, wish.trust)
        self._known = Known()
        self._jobs_of_archives: dict[ArchiveId, bytes] = {}  # as the headers say
        self._refused: dict[ArchiveId, Refused] = {}  # until somebody vouches for their signers
        self._newer = NewerCatalogs(wish, context.vault.name)
        self._wrong_key: RecoveryKeyError | None = None
        self._hidden: set[ArchiveId] = set()  # left out, as the wish says
        self.suspicions: list[Suspicion] = []

    @property
    def files(self) -> dict[bytes, CatalogFile]:
        """The catalogs that were believed, by header hash."""
        return self._known.files

    @property
    def listing(self) -> Listing | None:
        """The vault's own list, if it was needed."""
        return self._known.listing

    def find(self) -> tuple[InventoryId, list[FoundJob]]:
        """The inventory to rebuild, and its jobs with their chains, by name.

        `WaitsError` until the vault is ready; `RecoveryKeyError`, `UntrustedError`, `ForkError`,
        `OlderStateError`, `NewerFormatError`, `NothingToRebuildError`, `UsageError`.
        """
        for line in self._wish.lines:
            self._learn(of_line(line))
        of_lines = [line.inventory_id.hex() for line in self._wish.lines]
        meant = (self._wish.inventory or "").lower()
        if self._wish.deep or self._wish.before or not any(one.startswith(meant) for one in of_lines):
            self._list()
        inventory_id, jobs = self._choose()
        found = [job for job in jobs if job.chain is not None and self._is_wanted(job)]
        self._newer.refuse(jobs, found)
        for one in self._refused.values():
            self.suspect("refused", one.candidate.archive_id, str(one.error))
        if not found:
            self._give_up()
        for job in found:
            self._tell_old_line(job)
        return inventory_id, sorted(found, key=lambda job: job.name)

    def next_catalog(self, job: FoundJob) -> int:
        """A number above every catalog of the job that anything here speaks of."""
        said = [
            one.label.number
            for one in self._known.candidates.values()
            if one.label.job_id in {job.id, None} and one.label.number < MOST_NUMBERS
        ]
        return max(said, default=0) + 1 + len(job.not_covered)

    def _choose(self) -> tuple[InventoryId, list[FoundJob]]:
        """The inventory that is meant, or one that goes on from it, where the line is old."""
        inventory_id = choose_inventory(self._known.candidates.values(), self._wish)
        older: OlderStateError | None = None
        jobs: list[FoundJob] = []
        try:
            jobs = self._jobs(inventory_id)
        except OlderStateError as error:
            older = error
        if self._wish.lines and self._wish.inventory is None and all(job.chain is None for job in jobs):
            for line in self._wish.lines:
                for others in by_inventory(self._offered(line.job_id)).values():
                    self._fetch(newest(others, 1))
            successor = successor_of(inventory_id, self._wish.lines, self._trusted, self._known)
            if successor is not None:
                return successor, self._jobs(successor)
        if older is not None:
            raise older
        return inventory_id, jobs

    def _tell_old_line(self, job: FoundJob) -> None:
        """What an old line names need not be there where a full catalog of a later state is."""
        gone = needless(job.line, job.chain, self.suspicions)
        if gone and job.line and job.chain:
            self.suspicions = [one for one in self.suspicions if one not in gone]
            self._context.progress.note(
                f"the recovery line of job {job.line.job} is old: the vault does not keep its catalog "
                f"{job.line.number} any more; this is the state of catalog {job.chain.number}"
            )

    # What is there.

    def _list(self) -> None:
        """The vault's own list, once."""
        if self._known.listing is None:
            listing = self._bringer.listing()
            if listing is None:
                raise WaitsError("the vault's own list")
            self._known.listing = listing
            listed = candidates_of(listing)
            if self._wish.floor:
                self._hidden |= self._wish.floor.hidden(listed, listing.as_of)
            if self._wish.before:
                self._hidden |= accepted_later(listed, listing.as_of, self._wish.before)
            self._learn(listed)

    def _learn(self, candidates: Sequence[Candidate]) -> None:
        for one in candidates:
            if one.archive_id in self._hidden:
                continue
            known = self._known.candidates.get(one.archive_id)
            if known is None or known.tree_hash is None:
                self._known.candidates[one.archive_id] = one

    def _jobs(self, inventory_id: InventoryId) -> list[FoundJob]:
        """The jobs that the inventory has catalogs of, each with its newest chain.

        Descriptions name them, headers decide: one that only headers know of is found with the others'.
        """
        self._fetch([one for one in self._known.candidates.values() if one.label.job_id is None])
        labels = [one.label for one in self._known.candidates.values()]
        lines = {line.job_id: line for line in self._wish.lines}
        ids = {label.job_id for label in labels if label.inventory_id == inventory_id and label.job_id}
        self._fetch([one for job_id in sorted(ids) for one in newest(self._offered(job_id), 1)])
        found: dict[bytes, FoundJob] = {}
        seen = -1
        while len(self._known.seen) > seen:  # what was fetched for one job may turn out to be another's
            seen = len(self._known.seen)
            for job_id in sorted(ids | self._trusted.jobs(inventory_id) | self._newer.jobs(inventory_id)):
                job = found.setdefault(job_id, FoundJob(job_id, lines.get(job_id)))
                self._find_chain(job, inventory_id)
        return list(found.values())

    def _offered(self, job_id: bytes) -> list[Candidate]:
        """The archives that may be a job's catalogs."""
        ours = {file for file, start in self._jobs_of_archives.items() if start == job_id}
        return [
            one
            for one in self._known.candidates.values()
            if one.label.job_id in {job_id, None} or one.archive_id in ours
        ]

    def _find_chain(self, job: FoundJob, inventory_id: InventoryId) -> None:
        """Fetch ever older catalogs of a job until its newest state can be told without a gap."""
        while True:
            offered = self._offered(job.id)
            self._fetch(newest(offered, job.generations))
            try:
                chain = self._chain(job, inventory_id)
            except OlderStateError:
                self._newer.note(job, inventory_id, None)
                if not self._more(job, offered) and not self._believe_others():
                    self._newer.refuse_line(job)
                    raise
                continue
            self._newer.note(job, inventory_id, chain)
            if chain is not None and chain.gap is None:
                job.chain = chain
                return
            is_elsewhere = chain is None and is_exhausted(job, inventory_id, offered, self._known)
            looks_further = not is_elsewhere and self._more(job, offered)
            if not looks_further and not self._believe_others():
                job.chain = self._chain(job, inventory_id, only_whole=True)
                self._newer.note(job, inventory_id, job.chain)
                return

    def _chain(self, job: FoundJob, inventory_id: InventoryId, *, only_whole: bool = False) -> Chain | None:
        return self._trusted.chain(
            job.id, inventory_id, line=job.line, chosen=self._wish.tip, only_whole=only_whole
        )

    def _more(self, job: FoundJob, offered: Sequence[Candidate]) -> bool:
        """Look further: what the deltas at hand name, older generations, the listing. False at the end."""
        if not job.has_links:
            job.has_links = True
            before = len(self._known.candidates)
            for key, file in list(self._known.files.items()):
                if self._known.starts[key].job_id == job.id:
                    self._learn(of_links(file, self._context.recovery_keys))
            if len(self._known.candidates) > before:
                return True
        fulls = {one.label.number for one in offered if one.label.generation is Generation.FULL}
        if job.generations <= len(fulls):
            job.generations += 1
            return True
        if self._known.listing is None:
            self._context.progress.note("the recovery line does not suffice: the vault's own list is needed")
            self._list()
            job.generations = 1
            return True
        return False

    def _believe_others(self) -> bool:
        """Let keys after the first vouch, once nothing more can be fetched. False if that changes nothing."""
        if not self._trusted.believe_others():
            return False
        self._reconsider()
        return True

    # Retrieved, and believed or refused.

    def _fetch(self, wanted: Sequence[Candidate]) -> None:
        """Bring catalogs down, all at once, and take in those that can be believed."""
        new = [one for one in wanted if one.archive_id not in self._known.seen]
        if not new:
            return
        brought = self._bringer.bring([whole(one.archive_id, one.size) for one in new])
        if brought.waiting:
            hot = self._context.vault.traits.keeps_metadata_hot
            raise WaitsError(f"{brought.waiting} of {len(new)} catalogs{_FROZEN * hot}")
        for one in sorted(new, key=lambda each: (each.label.number, each.archive_id)):
            self._known.seen.add(one.archive_id)
            if one.archive_id in brought.missing:
                self.suspect("missing", one.archive_id, brought.missing[one.archive_id])
            else:
                self._take_in(one, brought.paths[one.archive_id])
        self._reconsider()

    def _reconsider(self) -> None:
        """Take in what was refused when it came, and whose signer something vouches for by now."""
        for one in list(self._refused.values()):
            if self._trusted.vouches_for(one.header):
                del self._refused[one.candidate.archive_id]
                self._take_in(one.candidate, one.path)

    def _take_in(self, one: Candidate, path: str, *, again: bool = True) -> None:
        """Believe a catalog, or name what is wrong; one that came back damaged is fetched once more."""
        try:
            file = read_catalog_file(path)
            if one.tree_hash is not None and file.tree_hash != one.tree_hash:
                raise IntegrityError("it came back other than the vault's list says it is")
            self._believe(one, file)
        except UntrustedError as error:
            self._refused[one.archive_id] = Refused(one, path, file.header, error)
        except _REFUSED as error:
            want = whole(one.archive_id, one.size)
            self._bringer.forget(want)
            fresh = self._bringer.bring([want]).paths.get(want.name) if again else None
            if fresh is not None:
                self._take_in(one, fresh, again=False)
            elif isinstance(error, NewerFormatError):
                self._newer.add_unknown(one.archive_id)
                self.suspect("newer-format", one.archive_id, f"nobody can tell who wrote it: {error}")
            else:
                self.suspect("damaged", one.archive_id, str(error))

    def _believe(self, one: Candidate, file: CatalogFile) -> None:
        """Header, description, body. `UntrustedError`; `FormatError` or `IntegrityError` for damage."""
        member = self._trusted.add(one.archive_id, file.header)
        self._compare_label(one, file.header)
        if file.header.fields.catalog is not None:
            self._jobs_of_archives[one.archive_id] = file.header.fields.catalog.job_id
        if member is None:
            self.suspect("duplicate", one.archive_id, "another archive is the same catalog")
            return
        if file.header.unknown_features:
            self.pass_over(member)
            return
        try:
            start = file.prove(self._context.recovery_keys)
        except RecoveryKeyError as error:
            self._wrong_key = error
            self._trusted.drop(member.archive_id)
            self.suspect("other-key", member.archive_id, str(error))
        except NewerFormatError:
            self.pass_over(member)
        except _REFUSED:
            self._trusted.drop(member.archive_id)
            raise
        else:
            self._known.files[member.header.hash] = file
            self._known.starts[member.header.hash] = start

    def _compare_label(self, one: Candidate, member: Header) -> None:
        """Rule 2: what a listing says of an archive, against its header."""
        place, label = member.fields.catalog, one.label
        if place is None or one.created_at is None:  # not from a listing
            return
        says = (
            label.pack_id,
            label.inventory_id,
            label.number,
            label.generation,
            label.job_id or place.job_id,
        )
        fields = member.fields
        if says != (fields.pack_id, fields.inventory_id, place.number, place.generation, place.job_id):
            detail = f"its description lies: it is catalog {place.number}, pack {fields.pack_id.hex()}"
            self.suspect("relabelled", one.archive_id, detail)

    def give_up(self, member: Member, why: str) -> None:
        """A catalog that cannot be applied is none: name it, and find the newest state without it."""
        self.suspect("damaged", member.archive_id, why)
        self._trusted.drop(member.archive_id)
        self._known.files.pop(member.header.hash, None)

    def pass_over(self, member: Member) -> None:
        """A catalog of a later version, by a signer that is vouched for."""
        detail = f"catalog {member.catalog.number} was written by a newer nightvault"
        self.suspect("newer-format", member.archive_id, detail)
        self._trusted.drop(member.archive_id)
        self._known.files.pop(member.header.hash, None)
        self._newer.add(member)

    def suspect(self, kind: str, archive_id: str, detail: str) -> None:
        """Name something that is not as it should be."""
        one = Suspicion(kind, archive_id, detail)
        if one not in self.suspicions:
            self.suspicions.append(one)

    def _give_up(self) -> None:
        if self._wrong_key is not None and not self._known.files:
            raise self._wrong_key
        if self._refused:
            raise self._key_of_others() or next(iter(self._refused.values())).error
        self._newer.refuse_nothing()
        told = "; ".join(f"{one.archive_id[:16]}: {one.detail}" for one in self.suspicions[:5])
        raise NothingToRebuildError(
            f"no state can be rebuilt from vault {self._context.vault.name}: {told or 'it shows no catalog'}",
            advice="a list may be a day old; is it the right vault, and the right --inventory?",
        )

    def _key_of_others(self) -> RecoveryKeyError | None:
        """The error for keys that not one refused catalog is sealed for: then no signer is to be believed."""
        ours = {key.recipient.id for key in self._context.recovery_keys}
        sealed_for = {stanza.recipient_id for one in self._refused.values() for stanza in one.header.stanzas}
        if not sealed_for or ours & sealed_for:
            return None
        whom = ", ".join(sorted(one.hex() for one in sealed_for))
        return RecoveryKeyError(
            f"no recovery key that was given opens what is in vault {self._context.vault.name}: "
            f"its catalogs are sealed for {whom}",
            advice="`nightvault key show FILE` names a key's recipient: give the key of one of these; "
            "is it the right vault, and the right --inventory?",
        )

    def _is_wanted(self, job: FoundJob) -> bool:
        if job.chain is not None:
            job.name = self._known.starts[job.chain.members[-1].header.hash].job_name
            beyond = self._trusted.beyond(job.chain, job.id)
            job.not_covered = [one.catalog.number for one in beyond]
        return not self._wish.jobs or job.name in self._wish.jobs
