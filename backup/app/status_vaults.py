"""The vaults of a status, with what they hold and what that costs, and the disks that are filled."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal

from msgspec import Struct
from msgspec.structs import replace

from backup.app.prices import kind_of
from backup.app.stats import terms_of
from backup.app.status_parts import UNKNOWN, DiskStatus, ScheduledStatus, VaultStatus
from backup.app.tasks import TaskKind
from backup.config import Config, VaultSettings
from backup.cost import PriceTable
from backup.inventory import status as queries
from backup.inventory.connections import Transaction
from backup.inventory.runs import Outcome, RunKind
from backup.model import VaultName
from backup.retention.stats import MONTH

OF_A_VAULT = frozenset({"nightvault-vault.json", "archives"})
"""What a directory vault that holds anything has, at least one of it (`vault/layout.py`)."""


class Shelf(Struct, frozen=True):
    """What all vaults hold, when what was good last, and the table of prices; None: nobody knows one."""

    held: Sequence[queries.Held]
    good: queries.LastGood
    table: PriceTable | None


def vaults_of(
    tx: Transaction, config: Config, shelf: Shelf, scheduled: Sequence[ScheduledStatus], *, sees: bool
) -> list[VaultStatus]:
    """The vaults of the config, and those that hold something; `sees`: their places can be looked at."""
    unverified = queries.oldest_unverified(tx)
    settings = {one.name: one for one in config.vaults}
    prunes = {one.name: one.next_at for one in scheduled if one.kind == TaskKind.PRUNE}
    names = dict.fromkeys([*settings, *(one.vault for one in shelf.held)])
    found = [_vault(config, name, settings.get(name), shelf) for name in names]
    return [
        replace(
            one,
            unverified_since=unverified.get(one.name),
            next_prune=prunes.get(one.name),
            is_away=sees and bool(one.archives) and _is_away(config, one.name),
        )
        for one in found
    ]


def _vault(config: Config, name: VaultName, settings: VaultSettings | None, shelf: Shelf) -> VaultStatus:
    held, good = [one for one in shelf.held if one.vault == name], shelf.good
    return VaultStatus(
        name=name,
        kind=kind_of(settings) if settings else UNKNOWN,
        archives=sum(one.archives for one in held),
        bytes=sum(one.bytes for one in held),
        month=month_of(config, shelf.table, settings, held),
        is_free=settings is not None and settings.kind == "directory",
        unverified_since=None,
        next_prune=None,
        checked_at=good.of(RunKind.CHECK, name, (Outcome.DONE,)),
        rebuild_drilled_at=good.of(RunKind.REBUILD_DRILL, name, (Outcome.DONE, Outcome.PARTIAL)),
        stored_since=min((one.oldest for one in held if one.oldest), default=None),
    )


def _is_away(config: Config, name: VaultName) -> bool:
    """Whether a directory vault is gone, or nothing of one is there, and no hook may be what mounts it.

    Where nothing is mounted, or another disk, or what is mounted gives no answer any more.
    """
    path = next((one.path for one in config.vaults if one.name == name), None)
    if path is None or any(job.hooks.before for job in config.jobs if job.vault == name):
        return False
    try:
        return not OF_A_VAULT.intersection(os.listdir(path))
    except PermissionError:  # this user may not look
        return False
    except OSError:
        return True


def month_of(
    config: Config, table: PriceTable | None, settings: VaultSettings | None, held: Sequence[queries.Held]
) -> Decimal | None:
    """What a month of this costs, as `stats` says it; None where no price is known."""
    if settings is not None and settings.kind == "directory":
        return Decimal(0)
    if settings is None or table is None:
        return None
    terms, total = terms_of(config, table, settings), Decimal(0)
    for one in held:
        price = terms.prices[one.kind]
        if price is None:
            return None
        total += price.storing(one.bytes, one.archives, MONTH, short=one.short)
    return total


def disks_of(config: Config) -> list[DiskStatus]:
    """What is free where the state directory and directory vaults lie, as far as that can be seen."""
    places = [("the state directory", config.state_dir)]
    places += [(f"vault {one.name}", one.path) for one in config.vaults if one.path is not None]
    found: dict[int, DiskStatus] = {}
    for what, path in places:
        with suppress(OSError):
            disk = os.statvfs(path)
            free = disk.f_bavail * disk.f_frsize
            found.setdefault(os.stat(path).st_dev, DiskStatus(path, what, free, config.monitoring.min_free))
    return list(found.values())
