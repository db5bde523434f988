"""A backup's delta catalog, written while the run goes on.

Entries go into it as they are staged, archives as they are stored. The file is begun in the spool with the
first of them, and nothing refers to it before `finish`. If the run ends before, it is deleted, at the latest
by the next run. Its parent cannot change meanwhile, as every writer of catalogs holds the lock of backups.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from backup.catalogs import catalogs
from backup.catalogs.context import OpenRun
from backup.format.catalog import DirectoryRecord, OwnerRecord, Record, SnapshotRecord
from backup.inventory.content import entries
from backup.inventory.records import runs
from backup.model import Generation, Owner

_MOST_TOLD: Final = 50_000
"""Numbers of directories that are remembered: one that comes again later does no harm."""


class _Begun(Struct, frozen=True):
    """The catalog that is being written, and the chain that it follows."""

    writer: catalogs.CatalogWriter
    chain: catalogs.Chain
    number: int
    generation: Generation


class Delta:
    """The delta catalog of one backup; `close` it at the end, whatever happened.

    For one thread at a time: the writer thread during the run, then the run's own.
    """

    def __init__(self, at: OpenRun) -> None:
        self._at = at
        self._begun: _Begun | None = None
        self._owners: set[int] = set()  # that it has told of, as the directories below
        self._directories: set[int] = set()
        self._archives: set[int] = set()
        self._on_their_way: dict[int, catalogs.PackContents] = {}  # by the archive's number

    def staged(
        self, owners: Mapping[int, Owner], directories: Mapping[int, bytes], added: Sequence[Sequence[Any]]
    ) -> None:
        """Write new versions of entries (columns of `StagedEntry`), and what they refer to, by number."""
        writer = self._open().writer
        self._tell_owners(writer, owners)
        new = sorted(directories.keys() - self._directories)
        writer.add(DirectoryRecord(number, directories[number]) for number in new)
        if len(self._directories) + len(new) > _MOST_TOLD:
            self._directories.clear()
        self._directories.update(new)
        writer.add(catalogs.entry_records(added, self._at.run.snapshot_number or 0))

    def recorded(self, number: int, contents: catalogs.PackContents) -> None:
        """Remember the content of an archive of this run until it is stored."""
        self._on_their_way[number] = contents

    def stored(self, numbers: Sequence[int]) -> None:
        """Write archives of this run, with their content."""
        if not numbers:
            return
        writer, contents = self._open().writer, self._on_their_way
        with self._at.context.inventory.reading() as tx:
            writer.add(catalogs.archive_records(tx, self._at.context.inventory, numbers, contents))
        self._archives.update(numbers)
        for number in numbers:
            contents.pop(number, None)

    def finish(
        self, snapshot: SnapshotRecord, used: Iterable[int], marks: Sequence[Record]
    ) -> catalogs.WrittenCatalog:
        """Write the last records; `used` are the archives that its entries need besides the run's own."""
        at, inventory = self._at, self._at.context.inventory
        begun = self._open()
        with inventory.reading() as tx:
            chain = catalogs.read_chain(
                tx, at.row.number, at.vault, inventory
            )  # a check may have found one lost
            names = catalogs.names_after(tx, at, used)
            every = names | self._archives
            position = catalogs.position_after(begun.chain, at.row, begun.number, begun.generation, every)
            rest = catalogs.delta_rest(tx, at, sorted(names - self._archives), chain, snapshot, marks)
            self._tell_owners(begun.writer, entries.owners_by_number(tx))
            begun.writer.add(rest)
        self._begun = None
        pack, file_name = begun.writer.finish()
        return catalogs.WrittenCatalog(pack, file_name, position)

    def close(self) -> None:
        """Delete what was written, unless it was finished."""
        begun, self._begun = self._begun, None
        if begun is not None:
            begun.writer.discard()

    def _tell_owners(self, writer: catalogs.CatalogWriter, owners: Mapping[int, Owner]) -> None:
        new = sorted(owners.keys() - self._owners)
        writer.add(OwnerRecord(number, *owners[number]) for number in new)
        self._owners.update(new)

    def _open(self) -> _Begun:
        """The catalog; its first use begins it. A job's first is a full one, too."""
        if self._begun is None:
            at, inventory = self._at, self._at.context.inventory
            with inventory.writing() as tx:
                number = runs.allot_catalog(tx, at.row)
            with inventory.reading() as tx:
                chain = catalogs.read_chain(tx, at.row.number, at.vault, inventory)
            generation = chain.next_generation
            writer = catalogs.open_catalog(at, number, generation, chain)
            self._begun = _Begun(writer, chain, number, generation)
            writer.add(catalogs.start_records(at, number, generation, chain))
        return self._begun
