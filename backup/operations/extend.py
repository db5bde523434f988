"""Renewals of locks by a config, of this server or in place of others: the role, the rules, the price."""

from __future__ import annotations

import glob
import os
from contextlib import closing
from datetime import timedelta
from functools import partial
from typing import ClassVar, Self

from msgspec import Struct
from msgspec.structs import asdict

from backup.app.base.clock import naming_emulator
from backup.app.base.run_context import RunContext
from backup.app.base.vaults import Purpose, lock_rules
from backup.app.money.prices import builtin_table, known_table
from backup.config import Config, VaultSettings
from backup.cost import Price
from backup.errors import InventoryDamagedError, NoInventoryError, UsageError
from backup.inventory.store.database import Inventory, create_inventory, open_inventory
from backup.kinds import RunKind
from backup.locker.extend import LockContext, ServersLockContext, extend, extend_for_servers
from backup.locker.report import ExtendReport
from backup.model import InventoryId, VaultName
from backup.protocols import Clock, LocksObjects
from backup.pruner.keeper.folder import KeeperFolder
from backup.pruner.keeper.given_up import find_given_up
from backup.pruner.keeper.keep import KeeperContext
from backup.pruner.needed import needed_archives
from backup.schedule import least_gap, parse_schedule
from backup.transfer.retry import RetryLimit


class Extend(Struct, frozen=True):
    """A renewal of one vault's locks."""

    kind: ClassVar[RunKind] = RunKind.EXTEND
    of_job: ClassVar[bool] = False
    records_itself: ClassVar[bool] = False
    config: Config
    context: LockContext

    @classmethod
    def of(cls, at: RunContext, name: str) -> Self:
        """The renewal of that vault. `UsageError` if it locks nothing."""
        settings = at.config.vault(name)
        rules, run = lock_rules(settings), at.of_vault(VaultName(name), Purpose.LOCK)
        if rules is None or not isinstance(run.vault, LocksObjects):
            raise _locks_nothing(settings)
        price = _price(at.config, settings)
        context = LockContext(
            **asdict(run),
            locks=run.vault,
            rules=rules,
            needed=needed_archives,
            price=price,
            every=_every(settings),
        )
        return cls(at.config, context)

    @staticmethod
    def about(_config: Config, name: str) -> dict[str, object]:
        """Its vault."""
        return {"vault": name}

    @property
    def name(self) -> VaultName:
        """Its vault."""
        return self.context.vault.name

    def plan(self, retry_limit: RetryLimit | None = None) -> ExtendReport:
        """The report of what would be locked for longer now, and what that costs."""
        return self._extend(self.context.within(retry_limit), only_plan=True)

    def step(self, retry_limit: RetryLimit | None = None) -> ExtendReport:
        """Lock for longer what is due."""
        return self._extend(self.context.within(retry_limit))

    def _extend(self, context: LockContext, *, only_plan: bool = False) -> ExtendReport:
        with naming_emulator(self.config.vault(self.name)):
            return extend(context, only_plan=only_plan)


def renew_for_servers(
    config: Config, keeper: KeeperContext, *, most_new: int, only_plan: bool = False
) -> ExtendReport:
    """Renew a vault's locks in place of its servers, from a machine without an inventory of theirs.

    `keeper` was made for that. The ends of locks as the vault has answered them are kept in its folder; if
    that is lost, each lock is looked at again. `UsageError` if the vault locks nothing.
    """
    settings, vault = config.vault(keeper.vault.name), keeper.vault
    rules = lock_rules(settings)
    if rules is None or not isinstance(vault, LocksObjects):
        raise _locks_nothing(settings)
    with (
        naming_emulator(settings),
        KeeperFolder.opened(keeper.folder, renews=True) as folder,
        closing(_known_ends(folder, keeper.clock)) as known,
    ):
        context = ServersLockContext(
            clock=keeper.clock,
            progress=keeper.progress,
            stop=keeper.stop,
            retry_limit=keeper.retry_limit,
            inventory=known,
            vault=vault,
            locks=vault,
            rules=rules,
            price=_price(config, settings),
            given_up=partial(find_given_up, keeper, folder),
            most_new=most_new,
        )
        return extend_for_servers(context, only_plan=only_plan)


def _known_ends(folder: KeeperFolder, clock: Clock) -> Inventory:
    """Open the inventory that keeps the ends of locks; a new one if it is not there, or is damaged."""
    url, place = f"sqlite:///{folder.ends}", folder.path
    try:
        return open_inventory(url, lock_directory=place)
    except (NoInventoryError, InventoryDamagedError):
        for left in glob.glob(f"{glob.escape(folder.ends)}*"):
            os.unlink(left)
        new_id = InventoryId(os.urandom(16))
        return create_inventory(
            url, inventory_id=new_id, signer_public=b"", now=clock.now(), lock_directory=place
        )


def _every(settings: VaultSettings) -> timedelta:
    """The time from renewal to renewal: by the vault's schedule, else a day."""
    return least_gap(parse_schedule(settings.extend or "daily", "UTC"))


def _price(config: Config, settings: VaultSettings) -> Price | None:
    """The price of a request, where one is known."""
    table = known_table(config) or builtin_table()
    return table.find(settings.region, "s3:STANDARD") if settings.is_in_aws else None


def _locks_nothing(settings: VaultSettings) -> UsageError:
    advice = "`lock` in its [[vault]] does that: docs/s3.md"
    return UsageError(f"vault {settings.name} locks nothing", advice=advice)
