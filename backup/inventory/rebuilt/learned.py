"""Takes what another vault's catalogs say of copies into an inventory that was rebuilt without them.

    learn(tx, found, vault, domain_of, now)     # `found` reads an inventory that was rebuilt from there

Numbers of the two may differ: what is the same is known by what names it (a pack by its id, a chunk by its
archive and id, an entry by directory, name and snapshot), and what is new gets numbers of this inventory. A
full catalog has to follow there before anything is said by them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from backup.errors import NightvaultError
from backup.format.rows import pack_u32, unpack_u32
from backup.inventory.content.archives import THERE, ArchiveState
from backup.inventory.content.copied import KeptThere
from backup.inventory.content.numbers import Counter, reserve
from backup.inventory.content.packed import index_chunks, insert_missing_chunks
from backup.inventory.content.strangers import pass_catalogs, passed_catalogs
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import (
    changed,
    insert_row,
    insert_tuples,
    quoted,
    raw_rows,
    row_of,
    value_of,
)
from backup.inventory.store.times import micros
from backup.model import ChunkRow, PackKind

DomainOf = Callable[[int, bytes], int]
"""The number of a vault's domain of what is sealed for these recipients, by their joined ids."""

_ENTRY: Final = "name, kind, mode, owner, mtime_ns, size, extra, content_id, chunks, added_in, removed_in"
_OWNER, _CHUNKS, _ADDED, _REMOVED = map(
    _ENTRY.split(", ").index, ("owner", "chunks", "added_in", "removed_in")
)
_ARCHIVE: Final = """number, domain, kind, state, pack_id, header, size, tree_hash, archive_id, submitted_at,
stored_at, version"""

_SNAPSHOT: Final = """id, number, started_at, finished_at, host, sources, problems, files, bytes, tags,
pin_note, pin_until, counts, roots"""


class Learned(NamedTuple):
    """The number of snapshots that the vault has copies of, and how many of them it alone has."""

    snapshots: int
    alone: int


class _Job(NamedTuple):
    """A job with copies: its number here and there, its own vault, and the copies' snapshots, rising."""

    number: int
    other: int
    vault: int
    snapshots: Sequence[int]
    alone: Collection[int]


def learn(tx: Transaction, found: Transaction, vault: int, domain_of: DomainOf, now: datetime) -> Learned:
    """Record the copies in a vault of which nothing is known yet.

    `NightvaultError` if the inventory knows less than the vault's catalogs, or has given their numbers to
    others: then the transaction must be given up.
    """
    return _Learning(tx, found, vault, domain_of, now).learn()


class _Learning:
    """One transaction of it."""

    def __init__(
        self, tx: Transaction, found: Transaction, vault: int, domain_of: DomainOf, now: datetime
    ) -> None:
        self._tx, self._found, self._vault = tx, found, vault
        self._domain_of, self._now = domain_of, micros(now)
        self._archives: dict[int, int] = {}  # numbers there: numbers here, as those that follow
        self._chunks: dict[int, int] = {}
        self._owners: dict[int, int] = {}
        sql = "SELECT number, recipients FROM domains"
        self._recipients: dict[int, bytes] = dict(raw_rows(found, sql, ()))

    def learn(self) -> Learned:
        jobs = [job for job in self._jobs() if job.vault != self._vault]
        self._take_domains()
        self._take_archives(jobs)
        for job in jobs:
            self._take_snapshots(job)
            self._take_entries(job)
            self._require_same(job)
        self._take_condemnations({job.other: job.number for job in jobs})
        pass_catalogs(self._tx, passed_catalogs(self._found))
        index_chunks(self._tx)
        return Learned(sum(len(job.snapshots) for job in jobs), sum(len(job.alone) for job in jobs))

    def _jobs(self) -> Iterator[_Job]:
        """The jobs there, as this inventory has them; each one's catalogs get numbers above those there."""
        sql = "SELECT number, id, name, next_catalog FROM jobs ORDER BY number"
        for other, job_id, name, following in raw_rows(self._found, sql, ()):
            row = row_of(self._tx, "SELECT number, vault, next_snapshot FROM jobs WHERE id = ?", (job_id,))
            if row is None:
                raise _unlike(f"it has copies of job {name}, which this inventory does not know")
            number, vault, next_snapshot = row
            raised = "UPDATE jobs SET next_catalog = max(next_catalog, ?) WHERE number = ?"
            changed(self._tx, raised, (following, number))
            sql = "SELECT number, id FROM snapshots WHERE job = ? ORDER BY number"
            here = dict(raw_rows(self._tx, sql, (number,)))
            there = dict(raw_rows(self._found, sql, (other,)))
            alone = there.keys() - here.keys()
            others = [number for number in there if here.get(number, there[number]) != there[number]]
            if vault != self._vault and (others or any(number >= next_snapshot for number in alone)):
                raise _unlike(f"it has snapshots of job {name} that this inventory never knew")
            yield _Job(number, other, vault, list(there), alone)

    # Archives.

    def _take_domains(self) -> None:
        """The vault's domains, with the numbers that they have there, where nothing has these here."""
        unused = """DELETE FROM domains WHERE vault = ? AND number NOT IN (SELECT domain FROM archives)
                    AND number NOT IN (SELECT domain FROM copies)"""
        changed(self._tx, unused, (self._vault,))
        sql = "SELECT number, id, recipients, created_at FROM domains ORDER BY number"
        columns = "number", "id", "vault", "recipients", "created_at"
        for number, domain_id, recipients, _ in list(raw_rows(self._found, sql, ())):
            row = (number, domain_id, self._vault, recipients, self._now)
            insert_tuples(self._tx, "domains", columns, [row], only_new=True)

    def _take_archives(self, jobs: Sequence[_Job]) -> None:
        """The packs that the jobs' catalogs there name, and these catalogs."""
        homes = {job.other: job.vault for job in jobs}
        sql = """SELECT n.archive, c.job FROM catalog_archives n JOIN catalogs c ON c.archive = n.catalog
                 UNION SELECT archive, job FROM catalogs"""
        named = {archive: homes[job] for archive, job in raw_rows(self._found, sql, ()) if job in homes}
        with_chunks = any(job.alone for job in jobs)
        for row in raw_rows(self._found, f"SELECT {_ARCHIVE} FROM archives ORDER BY number", ()):
            if row[0] in named and row[2] == PackKind.CATALOG:
                domain = self._domain_of(self._vault, self._recipients[row[1]])
                self._archives[row[0]] = self._insert_archive(row, domain, row[3], row[8], row[11])
            elif row[0] in named:
                self._take_copy(row, named[row[0]], with_chunks=with_chunks)
        for job in jobs:
            self._take_catalogs(job)

    def _take_catalogs(self, job: _Job) -> None:
        """The chain of a job: its catalogs are archives of that vault alone."""
        columns = "archive", "job", "number", "generation", "parent"
        sql = "SELECT archive, number, generation, parent FROM catalogs WHERE job = ? ORDER BY archive"
        rows = list(raw_rows(self._found, sql, (job.other,)))
        given = "SELECT number, generation FROM catalogs WHERE job = ?"
        if not {row[1:3] for row in rows}.isdisjoint(raw_rows(self._tx, given, (job.number,))):
            raise _unlike("its catalogs have numbers that this inventory gave to others")
        chain = [(self._archives[archive], job.number, *place) for archive, *place in rows]
        insert_tuples(self._tx, "catalogs", columns, chain)
        for archive, *_ in rows:
            names = "SELECT archive FROM catalog_archives WHERE catalog = ?"
            some = [self._archives[name] for (name,) in raw_rows(self._found, names, (archive,))]
            catalog = self._archives[archive]
            insert_tuples(self._tx, "catalog_archives", ("catalog", "archive"), [(catalog, n) for n in some])

    def _take_copy(self, row: Sequence[Any], home: int, *, with_chunks: bool) -> None:
        """A pack there: the one known here, or one that its own vault has given up and nobody told of."""
        _, domain, _, state, pack, _, _, _, archive_id, _, stored_at, version = row
        recipients, there = self._recipients[domain], state in THERE
        sql = "SELECT number FROM archives WHERE pack_id = ?"
        number = value_of(self._tx, sql, (pack,))
        if number is None:
            domain_here = self._domain_of(home, recipients)
            number = self._insert_archive(row, domain_here, ArchiveState.DELETED, None, None)
        elif there:
            sql = "UPDATE archives SET header = ?, size = ?, tree_hash = ? WHERE number = ? AND header = ?"
            changed(self._tx, sql, (*row[5:8], number, b""))
        self._archives[row[0]] = number
        self._take_contents(row[0], number, with_frames=there, with_chunks=with_chunks)
        unsure = state == ArchiveState.UNCONFIRMED
        since = self._now if unsure or stored_at is None else stored_at
        insert_row(
            self._tx,
            "copies",
            archive=number,
            vault=self._vault,
            domain=self._domain_of(self._vault, recipients),
            state=state,
            since=since,
            stored_at=stored_at,
            archive_id=archive_id,
            version=version,
            part_size=0,
            spool_file="",
        )

    def _insert_archive(
        self, row: Sequence[Any], domain: int, state: str, archive_id: str | None, version: str | None
    ) -> int:
        number = self._number("archives", row[0])
        columns = [name.strip() for name in _ARCHIVE.split(",")]
        place = {"number": number, "domain": domain, "state": str(state)}
        named = {"archive_id": archive_id, "version": version}
        insert_row(self._tx, "archives", **{**dict(zip(columns, row, strict=True)), **place, **named})
        return number

    def _take_contents(self, other: int, number: int, *, with_frames: bool, with_chunks: bool) -> None:
        """The frames and chunks of a pack that are not known here."""
        if with_frames:
            columns = ("number", "offset", "sealed_length", "raw_length", "flags", "digest")
            sql = """SELECT ?, number, "offset", sealed_length, raw_length, flags, digest FROM frames
                     WHERE archive = ? ORDER BY number"""
            frames = list(raw_rows(self._found, sql, (number, other)))
            insert_tuples(self._tx, "frames", ("archive", *columns), frames, only_new=True)
        known = dict(raw_rows(self._tx, "SELECT id, number FROM chunks WHERE archive = ?", (number,)))
        sql = 'SELECT number, id, frame, "offset", length FROM chunks WHERE archive = ? ORDER BY number'
        new: list[tuple[int, ChunkRow]] = []
        for chunk, chunk_id, *where in raw_rows(self._found, sql, (other,)):
            if chunk_id not in known:
                new.append((chunk, ChunkRow(chunk_id, *where)))
            elif with_chunks:
                self._chunks[chunk] = known[chunk_id]
        if new:
            numbers = [self._number("chunks", chunk) for chunk, _ in new]
            insert_missing_chunks(self._tx, number, numbers, [chunk for _, chunk in new])
            self._chunks.update(zip((chunk for chunk, _ in new), numbers, strict=True))

    def _number(self, counter: Counter, wanted: int) -> int:
        """The number that it has there, if nothing has it here, else a new one.

        Catalogs of other jobs there may still be those of before, which go by the same numbers.
        """
        if row_of(self._tx, f"SELECT 1 FROM {quoted(counter)} WHERE number = ?", (wanted,)) is not None:
            return reserve(self._tx, counter, 1)
        sql = "UPDATE counters SET next = max(next, ?) WHERE name = ?"
        changed(self._tx, sql, (wanted + 1, counter))
        return wanted

    def _take_condemnations(self, jobs: dict[int, int]) -> None:
        """Take over condemnations by the jobs' catalogs there: of copies, and of catalogs of that vault."""
        sql = """SELECT c.archive, c.job, c.at, a.kind FROM condemnations c
                 JOIN archives a ON a.number = c.archive"""
        for archive, job, at, kind in raw_rows(self._found, sql, ()):
            if job not in jobs or archive not in self._archives:
                continue
            said = {"archive": self._archives[archive], "job": jobs[job], "at": at}
            if kind == PackKind.CATALOG:
                insert_row(self._tx, "condemnations", **said)
            else:
                insert_row(self._tx, "condemned_copies", **said, vault=self._vault)
                sql = "UPDATE copies SET since = ? WHERE archive = ? AND vault = ? AND state = ?"
                changed(self._tx, sql, (at, said["archive"], self._vault, ArchiveState.CONDEMNED))

    # Snapshots and their entries.

    def _take_snapshots(self, job: _Job) -> None:
        names = [name.strip() for name in _SNAPSHOT.split(",")]
        sql = f"SELECT {_SNAPSHOT}, forgotten_at FROM snapshots WHERE job = ? ORDER BY number"
        wanted = "DELETE FROM copied_snapshots WHERE vault = ? AND job = ?"
        changed(self._tx, wanted, (self._vault, job.number))
        for *values, forgotten_at in list(raw_rows(self._found, sql, (job.other,))):
            row = dict(zip(names, values, strict=True))
            is_alone = row["number"] in job.alone
            if is_alone:
                gone_at = forgotten_at or self._now
                insert_row(self._tx, "snapshots", **row, job=job.number, forgotten_at=gone_at)
            insert_row(
                self._tx,
                "copied_snapshots",
                job=job.number,
                vault=self._vault,
                number=row["number"],
                is_alone=int(is_alone),
                state=KeptThere.COPIED if forgotten_at is None else KeptThere.FORGOTTEN,
                forgotten_at=forgotten_at,
            )

    def _take_entries(self, job: _Job) -> None:
        """The entries that only snapshots have that this vault alone has."""
        if not job.alone:
            return
        directories = self._directories(job)
        newest = max(job.snapshots)
        sql = f"SELECT directory, number, {_ENTRY} FROM entries WHERE directory = ?"
        known = "SELECT 1 FROM entries WHERE directory = ? AND name = ? AND added_in = ?"
        for other, number in directories.items():
            for _, entry, *row in raw_rows(self._found, sql, (other,)):
                within = range(row[_ADDED], newest + 1 if row[_REMOVED] is None else row[_REMOVED])
                if not any(snapshot in within for snapshot in job.alone):
                    continue
                if row_of(self._tx, known, (number, row[0], row[_ADDED])) is None:
                    self._insert_entry(entry, number, row, newest)

    def _insert_entry(self, other: int, directory: int, row: list[Any], newest: int) -> None:
        number = self._number("entries", other)
        row[_OWNER] = self._owner(row[_OWNER])
        if row[_CHUNKS]:
            row[_CHUNKS] = pack_u32(self._chunks[chunk] for chunk in unpack_u32(row[_CHUNKS]))
        if row[_REMOVED] is None:  # it ended later, in a snapshot that neither knows
            row[_REMOVED] = newest + 1
        columns = ("number", "directory", *_ENTRY.split(", "))
        insert_tuples(self._tx, "entries", columns, [(number, directory, *row)])
        sql = 'SELECT engine, "database", version, charset, back, tables FROM dumps WHERE entry = ?'
        for engine, database, version, charset, back, tables in list(raw_rows(self._found, sql, (other,))):
            of = {"engine": engine, "database": database, "version": version, "charset": charset}
            insert_row(self._tx, "dumps", entry=number, **of, back=back, tables=tables)

    def _directories(self, job: _Job) -> dict[int, int]:
        """The numbers here of the job's directories there; new ones are recorded."""
        sql = "SELECT path, number FROM directories WHERE job = ?"
        known, found = dict(raw_rows(self._tx, sql, (job.number,))), dict[int, int]()
        for path, other in list(raw_rows(self._found, sql, (job.other,))):
            if path not in known:
                known[path] = self._number("directories", other)
                insert_row(self._tx, "directories", number=known[path], job=job.number, path=path)
            found[other] = known[path]
        return found

    def _owner(self, other: int) -> int:
        """The number here of an owner there."""
        if other not in self._owners:
            columns = "uid", "gid", "user", "group"
            sql = 'SELECT uid, gid, "user", "group" FROM owners WHERE number = ?'
            owner = row_of(self._found, sql, (other,))
            sql = 'SELECT number FROM owners WHERE uid = ? AND gid = ? AND "user" = ? AND "group" = ?'
            number = value_of(self._tx, sql, tuple(owner))
            if number is None:
                number = self._number("owners", other)
                insert_tuples(self._tx, "owners", ("number", *columns), [(number, *owner)])
            self._owners[other] = number
        return self._owners[other]

    def _require_same(self, job: _Job) -> None:
        """`NightvaultError` unless each snapshot that was taken in has the entries that it has there."""
        sql = """SELECT d.path, e.name, e.added_in FROM entries e JOIN directories d ON d.number = e.directory
                 WHERE d.job = ? AND e.added_in <= ? AND (e.removed_in IS NULL OR e.removed_in > ?)"""
        for number in sorted(job.alone):
            here = map(hash, raw_rows(self._tx, sql, (job.number, number, number)))
            there = map(hash, raw_rows(self._found, sql, (job.other, number, number)))
            if sum(here) != sum(there):  # in whatever order, and without keeping them
                raise _unlike("what it has of the same nights is not what this inventory has")


def _unlike(why: str) -> NightvaultError:
    """The error for copies that do not go with the inventory."""
    return NightvaultError(
        f"what the other vault holds does not go with this inventory: {why}",
        advice="if it has what is missing here: `nightvault rebuild --set-aside --vault VAULT --key FILE` of "
        "that one. Else copy into a vault of another name",
    )
