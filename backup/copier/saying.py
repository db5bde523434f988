"""Decides what the next catalog of a vault with copies says, and stores it under the lock of backups."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from itertools import compress, count, islice

import msgspec
from msgspec import Struct
from msgspec.structs import asdict

from backup.catalogs import catalogs
from backup.catalogs.context import OpenRun, OpenVault
from backup.catalogs.copied import CopiedState, CopySender
from backup.catalogs.recovery import recover
from backup.catalogs.run_setup import open_vault, require_ours
from backup.copier.context import CopyChoice, CopyContext
from backup.errors import LockedError
from backup.format import records
from backup.format.keys import ChunkSecret, domain_id_of
from backup.inventory.content import archives, copied
from backup.inventory.content.archives import ArchiveState
from backup.inventory.content.copied import KeptThere
from backup.inventory.content.need import archives_with, chunks_held
from backup.inventory.content.shrunk import waits
from backup.inventory.content.snapshots import Snapshot, list_snapshots
from backup.inventory.records import amendments, copied_amendments, retrievals, runs
from backup.inventory.records.ended_runs import open_copies
from backup.inventory.records.runs import JobRow, Run
from backup.inventory.store.connections import Transaction
from backup.inventory.store.times import micros
from backup.kinds import Outcome
from backup.model import Generation, VaultName
from backup.retention.copies import CopyRule, is_whole

_ID = 16
_BATCH = 500
_LOOK = 5.0  # seconds between two looks whether a backup still runs


@contextmanager
def locked_for_catalogs(context: CopyContext, *, waits: bool) -> Iterator[None]:
    """The lock of backups; `waits`: a backup that runs is waited for."""
    is_told = False
    while True:
        with ExitStack() as held:
            try:
                held.enter_context(context.inventory.locked("backup"))
            except LockedError as error:
                if not waits or context.stop():
                    raise
                if not is_told:
                    context.progress.note(f"all packs are there; the catalog waits: {error}")
                    is_told = True
            else:
                yield
                return
        context.clock.sleep(_LOOK)


@contextmanager
def destination(context: CopyContext, *, waits: bool = False) -> Iterator[OpenVault]:
    """The destination under the lock of backups; what a dead process left there is finished first."""
    with locked_for_catalogs(context, waits=waits):
        at = open_vault(context.keys, context, context.sending)
        require_ours(context.keys, context)
        with at.uploader:
            recover(at)
            yield at


def finish_dead(at: OpenVault) -> None:
    """End the runs of dead copies; those whose catalog is stored have been finished, others' may still be."""
    inventory, now = at.context.inventory, at.context.clock.now()
    with inventory.writing() as tx:
        for run, to in open_copies(tx):
            if to == at.vault or archives.catalog_of_run(tx, run.number) is None:
                why = {"vault": at.context.vault.name, "error": "the process died before it had an end"}
                runs.finish_run(tx, run.number, Outcome.INTERRUPTED, why, now)


class Announced(Struct, frozen=True):
    """News for a catalog of the destination: a job's snapshots, by number, that are whole or forgotten there.

    `names` are the archives that the former need, `again` those sent again, which it has to name anew.
    """

    whole: tuple[int, ...]
    names: Sequence[int]
    again: Sequence[int]
    forgotten: tuple[int, ...]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to say."""
        return not (self.whole or self.again or self.forgotten)


def to_say(
    tx: Transaction, context: CopyContext, row: JobRow, planned: Sequence[Snapshot], choice: CopyChoice
) -> Announced:
    """The news of the snapshots that were to be copied, and of those that were copied before."""
    vault = copied.vault_number(tx, context.vault.name)
    states = copied.kept_there(tx, vault, row.number)
    stored = _marked(tx, copied.each_there(tx, vault, ArchiveState.STORED))
    said = _marked(tx, copied.each_said(tx, vault))
    own = copied.each_said(tx, vault, row.number)  # one job's catalogs suffice for it
    named = _marked(tx, (number for number in own if said[number] and stored[number]))
    listed = {snapshot.number for snapshot in list_snapshots(tx, job=row.name)}
    new = [snapshot.number for snapshot in planned if snapshot.number in listed]
    names, again = bytearray(len(stored)), bytearray(len(stored))
    whole = _whole(tx, row.number, new, stored, names)
    kept = [number for number, state in states.items() if state is KeptThere.COPIED]
    for among in copied.each_need(tx, {row.number: kept}):
        if not any(named[pack] for pack in among):
            _mark_first(among, stored, again)
    going = going_there(tx, vault, row, choice.rule, whole, context.clock.now())
    forgotten = tuple(snapshot.number for snapshot in going)
    return Announced(tuple(whole), numbers_of(names), numbers_of(again), forgotten)


def going_there(
    tx: Transaction, vault: int, row: JobRow, rule: CopyRule | None, whole: Collection[int], now: datetime
) -> list[Snapshot]:
    """The copies in a vault that the copy's own policy does not keep, once those `whole` are there, too."""
    if rule is None:
        return []
    states = copied.kept_there(tx, vault, row.number)
    kept = {number for number, state in states.items() if state is KeptThere.COPIED}
    every = list_snapshots(tx, job=row.name, also_forgotten=True, also_alone=True)
    held = [snapshot for snapshot in every if snapshot.number in kept or snapshot.number in whole]
    ids = retrievals.read_by_restores(tx)
    read = [snapshot.number for snapshot in held if snapshot.id in ids]
    asked = waits(tx, may_shrink=[row.name] if rule.may_shrink else ())
    must_wait = any(wait.job == row.name for wait in asked)
    going = set(rule.goes(held, read, now, waits=must_wait)) & kept
    return [snapshot for snapshot in held if snapshot.number in going]


def numbers_of(marks: bytearray) -> Sequence[int]:
    """The numbers, rising, of which the byte is 1: there may be a million archives."""
    return array("q", compress(count(), marks))


def _marked(tx: Transaction, numbers: Iterable[int]) -> bytearray:
    """A byte for each archive number: 1 if it is among these."""
    found = bytearray(archives.largest_number(tx) + 1)
    for number in numbers:
        found[number] = 1
    return found


def _mark_first(among: Iterable[int], stored: bytearray, found: bytearray) -> None:
    """Mark the first of these packs that is stored there."""
    for pack in among:
        if stored[pack]:
            found[pack] = 1
            return


def _whole(tx: Transaction, job: int, new: Sequence[int], stored: bytearray, names: bytearray) -> list[int]:
    """The new snapshots of which the destination has everything; what they need gets marks in `names`."""
    found = bytearray(len(names))
    needs = copied.each_need(tx, {job: new})
    while some := list(islice(needs, _BATCH)):
        if not is_whole(some, {pack for among in some for pack in among if stored[pack]}):
            break
        for among in some:
            _mark_first(among, stored, found)
    else:
        for number in compress(count(), found):
            names[number] = 1
        return list(new)
    if len(new) == 1:
        return []
    halves = new[: len(new) // 2], new[len(new) // 2 :]
    return [number for half in halves for number in _whole(tx, job, half, stored, names)]


def say(at: OpenVault, row: JobRow, said: Announced, run: Run) -> str:
    """Store the catalog, or two, that say this; returns the recovery line."""
    inventory, now = at.context.inventory, at.context.clock.now()
    amendment = [records.ForgottenRecord(list(said.forgotten), micros(now))] if said.forgotten else []
    with inventory.writing() as tx:
        named = _named_by_entries(tx, at, row.number, said.whole).union(said.names)
        before = CopiedState.recorded(tx, at.vault, row.number)
        is_new = catalogs.read_chain(tx, row.number, at.vault, inventory).is_new
        newer = [number for number in said.whole if is_new or before.is_newer(number)]
        older = sorted(set(said.whole) - set(newer))
        prepared = newer, older, amendments.encode(amendment)
        runs.prepare(tx, run.number, msgspec.msgpack.encode(prepared))
    state = CopiedState(tuple(sorted({*before.numbers, *newer})), before.newest)
    sender = CopySender(OpenRun(**asdict(at), row=row, run=run))
    if is_new:
        sender.first(state, named)
    else:
        if _begins_with_another(at, row):
            sender.full()  # what is new has numbers of this inventory
        sender.delta_of_copy(state, {*named, *said.again}, amendment)
    with inventory.writing() as tx:
        copied.record_copied(tx, at.vault, row.number, newer)
        copied_amendments.apply_in(tx, at.vault, row, amendment, now)
    if not is_new and (older or said.again or sender.full_due() is not None):
        sender.full(older)
        with inventory.writing() as tx:
            copied.record_copied(tx, at.vault, row.number, older)
    return sender.line()


def _begins_with_another(at: OpenVault, row: JobRow) -> bool:
    """Whether the newest full catalog there is of an inventory before this one, or there is none."""
    inventory = at.context.inventory
    if not inventory.ancestors:
        return False
    with inventory.reading() as tx:
        links = catalogs.read_chain(tx, row.number, at.vault, inventory).links
    full = next((link for link in links if link.label.generation is Generation.FULL), None)
    return full is None or full.header[48:64] != inventory.id


def _named_by_entries(tx: Transaction, at: OpenVault, job: int, whole: Sequence[int]) -> set[int]:
    """The archives by whose chunks entries of these snapshots are known, wherever the chunks are taken from.

    Of those that are not there it is recorded: a catalog there has the ids of their chunks.
    """
    held = {archive for archive, _ in archives_with(tx, chunks_held(tx, {job: whole}))}
    there = _marked(tx, copied.each_there(tx, at.vault))
    missing = sorted(archive for archive in held if not there[archive])
    now, name = at.context.clock.now(), at.context.vault.name
    for archive, recipients in copied.recipients_of(tx, missing).items():
        domain = domain_there(tx, name, at.vault, at.keys.secret, recipients, now)
        copied.place_apart(tx, [archive], at.vault, domain)
    return held


def domain_there(
    tx: Transaction, name: VaultName, vault: int, secret: ChunkSecret, recipients: bytes, now: datetime
) -> int:
    """The number of a vault's domain of what is sealed for these recipients, by their joined ids."""
    ids = [recipients[start : start + _ID] for start in range(0, len(recipients), _ID)]
    return archives.get_or_create_domain(tx, domain_id_of(name, ids, secret), vault, recipients, now)
