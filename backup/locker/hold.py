"""Legal holds for a snapshot: what restoring it needs is deleted for nobody, until a person ends that.

Each answer is recorded before the next batch is asked for; what a cut left is done by the same command again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from msgspec import Struct

from backup.errors import ArchiveMissingError, DeniedError, InterruptedRunError, NightvaultError, UsageError
from backup.inventory.content.locks import (
    forget_holds,
    held_objects,
    parts_of_snapshot,
    record_holds,
)
from backup.inventory.content.snapshots import Snapshot
from backup.model import ArchiveId, SnapshotId, VaultName
from backup.protocols import LocksObjects, phase
from backup.reports import Fact
from backup.transfer.recognise import require_same
from backup.transfer.vault_run import VaultRun
from backup.wording import counted

AT_ONCE: Final = 16
BATCH: Final = 256


class HoldReport(Struct, frozen=True):
    """The result: `objects` are held for the snapshot from now on, or for nothing any more.

    `shared` stay, as another snapshot is held by them; `missing` are needed, and not in the vault. `is_lost`:
    something that it needs is nowhere any more.
    """

    vault: VaultName
    snapshot: SnapshotId
    is_on: bool
    objects: int
    shared: int = 0
    missing: tuple[ArchiveId, ...] = ()
    is_lost: bool = False

    @property
    def problems(self) -> Iterator[str]:
        """A sentence each if a restore of the snapshot is not held whole."""
        if self.missing:
            what = counted(len(self.missing), "object")
            yield f"snapshot {self.snapshot[:8]}: {what} not in vault {self.vault}: {self.missing[0]}, …"
        if self.is_lost:
            yield f"snapshot {self.snapshot[:8]}: some of its files are lost: `nightvault check` names them"

    def facts(self) -> Iterator[Fact]:
        """One row."""
        what = counted(self.objects, "object")
        if self.is_on:
            yield Fact(
                f"{what} of vault {self.vault}: nobody deletes them before `unpin --legal-hold`", "held"
            )
        else:
            more = f"; {self.shared:,} stay, for other snapshots" if self.shared else ""
            yield Fact(f"{what} of vault {self.vault}{more}", "not held")

    def document(self) -> Mapping[str, Any]:
        """As JSON; the keys are part of the interface."""
        return {
            "vault": self.vault,
            "snapshot": self.snapshot,
            "held": self.is_on,
            "objects": self.objects,
            "shared": self.shared,
            "missing": list(self.missing),
            "lost": self.is_lost,
        }


def hold(context: VaultRun, locks: LocksObjects, snapshot: Snapshot) -> HoldReport:
    """Hold what restoring a snapshot needs: packs, the newest catalogs that tell of it, the identity."""
    holding = _Holding(context, locks)
    with context.inventory.reading() as tx:
        parts = parts_of_snapshot(tx, context.vault.name, snapshot)
    catalogs = min(parts.chains, key=len, default=frozenset[ArchiveId]())  # by the newest full one
    keys = parts.archives | catalogs | holding.others
    done, missing = holding.ask(sorted(keys), snapshot.id, is_on=True)
    is_lost = parts.is_lost or not parts.chains
    name = context.vault.name
    return HoldReport(name, snapshot.id, is_on=True, objects=done, missing=tuple(missing), is_lost=is_lost)


def lift(context: VaultRun, locks: LocksObjects, snapshot: Snapshot) -> HoldReport:
    """End the holds for a snapshot, but for what another one is held by. `UsageError` if none is known."""
    holding, name = _Holding(context, locks), context.vault.name
    with context.inventory.reading() as tx:
        held = held_objects(tx, name)
    ours = {key for key, of in held.items() if snapshot.id in of}
    if not ours:
        raise UsageError(
            f"nothing in vault {name} is known to be held for snapshot {snapshot.id[:8]}",
            advice="after a rebuild give `pin --legal-hold` again for each snapshot that is held: then it "
            "is known what may be let go",
        )
    shared = {key for key in ours if held.get(key, set()) - {snapshot.id}}
    done, _ = holding.ask(sorted(ours - shared), snapshot.id, is_on=False)
    with context.inventory.writing() as tx:
        forget_holds(tx, name, snapshot.id, ours)
    return HoldReport(name, snapshot.id, is_on=False, objects=done, shared=len(shared))


class _Holding:
    """Requests for holds in a vault that is the one of before."""

    def __init__(self, context: VaultRun, locks: LocksObjects) -> None:
        require_same(context.inventory, context.vault, context.patience)
        self._context = context
        self._locks = locks
        lineage = [context.inventory.id, *context.inventory.ancestors]
        self.others = context.patience.call(lambda: locks.lockable(lineage)).others

    def ask(
        self, keys: Sequence[ArchiveId], snapshot: SnapshotId, *, is_on: bool
    ) -> tuple[int, list[ArchiveId]]:
        """Ask for each, and record what was answered; how many were done, and which are not there."""
        context, done, missing = self._context, 0, list[ArchiveId]()

        def one_of(key: ArchiveId) -> NightvaultError | None:
            try:
                context.patience.call(lambda: self._locks.hold(key, is_on=is_on))
            except NightvaultError as error:
                return error
            return None

        with (
            phase(context.progress, "Holding" if is_on else "Ending holds", counts="object"),
            ThreadPoolExecutor(AT_ONCE, "hold") as workers,
        ):
            for start in range(0, len(keys), BATCH):
                if context.stop():
                    raise InterruptedRunError("stopped: the same command goes on")
                batch = keys[start : start + BATCH]
                answers = dict(zip(batch, workers.map(one_of, batch), strict=True))
                answered = [key for key, error in answers.items() if error is None]
                with context.inventory.writing() as tx:
                    (record_holds if is_on else forget_holds)(tx, context.vault.name, snapshot, answered)
                done += len(answered)
                context.progress.advance(files=len(answered))
                for key, error in answers.items():
                    if isinstance(error, ArchiveMissingError):
                        missing.append(key)
                    elif error is not None:
                        raise _advised(error)
        return done, missing


def _advised(error: NightvaultError) -> NightvaultError:
    if not isinstance(error, DeniedError):
        return error
    advice = "it goes with your own AWS keys, which `nightvault aws policy --only legal-hold` gives the right"
    return DeniedError(str(error), advice=advice)
