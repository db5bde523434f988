"""Writes a job's catalogs into the spool and stores them: the delta of a run, and a full one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from backup.catalogs import catalogs
from backup.catalogs.context import OpenRun
from backup.catalogs.delta import Delta
from backup.catalogs.full import Due, full_due
from backup.format.catalog import Record, SnapshotRecord
from backup.format.header import NO_FEATURE, CatalogFeature
from backup.format.line import CatalogAddress, RecoveryLine
from backup.format.pack import parse_header
from backup.inventory.content import archives
from backup.inventory.content.archives import Archive, CatalogPosition
from backup.inventory.content.lost import replacements
from backup.inventory.records import amendments, runs
from backup.inventory.records.runs import JobRow
from backup.model import Generation, VaultName


class CatalogSender:
    """Writes the catalogs of one run of a job, and waits until the vault has stored them."""

    def __init__(self, at: OpenRun) -> None:
        self._at = at

    def delta_of_backup(
        self, delta: Delta, snapshot: SnapshotRecord, used: Iterable[int], marks: Sequence[Record] = ()
    ) -> Archive:
        """Store the delta of a backup; `used` are the archives that its entries need, besides its own.

        `marks` are those of the snapshot.
        """
        return self._send(delta.finish(snapshot, used, marks))

    def delta_of_amendment(self, amendment: Sequence[Record]) -> Archive:
        """Store the delta of an amendment; a job's first catalog is full, too."""
        at, inventory = self._at, self._at.context.inventory
        number = self._allot()
        features = CatalogFeature.MARKS if amendments.needs_marks(amendment) else NO_FEATURE
        with inventory.reading() as tx:
            chain = catalogs.read_chain(tx, at.row.number, at.vault, inventory)
            names = catalogs.names_after(tx, at, ())
            position = catalogs.position_after(chain, at.row, number, chain.next_generation, names)
            stream = catalogs.amending_records(tx, at, position, chain, amendment)
            written = self._write(stream, position, chain, features)
        return self._send(written)

    def full_due(self) -> Due | None:
        """The reason why a full catalog is due; None if it is not."""
        inventory = self._at.context.inventory
        with inventory.reading() as tx:
            chain = catalogs.read_chain(tx, self._at.row.number, self._at.vault, inventory)
        return full_due(chain, self._at.keys, self._at.context.most_deltas)

    def full(self) -> Archive:
        """Store a full catalog of the job, as of its newest delta."""
        inventory = self._at.context.inventory
        number = self._allot()
        with inventory.reading() as tx:
            chain = catalogs.read_chain(tx, self._at.row.number, self._at.vault, inventory)
            where = self._at.row.number
            names = archives.named_archives(tx, where, vault=self._at.vault, also_spoiled=True)
            names |= replacements(tx, names)
            position = catalogs.position_after(chain, self._at.row, number, Generation.FULL, names)
            told = catalogs.snapshot_records(tx, self._at.row, names)
            stream = catalogs.full_records(tx, self._at, position, chain, told)
            features = CatalogFeature.MARKS if amendments.needs_marks(told) else NO_FEATURE
            written = self._write(stream, position, chain, features)
        return self._send(written)

    def line(self) -> str:
        """Return the recovery line of the job's present state."""
        inventory = self._at.context.inventory
        with inventory.reading() as tx:
            chain = catalogs.read_chain(tx, self._at.row.number, self._at.vault, inventory)
        return recovery_line(chain, self._at.row, self._at.context.vault.name)

    def _allot(self) -> int:
        with self._at.context.inventory.writing() as tx:
            return runs.allot_catalog(tx, self._at.row)

    def _write(
        self,
        stream: Iterable[Record | tuple[Any, ...]],
        position: CatalogPosition,
        chain: catalogs.Chain,
        features: CatalogFeature,
    ) -> catalogs.WrittenCatalog:
        writer = catalogs.open_catalog(self._at, position.number, position.generation, chain, features)
        try:
            writer.add(stream)
        except BaseException:
            writer.discard()
            raise
        return catalogs.WrittenCatalog(*writer.finish(), position)

    def _send(self, written: catalogs.WrittenCatalog) -> Archive:
        """Upload a catalog and wait until it is stored."""
        domain, run = self._at.domain, self._at.run.number
        uploader = self._at.uploader
        number = uploader.send(
            uploader.record(written.pack, written.file_name, domain=domain, run=run, catalog=written.position)
        )
        uploader.drain()
        inventory = self._at.context.inventory
        with inventory.reading() as tx:
            return archives.get_archives(tx, [number], inventory.id)[number]


def recovery_line(chain: catalogs.Chain, job: JobRow, vault: VaultName) -> str:
    """Return the line that finds this state without the inventory; empty before the first catalog."""
    delta = chain.newest_delta
    if delta is None or delta.archive_id is None:
        return ""
    full = next((link for link in chain.links if link.label.generation is Generation.FULL), None)
    known = full and full.archive_id
    return RecoveryLine(
        vault=vault,
        job=job.name,
        inventory_id=parse_header(delta.header).fields.inventory_id,
        job_id=job.id,
        number=delta.label.number,
        header_hash=hashlib.sha256(delta.header).digest(),
        delta=CatalogAddress(delta.archive_id, delta.size),
        full=CatalogAddress(known, full.size) if full and known else None,
    ).to_text()
