"""The context of a keeper, made from a config: vault and prune role, recovery key, floor."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from backup.app.base.state import State
from backup.app.base.vaults import Purpose, make_vault
from backup.app.money.limits import limit_on_catalogs
from backup.app.rebuilds.rebuilds import check_keys
from backup.config import Config
from backup.errors import ConfigError, UsageError
from backup.format.keys import RecoveryKey
from backup.model import Tier, VaultName
from backup.protocols import Clock, Progress
from backup.pruner.keeper.keep import KeeperContext
from backup.retention.spans import parse_span

DEFAULT_KEEP_WITHIN = "30d"


def keeper_context(
    config: Config,
    vault: VaultName,
    recovery_keys: Sequence[RecoveryKey],
    *,
    clock: Clock,
    progress: Progress,
    stop: Callable[[], bool],
    keep_within: str | None = None,
    tier: Tier | None = None,
    accept: Sequence[str] = (),
    who: str = "",
    purpose: Purpose = Purpose.PRUNE,
) -> KeeperContext:
    """Return the context of a keeper's deletions in that vault, or with `LOCK` of its renewals there.

    `keep_within` replaces the config's; what is locked is kept for `lock_for` at least. `accept` are pack ids
    of strangers' catalogs that `who` says to ignore.
    """
    check_keys(config, recovery_keys)
    settings = config.vault(vault)
    state = State(config.state_dir)
    state.create()
    within = _length(keep_within or settings.keep_within or DEFAULT_KEEP_WITHIN, clock.now())
    if purpose is Purpose.LOCK:
        within = max(within, timedelta(seconds=settings.lock_for))
    return KeeperContext(
        vault=make_vault(config, vault, purpose, clock, stop=stop),
        clock=clock,
        progress=progress,
        recovery_keys=recovery_keys,
        folder=os.path.join(state.keeper, vault),
        limit_on=limit_on_catalogs(config, settings, "prune"),
        keep_within=within,
        grace=timedelta(seconds=settings.prune_grace),
        tier=tier or settings.tier,
        stop=stop,
        accept=accept,
        who=who,
    )


def _length(text: str, now: datetime) -> timedelta:
    """A span such as "30d" or "1y", counted back from now."""
    try:
        return now - parse_span(text).before(now, ZoneInfo("UTC"))
    except ConfigError as error:
        raise UsageError(f"--keep-within: {error}") from error
