"""Checks of vaults: credentials of each role, existence and identity, clock, settings, lock.

A few requests for each vault: one CreateSession for each role, one for existence and identity, one for the
lock, and for a bucket two or three for its settings. None of them costs more than a few thousandths of a
cent; nothing is stored. Each has a deadline, as a network may drop packets.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from functools import partial
from typing import TypeVar

from backup.app.base.clock import of_emulator
from backup.app.base.opened import opened
from backup.app.base.vaults import Purpose, credential_source, make_vault, warnings_of_vault
from backup.app.doctor import table
from backup.app.doctor.finding import DoctorContext, Finding
from backup.errors import DeniedError, NightvaultError, UnreachableError
from backup.inventory.content import identities
from backup.inventory.store.database import Inventory
from backup.model import VaultName, VaultState
from backup.protocols import Vault
from backup.transfer.recognise import Meeting, meet, missing_vault, other_vault
from backup.transfer.retry import RetryPolicy
from backup.vault.glacier_lock import warnings_of
from backup.vault.s3.warnings import KnownOfBucket

T = TypeVar("T")

MOST_CLOCK = timedelta(minutes=5)
_ROLES = {Purpose.BACKUP: "backups", Purpose.RESTORE: "restores", Purpose.PRUNE: "prunes"}


def roles_open(context: DoctorContext) -> Iterator[Finding]:
    """Check that the certificate gets credentials for each role of a vault."""
    tried: set[str] = set()
    for vault in context.config.vaults:
        for purpose, words in _ROLES.items():
            role = getattr(vault, purpose.value)
            if role is None or role in tried or context.config.identity is None:
                continue
            tried.add(role)
            context.requests.append(f"CreateSession for {role}")
            source = credential_source(context.config, vault, purpose, context.clock)
            what = f"get credentials for {role}"
            if error := failure_of(context.seconds, what, source.credentials):
                context.denied.add(role)
                yield table.NO_CREDENTIALS.finding(
                    role=role, error=error, work=words, vault=vault.name, advice=error.advice
                )


def vault_there(context: DoctorContext) -> Iterator[Finding]:
    """Check that each vault can be reached and exists, and that its clock agrees with ours."""
    for vault in context.config.vaults:
        if context.status is not None and context.config.not_set_up(vault):
            context.away.add(vault.name)  # the status says so
            continue
        if vault.kind != "directory":
            context.requests.append(f"a look at vault {vault.name}")
        try:
            there = make_vault(context.config, vault.name, Purpose.BACKUP, context.clock)
            state = within(context.seconds, f"look at vault {vault.name}", _state_request(context, there))
        except NightvaultError as error:
            if not isinstance(error, DeniedError):
                context.away.add(vault.name)
            what = (
                str(error)
                if str(error).startswith(f"vault {vault.name} ")
                else f"vault {vault.name}: {error}"
            )
            yield table.VAULT_AWAY.finding(what=what, advice=error.advice)
            continue
        context.states[vault.name] = state
        if not state.exists:
            context.away.add(vault.name)
            yield _missing(context, vault.name, state.location)
        elif state.at is not None and abs(state.at - context.now) > MOST_CLOCK:
            apart = abs(state.at - context.now)
            stepped = of_emulator(vault)
            yield table.CLOCK_OFF.finding(
                vault=vault.name, apart=_span(apart), stepped=f"; {stepped}" if stepped else ""
            )


def _missing(context: DoctorContext, vault: VaultName, location: str) -> Finding:
    """A vault that is not there; what to do about it depends on whether it ever was."""
    what, command = f"vault {vault} is not there: {location}", "nightvault init"
    if context.status is not None:
        with closing(opened(context.config)) as inventory:
            error = missing_vault(inventory, vault, location)
        what, command = str(error), error.advice
    return table.VAULT_MISSING.finding(what=what, command=command)


def _state_request(context: DoctorContext, vault: Vault) -> Callable[[], VaultState]:
    """One request; of a bucket a list, which tells its identity, too."""
    from backup.vault.s3.vault import S3Vault

    if context.status is None or not isinstance(vault, S3Vault):
        return vault.state
    with closing(opened(context.config)) as inventory:
        return partial(vault.state_with_identities, inventory.id)


def known_vaults(context: DoctorContext) -> Iterator[Finding]:
    """Check that each vault is the one that the inventory knows, not another with the same name."""
    if context.status is None:
        return
    with closing(opened(context.config)) as inventory:
        for vault in context.config.vaults:
            if vault.name in context.away:
                continue
            there = make_vault(context.config, vault.name, Purpose.BACKUP, context.clock)
            try:
                meeting = _met(context, inventory, there)
            except DeniedError:  # which the look at the vault has told
                continue
            if meeting.is_other:
                error = other_vault(meeting, there)
                yield table.OTHER_VAULT.finding(error=error, advice=error.advice)


def _met(context: DoctorContext, inventory: Inventory, vault: Vault) -> Meeting:
    """Return the identity of the vault: as read already, else it is requested."""
    state = context.states.get(vault.name)
    if state is not None and state.identities is not None:
        with inventory.reading() as tx:
            return Meeting(identities.vault_identity(tx, vault.name), state.identities)
    if context.config.vault(vault.name).kind != "directory":
        context.requests.append(f"a look at the identity of vault {vault.name}")
    patience = RetryPolicy(context.clock, attempts=1)
    what = f"look which vault {vault.name} is"
    return within(context.seconds, what, partial(meet, inventory, vault, patience))


def vault_locks(context: DoctorContext) -> Iterator[Finding]:
    """Find Glacier vault locks that are not completed, or last longer than the minimum duration."""
    from backup.vault.glacier import GlacierVault

    for vault in context.config.vaults:
        role = vault.prune_role_arn or vault.role_arn
        if vault.kind != "glacier" or vault.name in context.away or role in context.denied:
            continue
        context.requests.append(f"a look at the lock of vault {vault.name}")
        there = make_vault(context.config, vault.name, Purpose.PRUNE, context.clock)
        if not isinstance(there, GlacierVault):
            continue
        try:
            lock = within(context.seconds, f"look at the lock of vault {vault.name}", there.lock)
        except DeniedError:
            context.notes.append(f"the lock of vault {vault.name} was not looked at: {role} may not read it")
            continue
        for text in warnings_of(lock, there.traits.minimum_storage) if lock else ():
            yield table.VAULT_LOCK.finding(vault=vault.name, text=text, name=vault.vault)


def bucket_settings(context: DoctorContext) -> Iterator[Finding]:
    """Find harmful lifecycle rules, versioning and locks of buckets."""
    for vault in context.config.vaults:
        if vault.kind != "s3" or vault.name in context.away or vault.role_arn in context.denied:
            continue
        context.requests.append(f"looks at the settings of bucket {vault.bucket}")
        what = f"look at the settings of bucket {vault.bucket}"
        state = context.states.get(vault.name)
        told = (
            KnownOfBucket(region=state.region or vault.region) if state else KnownOfBucket()
        )  # it was looked for just now
        ask = partial(warnings_of_vault, context.config, vault, context.clock, told)
        texts = within(context.seconds, what, ask)
        if told.keeps_versions is not None:
            context.keep_versions[vault.name] = told.keeps_versions
        for text in texts:
            yield table.BUCKET_SETTING.finding(vault=vault.name, text=text)


def _span(apart: timedelta) -> str:
    minutes = int(apart.total_seconds() // 60)
    return f"{minutes} minutes" if minutes < 180 else f"{minutes // 60} hours"


def within(seconds: float, what: str, work: Callable[[], T]) -> T:
    """Return the result of `work`, or raise its error. `UnreachableError` after the deadline.

    `UnreachableError` after the deadline: `work` is abandoned. `UnreachableError` after the deadline: `work`
    is abandoned.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001  it is raised in the thread that waits
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True, name=what)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise UnreachableError(f"{what}: no answer within {seconds:g} s", advice="check network and endpoint")
    return results[0]


def failure_of(seconds: float, what: str, work: Callable[[], object]) -> NightvaultError | None:
    """Return the error that `work` raised, or that it took too long; None if it succeeded."""
    try:
        within(seconds, what, work)
    except NightvaultError as error:
        return error
    return None
