"""Compares a rebuilt inventory with the one in use, by the records that full catalogs of both would have.

Both go through the one writer of full catalogs (`sides.py`), and the two streams are merged in their order.
What no record has is compared by SQL (`columns.DERIVED`). The inventory in use may have gone on meanwhile:
entries and snapshots of later catalogs are left out of it, and what later catalogs changed is counted apart.
It is read in one transaction, so writers are not held up.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import astuple, replace

from backup.format import records
from backup.format.catalog import unpack_u64
from backup.inventory.content.archives import ArchiveState
from backup.inventory.rebuilt import drill_queries as queries
from backup.inventory.rebuilt.columns import FIELDS
from backup.inventory.rebuilt.drill_queries import CatalogRow
from backup.inventory.records.runs import JobRow
from backup.inventory.store.database import Inventory, open_copy
from backup.inventory.store.times import micros
from backup.model import PackKind, VaultName
from backup.rebuilder import findings, sides
from backup.rebuilder.findings import EXTRA, MISSING, Comparison, Findings, Shown, shown_bytes
from backup.rebuilder.sides import PackRows, Records, Side, matched, merged

_TOLD: Final = (
    records.SnapshotRecord, records.ForgottenRecord, records.MarksRecord, records.ShrunkRecord,
    records.CondemnedRecord, records.RetiredRecord, records.VerifiedRecord,
)  # fmt: skip
_MARKS: Final = ("forgotten_at", "tags", "pin_note", "pin_until", "shrunk")
_NOWHERE: Final = -1
"""The number of a vault or domain of which no record tells."""
_NEW_FOR_CATALOGS: Final = ("number", "kind", "stored_at", "version")
"""Columns of archives that a rebuild gives catalogs anew."""


def compare(
    rebuilt: str,
    used: Inventory,
    vault: VaultName,
    *,
    jobs: Collection[str] = (),
    shown_until: datetime | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Compare the inventory in the file `rebuilt` with the one in use; `jobs` were rebuilt, all if empty.

    `shown_until`: the rebuild went by all catalogs that were stored earlier; None where it was not to.
    `tell` is called with the name of each job that was compared.
    """
    built, _ = open_copy(rebuilt)
    with closing(built), used.reading() as tx, built.reading() as other:
        both = Side.of(used, tx, vault), Side.of(built, other)
        return _Comparer(*both, shown_until).all_of(jobs, tell)


class _Job(Struct, frozen=True):
    """A job that both have: snapshots from `first_later` on are of later catalogs than the rebuilt ones.

    `moved` is the reason why a change may be explained by such catalogs, "" if there are none; `catalogs` are
    the lowest and the highest number of the rebuilt ones.
    """

    used: JobRow
    built: JobRow
    moved: str
    first_later: int
    catalogs: tuple[int, int]


class _Comparer:
    """One comparison. Of the rows that it notes by number or pack id, numbers are those in use."""

    def __init__(self, used: Side, built: Side, shown_until: datetime | None) -> None:
        self._used, self._built, self._shown_until = used, built, shown_until
        self._found = Findings()
        self._read = {row.pack_id: row for row in queries.all_catalogs(built.tx)}  # the catalogs
        self._jobs: list[_Job] = []
        self._named: set[int] = set()  # archives that the catalogs name that both have
        self._gone: set[int] = set()  # archives that one side calls deleted
        self._condemned: dict[bytes, tuple[Any, Any]] = {}  # archives: the records of both
        # Numbers in use by those of the rebuilt one.
        self._vaults, self._domains, self._archives = dict[int, int](), dict[int, int](), dict[int, int]()
        # Missing rows by table and number: why they may be, if nothing needs them; and those that are needed.
        self._lacking: dict[tuple[str, int], tuple[str, Shown]] = {}
        self._needed: set[tuple[str, int]] = set()

    def all_of(self, jobs: Collection[str], tell: Callable[[str], None]) -> Comparison:
        """Compare everything."""
        self._pair_jobs(jobs)
        self._compare_catalogs()
        for job in self._jobs:
            self._compare_job(job, is_first=job is self._jobs[0])
            tell(job.used.name)
        paired = set(self._archives.values())
        for row in self._read.values():
            self._compare_names(row, paired)
        for (table, number), (why, shown) in self._lacking.items():
            self._found.add(table, MISSING, "" if (table, number) in self._needed else why, shown)
        for side, word in ((self._used, "here"), (self._built, "rebuilt")):
            for chunk, prefix in queries.wrong_prefixes(side.tx):
                self._found.add("chunks", "prefix", "", f"chunk {chunk}: {prefix} {word} is not of its id")
        return self._found.comparison(queries.catalogs_read(self._built.tx))

    def _pair_jobs(self, jobs: Collection[str]) -> None:
        for used, built in matched(self._used.jobs, self._built.jobs, "id"):
            if built is None and jobs and used.name not in jobs:
                continue
            is_stored = used and queries.has_catalog_before(self._used.tx, used, self._shown_until)
            if self._have(
                "jobs", used, built, (used or built).name, missing="" if is_stored else findings.NO_CATALOG
            ):
                numbers = [row.number for row in self._read.values() if row.job == built.id]
                span = min(numbers, default=0), max(numbers, default=queries.NEVER)
                has_moved, first = queries.later(self._used.tx, used, span[1])
                self._jobs.append(_Job(used, built, findings.SINCE if has_moved else "", first, span))

    def _compare_catalogs(self) -> None:
        """Compare the catalogs' own rows; note what is named by those that both have."""
        jobs = {job.used.id: job for job in self._jobs}
        until = 0 if self._shown_until is None else micros(self._shown_until)
        left = dict(self._read)
        for row in queries.all_catalogs(self._used.tx):
            other = left.pop(row.pack_id, None)
            if other is None and row.job not in jobs:
                continue
            why = "" if other is not None else findings.why_unread(row, *jobs[row.job or b""].catalogs, until)
            if self._have("catalogs", row, other, row.shown, missing=why):
                self._named |= queries.named_by(self._used.tx, row.pack_id)
                for column in ("job", "number", "generation", "parent"):
                    pair = getattr(row, column), getattr(other, column)
                    self._found.differ("catalogs", column, "", row.shown, *pair)
        for other in left.values():
            self._found.add("catalogs", EXTRA, "", other.shown)

    def _compare_job(self, job: _Job, *, is_first: bool) -> None:
        """Merge both streams of a job; what belongs to no job is compared with the first one."""
        here = self._used.stream(job.used, with_archives=is_first)
        there = self._built.stream(job.built, with_archives=is_first)
        for used, built in zip(here.take(records.Start), there.take(records.Start), strict=True):
            self._differ(used, built, job.used.name)
            self._found.differ("jobs", "id", "", job.used.name, job.used.id, used.job_id)
        self._compare_places(here, there)
        for mine, other in merged(here.packs(), there.packs(), lambda pack: pack[0].pack_id):
            self._compare_packs(mine, other)
        for used, built in matched(here.take(records.OwnerRecord), there.take(records.OwnerRecord), "number"):
            if is_first:
                self._compare_record(
                    "owners", used, built, f"owner {(used or built).number}", findings.UNUSED
                )
        kind = records.DirectoryRecord
        for used, built in merged(here.take(kind), there.take(kind), attrgetter("number")):
            shown = shown_bytes((used or built).path)
            self._compare_record("directories", used, built, shown, findings.UNUSED, extra=job.moved)
        first_new = self._compare_entries(here.take(tuple), there.take(tuple), job, there.snapshots)
        self._compare_mounts(here, there, job, first_new)
        self._compare_dumps(here, there, job, first_new)
        told = list(here.take(*_TOLD)), list(there.take(*_TOLD))
        self._compare_snapshots(*told, job)
        self._compare_condemned(*told, job)
        here.require_end()
        there.require_end()

    # A pair of rows.

    def _have(
        self, table: str, used: Any, built: Any, shown: Shown, *, extra: str = "", missing: str = ""
    ) -> bool:
        """Whether both have a row, which is counted; else it is told, with the reason for that side."""
        if used is not None and built is not None:
            self._found.rows[table] += 1
            return True
        kind, why = (EXTRA, extra) if used is None else (MISSING, missing)
        self._found.add(table, kind, why, shown)
        return False

    def _compare_record(
        self, table: str, used: Any, built: Any, shown: Shown, unneeded: str, *, extra: str = ""
    ) -> None:
        """Compare rows that others refer to by number: one that is missing may be `unneeded`."""
        if used is not None and built is None:
            self._lacking[table, used.number] = unneeded, shown
        elif self._have(table, used, built, shown, extra=extra):
            self._differ(used, built, shown)

    def _differ(
        self, used: Any, built: Any, shown: Shown, why: Mapping[str, str] | None = None, *, table: str = ""
    ) -> None:
        """Compare the fields of two records that carry columns; `why` explains columns.

        Those of a `table` that is given are told as of that: archives that are catalogs.
        """
        for name, of, column in FIELDS[type(used).__name__]:
            if not (table and column in _NEW_FOR_CATALOGS):
                pair = getattr(used, name), getattr(built, name)
                self._found.differ(table or of, column, (why or {}).get(column, ""), shown, *pair)

    # Kind by kind, in the order of the stream.

    def _compare_places(self, here: Records, there: Records) -> None:
        """Compare vaults and domains, which are numbered anew."""
        for used, built in matched(here.take(records.VaultRecord), there.take(records.VaultRecord), "name"):
            if self._have("vaults", used, built, (used or built).name):
                self._vaults[built.number] = used.number
                is_known = used.identity and built.identity
                self._differ(used, built, used.name, {} if is_known else {"identity": findings.NOT_ASKED})
        for used, built in matched(here.take(records.DomainRecord), there.take(records.DomainRecord), "id"):
            as_used = built and replace(built, vault=self._vaults.get(built.vault, _NOWHERE))
            if used is not None and built is not None:
                self._domains[built.number] = used.number
            shown = f"domain {(used or built).id.hex().upper()}"
            self._compare_record("domains", used, as_used, shown, findings.UNNAMED)

    def _compare_packs(self, mine: list[Any] | None, other: list[Any] | None) -> None:
        """Compare an archive, and what lies in it; None for the side that lacks it."""
        used, built = (None if pack is None else pack[0] for pack in (mine, other))
        archive: Any = used or built
        why = findings.DELETED if archive.state == ArchiveState.DELETED else ""
        missing = why if archive.number in self._named else findings.UNNAMED
        if used is not None and missing != findings.UNNAMED:
            self._needed.add(("domains", used.domain))
        if archive.kind == PackKind.DATA:
            self._have("archives", used, built, _archive_shown(archive), extra=why, missing=missing)
        if mine is None or other is None or used is None or built is None:
            return  # of catalogs this was told before
        self._archives[built.number] = used.number
        if findings.is_condemned(used) or findings.is_condemned(built):
            self._condemned[used.pack_id] = used, built
        self._compare_archive(used, built)
        if ArchiveState.DELETED in (used.state, built.state):
            self._gone.add(used.number)
        else:
            for content in sides.PACK_ROWS:
                self._compare_content(mine, other, content)

    def _compare_archive(self, used: Any, built: Any) -> None:
        built = replace(built, domain=self._domains.get(built.domain, _NOWHERE))
        has_moved = any(job.moved for job in self._jobs)
        is_of_several = partial(queries.is_of_several_jobs, self._used.tx, used.number)
        state = findings.why_state(used.state, built.state, has_moved=has_moved, is_of_several=is_of_several)
        why = {"state": state}
        shown = _archive_shown(used)
        if used.kind == PackKind.DATA:
            is_gone = ArchiveState.DELETED in (used.state, built.state)
            self._differ(used, built, shown, why | {"header": findings.DELETED} if is_gone else why)
        elif built.pack_id in self._read:
            same = attrgetter("header", "size", "tree_hash")
            if used.archive_id and built.archive_id and same(used) == same(built):
                why["archive_id"] = findings.HELD_TWICE
            shown = f"catalog {self._read[built.pack_id].number}: {shown}"
            self._differ(used, built, shown, why, table="catalogs")

    def _compare_content(self, mine: list[Any], other: list[Any], content: PackRows) -> None:
        """Compare rows of an archive; one by one, if the records differ."""
        here, there = (
            [astuple(record)[1:] for record in pack if isinstance(record, content.record)]
            for pack in (mine, other)
        )
        if here == there:
            self._found.rows[content.table] += sum(len(record[0]) for record in here) // content.size
            return
        used, built = mine[0].number, other[0].number
        rows, left = content.load(self._used.tx, used), content.load(self._built.tx, built)
        for number in sorted(rows.keys() | left.keys()):
            archive = used if number in rows else f"{built} of the rebuilt inventory"
            shown = content.shown.format(number, archive)
            if self._have(content.table, rows.get(number), left.get(number), shown):
                for column, *pair in zip(content.fields, rows[number], left[number], strict=True):
                    self._found.differ(content.table, column, "", shown, *pair)

    def _compare_entries(
        self, here: Iterator[Any], there: Iterator[Any], job: _Job, kept: Sequence[int]
    ) -> int:
        """Compare entries; `kept` are the rebuilt snapshots. The number of the first entry of later ones."""
        first_new = queries.NEVER
        for used, built in merged(here, there, sides.PLACE):
            if used is not None and used[sides.ADDED] >= job.first_later:
                first_new = min(first_new, used[sides.NUMBER])
                continue
            if used is not None and self._lacking:
                self._note_need(used, kept)
            if used == built:
                self._found.rows["entries"] += 1
                continue
            shown = partial(sides.path_of, self._built if used is None else self._used, used or built)
            missing = "" if used is None or sides.is_held(used, kept) else findings.UNUSED
            if self._have("entries", used, built, shown, extra=job.moved, missing=missing):
                removed = used[sides.REMOVED]
                ended = removed is not None and removed < job.first_later
                then = records.EntryRecord(*(*used[1 : sides.REMOVED], removed if ended else None))
                self._differ(then, records.EntryRecord(*built[1:]), shown)
        return first_new

    def _note_need(self, entry: Sequence[Any], kept: Sequence[int]) -> None:
        """Note that an entry needs its owner, and its directory if a rebuilt snapshot has the entry."""
        for need in (("owners", entry[sides.OWNER]), ("directories", entry[sides.DIRECTORY])):
            if need in self._lacking and (need[0] == "owners" or sides.is_held(entry, kept)):
                self._needed.add(need)

    def _compare_mounts(self, here: Records, there: Records, job: _Job, first_new: int) -> None:
        used, built = (
            {number for record in stream.take(records.MountsRecord) for number in unpack_u64(record.entries)}
            for stream in (here, there)
        )
        for number in sorted(used | built):
            if number < first_new:
                pair = number if number in used else None, number if number in built else None
                shown = f"mount point: entry {number}"
                self._have("hints", *pair, shown, extra=job.moved, missing=job.moved)

    def _compare_dumps(self, here: Records, there: Records, job: _Job, first_new: int) -> None:
        """Compare what is known of dumps."""
        used, built = (stream.take(records.DumpRecord) for stream in (here, there))
        for here_known, known in matched(used, built, "entry"):
            entry = (here_known or known).entry
            shown, why = f"dump: entry {entry}", job.moved
            if 0 < entry < first_new and self._have(
                "dumps", here_known, known, shown, extra=why, missing=why
            ):
                self._differ(here_known, known, shown)

    def _compare_snapshots(self, here: Sequence[Any], there: Sequence[Any], job: _Job) -> None:
        """Compare snapshots, and what marks say of them and of the job."""
        marks, rebuilt = sides.marks_in(here), sides.marks_in(there)
        restored = queries.restored_snapshots(self._used.tx)
        for used, built in matched(_snapshots_in(here), _snapshots_in(there), "id"):
            if built is None and used.number >= job.first_later:
                continue
            is_restored = used and (used.number, "forgotten_at") in marks and used.id in restored
            missing = findings.HELD if is_restored else ""
            if self._have("snapshots", used, built, (used or built).id, extra=job.moved, missing=missing):
                self._differ(used, built, used.id)
                for column in _MARKS:
                    pair = marks.get((used.number, column)), rebuilt.get((built.number, column))
                    self._found.differ("snapshots", column, job.moved, used.id, *pair)
        accepted = marks.get(sides.ACCEPTED), rebuilt.get(sides.ACCEPTED)
        self._found.differ("jobs", "usual_from", job.moved, job.used.name, *accepted)

    def _compare_condemned(self, here: Sequence[Any], there: Sequence[Any], job: _Job) -> None:
        """Compare since when the job's catalogs condemn archives that both have."""
        kind = records.CondemnedRecord
        used, built = (
            {pack: record.at for record in told if isinstance(record, kind) for pack in record.packs}
            for told in (here, there)
        )
        for pack_id, (one, other) in self._condemned.items():
            at, rebuilt_at = used.get(pack_id), built.get(pack_id)
            if at is rebuilt_at is None or (at is None and findings.keeps_condemnation(one)):
                continue
            if rebuilt_at is None and findings.keeps_condemnation(other):
                continue
            shown = f"archive {one.number}"
            if at is None:
                shown = f"archive {other.number} of the rebuilt inventory"
            why = job.moved or (findings.DELETED if one.number in self._gone else "")
            if self._have("condemnations", at, rebuilt_at, shown, extra=why, missing=why):
                self._found.differ("condemnations", "at", job.moved, shown, at, rebuilt_at)

    def _compare_names(self, row: CatalogRow, paired: Collection[int]) -> None:
        """Compare which archives a catalog names, of those that both have, by SQL."""
        catalog = self._archives.get(row.archive)
        if catalog is None:
            return
        names = queries.named_by(self._built.tx, row.pack_id)
        built = {self._archives[number]: number for number in names if number in self._archives}
        used = {number for number in queries.named_by(self._used.tx, row.pack_id) if number in paired}
        for number in sorted(used | built.keys()):
            shown = f"catalog {catalog} names archive {number}"
            if number not in used:
                shown = f"catalog {row.archive} names archive {built[number]} of the rebuilt inventory"
            why = findings.DELETED if number in self._gone else ""
            pair = number if number in used else None, built.get(number)
            self._have("catalog_archives", *pair, shown, extra=why, missing=why)


def _archive_shown(archive: Any) -> str:
    return str(archive.archive_id or archive.pack_id.hex().upper())


def _snapshots_in(told: Sequence[Any]) -> list[Any]:
    return [record for record in told if isinstance(record, records.SnapshotRecord)]
