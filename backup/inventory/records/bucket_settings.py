"""The settings of buckets as they were last seen, so that what somebody switches is noticed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta

from msgspec import Struct

from backup.inventory.content.archives import get_or_create_vault
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import changed, insert_row, raw_rows
from backup.inventory.store.times import micros, moment
from backup.model import VaultName

_NAMED = timedelta(days=7)


class SeenSetting(Struct, frozen=True):
    """A kind of settings as sentences; those `before` were so until `since`, as far as anybody looked."""

    told: frozenset[str]
    before: frozenset[str]
    since: datetime
    looked_at: datetime

    def seen(self, told: frozenset[str], now: datetime) -> SeenSetting:
        """The same after another look."""
        if told == self.told:
            return SeenSetting(told, self.before, self.since, now)
        return SeenSetting(told, self.told, now, now)

    def switched(self, now: datetime) -> tuple[list[str], list[str]]:
        """Return the sentences that are new since a look within a week, and those that are gone since."""
        if now - self.since > _NAMED:
            return [], []
        return sorted(self.told - self.before), sorted(self.before - self.told)


def seen_settings(tx: Transaction, vault: VaultName) -> dict[str, SeenSetting]:
    """Return the settings of a vault's bucket as they were last seen, by kind."""
    sql = """SELECT b.what, b.told, b.told_before, b.since, b.looked_at FROM bucket_settings b
             JOIN vaults v ON v.number = b.vault WHERE v.name = ?"""
    return {
        what: SeenSetting(
            frozenset(json.loads(told)), frozenset(json.loads(before)), moment(since), moment(looked_at)
        )
        for what, told, before, since, looked_at in raw_rows(tx, sql, (vault,))
    }


def record_settings(tx: Transaction, vault: VaultName, seen: Mapping[str, SeenSetting]) -> None:
    """Record what was seen, in place of what was recorded of these kinds."""
    number = get_or_create_vault(tx, vault)
    for what, setting in seen.items():
        changed(tx, "DELETE FROM bucket_settings WHERE vault = ? AND what = ?", (number, what))
        told, before = (json.dumps(sorted(texts)) for texts in (setting.told, setting.before))
        times = {"since": micros(setting.since), "looked_at": micros(setting.looked_at)}
        insert_row(tx, "bucket_settings", vault=number, what=what, told=told, told_before=before, **times)
