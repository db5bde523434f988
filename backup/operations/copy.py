"""Copies by a config: a job's snapshots into another of its vaults."""

from __future__ import annotations

import os
from collections.abc import Sequence
from decimal import Decimal
from functools import partial
from typing import ClassVar, Self

from msgspec import Struct
from msgspec.structs import asdict

from backup.app.backups.contexts import backup_context, read_keys, sending_to
from backup.app.backups.recovery_lines import keep_line_of
from backup.app.base.clock import naming_emulator
from backup.app.base.run_context import RunContext, attempt
from backup.app.base.state import State
from backup.app.base.vaults import Purpose, make_vault
from backup.app.money.limits import limit_on_archives, limit_on_catalogs
from backup.app.rebuilds.rebuilds import check_keys
from backup.app.retention.forgetting import rule_of
from backup.config import Config
from backup.copier.context import CopyChoice, CopyContext
from backup.copier.copy import copy
from backup.copier.report import CopyReport
from backup.errors import as_stopped
from backup.format.keys import RecoveryKey
from backup.kinds import RunKind
from backup.model import JobName, VaultName
from backup.rebuilder.context import CatalogRun
from backup.transfer.retry import RetryLimit


class Copy(Struct, frozen=True):
    """A copy of one job's snapshots out of `source`; `max_cost` is the limit of what reading them costs.

    Its name, "main@cold", has the job and the vault that gets the copies.
    """

    kind: ClassVar[RunKind] = RunKind.COPY
    of_job: ClassVar[bool] = True
    records_itself: ClassVar[bool] = True
    at: RunContext
    context: CopyContext
    job: JobName
    choice: CopyChoice

    @classmethod
    def of(cls, at: RunContext, name: str) -> Self:
        """The copy of that name, by the config."""
        job, vault = name.split("@")
        return cls.by_config(at, JobName(job), VaultName(vault))

    @classmethod
    def by_config(
        cls,
        at: RunContext,
        job: JobName,
        to: VaultName,
        *,
        max_cost: Decimal | None = None,
        keys: Sequence[RecoveryKey] = (),
    ) -> Self:
        """The copy of a job to a vault as its `[[job.copy]]` has it."""
        settings = at.config.job(job)
        choice = CopyChoice(rule=rule_of(settings, at.config.copy_to(job, to)))
        return cls.between(at, job, settings.vault, to, choice, max_cost=max_cost, keys=keys)

    @staticmethod
    def about(_config: Config, name: str) -> dict[str, object]:
        """The vault that gets the copies."""
        return {"vault": name.partition("@")[2]}

    @property
    def name(self) -> str:
        """Its job and its vault."""
        return f"{self.job}@{self.context.vault.name}"

    @classmethod
    def between(
        cls,
        at: RunContext,
        job: JobName,
        source: VaultName,
        to: VaultName,
        choice: CopyChoice,
        *,
        max_cost: Decimal | None = None,
        keys: Sequence[RecoveryKey] = (),
    ) -> Self:
        """The copy of that job's chosen snapshots from one vault to another.

        Recovery keys are needed once after a rebuild, to read what the vault has of before.
        """
        config, settings = at.config, at.config.vault(source)
        context = CopyContext(
            **asdict(backup_context(at, to)),
            source=make_vault(config, source, Purpose.COPY, at.clock, stop=at.stop),
            keys=read_keys(config, at.inventory),
            sending=sending_to(config, to),
            folder=os.path.join(State(config.state_dir).spool, "copies", to),
            limit_on=limit_on_archives(config, settings, max_cost, "copy"),
            reading=_reading(at, to, keys) if keys else None,
            keep_line=partial(keep_line_of, config),
        )
        return cls(at, context, job, choice)

    def plan(self, retry_limit: RetryLimit | None = None) -> CopyReport:
        """The report of what would be copied now."""
        return self._copy(retry_limit, only_plan=True)

    def step(self, retry_limit: RetryLimit | None = None) -> CopyReport:
        """Copy what the destination lacks; an attempt that fails is recorded."""
        at, told = self.at, {"vault": self.context.vault.name}
        with attempt(at.inventory, at.clock, self.kind, told, self.job), as_stopped(at.stop):
            return self._copy(retry_limit)

    def _copy(self, retry_limit: RetryLimit | None, *, only_plan: bool = False) -> CopyReport:
        context = self.context.within(retry_limit)
        with naming_emulator(self.at.config.vault(context.vault.name)):
            return copy(context, self.job, self.choice, only_plan=only_plan)


def _reading(at: RunContext, vault: VaultName, keys: Sequence[RecoveryKey]) -> CatalogRun:
    """Make the reader of the vault's catalogs for these keys. `RecoveryKeyError` for keys of others."""
    check_keys(at.config, keys)
    return CatalogRun(
        clock=at.clock,
        progress=at.progress,
        stop=at.stop,
        vault=make_vault(at.config, vault, Purpose.RESTORE, at.clock, stop=at.stop),
        recovery_keys=keys,
        limit_on=limit_on_catalogs(at.config, at.config.vault(vault), "copy"),
    )
