"""Queries for snapshots: recorded once, found by id, by prefix or as `latest`; their tags, pins and marks."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Sequence
from datetime import datetime
from sqlite3 import Row
from typing import Final

import msgspec
from msgspec import Struct

from backup.errors import UsageError
from backup.inventory.content.entries import entry_at
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import insert_row, raw_rows, record_of, records, row_of
from backup.inventory.store.times import micros, moment
from backup.model import JobName, Problem, SnapshotId, VaultName

_LATEST = re.compile(r"latest(?:~([0-9]{1,9}))?")
SNAPSHOTS: Final = (
    "SELECT s.*, j.name AS job_name, j.usual_from FROM snapshots s JOIN jobs j ON j.number = s.job"
)
"""The start of a query for snapshots, whose rows `row_to_snapshot` takes."""
_KEPT_OR_COPIED: Final = """(s.forgotten_at IS NULL OR (s.job, s.number) IN (
  SELECT c.job, c.number FROM copied_snapshots c JOIN vaults v ON v.number = c.vault
  WHERE v.name = ? AND c.state IN ('copied', 'forgotten')))"""
_NOT_ALONE: Final = """NOT EXISTS (SELECT 1 FROM copied_snapshots k
                                   WHERE k.job = s.job AND k.number = s.number AND k.is_alone)"""
_ALL: Final = -1  # the limit that is none
COMPARED: Final = 7
"""With the fullest of so many usual or accepted snapshots a new one is compared."""
_Path = bytes  # a size is called so below
TagSets = Sequence[frozenset[str]]
"""A filter: snapshots that have all tags of one of the sets, or none for an empty set; () for any."""


class Pin(Struct, frozen=True):
    """A snapshot's pin: no rule forgets it, up to `until` if that is set."""

    note: str = ""
    until: datetime | None = None

    def holds_at(self, now: datetime) -> bool:
        """Whether it still keeps its snapshot."""
        return self.until is None or now < self.until


class Lost(Struct, frozen=True, array_like=True):
    """A source or stream that lost nearly everything: files and bytes that it holds, and that it held."""

    source: bytes
    files: int
    length: int
    files_before: int
    length_before: int


class Usual(Struct, frozen=True):
    """A snapshot that a new one is compared with; fields that an older version did not record are empty."""

    number: int
    sources: tuple[bytes, ...]
    counts: tuple[tuple[int, int], ...]
    files: int
    bytes: int
    roots: tuple[_Path, ...] = ()


class Snapshot(Struct, frozen=True):
    """A job's sources at one moment. `number` is internal and linear within the job.

    `forgotten_at` is set while it is forgotten, and can still be taken back. `counts` are files and bytes of
    each of the sources, `roots` their real paths then, where that is known. `lost`: what sources lost, of
    which nearly everything is gone.
    """

    id: SnapshotId
    job: JobName
    job_number: int
    number: int
    run: int | None
    started_at: datetime
    finished_at: datetime
    host: str
    sources: tuple[bytes, ...]
    problems: tuple[Problem, ...]
    files: int
    bytes: int
    forgotten_at: datetime | None = None
    tags: tuple[str, ...] = ()
    pin: Pin | None = None
    counts: tuple[tuple[int, int], ...] = ()
    lost: tuple[Lost, ...] = ()
    is_accepted: bool = False  # it and all before it are right, a person says
    roots: tuple[_Path, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether everything that the job names was saved."""
        return all(problem.is_warning for problem in self.problems)

    @property
    def waits(self) -> bool:
        """Whether nothing of its job is deleted before a person accepts it."""
        return bool(self.lost) and not self.is_accepted

    @property
    def tops(self) -> tuple[_Path, ...]:
        """The paths of its sources in the snapshot: real paths if they are recorded."""
        return (*self.roots, *self.sources[len(self.roots) :])

    def fits(self, tags: TagSets) -> bool:
        """Whether it passes the filter."""
        having = frozenset(self.tags)
        return not tags or any(alternative <= having if alternative else not having for alternative in tags)


def record_snapshot(tx: Transaction, snapshot: Snapshot) -> None:
    """Insert a snapshot: the last step of a backup."""
    insert_row(
        tx,
        "snapshots",
        id=snapshot.id,
        job=snapshot.job_number,
        number=snapshot.number,
        run=snapshot.run,
        started_at=micros(snapshot.started_at),
        finished_at=micros(snapshot.finished_at),
        host=snapshot.host,
        sources=msgspec.msgpack.encode(snapshot.sources),
        problems=pack_problems(snapshot.problems),
        files=snapshot.files,
        bytes=snapshot.bytes,
        tags=pack_tags(snapshot.tags),
        counts=pack_counts(snapshot.counts),
        roots=pack_roots(snapshot.roots),
    )


def pack_tags(tags: Sequence[str]) -> str | None:
    """Tags as they are kept: a JSON list in order, None for none."""
    return json.dumps(sorted(set(tags)), ensure_ascii=False) if tags else None


def pack_counts(counts: Sequence[tuple[int, int]]) -> bytes | None:
    """Files and bytes of each source as they are kept, None where they are not known."""
    return msgspec.msgpack.encode(list(counts)) if counts else None


def unpack_counts(packed: bytes | None) -> tuple[tuple[int, int], ...]:
    """Files and bytes of each source from the bytes that are kept; empty where nothing is."""
    if packed is None:
        return ()
    return tuple(msgspec.msgpack.decode(packed, type=list[tuple[int, int]]))


def pack_roots(roots: Sequence[bytes]) -> bytes | None:
    """The real path of each source as it is kept, None where they are not known."""
    return msgspec.msgpack.encode(list(roots)) if roots else None


def unpack_roots(packed: bytes | None) -> tuple[bytes, ...]:
    """The real path of each source from the bytes that are kept; empty where nothing is."""
    return () if packed is None else tuple(msgspec.msgpack.decode(packed, type=list[bytes]))


def unpack_lost(packed: bytes | None) -> tuple[Lost, ...]:
    """The losses of sources, from the bytes that are kept; empty if there are none."""
    return () if packed is None else tuple(msgspec.msgpack.decode(packed, type=list[Lost]))


def pack_problems(problems: Sequence[Problem]) -> bytes:
    """Problems as bytes: msgpack of (path, kind, detail)."""
    return msgspec.msgpack.encode(
        [(problem.path, problem.kind.value, problem.detail) for problem in problems]
    )


def unpack_problems(packed: bytes) -> tuple[Problem, ...]:
    """Problems from the bytes that `pack_problems` made of them."""
    problems = msgspec.msgpack.decode(packed, type=list[tuple[bytes, str, str]])
    return tuple(Problem.of(path, kind, detail) for path, kind, detail in problems)


def list_snapshots(
    tx: Transaction,
    *,
    job: JobName | None = None,
    also_forgotten: bool = False,
    also_alone: bool = False,
    tags: TagSets = (),
    copied_to: VaultName | None = None,
    before: int | None = None,
    limit: int = _ALL,
) -> list[Snapshot]:
    """All kept snapshots, oldest first: within a job by number, whatever the clock showed, jobs by time.

    A snapshot made while the clock was ahead comes before the next of its job, whatever its time says. Of one
    job no more than the newest `limit` below `before`. Forgotten ones, too: with copies alone, `also_alone`;
    `copied_to` a vault.
    """
    given = {_KEPT_OR_COPIED: copied_to, "j.name = ?": job, "s.number < ?": before}
    where = ["1" if also_forgotten or copied_to else "s.forgotten_at IS NULL"]
    where += [condition for condition, value in given.items() if value is not None]
    where += [_NOT_ALONE] if also_forgotten and not also_alone else []
    values = (*(value for value in given.values() if value is not None), limit)
    sql = f"{SNAPSHOTS} WHERE {' AND '.join(where)} ORDER BY s.job, s.number DESC LIMIT ?"
    newest_first = [row_to_snapshot(row) for row in records(tx, sql, values)]
    keys: list[tuple[datetime, int, int]] = []
    for index, snapshot in enumerate(newest_first):
        is_first = not index or newest_first[index - 1].job_number != snapshot.job_number
        began = snapshot.started_at if is_first else min(snapshot.started_at, keys[-1][0])
        keys.append((began, snapshot.job_number, snapshot.number))
    ordered = sorted(zip(keys, newest_first, strict=True), key=lambda pair: pair[0])
    return [snapshot for _, snapshot in ordered if snapshot.fits(tags)]


def get_snapshot(tx: Transaction, snapshot_id: SnapshotId) -> Snapshot:
    """The snapshot of that whole id, also a forgotten one: a restore that was begun goes on. `UsageError`."""
    row = record_of(tx, f"{SNAPSHOTS} WHERE s.id = ?", (snapshot_id,))
    if row is None:
        raise UsageError(f"there is no snapshot {snapshot_id} any more")
    return row_to_snapshot(row)


def usual_snapshots(tx: Transaction, job: int) -> list[Usual]:
    """The snapshots with which a new one of a job is compared, newest first; forgotten ones included."""
    sql = """SELECT s.number, s.sources, s.counts, s.files, s.bytes, s.roots
             FROM snapshots s JOIN jobs j ON j.number = s.job
             WHERE s.job = ? AND s.number >= coalesce(j.usual_from, 0)
               AND (s.shrunk IS NULL OR s.number = j.usual_from)
             ORDER BY s.number DESC LIMIT ?"""
    return [
        Usual(
            *(number, tuple(msgspec.msgpack.decode(sources)), unpack_counts(counts), files, bytes_),
            unpack_roots(roots),
        )
        for number, sources, counts, files, bytes_, roots in raw_rows(tx, sql, (job, COMPARED))
    ]


def of_run(tx: Transaction, run: int) -> Snapshot | None:
    """The snapshot that a run made; None if it made none, or if that was deleted."""
    return row_to_snapshot(row) if (row := record_of(tx, f"{SNAPSHOTS} WHERE s.run = ?", (run,))) else None


def problems_of_runs(tx: Transaction, wanted: Collection[int]) -> dict[int, tuple[Problem, ...]]:
    """The problems of the snapshots that these runs made, by run; one question, however many they are."""
    if not wanted:
        return {}
    sql = "SELECT run, problems FROM snapshots WHERE run BETWEEN ? AND ?"
    rows = raw_rows(tx, sql, (min(wanted), max(wanted)))
    numbers = frozenset(wanted)
    return {run: unpack_problems(packed) for run, packed in rows if run in numbers}


def has_snapshots(tx: Transaction, job: int, vault: int) -> bool:
    """Whether a job has snapshots in a vault (both by number), forgotten ones among them."""
    sql = """SELECT 1 FROM snapshots s JOIN jobs j ON j.number = s.job WHERE s.job = ? AND j.vault = ?
             UNION SELECT 1 FROM copied_snapshots WHERE job = ? AND vault = ? AND state <> 'wanted' LIMIT 1"""
    return row_of(tx, sql, (job, vault, job, vault)) is not None


def find_snapshot(
    tx: Transaction,
    words: str,
    *,
    job: JobName | None = None,
    at: datetime | None = None,
    paths: Sequence[bytes] = (),
    tags: TagSets = (),
    copied_to: VaultName | None = None,
) -> Snapshot:
    """The snapshot of an id, a unique prefix, `latest` or `latest~N`. `UsageError` if none or many.

    The newest is the one with the highest number, whatever the clock showed. With `at`, it is the newest of
    those that began no later by their own time: a clock that was wrong is wrong here, too. Where several jobs
    have snapshots, `latest` is of the one that holds the absolute `paths`; a path that several hold, or none,
    decides nothing. Only those that `tags` let through; also forgotten ones that were `copied_to` a vault.
    """
    candidates, latest = list_snapshots(tx, job=job, tags=tags, copied_to=copied_to), _LATEST.fullmatch(words)
    if latest and copied_to:
        from backup.inventory.content.copied import kept_in  # few vaults have copies

        there = kept_in(tx, copied_to)
        candidates = [kept for kept in candidates if (kept.job_number, kept.number) in there] or candidates
    if at is not None:
        candidates = _not_after(candidates, at, words, is_latest=latest is not None)
    if latest:
        return _latest(_of_one_job(tx, candidates, paths, words), int(latest[1] or 0), words)
    found = [snapshot for snapshot in candidates if snapshot.id.startswith(words.lower())] if words else []
    if len(found) == 1:
        return found[0]
    if shown := ", ".join(snapshot.id for snapshot in found[:5]):
        raise UsageError(f"several snapshots begin with {words!r}: {shown}", advice="give more digits")
    _refuse_forgotten(tx, words, job)
    asked = f"{words!r} with these tags" if tags else repr(words)
    raise UsageError(f"no snapshot {asked}", advice="`nightvault snapshots` lists them")


def _refuse_forgotten(tx: Transaction, words: str, job: JobName | None) -> None:
    """Say of a snapshot that was forgotten that it was, and how it comes back."""
    every = list_snapshots(tx, job=job, also_forgotten=True) if words else []
    for snapshot in every:
        if snapshot.forgotten_at is not None and snapshot.id.startswith(words.lower()):
            raise UsageError(
                f"snapshot {snapshot.id[:8]} of job {snapshot.job} was forgotten on "
                f"{snapshot.forgotten_at:%Y-%m-%d}",
                advice=f"`nightvault forget --undo {snapshot.id[:8]}` takes it back",
            )


def _not_after(
    candidates: Sequence[Snapshot], at: datetime, words: str, *, is_latest: bool
) -> list[Snapshot]:
    if not is_latest:
        advice = "write latest, or leave --at out"
        raise UsageError(f"{words!r} and a point in time: which of the two?", advice=advice)
    found = [snapshot for snapshot in candidates if snapshot.started_at <= at]
    if candidates and not found:
        oldest = min(snapshot.started_at for snapshot in candidates).astimezone(at.tzinfo)
        told, shown = (time.isoformat(" ", "seconds") for time in (at, oldest))
        raise UsageError(f"there is no snapshot as old as {told}", advice=f"the oldest began at {shown}")
    return found


def _of_one_job(
    tx: Transaction, candidates: Sequence[Snapshot], paths: Sequence[bytes], words: str
) -> Sequence[Snapshot]:
    """The snapshots of the job that holds the paths; `UsageError` names the jobs if they do not decide.

    A job holds a path if it is at or below one of its sources, or else if its newest snapshot has it.
    """
    newest = {snapshot.job: snapshot for snapshot in candidates}
    holders = list(newest.values())
    paths = [path.rstrip(b"/") for path in paths if path.strip(b"/")]
    if len(holders) > 1 and paths:
        below = [snapshot for snapshot in holders if all(_is_in_sources(path, snapshot) for path in paths)]
        having = [kept for kept in below or holders if all(_has(tx, path, kept) for path in paths)]
        holders = having if len(below) != 1 else below
        holders = holders or below or list(newest.values())
    if len(holders) > 1:
        shown = ", ".join(
            f"{snapshot.job} ({snapshot.id[:8]}, {snapshot.started_at.astimezone():%Y-%m-%d %H:%M})"
            for snapshot in holders
        )
        of_what = f"{words!r}" + (f" with {os.fsdecode(paths[0])}" if paths else "")
        raise UsageError(
            f"{of_what} of which job? their newest snapshots are: {shown}",
            advice="say --job NAME, or the snapshot's id instead of latest",
        )
    return [kept for kept in candidates if kept.job == holders[0].job] if holders else []


def _is_in_sources(path: bytes, kept: Snapshot) -> bool:
    return any(path == source or path.startswith(source.rstrip(b"/") + b"/") for source in kept.sources)


def _has(tx: Transaction, path: bytes, snapshot: Snapshot) -> bool:
    return entry_at(tx, snapshot.job_number, path, snapshot.number) is not None


def _latest(candidates: Sequence[Snapshot], back: int, words: str) -> Snapshot:
    if back >= len(candidates):
        advice = "`nightvault snapshots` lists them"
        raise UsageError(f"no snapshot {words!r}: there are {len(candidates)}", advice=advice)
    return candidates[-1 - back]


def row_to_snapshot(row: Row) -> Snapshot:
    """A snapshot from all its columns and its job's name."""
    return Snapshot(
        SnapshotId(row["id"]),
        JobName(row["job_name"]),
        row["job"],
        row["number"],
        row["run"],
        moment(row["started_at"]),
        moment(row["finished_at"]),
        row["host"],
        tuple(msgspec.msgpack.decode(row["sources"], type=list[bytes])),
        unpack_problems(row["problems"]),
        row["files"],
        row["bytes"],
        _moment(row["forgotten_at"]),
        tuple(json.loads(row["tags"])) if row["tags"] else (),
        None if row["pin_note"] is None else Pin(row["pin_note"], _moment(row["pin_until"])),
        unpack_counts(row["counts"]),
        unpack_lost(row["shrunk"]),
        row["number"] <= (row["usual_from"] or 0),
        unpack_roots(row["roots"]),
    )


def _moment(value: int | None) -> datetime | None:
    return None if value is None else moment(value)
