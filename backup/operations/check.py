"""Checks by a config: the vault's list is compared, then a sample is read back if one is configured.

No recovery key is on the server, so encrypted bytes are compared with the inventory's hashes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from fractions import Fraction
from typing import Any, ClassVar, Self

from msgspec import Struct

from backup.app.base.run_context import RunContext, attempt
from backup.app.checks.checks import check_context, quote_sample
from backup.app.money.limits import limit_on
from backup.checker import read_sample
from backup.checker.check import compare_with_vault
from backup.checker.context import CheckContext
from backup.checker.report import CheckReport
from backup.checker.sample import Amount
from backup.config import Config, parse_size
from backup.cost.limit import CostLimit
from backup.errors import as_stopped
from backup.format.keys import RecoveryKey
from backup.kinds import RunKind
from backup.locker.versions import VersionsReport, compare_versions
from backup.model import Tier, VaultName
from backup.transfer.retry import RetryLimit

# As in the report of a check that came to its end, so that one makes good what the other said.
LISTS: Mapping[str, Any] = {"compared": {}, "read": None, "laws": None}
SAMPLES: Mapping[str, Any] = {"compared": None, "read": {}, "laws": None}


class Check(Struct, frozen=True):
    """A check of one vault; each of its parts opens and ends the row of its run itself."""

    kind: ClassVar[RunKind] = RunKind.CHECK
    of_job: ClassVar[bool] = False
    records_itself: ClassVar[bool] = True
    at: RunContext
    context: CheckContext

    @classmethod
    def of(
        cls, at: RunContext, name: str, *, keys: Sequence[RecoveryKey] = (), tier: Tier | None = None
    ) -> Self:
        """The check of that vault; `keys` open what is read."""
        return cls(at, check_context(at, VaultName(name), keys=keys, tier=tier))

    @staticmethod
    def about(_config: Config, name: str) -> dict[str, object]:
        """Its vault, and that lists were to be compared."""
        return {"vault": name, **LISTS}

    @property
    def name(self) -> VaultName:
        """Its vault."""
        return self.context.vault.name

    def step(self, retry_limit: RetryLimit | None = None) -> CheckReport:
        """Compare, or go on with a waiting sample, also one that was begun by hand; then read a sample.

        `LimitRefusedError` if the sample costs more than `[restore] max_restore_cost`.
        """
        run = read_sample.find_open(self.context)
        if run is not None:
            with self._part(SAMPLES), as_stopped(self.at.stop):
                return self.go_on(run, retry_limit)
        with self._part(LISTS), as_stopped(self.at.stop):
            report = self.compare(retry_limit)
        sample = self.at.config.vault(self.name).check_sample
        if report.waits_for or sample is None or report.is_grave:
            return report
        with self._part(SAMPLES), as_stopped(self.at.stop):
            pieces = read_sample.plan_sample(amount_of(sample), self.context)
            if not pieces:  # nothing is stored yet
                return report
            run = read_sample.begin_reading(pieces, self.context, self._limit(sample, pieces))
            return self.go_on(run, retry_limit)

    def compare(self, retry_limit: RetryLimit | None = None) -> CheckReport:
        """Compare the inventory with the vault's list; "waiting" while the vault prepares that."""
        return compare_with_vault(self.context.within(retry_limit))

    def versions(self, retry_limit: RetryLimit | None = None) -> VersionsReport:
        """Compare all versions that the bucket keeps with what was stored; no run records it."""
        return compare_versions(self.context.within(retry_limit))

    def go_on(self, run: int, retry_limit: RetryLimit | None = None) -> CheckReport:
        """Read what has come of the sample of that run; "waiting" for the rest."""
        return read_sample.go_on(run, self.context.within(retry_limit))

    def _part(self, part: Mapping[str, Any]) -> AbstractContextManager[None]:
        told = {"vault": self.name, **part}
        return attempt(self.at.inventory, self.at.clock, self.kind, told, makes_good=True)

    def _limit(self, sample: str, pieces: Sequence[read_sample.Piece]) -> CostLimit:
        config, settings = self.at.config, self.at.config.vault(self.name)
        return limit_on(
            config,
            settings,
            quote_sample(config, settings, self.context.vault.traits, pieces),
            config.restore.max_restore_cost,
            f"reading {sample} of vault {self.name}",
            setting="max_restore_cost",
            less="make check_sample smaller",
        )


def amount_of(words: str) -> Amount:
    """Return the amount that "1%" or "5GiB" means; the config has checked its form."""
    if words.endswith("%"):
        return Amount(share=Fraction(words[:-1]) / 100)
    return Amount(size=parse_size(words))
