"""The lock of a Glacier vault: begun, tried for a day with all that must go on, completed or aborted.

A completed lock is taken away by nobody. So before it is offered, an upload, a deletion and a retrieval are
tried against it, with the roles that do them at night; an archive of one byte shows that it keeps anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from backup.errors import NightvaultError, UsageError, VaultError
from backup.inventory.content.archives import ArchiveState
from backup.inventory.content.pruning import stored_archives
from backup.inventory.records.readings import (
    VaultLock,
    forget_vault_lock,
    record_vault_lock,
    vault_locks,
)
from backup.model import ArchiveId, Tier, VaultName
from backup.reports import Fact
from backup.transfer.vault_run import VaultRun
from backup.vault.glacier import GlacierVault
from backup.vault.glacier_lock import Lock, days_of, refusal_by
from backup.vault.glacier_locking import TRIED, policy_for
from backup.wording import counted

WINDOW: Final = timedelta(hours=24)
_NO_ARCHIVE: Final = ArchiveId("A" * 138)  # an id as the service makes them, of no archive
_ABORT: Final = "`nightvault vault-lock abort` takes it away; else it is gone a day after it was begun"
_TRIAL: Final = "of the trial of a lock"
_ELSEWHERE: Final = "not tried: another machine deletes (`deletes`)"


class Stage(StrEnum):
    """The stage of a vault's lock; part of the JSON interface."""

    NONE = "none"
    PLAN = "plan"
    IN_PROGRESS = "in-progress"
    LOCKED = "locked"


class LockTrial(Struct, frozen=True):
    """Something that was tried against a lock; `detail` is what came of it."""

    what: str
    is_well: bool
    detail: str


class VaultLockReport(Struct, frozen=True):
    """A vault's lock after a command. `days`: nothing younger is deleted, None of a policy of another kind.

    `stays`: archives that nothing needs and that it keeps, the last of them until `stays_until`.
    """

    vault: VaultName
    stage: Stage
    policy: str = ""
    days: int | None = None
    ends_at: datetime | None = None
    trials: tuple[LockTrial, ...] = ()
    stays: int = 0
    stays_until: datetime | None = None

    @property
    def is_well(self) -> bool:
        """Whether all that was tried goes on."""
        return all(trial.is_well for trial in self.trials)

    def facts(self) -> Iterator[Fact]:
        """Yield its stage, the trials, and the days that it keeps."""
        words = {
            Stage.NONE: "there is none",
            Stage.PLAN: "not begun: this is a plan",
            Stage.IN_PROGRESS: "in force, and gone unless it is completed",
            Stage.LOCKED: "in force for ever: nobody takes it away or changes it",
        }
        gone = f" before {self.ends_at:%Y-%m-%d %H:%M} UTC" if self.ends_at else ""
        yield Fact(f"{words[self.stage]}{gone}", "lock")
        if self.days is not None:
            yield Fact(f"no archive before it is {counted(self.days, 'day')} old, by anybody", "deletes")
        for trial in self.trials:
            yield Fact(f"{trial.what}: {trial.detail}", "tried" if trial.is_well else "FAILED")
        if self.stays and self.stays_until:
            what = f"{counted(self.stays, 'archive')} that nothing needs"
            yield Fact(f"{what}, the last until {self.stays_until:%Y-%m-%d}", "stays")
        if self.stage is Stage.PLAN:
            yield Fact(self.policy, "policy")

    def document(self) -> Mapping[str, Any]:
        """As JSON; the keys are part of the interface."""
        return {
            "vault": self.vault,
            "stage": self.stage.value,
            "policy": self.policy,
            "days": self.days,
            "ends_at": None if self.ends_at is None else self.ends_at.isoformat(),
            "trials": [
                {"what": trial.what, "well": trial.is_well, "detail": trial.detail} for trial in self.trials
            ],
            "stays": self.stays,
            "stays_until": None if self.stays_until is None else self.stays_until.isoformat(),
        }


class LockingContext(VaultRun, frozen=True, kw_only=True):
    """All inputs: `own` is the vault by a person's keys, the others by the roles of the nights.

    `deleting` is None where another machine deletes.
    """

    own: GlacierVault
    backing_up: GlacierVault
    restoring: GlacierVault
    deleting: GlacierVault | None


def initiate(context: LockingContext, days: int, *, only_plan: bool = False) -> VaultLockReport:
    """Begin a lock by which nothing younger than so many days is deleted, and try it."""
    own, name = context.own, context.vault.name
    state = context.patience.call(own.state)
    if not state.exists:
        raise UsageError(f"vault {name} is not there: {state.location}", advice="`nightvault init` makes it")
    policy = policy_for(state.location, days)
    there = context.patience.call(own.lock)
    if only_plan:
        return _report(context, Stage.PLAN, policy)
    if there is not None:
        raise UsageError(
            f"vault {name} has a lock already, {'for ever' if there.is_final else 'which was begun'}",
            advice="" if there.is_final else _ABORT,
        )
    lock_id = own.initiate_lock(policy)
    ends_at = (state.at or context.clock.now()) + WINDOW
    with context.inventory.writing() as tx:
        record_vault_lock(tx, VaultLock(name, lock_id, policy, ends_at, days))
    return _report(context, Stage.IN_PROGRESS, policy, ends_at, tuple(_trials(context)))


def tried(context: LockingContext) -> VaultLockReport:
    """Try the lock that was begun; `UsageError` if there is none, or another one than was begun here."""
    found, lock = _begun(context)
    if lock.is_final:
        return _completed(context, found)
    ends_at = lock.ends_at or found.ends_at
    return _report(context, Stage.IN_PROGRESS, lock.policy, ends_at, tuple(_trials(context)))


def complete(context: LockingContext) -> VaultLockReport:
    """Complete the lock that was begun and tried."""
    found, lock = _begun(context)
    if not lock.is_final:
        context.own.complete_lock(found.lock_id)
    return _completed(context, found)


def abort(context: LockingContext) -> VaultLockReport:
    """Take a lock away that was begun; a completed one stays, and is refused."""
    context.patience.call(context.own.abort_lock)
    with context.inventory.writing() as tx:
        forget_vault_lock(tx, context.vault.name)
    return VaultLockReport(context.vault.name, Stage.NONE)


def _begun(context: LockingContext) -> tuple[VaultLock, Lock]:
    """The lock as it was recorded, and as the vault has it."""
    name, lock = context.vault.name, context.patience.call(context.own.lock)
    with context.inventory.reading() as tx:
        found = vault_locks(tx).get(name)
    if lock is None:
        with context.inventory.writing() as tx:
            forget_vault_lock(tx, name)
        over = " any more: the day is over in which it could be completed" if found else ""
        raise UsageError(
            f"vault {name} has no lock that was begun{over}",
            advice="`nightvault vault-lock initiate --days N` begins one",
        )
    if found is None or found.policy != lock.policy:
        raise UsageError(
            f"vault {name} has a lock that this server did not begin, or whose id it does not know",
            advice="it is in force for ever" if lock.is_final else _ABORT,
        )
    return found, lock


def _completed(context: LockingContext, found: VaultLock) -> VaultLockReport:
    with context.inventory.writing() as tx:
        lock = replace(found, locked_at=found.locked_at or context.clock.now())
        record_vault_lock(tx, lock)
    return _report(context, Stage.LOCKED, found.policy)


def _report(
    context: LockingContext,
    stage: Stage,
    policy: str,
    ends_at: datetime | None = None,
    trials: tuple[LockTrial, ...] = (),
) -> VaultLockReport:
    """With what the policy keeps of archives that nothing needs any more."""
    name, now = context.vault.name, context.clock.now()
    with context.inventory.reading() as tx:
        condemned = [
            archive.stored_at
            for archive in stored_archives(tx, name)
            if archive.state is ArchiveState.CONDEMNED
        ]
    refusals = [refusal_by(policy, stored_at, now) for stored_at in condemned]
    kept = [refusal.kept_until for refusal in refusals if refusal is not None and refusal.kept_until]
    return VaultLockReport(
        name, stage, policy, days_of(policy), ends_at, trials, len(kept), max(kept, default=None)
    )


def _trials(context: LockingContext) -> Iterator[LockTrial]:
    """Return the trials of a night's work, each with its own role; all cost less than 0.01 cent."""
    probe: list[ArchiveId] = []

    def upload() -> str:
        probe.append(context.backing_up.store_byte(TRIED))
        return "an archive of one byte was stored; it stays, as a trial"

    yield _trial("backup", upload)
    yield _trial("deletion", lambda: _kept(context, probe))
    yield _trial("prune", lambda: _deleted(context))
    yield _trial("restore", lambda: _asked(context, probe))


def _kept(context: LockingContext, probe: Sequence[ArchiveId]) -> str:
    """Try to delete a new archive, which must be refused."""
    if context.deleting is None:
        return _ELSEWHERE
    if not probe:
        raise VaultError("not tried, as nothing could be stored")
    if not context.deleting.delete_archives({probe[0]: context.clock.now()}):
        raise VaultError("it deleted an archive that was a minute old: the lock keeps nothing")
    return "what is new is refused, as it is to be"


def _deleted(context: LockingContext) -> str:
    """A deletion of no archive must not be denied."""
    if context.deleting is None:
        return _ELSEWHERE
    context.deleting.delete_archive(_NO_ARCHIVE, "try a deletion")
    return "what is older may be deleted"


def _asked(context: LockingContext, probe: Sequence[ArchiveId]) -> str:
    """Ask for the new archive, as a restore does; if none was stored for a list, by the same right."""
    if probe:
        context.restoring.request_retrieval(probe[0], None, Tier.BULK, _TRIAL)
        return "that archive was asked for, in bulk"
    try:
        context.restoring.request_listing(_TRIAL)
    except VaultError:
        return "may be asked for; the vault has no list yet"
    return "a list of the vault was asked for"


def _trial(what: str, ask: Callable[[], str]) -> LockTrial:
    try:
        return LockTrial(what, True, ask())
    except NightvaultError as error:
        return LockTrial(what, False, str(error))
