"""Scheduled checks: the vault's list is compared, then a sample is read back if one is configured.

No recovery key is on the server, so encrypted bytes are compared with the inventory's hashes. The limit of
`[restore] max_restore_cost` holds for samples, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from fractions import Fraction
from typing import Any

from backup.app.backups.run_context import attempt
from backup.app.base.opened import opened
from backup.app.checks.checks import check_context, quote_sample
from backup.app.money.limits import limit_on
from backup.app.status.metrics_file import metrics_after
from backup.checker import read_sample
from backup.checker.check import compare_with_vault
from backup.checker.report import CheckReport
from backup.checker.sample import Amount
from backup.config import Config, parse_size
from backup.inventory.store.states import StepStage
from backup.kinds import RunKind
from backup.model import VaultName
from backup.protocols import Clock, Progress

# As in the report of a check that came to its end, so that one makes good what the other said.
LISTS: Mapping[str, Any] = {"compared": {}, "read": None, "laws": None}
SAMPLES: Mapping[str, Any] = {"compared": None, "read": {}, "laws": None}


def check_once(config: Config, vault: VaultName, *, clock: Clock, progress: Progress) -> CheckReport:
    """Run one step of a check: "waiting" while the vault prepares its list, or the bytes to be read.

    A waiting sample is continued, also one that was begun by hand.
    """
    settings = config.vault(vault)
    with (
        metrics_after(config, clock),
        closing(opened(config)) as inventory,
        attempt(inventory, clock, RunKind.CHECK, {"vault": vault, **LISTS}) as told,
    ):
        context = check_context(config, inventory, vault, clock=clock, progress=progress)
        run = read_sample.find_open(context)
        if run is not None:
            told.update(SAMPLES)
            return read_sample.go_on(run, context)
        report = compare_with_vault(context)
        if report.state is not StepStage.DONE or settings.check_sample is None or report.is_grave:
            return report
        with attempt(inventory, clock, RunKind.CHECK, {"vault": vault, **SAMPLES}):
            pieces = read_sample.plan_sample(amount_of(settings.check_sample), context)
            if not pieces:  # nothing is stored yet
                return report
            limit = limit_on(
                config,
                settings,
                quote_sample(config, settings, context.vault.traits, pieces),
                config.restore.max_restore_cost,
                f"reading {settings.check_sample} of vault {vault}",
                setting="max_restore_cost",
                less="make check_sample smaller",
            )
            return read_sample.go_on(read_sample.begin_reading(pieces, context, limit), context)


def amount_of(words: str) -> Amount:
    """Return the amount that "1%" or "5GiB" means; the config has checked its form."""
    if words.endswith("%"):
        return Amount(share=Fraction(words[:-1]) / 100)
    return Amount(size=parse_size(words))
