"""Requests a vault's listing and archives, each only once, and downloads them, in steps hours apart."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from backup.errors import (
    FormatError,
    NightvaultError,
    RetrievalExpiredError,
    RetrievalNotReadyError,
    SpoolError,
    VaultError,
)
from backup.format.header import LARGEST_HEADER
from backup.model import MIB, ArchiveId, ByteRange, Listing, RetrievalId, Tier
from backup.protocols import Clock, Progress, Vault, phase
from backup.transfer.fetching.journal import Journal
from backup.transfer.fetching.journal_stores import JournalListings, JournalRetrievals
from backup.transfer.fetching.wants import Brought, LimitOnWants, Want
from backup.transfer.retrievals.ask import ask
from backup.transfer.retrievals.client import RetrievalClient, Seen, Verdict
from backup.transfer.retrievals.listing import ask_for_listing, bring_listing
from backup.transfer.retrievals.look import look
from backup.transfer.retry import RetryPolicy
from backup.transfer.whole import WholeArchive, fetch_to_files
from backup.wording import counted, size

_LARGE = MIB
"""Bytes of an archive above which its header is checked before the rest is downloaded."""

Screen = Callable[[Want, bytes | memoryview], None]
"""Takes an archive's first bytes. `FormatError` if the rest is not to come down."""


class ArchiveFetcher:
    """The requests and downloads of one rebuild, or copy. Every step is in the journal before it is taken.

    Before any request all that was wanted so far is held to the limit of cost, with what is requested again.
    """

    def __init__(
        self,
        vault: Vault,
        clock: Clock,
        progress: Progress,
        journal: Journal,
        *,
        limit_on: LimitOnWants,
        tier: Tier,
        patience: RetryPolicy | None = None,
    ) -> None:
        self._vault = vault
        self._clock = clock
        self._progress = progress
        self._journal = journal
        self._limit_on = limit_on
        self._wanted: dict[str, Want] = {}
        self._tier = tier
        self._patience = patience or RetryPolicy(clock, tell=progress.note)
        askers = vault.traits.requests_at_once
        self._client = RetrievalClient(vault, clock, self._patience, progress.note, askers)

    # The listing.

    @property
    def began_at(self) -> datetime | None:
        """The time of the first request; None before it was sent."""
        return self._journal.began_at

    def listing(self) -> Listing | None:
        """Return the vault's own list; None while it is not ready. `VaultError` if the vault has none."""
        traits = self._vault.traits
        kept = self._journal.kept_listing()
        if kept is not None and traits.waits and not traits.keeps_metadata_hot:  # else a new one is as quick
            return kept
        store = JournalListings(self._journal)
        try:
            request = ask_for_listing(store, self._vault, self._clock, self._patience)
        except NightvaultError:
            if traits.lists_at_once:  # a lost answer is of no worth then
                self._journal.ask_listing(None)
            raise
        again = "run the same command again: it asks anew"
        return bring_listing(store, request, self._vault, self._clock, self._patience, again=again)

    # Archives.

    def bring(self, wants: Sequence[Want], screen: Screen | None = None) -> Brought:
        """Request what was not requested yet, check progress, and download everything once all is ready.

        Of a large archive only the first bytes are downloaded first, and the rest if `screen` accepts them.
        """
        brought, asked = self._ask_for(wants)
        if asked and not brought.waiting:
            passed = [want for want in asked if screen is None or self._passes(want, screen, brought)]
            self._require_room(passed)
            self._fetch(passed, brought)
        return brought

    def _passes(self, want: Want, screen: Screen, brought: Brought) -> bool:
        """Whether the beginning of an archive is what it should be, if it is large."""
        if want.size <= _LARGE:
            return True
        retrieval = RetrievalId(self._journal.retrievals[want.name].id or "")
        first = ByteRange(0, min(LARGEST_HEADER, want.size))
        try:
            screen(want, self._patience.call(lambda: self._vault.fetch(retrieval, first)).data)
        except (RetrievalExpiredError, RetrievalNotReadyError, VaultError):
            return True  # the download tells
        except FormatError as error:
            brought.refused[want.name] = error
            return False
        return True

    def _require_room(self, wants: Sequence[Want]) -> None:
        """`SpoolError` if the disk has no room for the downloads."""
        needed, free = sum(want.extent.length for want in wants), shutil.disk_usage(self._journal.folder).free
        if needed > free:
            raise SpoolError(
                f"{counted(len(wants), 'archive')} of {size(needed)} must be downloaded, {size(free)} "
                f"are free in {self._journal.folder}",
                advice="make room there, or put the state directory on a larger disk for this; then give the "
                "same command again",
            )

    def ask(self, wants: Sequence[Want]) -> int:
        """Request what was not requested yet; returns how many are not ready yet. Nothing is downloaded."""
        return self._ask_for(wants)[0].waiting

    def _ask_for(self, wants: Sequence[Want]) -> tuple[Brought, list[Want]]:
        """Request what is not here yet; returns what is here, missing or waits, and what was requested.

        `LimitRefusedError` if that, and all before it, costs more than the limit.
        """
        brought = Brought()
        self._wanted |= {want.name: want for want in wants}
        open_ones = [want for want in wants if not self._is_here(want, brought)]
        if not open_ones:
            return brought, []
        store = JournalRetrievals(self._journal, open_ones, brought, self._clock, self._tier)
        if store.has_lost():
            store.find_lost(self._client.open_retrievals())
        states = _states(look(store, self._client))
        if store.has_unasked():
            self._limit_on(self._all_requested()).hold(self._tier)
        outcome = ask(store.wanted(), store, self._client)
        if outcome.short is not None:
            raise outcome.short
        if not self._vault.traits.waits or self._vault.traits.keeps_metadata_hot:
            states = _states(
                look(store, self._client)
            )  # some, or all, are ready as soon as they are asked for
        asked = [want for want in open_ones if want.name not in brought.missing]
        brought.waiting = sum(states.get(want.name) is not Verdict.READY for want in asked)
        return brought, asked

    def _all_requested(self) -> list[Want]:
        """All that was wanted so far; what was retrieved for nothing stands there once more for each time."""
        again = {name: asked.again for name, asked in self._journal.retrievals.items()}
        return [want for name, want in self._wanted.items() for _ in range(1 + again.get(name, 0))]

    def forget(self, want: Want) -> None:
        """Delete a file that is wrong: it is requested again the next time."""
        path = self._journal.path_of(ArchiveId(want.name))
        if os.path.exists(path):
            os.unlink(path)

    def _is_here(self, want: Want, brought: Brought) -> bool:
        path = self._journal.path_of(ArchiveId(want.name))
        if os.path.exists(path):
            brought.paths[want.name] = path
            return True
        return False

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
                    self._journal.plan_again(names[job.path])
                    brought.waiting += 1
                else:
                    brought.missing[names[job.path]] = str(error)
            self._journal.save()


def _states(seen: Sequence[Seen[Want]]) -> Mapping[str, Verdict]:
    return {answer.record.name: answer.verdict for answer in seen}
