"""Renewals of locks by a config: the role that locks, the rules, the price of a request."""

from __future__ import annotations

from typing import ClassVar, Self

from msgspec import Struct
from msgspec.structs import asdict

from backup.app.base.clock import naming_emulator
from backup.app.base.run_context import RunContext
from backup.app.base.vaults import Purpose, lock_rules
from backup.app.money.prices import builtin_table, known_table
from backup.config import Config
from backup.errors import UsageError
from backup.kinds import RunKind
from backup.locker.extend import LockContext, extend
from backup.locker.report import ExtendReport
from backup.model import VaultName
from backup.protocols import LocksObjects
from backup.pruner.needed import needed_archives
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
            raise UsageError(
                f"vault {name} locks nothing", advice="`lock` in its [[vault]] does that: docs/s3.md"
            )
        table = known_table(at.config) or builtin_table()
        price = table.find(settings.region, "s3:STANDARD") if settings.is_in_aws else None
        context = LockContext(
            **asdict(run), locks=run.vault, rules=rules, needed=needed_archives, price=price
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
