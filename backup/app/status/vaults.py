"""The vaults of a status, with their contents and monthly cost, and free space on local disks."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from msgspec import Struct, field
from msgspec.structs import replace

from backup.app.base.silent_mounts import Places
from backup.app.money.prices import kind_of
from backup.app.money.stats import terms_of
from backup.app.status.parts import UNKNOWN, BucketSetting, DiskStatus, ScheduledStatus, VaultStatus
from backup.config import Config, VaultSettings
from backup.config.limits import deletes_here
from backup.cost import PriceTable
from backup.inventory.questions import status as queries
from backup.inventory.records.readings import VaultLock
from backup.inventory.store.connections import Transaction
from backup.kinds import Outcome, RunKind, TaskKind
from backup.model import PackKind, VaultName
from backup.retention.stats import MONTH, Terms

_FLOOR = timedelta(days=30)  # whoever deletes elsewhere keeps so long what was needed, if not told otherwise
_PATIENCE = timedelta(days=30)  # some delete once a month, and a list is days old
_LONGEST = 180  # days that a class is billed at least
OF_A_VAULT = frozenset({"nightvault-vault.json", "archives"})
"""Folders of which a directory vault that holds anything has at least one (`vault/layout.py`)."""


class VaultFacts(Struct, frozen=True):
    """The input for all vaults: contents, last good runs, prices (None: not known), locks, and places."""

    held: Sequence[queries.HeldArchives]
    good: queries.LastGood
    table: PriceTable | None
    locks: Mapping[VaultName, VaultLock] = {}
    places: Places = field(default_factory=Places)


def vaults_of(
    tx: Transaction, config: Config, shelf: VaultFacts, scheduled: Sequence[ScheduledStatus], *, sees: bool
) -> list[VaultStatus]:
    """Return the config's vaults, and others that hold archives; `sees`: their directories are visible."""
    unverified = queries.oldest_unverified(tx)
    settings = {vault.name: vault for vault in config.vaults}
    prunes = {task.name: task.next_at for task in scheduled if task.kind == TaskKind.PRUNE}
    names = dict.fromkeys([*settings, *(share.vault for share in shelf.held)])
    found = [_vault(config, name, settings.get(name), shelf) for name in names]
    return [
        replace(
            vault,
            unverified_since=unverified.get(vault.name),
            next_prune=prunes.get(vault.name),
            is_away=sees and bool(vault.archives) and _is_away(config, vault.name, shelf.places),
            is_silent=sees and _is_silent(config, vault.name, shelf.places),
        )
        for vault in found
    ]


def settings_of(tx: Transaction, config: Config, now: datetime) -> list[BucketSetting]:
    """Return the settings of buckets that do harm, and what was switched there within a week."""
    found: list[BucketSetting] = []
    for vault in config.vaults:
        if vault.kind != "s3":
            continue
        from backup.inventory.records.bucket_settings import seen_settings

        seen = seen_settings(tx, vault.name)
        if vault.lock is None and "harms" in seen:  # else renewals look at rules
            found += (BucketSetting(vault.name, told) for told in sorted(seen["harms"].told))
        for what in seen.keys() & {"lock", "versions"}:
            new, gone = seen[what].switched(now)
            new = [] if what == "versions" else new  # which does no harm
            found += (BucketSetting(vault.name, told, seen[what].since) for told in new)
            found += (BucketSetting(vault.name, told, seen[what].since, is_gone=True) for told in gone)
    return found


def _vault(config: Config, name: VaultName, settings: VaultSettings | None, shelf: VaultFacts) -> VaultStatus:
    held, good = [share for share in shelf.held if share.vault == name], shelf.good
    return VaultStatus(
        name=name,
        kind=kind_of(settings) if settings else UNKNOWN,
        archives=sum(share.archives for share in held),
        bytes=sum(share.bytes for share in held),
        month=month_of(config, shelf.table, settings, held),
        is_free=settings is not None and settings.kind == "directory",
        unverified_since=None,
        next_prune=None,
        checked_at=good.of(RunKind.CHECK, name, (Outcome.DONE,)),
        rebuild_drilled_at=good.of(RunKind.REBUILD_DRILL, name, (Outcome.DONE, Outcome.PARTIAL)),
        not_set_up=config.not_set_up(settings) if settings else "",
        lock=shelf.locks.get(name),
        stored_since=min((share.oldest for share in held if share.oldest), default=None),
    )


def undeleted_of(
    tx: Transaction, config: Config, table: PriceTable | None, now: datetime
) -> list[queries.Undeleted]:
    """Return what has waited too long for its deletion in vaults where another server deletes."""
    found: list[queries.Undeleted] = []
    for settings in config.vaults:
        if not deletes_here(config, settings):
            minimum = _minimum_of(terms_of(config, table, settings))
            floor = max(timedelta(seconds=settings.prune_grace), _FLOOR)
            undeleted = queries.undeleted(tx, settings.name, floor, minimum, now - _PATIENCE)
            found += [] if undeleted is None else [undeleted]
    return found


def _minimum_of(terms: Terms) -> dict[PackKind, timedelta]:
    """Return the minimum duration of each kind of pack; an assumed one where no price is known."""
    unknown = 0 if terms.is_free else _LONGEST
    days = {kind: price.minimum_days if price else unknown for kind, price in terms.prices.items()}
    return {kind: timedelta(days=length) for kind, length in days.items()}


def _path(config: Config, name: VaultName) -> str | None:
    return next((vault.path for vault in config.vaults if vault.name == name), None)


def _is_silent(config: Config, name: VaultName, places: Places) -> bool:
    """Whether a directory vault is on a mount that does not answer."""
    path = _path(config, name)
    return path is not None and places.at(path).is_silent


def _is_away(config: Config, name: VaultName, places: Places) -> bool:
    """Whether a directory vault is gone, or nothing of one is there, and no hook may be what mounts it.

    Where nothing is mounted, or another disk, or what is mounted gives no answer any more.
    """
    path = _path(config, name)
    if path is None or any(job.hooks.before for job in config.jobs if job.vault == name):
        return False
    there = places.at(path)
    if there.error in {errno.EACCES, errno.EPERM}:  # this user may not look
        return False
    return there.is_silent or there.error is not None or not OF_A_VAULT & there.names


def month_of(
    config: Config,
    table: PriceTable | None,
    settings: VaultSettings | None,
    held: Sequence[queries.HeldArchives],
) -> Decimal | None:
    """Return the monthly cost of these archives, as in `stats`; None if no price is known."""
    if settings is not None and settings.kind == "directory":
        return Decimal(0)
    if settings is None or table is None:
        return None
    terms, total = terms_of(config, table, settings), Decimal(0)
    for share in held:
        price = terms.prices[share.kind]
        if price is None:
            return None
        total += price.storing(share.bytes, share.archives, MONTH, short=share.short)
    return total


def disks_of(config: Config, places: Places) -> list[DiskStatus]:
    """Return the free space of the state directory and directory vaults, as far as it can be seen."""
    paths = [("the state directory", config.state_dir)]
    paths += [(f"vault {vault.name}", vault.path) for vault in config.vaults if vault.path is not None]
    found: dict[int, DiskStatus] = {}
    for what, path in paths:
        there = places.at(path)
        if there.disk is not None:
            found.setdefault(there.disk, DiskStatus(path, what, there.free, config.monitoring.min_free))
    return list(found.values())
