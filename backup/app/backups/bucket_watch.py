"""Finds settings of a bucket that were changed since the last backup; the backup of that night names them.

A vault that locks nothing has its lifecycle rules looked at, and its lock only if it keeps versions, which
each upload tells: S3 locks versions alone. One with `lock` has its lock looked at: renewals look at rules. So
that is a request a night, and two where a bucket keeps versions for others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from backup.app.base.run_context import RunContext
from backup.errors import NightvaultError
from backup.inventory.records.bucket_settings import SeenSetting, record_settings, seen_settings
from backup.model import VaultName
from backup.protocols import Vault
from backup.vault.s3.vault import S3Vault

_A_NIGHT = timedelta(hours=20)
_VERSIONS = "it keeps versions of what is deleted or overwritten"


def switched(at: RunContext, name: VaultName, vault: Vault) -> list[str]:
    """A sentence for each setting that was switched within a week, and for each rule that does harm."""
    if not isinstance(vault, S3Vault):
        return []
    now = at.clock.now()
    with at.inventory.reading() as tx:
        seen = seen_settings(tx, name)
    found = _look(vault, seen, now)
    if "rules" in found:
        found["harms"] = frozenset(vault.harms)
    after = {
        what: seen[what].seen(told, now) if what in seen else SeenSetting(told, told, now, now)
        for what, told in found.items()
    }
    if after:
        with at.inventory.writing() as tx:
            record_settings(tx, name, after)
    bucket = vault.bucket_name
    harms = [f"bucket {bucket}: {text}" for text in vault.harms] if "rules" in found else []
    return [*harms, *_changes(bucket, seen | after, now)]


def _look(vault: S3Vault, seen: Mapping[str, SeenSetting], now: datetime) -> dict[str, frozenset[str]]:
    """Read the settings to be looked at tonight, by kind; without those that are denied or do not answer."""
    found = {}
    keeps = vault.keeps_versions
    if keeps is not None:
        found["versions"] = frozenset([_VERSIONS] if keeps else [])
    else:
        keeps = "versions" in seen and bool(seen["versions"].told)
    asks = {"lock": vault.lock_told} if vault.locks or keeps else {}
    if not vault.locks:
        asks["rules"] = vault.rules_told
    for what, ask in asks.items():
        if what in seen and abs(now - seen[what].looked_at) < _A_NIGHT:
            continue
        try:
            found[what] = frozenset(ask())
        except NightvaultError:  # the doctor names what is denied
            continue
    return found


def _changes(bucket: str, seen: Mapping[str, SeenSetting], now: datetime) -> Iterator[str]:
    for what, setting in seen.items():
        if what == "harms":  # these are named as long as they last
            continue
        since, named = f"bucket {bucket}, since {setting.since:%Y-%m-%d}", f"bucket {bucket} "
        new, gone = setting.switched(now)
        yield from (f"{since}: {text.removeprefix(named)}" for text in new)
        yield from (f"{since} no longer: {text.removeprefix(named)}" for text in gone)
