"""Statistics from the inventory: storage, growth and requests, with the prices of each vault."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo

from msgspec import Struct

from backup.app.money.prices import kind_of, known_table, money_unknown
from backup.config import Config, VaultSettings, part_size_within
from backup.cost import PriceTable
from backup.inventory.content import pruning
from backup.inventory.content.need import kept_snapshots
from backup.inventory.questions import stats as queries
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import Inventory
from backup.model import MIB, JobName, PackKind, VaultName
from backup.pruner.needed import needed_archives
from backup.retention.nights import nights_of
from backup.retention.stats import MONTH, Rows, Summary, Terms, summed
from backup.retention.unusual import NIGHTS

_LOOKED_AT = timedelta(days=NIGHTS * 14)
"""So far back are runs read: thirty nights of a weekly job, and thirty before that say what is usual."""
_OTHER_PART_SIZE = 32 * MIB


class Statistics(Struct, frozen=True):
    """The statistics: rows of the inventory, and the prices of each vault that has any.

    `table` is None if the prices are not known, and `unknown` says why.
    """

    now: datetime
    rows: Rows
    terms: Mapping[VaultName, Terms]
    table: PriceTable | None
    unknown: str | None = None

    @property
    def currency(self) -> str:
        """The currency of amounts; None if it is not known."""
        return "" if self.table is None else self.table.currency

    @property
    def today(self) -> date:
        """The present day in UTC, by which vaults bill."""
        return self.now.astimezone(UTC).date()

    def of_vault(self, vault: VaultName) -> Summary:
        """The summary of a vault, limited to the chosen jobs."""
        return summed(self.rows.of(vault), self.terms[vault], self.today)

    def of_job(self, vault: VaultName, job: JobName | None) -> Summary:
        """The summary of a job in a vault; None: of archives that belong to none."""
        return summed(self.rows.of(vault, job), self.terms[vault], self.today)


def read_statistics(
    config: Config,
    inventory: Inventory,
    now: datetime,
    *,
    vault: VaultName | None = None,
    job: JobName | None = None,
    zone: tzinfo | None = None,
) -> Statistics:
    """Return the statistics of everything, of a vault or of a job, from the inventory alone.

    `zone` is the time zone by which nights are dated (None: this machine's).
    """
    with inventory.reading() as tx:
        return statistics_in(tx, config, now, vault=vault, job=job, zone=zone)


def statistics_in(
    tx: Transaction,
    config: Config,
    now: datetime,
    *,
    vault: VaultName | None = None,
    job: JobName | None = None,
    zone: tzinfo | None = None,
    dead: Callable[[Transaction], Sequence[queries.Stored]] | None = None,
    versions: Callable[[Transaction], Sequence[queries.Contents]] = queries.versions,
) -> Statistics:
    """Same as `read_statistics`, in one transaction.

    `dead` and `versions` cost a scan of every entry, so a caller may pass results that it kept.
    """
    since = now - timedelta(days=MONTH)
    runs = queries.backup_runs(tx, now - _LOOKED_AT)
    rows = Rows(
        stored=[*queries.stored(tx), *queries.unknown(tx)],
        snapshots=queries.snapshots(tx),
        versions=versions(tx),
        nights=nights_of(runs, lambda began: began.astimezone(zone).date()),
        uploads=queries.uploads(tx, since),
        retrieved=queries.retrieved(tx, since),
        shared=queries.shared(tx),
        dead=(dead or dead_archives)(tx),
    )
    table = known_table(config)
    chosen = rows.only(vault, job)
    terms = _terms_of(config, table, (name for name, _ in chosen.parts))
    return Statistics(now, chosen, terms, table, money_unknown(config))


def dead_archives(tx: Transaction) -> list[queries.Stored]:
    """Return the archives that a prune would delete: no kept snapshot, rebuild or open restore needs them.

    Archives of a run that may still be committed are not among them.
    """
    every = queries.each(tx)
    kept = kept_snapshots(tx)
    needed = pruning.archives_of_open_restores(tx)
    for vault in {row.vault for row in every.values()}:
        needed |= needed_archives(tx, vault, kept)
        needed |= {archive.number for archive in pruning.stored_archives(tx, vault) if archive.run_is_open}
    return [row for number, row in every.items() if number not in needed]


def _terms_of(config: Config, table: PriceTable | None, names: Iterable[VaultName]) -> dict[VaultName, Terms]:
    settings = {vault.name: vault for vault in config.vaults}
    return {
        name: terms_of(config, table, settings[name]) if name in settings else _not_in_config(name)
        for name in names
    }


def terms_of(config: Config, table: PriceTable | None, vault: VaultSettings) -> Terms:
    """Return the prices of a vault: a bucket keeps catalogs in a storage class of their own.

    None: no price is known.
    """
    classes = {kind: kind_of(vault, kind) for kind in PackKind}
    is_free = vault.kind == "directory"
    known = None if is_free else table
    prices = {kind: known.find(vault.region, name) if known else None for kind, name in classes.items()}
    part_size = part_size_within(vault, config.limits.memory)
    return Terms(vault.name, vault.kind, vault.region, is_free, classes, prices, part_size, vault.endpoint)


def _not_in_config(vault: VaultName) -> Terms:
    """The terms of a vault that only the inventory knows: nothing is known of them."""
    unknown = dict.fromkeys(PackKind, "unknown")
    return Terms(vault, "unknown", None, False, unknown, dict.fromkeys(PackKind), part_size=_OTHER_PART_SIZE)
