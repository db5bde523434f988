"""Ask a vault for what a restore needs, once; and see how far it is."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import timedelta

from backup.errors import ArchiveMissingError
from backup.inventory import archives, retrievals
from backup.inventory.archives import Archive
from backup.inventory.retrievals import Restore, Retrieval
from backup.model import ByteRange, RetrievalId, RetrievalState
from backup.restorer.world import RestoreWorld, alone_with
from backup.transfer.retry import Patience

_ASKED = {"waiting", "ready"}
_FRESH = timedelta(minutes=2)
_GONE = {RetrievalState.EXPIRED, RetrievalState.FAILED}


def advance(restore: Restore, world: RestoreWorld) -> Sequence[Retrieval]:
    """See how far the vault is, and ask for what was not asked for yet; the retrievals as they stand now.

    One whose output is gone, or that failed, is planned anew and asked for again. One whose archive is gone
    is `failed` for good: the rest goes on. May be cut anywhere and run again.
    """
    with alone_with(world.inventory, restore):
        _look(restore, world)
        # A waiting vault may not know yet what it was just asked for: it is looked at the next time.
        if _ask_for_planned(restore, world) and not world.vault.traits.waits:
            _look(restore, world)
        return _known(restore, world)


def _known(restore: Restore, world: RestoreWorld) -> list[Retrieval]:
    with world.inventory.reading() as tx:
        return retrievals.retrievals_of(tx, restore.number)


def _look(restore: Restore, world: RestoreWorld) -> None:
    """Note the vault's word on each retrieval that it was asked for."""
    asked = {
        one.retrieval_id: one
        for one in _known(restore, world)
        if one.retrieval_id is not None and one.state in _ASKED
    }
    if not asked:
        return
    statuses = Patience(world.clock).call(lambda: world.vault.retrieval_statuses(list(asked)))
    with world.inventory.writing() as tx:
        for retrieval_id, one in asked.items():
            status = statuses[retrieval_id]
            if status.state is RetrievalState.EXPIRED and _is_fresh(one, world):
                continue
            if status.state in _GONE:
                why = status.message or "no reason given"
                world.progress.note(f"a retrieval is {status.state} ({why}): it is asked for again")
                retrievals.retrieval_again(tx, one.number, os.urandom(12).hex())
            elif status.state != one.state:
                retrievals.retrieval_state(tx, one.number, status.state.value)


def _is_fresh(one: Retrieval, world: RestoreWorld) -> bool:
    """Whether it was asked for so lately that the vault may not know of it everywhere yet.

    Glacier has been seen to answer 404 for a job right after it took it; to believe that is to pay twice.
    """
    if one.requested_at is None or not world.vault.traits.waits:
        return False
    return world.clock.now() - one.requested_at < _FRESH


def _ask_for_planned(restore: Restore, world: RestoreWorld) -> bool:
    """Ask for the planned ranges; whether there were any."""
    planned = [one for one in _known(restore, world) if one.state == "planned"]
    if not planned:
        return False
    with world.inventory.reading() as tx:
        found = archives.get_archives(tx, sorted({one.archive for one in planned}), world.inventory.id)
    open_ones = Patience(world.clock).call(world.vault.open_retrievals)
    for one in planned:
        _ask_for(one, found[one.archive], open_ones, world)
    return True


def _ask_for(
    one: Retrieval, archive: Archive, open_ones: Mapping[str, RetrievalId], world: RestoreWorld
) -> None:
    try:
        retrieval_id = _request(one, archive, open_ones, world)
    except ArchiveMissingError as error:
        world.progress.note(f"{error}: what needs it cannot be restored")
        with world.inventory.writing() as tx:
            retrievals.retrieval_state(tx, one.number, "failed")
        return
    with world.inventory.writing() as tx:
        retrievals.retrieval_requested(tx, one.number, retrieval_id, world.clock.now())


def _request(
    one: Retrieval, archive: Archive, open_ones: Mapping[str, RetrievalId], world: RestoreWorld
) -> RetrievalId:
    """Ask once: a request whose answer was lost, then or now, is found again by its token, not paid twice."""
    archive_id = archive.archive_id
    if archive_id is None:
        raise ArchiveMissingError(f"archive {archive.number} is not in the vault")
    extent = None if one.extent == ByteRange(0, archive.size) else one.extent
    tried = False

    def ask() -> RetrievalId:
        nonlocal tried
        found = world.vault.open_retrievals() if tried else open_ones
        tried = True
        return found.get(one.token) or world.vault.request_retrieval(archive_id, extent, one.tier, one.token)

    return Patience(world.clock).call(ask)
