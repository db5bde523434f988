"""A restore in acts that may lie hours apart.

    begin    plan from the inventory, open the keys of the packs, record restore and retrievals
    advance  ask for what was not asked for yet, see what is ready
    deliver  when all is ready: fetch, verify, open, write

Each act may be cut anywhere and run again. Keys of packs wait in a file of their own (0600), only those that
are needed, and are wiped when the restore is over.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from backup.errors import LockedError, RecoveryKeyError, UsageError
from backup.format.keys import ChunkSecret, RecoveryKey
from backup.format.pack import derive_keys, open_header, parse_header, verify_header
from backup.inventory import archives, retrievals, runs, snapshots
from backup.inventory.archives import Archive
from backup.inventory.database import Inventory
from backup.inventory.retrievals import Restore, Retrieval
from backup.inventory.runs import Outcome
from backup.inventory.snapshots import Snapshot
from backup.model import (
    ByteRange,
    Problem,
    RetrievalState,
    Tier,
)
from backup.protocols import Clock, Progress, Vault
from backup.restorer.assemble import Assembly, OpenedArchive
from backup.restorer.keyfile import PackKeyFile
from backup.restorer.plan import RangePlan, cover, plan_ranges
from backup.restorer.selection import Selection, frames_by_archive, select_entries
from backup.restorer.target import Target
from backup.restorer.write import Writer
from backup.transfer.retrieve import Fetcher, ReadyRange
from backup.transfer.retry import Patience


@dataclass(frozen=True, slots=True)
class RestoreWorld:
    """Where a restore touches the world; `key_directory` holds pack keys while a restore waits."""

    inventory: Inventory
    vault: Vault
    clock: Clock
    progress: Progress
    secret: ChunkSecret
    key_directory: str


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """What a restore would do: ranges to retrieve and bytes to write. Nothing was asked for yet."""

    snapshot: Snapshot
    path: bytes
    selection: Selection
    ranges: Sequence[RangePlan]
    archives: Mapping[int, Archive]

    @property
    def retrieved(self) -> int:
        """Bytes that the vault would have to make readable."""
        return sum(plan.extent.length for plan in self.ranges)


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """How far a restore is: `waiting` retrievals are not ready; `outcome` is RUNNING until all is written."""

    restore: str
    snapshot: str
    target: bytes
    outcome: Outcome
    waiting: int
    retrievals: int
    files: int = 0
    directories: int = 0
    bytes: int = 0
    retrieved: int = 0
    seconds: float = 0.0
    problems: Sequence[Problem] = ()

    def document(self) -> dict[str, Any]:
        """The report as JSON; the keys are part of the interface. Paths are rendered by who shows it."""
        names = [name for name in self.__slots__ if name not in {"problems", "target"}]
        return {name: getattr(self, name) for name in names} | {"outcome": str(self.outcome)}


def plan_restore(snapshot: Snapshot, path: bytes, world: RestoreWorld) -> RestorePlan:
    """Plan from the inventory alone; touches nothing."""
    traits = world.vault.traits
    with world.inventory.reading() as tx:
        selection = select_entries(tx, snapshot, path, world.secret.content_key)
        wanted = frames_by_archive(selection.places.values())
        found = archives.get_archives(tx, sorted(wanted), world.inventory.id)
        ranges: list[RangePlan] = []
        for number, frames in sorted(wanted.items()):
            rows = [row for row in archives.frame_rows(tx, number) if row.number in frames]
            whole = not traits.retrieves_ranges
            ranges.extend(plan_ranges(number, found[number].size, rows, whole=whole))
    return RestorePlan(snapshot, path, selection, ranges, found)


def begin_restore(
    plan: RestorePlan,
    target: bytes,
    world: RestoreWorld,
    *,
    tier: Tier,
    key: Callable[[], RecoveryKey],
) -> Restore:
    """Record the restore, or find the open one that wants the same, which needs no key.

    `key` is called for a new one only. `RecoveryKeyError` before anything is recorded if it does not open
    every pack.
    """
    known = find_open(world, plan, target)
    if known is not None:
        return known
    pack_keys = _open_packs(plan, key() if plan.archives else None, world)
    restore_id = os.urandom(8).hex()
    PackKeyFile(world.key_directory, restore_id).write(pack_keys)
    with world.inventory.writing() as tx:
        number = retrievals.open_restore(
            tx,
            restore_id=restore_id,
            snapshot=plan.snapshot.id,
            vault=world.vault.name,
            path=plan.path,
            target=target,
            tier=tier,
            now=world.clock.now(),
        )
        wanted = [(one.archive, one.extent, os.urandom(12).hex()) for one in plan.ranges]
        retrievals.plan_retrievals(tx, number, wanted, tier)
        return next(one for one in retrievals.list_restores(tx) if one.number == number)


def find_open(world: RestoreWorld, plan: RestorePlan, target: bytes) -> Restore | None:
    """The open restore of the same snapshot and path to the same target."""
    with world.inventory.reading() as tx:
        for one in retrievals.list_restores(tx, only_open=True):
            if (one.snapshot, one.path, one.target) == (plan.snapshot.id, plan.path, target):
                return one
    return None


def find_restore(world_inventory: Inventory, words: str) -> Restore:
    """The restore of an id or a unique prefix. `UsageError` otherwise."""
    with world_inventory.reading() as tx:
        found = [one for one in retrievals.list_restores(tx) if words and one.id.startswith(words)]
    if len(found) != 1:
        raise UsageError(
            f"{'several restores begin with' if found else 'no restore'} {words!r}",
            advice="`nightvault restores` lists them",
        )
    return found[0]


def _open_packs(plan: RestorePlan, key: RecoveryKey | None, world: RestoreWorld) -> dict[int, bytes]:
    opened: dict[int, bytes] = {}
    for number, archive in plan.archives.items():
        header = parse_header(archive.header)
        verify_header(header, world.inventory.signer_public)
        if key is None:
            raise RecoveryKeyError("a restore needs the recovery key", advice="give it with --key FILE")
        opened[number] = open_header(header, key)
    return opened


def advance(restore: Restore, world: RestoreWorld) -> Sequence[Retrieval]:
    """Ask for what was not asked for yet, and see how far the vault is; the retrievals as they stand now.

    One whose output is gone, or that failed, is planned anew and asked for again.
    """
    _request(restore, world)
    with world.inventory.reading() as tx:
        known = retrievals.retrievals_of(tx, restore.number)
    asked = [one for one in known if one.retrieval_id is not None]
    ids = [one.retrieval_id for one in asked if one.retrieval_id is not None]
    if not ids:
        return known
    statuses = Patience(world.clock).call(lambda: world.vault.retrieval_statuses(ids))
    again = False
    with world.inventory.writing() as tx:
        for one in asked:
            status = statuses[one.retrieval_id] if one.retrieval_id else None
            if status is None:
                continue
            if status.state in {RetrievalState.EXPIRED, RetrievalState.FAILED}:
                world.progress.note(f"a retrieval is {status.state} ({status.message or 'no reason given'})")
                retrievals.retrieval_again(tx, one.number, os.urandom(12).hex())
                again = True
            elif status.state != one.state:
                retrievals.retrieval_state(tx, one.number, status.state.value)
    if again:
        _request(restore, world)
    with world.inventory.reading() as tx:
        return retrievals.retrievals_of(tx, restore.number)


def _request(restore: Restore, world: RestoreWorld) -> None:
    """Ask for the planned ranges; one whose answer was lost is found again by its token, not paid twice."""
    with world.inventory.reading() as tx:
        planned = [one for one in retrievals.retrievals_of(tx, restore.number) if one.state == "planned"]
        found = archives.get_archives(tx, [one.archive for one in planned], world.inventory.id)
    if not planned:
        return
    patience = Patience(world.clock)
    lost = patience.call(world.vault.open_retrievals)
    for one in planned:
        archive = found[one.archive]
        if archive.archive_id is None:
            raise UsageError(f"archive {one.archive} is not in the vault yet", advice="run the backup first")
        archive_id = archive.archive_id
        whole = one.extent == ByteRange(0, archive.size)
        extent = None if whole else one.extent
        token, tier = one.token, one.tier
        retrieval_id = lost.get(token) or patience.call(
            lambda: world.vault.request_retrieval(archive_id, extent, tier, token)  # noqa: B023
        )
        with world.inventory.writing() as tx:
            retrievals.retrieval_requested(tx, one.number, retrieval_id, world.clock.now())


def is_ready(known: Sequence[Retrieval]) -> bool:
    """Whether everything that was asked for can be fetched."""
    return all(one.state == "ready" for one in known)


def waiting_report(restore: Restore, known: Sequence[Retrieval]) -> RestoreReport:
    """How far a restore is that cannot be delivered yet."""
    waiting = sum(one.state != "ready" for one in known)
    return RestoreReport(restore.id, restore.snapshot, restore.target, Outcome.RUNNING, waiting, len(known))


def deliver(restore: Restore, known: Sequence[Retrieval], world: RestoreWorld) -> RestoreReport:
    """Fetch, verify, open and write. Files that cannot be made whole are named in the report."""
    try:
        with world.inventory.locked(f"restore-{restore.id}"):
            return _deliver(restore, known, world)
    except LockedError as error:
        raise LockedError(f"restore {restore.id} is being carried on by another process") from error


def _deliver(restore: Restore, known: Sequence[Retrieval], world: RestoreWorld) -> RestoreReport:
    started = world.clock.now()
    with world.inventory.writing() as tx:
        snapshot = snapshots.find_snapshot(tx, restore.snapshot)
        run = runs.open_restore(tx, runs.find_job(tx, snapshot.job), started)
    plan = plan_restore(snapshot, restore.path, world)
    problems = list(plan.selection.problems)
    target = Target(os.fsdecode(restore.target))
    writer = Writer(target, problems.append)
    world.progress.start(f"Restoring {snapshot.id[:8]}", plan.selection.bytes)
    try:
        assembly = Assembly(plan.selection, writer, problems.append, chunk_key=world.secret.chunk_key)
        assembly.begin()
        _fetch_all(restore, known, plan, assembly, world)
        assembly.finish()
        writer.finish()
    except BaseException:
        writer.abandon()
        raise
    finally:
        world.progress.finish()
        target.close()
    report = RestoreReport(
        restore=restore.id,
        snapshot=snapshot.id,
        target=restore.target,
        outcome=Outcome.PARTIAL if problems else Outcome.DONE,
        waiting=0,
        retrievals=len(known),
        files=writer.files,
        directories=len(plan.selection.directories),
        bytes=writer.bytes,
        retrieved=sum(one.extent.length for one in known),
        problems=tuple(problems),
    )
    report = replace(report, seconds=(world.clock.now() - started).total_seconds())
    with world.inventory.writing() as tx:
        retrievals.close_restore(tx, restore.number, "done", world.clock.now())
        runs.finish_run(tx, run.number, report.outcome, report.document(), world.clock.now())
    PackKeyFile(world.key_directory, restore.id).wipe()
    return report


def _fetch_all(
    restore: Restore, known: Sequence[Retrieval], plan: RestorePlan, assembly: Assembly, world: RestoreWorld
) -> None:
    pack_keys = PackKeyFile(world.key_directory, restore.id).read()
    laid = cover(plan.ranges, [(one.archive, one.extent) for one in known])
    with Fetcher(world.vault, world.clock) as fetcher:
        for one, ranges in zip(known, laid, strict=True):
            archive = plan.archives.get(one.archive)
            if archive is None or one.retrieval_id is None or not ranges.frames:
                continue
            keys = derive_keys(pack_keys[one.archive], archive.header)
            opened = OpenedArchive(archive.label.pack_id, keys)
            ready = ReadyRange(one.retrieval_id, archive.size, one.extent, ranges.frames)
            for row, sealed in fetcher.frames(ready):
                world.progress.advance(done=assembly.accept(one.archive, opened, row, sealed))


def cancel(restore: Restore, world_inventory: Inventory, key_directory: str, clock: Clock) -> None:
    """Give an open restore up: what was asked for is not fetched, and its keys are wiped."""
    if restore.state != "open":
        raise UsageError(f"restore {restore.id} is {restore.state} already")
    with world_inventory.writing() as tx:
        retrievals.close_restore(tx, restore.number, "cancelled", clock.now())
    PackKeyFile(key_directory, restore.id).wipe()
