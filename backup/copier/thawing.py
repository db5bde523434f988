"""Makes packs of a source that waits readable, round by round, and brings them down.

A round is what is asked for together. It may take days, over as many processes: what was asked for, and what
came, is in a journal beside the packs on their way.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Final, Self

from backup.copier.context import CopyContext, Packs
from backup.cost.limit import CostLimit
from backup.files import spool_errors
from backup.format.treehash import combine
from backup.inventory.content.archives import Archive
from backup.model import ArchiveId, PackKind, Tier
from backup.transfer.fetching.fetch import ArchiveFetcher
from backup.transfer.fetching.journal import Journal
from backup.transfer.fetching.wants import Want, whole
from backup.transfer.retrievals.rounds import due
from backup.transfer.sent import leaves_of, named, remove, unlike
from backup.wording import counted

TIER: Final = Tier.BULK  # no copy is in a hurry
_SPARE: Final = 4  # of so many free bytes of the disk a round takes one, at most
_OLD: Final = timedelta(days=30)  # what was asked for and is not wanted any more goes after that time


class Thawing:
    """The packs of a copy that are asked for, or came; for one thread, within `opened`.

    `given_up` are those that the vault cannot give, or gave otherwise than they were stored, in any round.
    """

    def __init__(
        self,
        context: CopyContext,
        journal: Journal,
        send: Packs,
        most: int,
        given_up: set[int],
    ) -> None:
        self.given_up = given_up
        self.has_more = False
        """Whether packs were left for later rounds: also those that are to be sent only since it began."""
        self._journal = journal
        self._send = send
        self._limit_on = context.limit_on
        self._fetcher = ArchiveFetcher(
            context.source,
            context.clock,
            context.progress,
            journal,
            limit_on=self._limit,
            tier=TIER,
            patience=context.patience,
        )
        self._round = self._chosen(context, most)
        self._sizes = {_id(archive): archive.size for archive in self._round}
        self._paths: dict[str, str] = {}
        self._missing: dict[str, str] = {}

    @classmethod
    @contextmanager
    def opened(cls, context: CopyContext, send: Packs, most: int, given_up: set[int]) -> Iterator[Self]:
        """Open the journal of what was asked for of that vault. `LockedError` if another has it open."""
        folder = os.path.join(f"{context.folder}.thawed", context.source.name)
        with Journal.opened(folder, context.source.name, of="copy") as journal:
            _forget_old(context, journal, send)
            yield cls(context, journal, send, most, given_up)

    def bring(self) -> str:
        """Ask for this round, and bring it down once all of it is ready; what it waits for, "" if nothing.

        `LimitRefusedError`, before anything is asked for, if all that is left costs more than the limit.
        """
        self._limit_on(len(self._send), self._send.bytes).hold(TIER)
        brought = self._fetcher.bring([_want(archive) for archive in self._round])
        self._paths, self._missing = brought.paths, brought.missing
        return counted(brought.waiting, "retrieval") if brought.waiting else ""

    def leaves(self, archive: Archive, problems: list[str]) -> list[bytes] | None:
        """The leaves of a pack that came; None if it is for a later round, or, a problem more, not copied."""
        name = _id(archive)
        if name in self._missing:
            self.given_up.add(archive.number)
            problems.append(f"{named(archive)} cannot be read, and is not copied: {self._missing[name]}")
            return None
        path = self._paths.get(name)
        self.has_more |= path is None and archive.number not in self.given_up
        leaves = None if path is None else good_leaves(path, archive, problems)
        if path is not None and leaves is None:
            self.given_up.add(archive.number)
            self._journal.drop(name)
        return leaves

    def take(self, archive: Archive, path: str) -> None:
        """Move a pack that came to where it is sent from."""
        with spool_errors(path, "written"):
            os.replace(self._paths[_id(archive)], path)
        self._journal.drop(_id(archive))

    def _chosen(self, context: CopyContext, most: int) -> Sequence[Archive]:
        """The packs that were asked for before, or came; if there are none, the first that fit a round."""
        journal = self._journal
        begun = [archive for archive in self._send if journal.has(_id(archive))]
        return begun or due(
            self._send,
            lambda archive: archive.size,
            under_way=0,
            budget=min(most, shutil.disk_usage(journal.folder).free // _SPARE),
            traits=context.source.traits,
        )

    def _limit(self, wants: Sequence[Want]) -> CostLimit:
        return self._limit_on(len(wants), sum(self._sizes[want.archive_id] for want in wants))


def good_leaves(
    path: str, archive: Archive, problems: list[str], leaves: list[bytes] | None = None
) -> list[bytes] | None:
    """The leaves of a pack that was brought down; None, a problem more, if it is not what was recorded.

    It is read for that, unless its leaves are known; each part is compared once more when it is sent.
    """
    if leaves is None:
        leaves = leaves_of(path, archive)
    if leaves is None or combine(leaves) != archive.tree_hash:
        remove(path)
        problems.append(str(unlike(archive)))
        return None
    return leaves


def _id(archive: Archive) -> ArchiveId:
    return ArchiveId(archive.archive_id or "")


def _want(archive: Archive) -> Want:
    return whole(_id(archive), archive.size, PackKind.DATA)


def _forget_old(context: CopyContext, journal: Journal, send: Packs) -> None:
    """Let go of what was asked for long ago and is not wanted."""
    before, asked = context.clock.now() - _OLD, journal.retrievals.items()
    old = {name for name, of in asked if of.asked_at is not None and of.asked_at < before}
    if old:
        for name in old.difference(map(_id, send)):
            journal.drop(ArchiveId(name))
