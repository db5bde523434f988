"""Ask a vault for its listing and for archives, once, and bring them down, in acts hours apart."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from backup.errors import (
    NightvaultError,
    RetrievalExpiredError,
    RetrievalNotReadyError,
    VaultError,
)
from backup.model import ArchiveId, ByteRange, Listing, RetrievalId, RetrievalState, Tier
from backup.protocols import Clock, Progress, Vault, phase
from backup.rebuilder.journal import Asked, Journal
from backup.rebuilder.journal_stores import JournalListings
from backup.transfer.blame import is_of_one_archive
from backup.transfer.retrievals.freshness import may_be_unknown
from backup.transfer.retrievals.listing import ask_for_listing, bring_listing
from backup.transfer.retry import Patience
from backup.transfer.whole import WholeArchive, fetch_to_files

_TIMES = 2  # so often the vault may fail to retrieve an archive before that counts as missing


@dataclass(frozen=True, slots=True)
class Want:
    """Bytes of an archive: all of it, or whole MiB (the last may be short)."""

    archive_id: ArchiveId
    size: int
    extent: ByteRange

    @property
    def name(self) -> str:
        """What the journal and the folder call it."""
        whole = self.extent == ByteRange(0, self.size)
        return self.archive_id if whole else f"{self.archive_id} {self.extent.start}-{self.extent.end}"


def whole(archive_id: ArchiveId, size: int) -> Want:
    """All of an archive."""
    return Want(archive_id, size, ByteRange(0, size))


@dataclass(slots=True)
class Brought:
    """What is on the disk, by name; what cannot be had, and why; and how many are not ready yet."""

    paths: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    waiting: int = 0


class CatalogFetcher:
    """Requests and downloads of one rebuild. Every step is in the journal before it is taken."""

    def __init__(
        self,
        vault: Vault,
        clock: Clock,
        progress: Progress,
        journal: Journal,
        *,
        tier: Tier,
        patience: Patience | None = None,
    ) -> None:
        self._vault = vault
        self._clock = clock
        self._progress = progress
        self._journal = journal
        self._tier = tier
        self._patience = patience or Patience(clock, tell=progress.note)

    # The listing.

    def listing(self) -> Listing | None:
        """The vault's own list; None while it is on its way. `VaultError` if there is none to be had."""
        traits = self._vault.traits
        kept = self._journal.kept_listing()
        if kept is not None and traits.waits and not traits.keeps_metadata_hot:  # else a new one is as quick
            return kept
        store = JournalListings(self._journal)
        request = ask_for_listing(store, self._vault, self._clock, self._patience)
        again = "give the same command again: it asks anew"
        return bring_listing(store, request, self._vault, self._clock, self._patience, again=again)

    # Archives.

    def bring(self, wants: Sequence[Want]) -> Brought:
        """Ask for what was not asked for, see how far it is, fetch all of it once all of it is ready."""
        brought, asked = self._ask_for(wants)
        if asked and not brought.waiting:
            self._fetch(asked, brought)
        return brought

    def ask(self, wants: Sequence[Want]) -> int:
        """Ask for what was not asked for; how many of them are not ready yet. Nothing is fetched."""
        return self._ask_for(wants)[0].waiting

    def _ask_for(self, wants: Sequence[Want]) -> tuple[Brought, list[Want]]:
        """What is here already, what is missing, how many wait; and what was asked for."""
        brought = Brought()
        open_ones = [want for want in wants if not self._is_here(want, brought)]
        if not open_ones:
            return brought, []
        states = self._states(open_ones, brought)
        missing = brought.missing
        self._ask([one for one in open_ones if one.name not in states and one.name not in missing], brought)
        if not self._vault.traits.waits or self._vault.traits.keeps_metadata_hot:
            states = self._states(open_ones, brought)  # some, or all, are ready as soon as they are asked for
        asked = [want for want in open_ones if want.name not in brought.missing]
        brought.waiting = sum(states.get(want.name) is not RetrievalState.READY for want in asked)
        return brought, asked

    def forget(self, want: Want) -> None:
        """What came is not right: ask for it anew the next time."""
        path = self._journal.path_of(ArchiveId(want.name))
        if os.path.exists(path):
            os.unlink(path)

    def _is_here(self, want: Want, brought: Brought) -> bool:
        path = self._journal.path_of(ArchiveId(want.name))
        if os.path.exists(path):
            brought.paths[want.name] = path
            return True
        return False

    def _states(self, wants: Sequence[Want], brought: Brought) -> Mapping[str, RetrievalState]:
        """What the vault says of what it was asked for; what must be asked for (again) is not in it.

        What it failed to retrieve before, too, is missing.
        """
        self._find_lost(wants)
        ids = {
            RetrievalId(asked.id): want.name
            for want in wants
            if (asked := self._journal.retrievals.get(want.name)) is not None and asked.id is not None
        }
        if not ids:
            return {}
        known = self._patience.call(lambda: self._vault.retrieval_statuses(list(ids)))
        states: dict[str, RetrievalState] = {}
        for retrieval_id, name in ids.items():
            status, asked = known[retrieval_id], self._journal.retrievals[name]
            state = status.state
            if state in {RetrievalState.WAITING, RetrievalState.READY}:
                states[name] = state
            elif may_be_unknown(state, asked.asked_at, self._clock, self._vault.traits):
                states[name] = RetrievalState.WAITING
            elif state is RetrievalState.FAILED and asked.failed + 1 >= _TIMES:
                brought.missing[name] = (
                    f"the vault could not retrieve it: {status.message or 'no reason given'}"
                )
                del self._journal.retrievals[name]
            else:
                self._progress.note(f"a retrieval is {state}: it is asked for again")
                failed = asked.failed + (state is RetrievalState.FAILED)
                self._journal.retrievals[name] = Asked(os.urandom(12).hex(), failed=failed)
        return states

    def _find_lost(self, wants: Sequence[Want]) -> None:
        """Requests whose answers were lost: the vault may have taken them, and is not to be paid twice."""
        lost = [
            asked
            for want in wants
            if (asked := self._journal.retrievals.get(want.name)) is not None and asked.id is None
        ]
        if not lost:
            return
        known = self._patience.call(self._vault.open_retrievals)
        for asked in lost:
            asked.id = known.get(asked.token)
        self._journal.save()

    def _ask(self, wants: Sequence[Want], brought: Brought) -> None:
        """Send requests, several at once; their tokens are in the journal before the first is sent."""
        if not wants:
            return
        for want in wants:
            self._journal.retrievals.setdefault(want.name, Asked(os.urandom(12).hex()))
        self._journal.save()
        with ThreadPoolExecutor(self._vault.traits.requests_at_once, "ask") as workers:
            answers = list(workers.map(self._request, wants))
        for want, answer in zip(wants, answers, strict=True):
            asked = self._journal.retrievals[want.name]
            if not isinstance(answer, NightvaultError):
                asked.id, asked.asked_at = answer, self._clock.now()
            elif self._is_of_one(answer):
                brought.missing[want.name] = str(answer)
                del self._journal.retrievals[want.name]
        self._journal.save()
        for answer in answers:
            if isinstance(answer, NightvaultError) and not self._is_of_one(answer):
                raise answer

    def _is_of_one(self, error: NightvaultError) -> bool:
        """Whether a request was refused for this archive's sake: unclear ones, if others were granted."""
        granted = any(asked.id is not None for asked in self._journal.retrievals.values())
        return is_of_one_archive(error) or (type(error) is VaultError and granted)

    def _request(self, want: Want) -> RetrievalId | NightvaultError:
        token = self._journal.retrievals[want.name].token
        everything = want.extent == ByteRange(0, want.size)
        extent = None if everything else want.extent
        tried = False

        def ask() -> RetrievalId:
            nonlocal tried
            found = self._vault.open_retrievals().get(token) if tried else None
            tried = True
            return found or self._vault.request_retrieval(want.archive_id, extent, self._tier, token)

        try:
            return self._patience.call(ask)
        except NightvaultError as error:
            return error

    def _fetch(self, wants: Sequence[Want], brought: Brought) -> None:
        names = {self._journal.path_of(ArchiveId(want.name)): want.name for want in wants}
        jobs = [
            WholeArchive(
                RetrievalId(self._journal.retrievals[want.name].id or ""),
                want.size,
                want.extent,
                self._journal.path_of(ArchiveId(want.name)),
            )
            for want in wants
        ]
        if not jobs:
            return
        total, tell = sum(job.extent.length for job in jobs), self._progress.note
        with phase(self._progress, "Bringing archives down", total, counts="archive"):
            for job, error in fetch_to_files(self._vault, self._clock, jobs, tell=tell):
                self._progress.advance(files=1, done=job.extent.length)
                if error is None:
                    brought.paths[names[job.path]] = job.path
                elif isinstance(error, (RetrievalExpiredError, RetrievalNotReadyError)):
                    del self._journal.retrievals[names[job.path]]
                    brought.waiting += 1
                else:
                    brought.missing[names[job.path]] = str(error)
            self._journal.save()
