"""A restore in steps that may be hours apart.

    plan     what must be retrieved, from the inventory alone
    begin    open the keys of the packs, record restore and retrievals
    step     advance, deliver what has come, advance again: repeated until it is over, hours apart
    advance  ask for what was not asked for yet, see what is ready
    deliver  what is ready: fetch, verify, open, write; at last, finish

Each may be interrupted anywhere and run again. The needed pack keys wait in a file of their own (0600),
and are wiped when the restore is over.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from msgspec import Struct

from backup.cost.limit import CostLimit
from backup.errors import (
    DeniedError,
    FormatError,
    LimitRefusedError,
    NightvaultError,
    RecoveryKeyError,
    RetrievalExpiredError,
    UnmarkedVaultError,
    UnreachableError,
    UsageError,
    VaultMissingError,
)
from backup.format.keys import RecoveryKey
from backup.format.pack import open_header, parse_header
from backup.inventory.content import entries, snapshots
from backup.inventory.content.entries import ROOT
from backup.inventory.records import retrievals
from backup.inventory.records.restore_state import RestoreTarget, note_left, note_place
from backup.inventory.records.retrievals import Restore, Retrieval
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import Inventory
from backup.kinds import Outcome
from backup.model import OnCapacity, Tier
from backup.protocols import Clock
from backup.reports import log_report
from backup.restorer.asking import advance
from backup.restorer.context import RestoreContext, alone_with
from backup.restorer.delivery import deliver, give_up
from backup.restorer.pack_keys import PackKeyFile, wipe_others
from backup.restorer.plan import RestorePlan, plan_restore
from backup.restorer.report import RestoreReport, has_come, is_ready, waiting_report
from backup.restorer.selection.choice import Choice
from backup.restorer.writer.mark import left_place, name_of, remove_mark
from backup.safe_paths import remove_plain
from backup.transfer.recognise import require_same
from backup.transfer.retry import RetryPolicy
from backup.wording import size


def room_at(target: str) -> int:
    """Return the bytes that can still be written below `target`, or where it would be made.

    Infinite if not known: a file system in memory (ramfs) has no size.
    """
    path = os.path.abspath(target)
    while not os.path.isdir(path) and path != "/":
        path = os.path.dirname(path)
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize if found.f_blocks else sys.maxsize


def check_room(plan: RestorePlan, target: str) -> None:
    """`LimitRefusedError` before any request if the target has no room for each distinct content once."""
    need = sum(plan.selection.locations.lengths)
    room = room_at(target)
    if need > room:
        raise LimitRefusedError(
            f"{target} has room for {size(room)}, but {size(need)} would be written at the least: "
            f"{size(need - room)} more",
            advice="make room or give another --target; nothing was asked for",
        )


def sweep(restore: Restore, inventory: Inventory, *, keeps_target: bool = False) -> None:
    """Remove a restore's mark file, and its half-written files from the directories that it writes into.

    A target that was created for it is removed, too, if it is empty, unless another restore begins there.
    """
    with left_place(restore, inventory) as place:
        if place is not None:
            handle, path = place
            made = _sweep(restore, handle, _directories(restore, inventory))
            if made and not keeps_target:
                with suppress(OSError):
                    remove_plain(os.fsdecode(path), handle)


def _sweep(restore: Restore, target: int, below: set[bytes]) -> bool:
    """Remove those files; whether the mark says that the target was made for the restore."""
    prefix = f".nightvault-{restore.id}-".encode()
    made = remove_mark(name_of(restore.id), target)
    for place, names, files, handle in os.fwalk(b".", follow_symlinks=False, dir_fd=target):
        here = place.removeprefix(b".").removeprefix(b"/")
        here += b"/" if here else b""
        names[:] = [name for name in names if here + name in below]
        for name in files:
            if name.startswith(prefix):
                with suppress(OSError):
                    os.unlink(name, dir_fd=handle)
    return made


def _directories(restore: Restore, inventory: Inventory) -> set[bytes]:
    """The directories of a restore, relative to its target."""
    path = restore.path.rstrip(b"/")
    with inventory.reading() as tx:
        snapshot = snapshots.get_snapshot(tx, restore.snapshot)
        rows = entries.entries_below(tx, snapshot.job_number, path or ROOT, snapshot.number)
        found = {directory[len(path) :].removeprefix(b"/") for directory, _ in rows}
    return {
        b"/".join(steps[:n])
        for steps in (directory.split(b"/") for directory in found)
        for n in range(1, len(steps) + 1)
    }


__all__ = [
    "RestoreContext",
    "RestorePlan",
    "RestoreReport",
    "RestoreStep",
    "advance",
    "begin_restore",
    "cancel",
    "choose_on_capacity",
    "deliver",
    "find_open",
    "find_restore",
    "has_come",
    "is_ready",
    "plan_restore",
    "step",
    "waiting_report",
]


def begin_restore(
    plan: RestorePlan,
    target: bytes,
    context: RestoreContext,
    limit: CostLimit,
    *,
    tier: Tier,
    keys: Callable[[], Sequence[RecoveryKey]],
    on_capacity: OnCapacity = OnCapacity.WAIT,
    place: RestoreTarget | None = None,
) -> Restore:
    """Record the restore, or return the open one with the same wish, which needs no key.

    `place` is the record of the directory that `target` leads to; without it, the first session makes one.
    `keys` is called for a new one only, if there is anything to open. `RecoveryKeyError` before anything is
    recorded unless each pack opens with one of them. `LimitRefusedError` if the plan costs more than the
    `limit`, or the target has no room for it.
    `OtherVaultError` if another vault stands in the place of the one that holds it.
    """
    known = find_open(context, plan, target)
    if known is not None:
        return known
    limit.hold(tier)
    if not plan.choice.output:
        check_room(plan, os.fsdecode(target))
    pack_keys = _open_packs(plan, keys, context)
    _refuse_other(context)
    with context.inventory.writing() as tx:
        same = _same_open(tx, plan, target)  # another process may have begun it while the key was typed
        if same is not None:
            return same
        restore = _record(tx, plan, target, pack_keys, context, tier, on_capacity)
        if place is not None:
            note_place(tx, restore.number, place)
        if limit.amount is not None:
            note_left(tx, restore.number, limit.amount - (limit.cost(tier) or 0))
        return restore


class RestoreStep(Struct, frozen=True):
    """A restore after a step: its retrievals, and the report of what came; None: it waits for the vault."""

    known: Sequence[Retrieval]
    report: RestoreReport | None = None


def step(
    restore: Restore,
    context: RestoreContext,
    *,
    known: Sequence[Retrieval] | None = None,
    fresh: RestorePlan | None = None,
    may_lapse: bool = False,
) -> RestoreStep:
    """Request what is due, deliver what has come, and request what there is room for then.

    `known` are the retrievals if they were requested
    a moment ago, `fresh` is a plan made then. What expires before it is fetched is requested again where that
    costs nothing, or once if it `may_lapse`. `RetrievalExpiredError` otherwise; and what `advance` raises.
    """
    if known is None:
        known = advance(restore, context)
    may_lapse = may_lapse or not context.vault.traits.waits
    report = None
    while report is None and has_come(known):
        try:
            report = deliver(restore, known, context, fresh=fresh)
        except RetrievalExpiredError:
            if not may_lapse:
                raise
            may_lapse, known, fresh = False, advance(restore, context), None
    if report is not None and report.outcome is Outcome.RUNNING:
        try:
            known = advance(restore, context)
        except NightvaultError:
            log_report(report)  # the error is all that the caller gets
            raise
    return RestoreStep(known, report)


def _refuse_other(context: RestoreContext) -> None:
    """`OtherVaultError`; one that lacks its marker is read: each archive is recognised by its own id."""
    try:
        require_same(context.inventory, context.vault, RetryPolicy(context.clock, attempts=1))
    except (UnreachableError, DeniedError, VaultMissingError):
        pass  # told when something is asked for
    except UnmarkedVaultError as error:
        context.progress.note(f"{error}: its archives are read all the same; {error.advice}")


def find_open(context: RestoreContext, plan: RestorePlan, target: bytes) -> Restore | None:
    """Return the open restore with the same snapshot, paths, choice and target; None if there is none."""
    with context.inventory.reading() as tx:
        return _same_open(tx, plan, target)


def open_beside(context: RestoreContext, target: bytes) -> list[Restore]:
    """Return other open restores into the same target."""
    with context.inventory.reading() as tx:
        every = retrievals.list_restores(tx, only_open=True)
    return [restore for restore in every if restore.target == target]


def find_restore(inventory: Inventory, words: str) -> Restore:
    """Return the restore with an id or a unique prefix. `UsageError` otherwise."""
    with inventory.reading() as tx:
        found = [
            restore for restore in retrievals.list_restores(tx) if words and restore.id.startswith(words)
        ]
    if len(found) != 1:
        raise UsageError(
            f"{'several restores begin with' if found else 'no restore'} {words!r}",
            advice="`nightvault restores` lists them",
        )
    return found[0]


def cancel(
    restore: Restore, inventory: Inventory, key_directory: str, clock: Clock, *, keeps_target: bool = False
) -> None:
    """Cancel an open restore: nothing more is fetched, its keys are wiped, half-written files are removed.

    An empty target that was created for it is removed, too, unless another restore begins there
    (`keeps_target`). Complete files stay. Requests cannot be withdrawn, but another restore may use their
    outputs.
    """
    with alone_with(inventory, restore):
        sweep(restore, inventory, keeps_target=keeps_target)
        give_up(restore, inventory, key_directory, clock)


def choose_on_capacity(restore: Restore, inventory: Inventory, choice: OnCapacity) -> Restore:
    """Change what is done if the vault cannot serve the tier."""
    with inventory.writing() as tx:
        retrievals.set_on_capacity(tx, restore.number, choice)
        return retrievals.find_restore(tx, restore.number)


def _same_open(tx: Transaction, plan: RestorePlan, target: bytes) -> Restore | None:
    for restore in retrievals.list_restores(tx, only_open=True):
        same_place = (restore.snapshot, restore.path, restore.target) == (plan.snapshot.id, plan.path, target)
        if same_place and Choice.decode(restore.choice) == plan.choice:
            return restore
    return None


def _open_packs(
    plan: RestorePlan, ask: Callable[[], Sequence[RecoveryKey]], context: RestoreContext
) -> dict[int, bytes]:
    """The keys of the plan's packs; a pack that was sealed wrongly is left out, and its files reported."""
    if not plan.archives:
        return {}
    keys = ask()
    opened: dict[int, bytes] = {}
    refused: list[int] = []
    for number, archive in plan.archives.items():
        try:
            pack_key = _open_pack(archive.header, keys)
        except FormatError as error:
            context.progress.note(f"archive {number} cannot be opened: {error}")
            continue
        if pack_key is None:
            refused.append(number)
        else:
            opened[number] = pack_key
    if refused:
        raise _no_key_opens(refused, plan, len(keys))
    return opened


def _open_pack(header: bytes, keys: Sequence[RecoveryKey]) -> bytes | None:
    """The pack's key by whichever of the recovery keys opens it."""
    parsed = parse_header(header)
    for key in keys:
        with suppress(RecoveryKeyError):
            return open_header(parsed, key)
    return None


def _no_key_opens(refused: Sequence[int], plan: RestorePlan, given: int) -> RecoveryKeyError:
    recipients = {
        stanza.recipient_id
        for number in refused
        for stanza in parse_header(plan.archives[number].header).stanzas
    }
    whom = ", ".join(sorted(recipient.hex() for recipient in recipients))
    count = f"{len(refused)} of the {len(plan.archives)} archives"
    return RecoveryKeyError(
        f"no recovery key that was given opens {count} that this restore needs: they are sealed for {whom}",
        advice="nothing was asked for. Give --key once for each key: recipients may have changed over time"
        if given
        else "give --key",
    )


def _record(
    tx: Transaction,
    plan: RestorePlan,
    target: bytes,
    pack_keys: dict[int, bytes],
    context: RestoreContext,
    tier: Tier,
    on_capacity: OnCapacity,
) -> Restore:
    """Record restore and retrievals, and keep the keys before that becomes true."""
    still_open = {restore.id for restore in retrievals.list_restores(tx, only_open=True)}
    wipe_others(context.key_directory, still_open)
    restore_id = os.urandom(8).hex()
    number = retrievals.open_restore(
        tx,
        restore_id=restore_id,
        snapshot=plan.snapshot.id,
        vault=context.vault.name,
        path=plan.path,
        target=target,
        tier=tier,
        now=context.clock.now(),
        on_capacity=on_capacity,
        choice=plan.choice.encode(),
        confirmed=plan.confirmed.encode(),
    )
    ranges = [part for part in plan.ranges if part.archive in pack_keys]
    retrievals.plan_retrievals(
        tx, number, [(part.archive, part.extent, os.urandom(12).hex()) for part in ranges], tier
    )
    PackKeyFile(context.key_directory, restore_id).write(pack_keys)
    return retrievals.find_restore(tx, number)
