"""Prunes by a config: who may delete, prices, grace."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import ClassVar, Self

from msgspec import Struct
from msgspec.structs import asdict, replace

from backup.app.backups.contexts import backup_context, read_keys, sending_to
from backup.app.backups.recovery_lines import keep_line_of
from backup.app.base.clock import naming_emulator
from backup.app.base.run_context import RunContext
from backup.app.base.vaults import Purpose, make_vault
from backup.app.money.prices import builtin_table, kind_of, known_table, price_of
from backup.app.retention.forgetting import rule_of
from backup.config import Config, VaultSettings
from backup.config.limits import deletes_here
from backup.copier.saying import going_there
from backup.cost import Price
from backup.inventory.content import copied
from backup.inventory.records.runs import find_job
from backup.kinds import RunKind
from backup.model import VaultName
from backup.pruner.context import PruneContext
from backup.pruner.prune import prune
from backup.pruner.report import PruneReport
from backup.transfer.retry import RetryLimit


class OfVault(Struct, frozen=True):
    """An operation of a whole vault that a `PruneContext` serves."""

    of_job: ClassVar[bool] = False
    records_itself: ClassVar[bool] = False
    config: Config
    context: PruneContext

    @classmethod
    def of(cls, at: RunContext, name: str) -> Self:
        """The run of that vault."""
        return cls(at.config, prune_context(at, VaultName(name)))

    @staticmethod
    def about(_config: Config, name: str) -> dict[str, object]:
        """Its vault."""
        return {"vault": name}

    @property
    def name(self) -> VaultName:
        """Its vault."""
        return self.context.vault.name


class Prune(OfVault, frozen=True):
    """A prune of one vault; `max_fee` is the limit of early deletion fees."""

    kind: ClassVar[RunKind] = RunKind.PRUNE
    max_fee: Decimal = Decimal(0)

    def plan(self, retry_limit: RetryLimit | None = None) -> PruneReport:
        """The report of what would be condemned and deleted now."""
        report = self._prune(self.context.within(retry_limit), only_plan=True)
        return replace(report, forgets=self._forgets())

    def _forgets(self) -> dict[str, list[str]]:
        """Return copies here that each job's policy does not keep: the next copy forgets those."""
        found: dict[str, list[str]] = {}
        with self.context.inventory.reading() as tx:
            vault = copied.vault_number(tx, self.name)
            for job in self.config.jobs:
                row = find_job(tx, job.name)
                for copy in job.copy:
                    if row is not None and copy.vault == self.name:
                        now = self.context.clock.now()
                        going = going_there(tx, vault, row, rule_of(job, copy), (), now)
                        found |= {job.name: [snapshot.id for snapshot in going]} if going else {}
        return found

    def step(self, retry_limit: RetryLimit | None = None) -> PruneReport:
        """Delete and condemn, or wait for the vault's list."""
        return self._prune(self.context.within(retry_limit))

    def _prune(self, context: PruneContext, *, only_plan: bool = False) -> PruneReport:
        with naming_emulator(self.config.vault(self.name)):
            return prune(context, max_fee=self.max_fee, only_plan=only_plan)


def prune_context(at: RunContext, vault: VaultName) -> PruneContext:
    """Return the context of a prune: the backup role stores catalogs, the prune role deletes archives."""
    config, settings = at.config, at.config.vault(vault)
    may_delete = deletes_here(config, settings)
    return PruneContext(
        **asdict(backup_context(at, vault)),
        keys=read_keys(config, at.inventory),
        sending=sending_to(config, vault),
        deleting=make_vault(config, vault, Purpose.PRUNE, at.clock, stop=at.stop) if may_delete else None,
        keep_line=partial(keep_line_of, config),
        price=price_of(config, settings),
        catalog_price=catalog_price(config, settings),
        grace=timedelta(seconds=settings.prune_grace),
        keep_runs=timedelta(seconds=config.keep_runs),
        may_shrink=frozenset(job.name for job in config.jobs if job.may_shrink),
        copied_to=frozenset(to.vault for job in config.jobs if job.vault == vault for to in job.copy),
    )


def catalog_price(config: Config, settings: VaultSettings) -> Price | None:
    """Return the price of catalogs, which a bucket keeps in a storage class of their own.

    With a mistake in the user's table the built-in one is used, for its minimum duration.
    """
    if settings.kind == "directory":
        return None
    kind = f"s3:{settings.catalog_class}" if settings.kind == "s3" else kind_of(settings)
    return (known_table(config) or builtin_table()).find(settings.region, kind)
