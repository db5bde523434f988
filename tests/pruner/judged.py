"""What must be true of a server and its vault, whatever happened to them.

It is judged by rows read behind the inventory's back, and by what reached the vault.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from backup.checker.invariants import check_invariants
from backup.model import MIB
from backup.rebuilder.findings import RowDifference
from backup.rebuilder.report import RebuildReport
from backup.rebuilder.same_records import compare
from backup.retention.prune import DEFAULT_GRACE
from tests.support.backups import Site
from tests.support.holding import Ground, Holding
from tests.support.trees import Seen

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
JOBS = ("first", "second")


class Judged:
    """The server, its vault, and what must be true of them."""

    def __init__(self, folder: Path, ground: Ground) -> None:
        self.folder, self.ground, self.clock = folder, ground, ground.clock
        self.has_jumped = False
        self.skew = timedelta()  # how far our clock is ahead of the vault's
        self.vault = Holding(ground.vault, lambda: self.clock.now() - self.skew, tells_time=ground.has_clock)
        for job in JOBS:
            (folder / job).mkdir(parents=True)
        part = max(MIB, self.vault.traits.smallest_part)
        self.site = Site.create(
            folder / "state 0", self.vault, [folder / JOBS[0]], name=JOBS[0], clock=self.clock,
            wait=self.wait, part_size=part,
        )  # fmt: skip
        self.trees: dict[str, dict[bytes, Seen]] = {}  # by snapshot id
        self.coming: dict[tuple[str, int], dict[bytes, Seen]] = {}  # by job and the number it would get
        self.forgotten: set[str] = set()
        self.lost: set[bytes] = set()  # chunks that the vault lost, and nobody stored since
        self.lost_once: set[bytes] = set()  # chunks of archives that it lost, wherever else they are
        self.has_lost = False
        self.unreadable: set[str] = set()  # snapshots that need one
        self.gone_behind: set[str] = set()  # archives that it lost, or that others deleted
        self.vanished: set[str] = set()  # archives that it lost
        self.orphans: set[str] = set()  # unknown since a rebuild
        self.sent_twice: set[str] = set()  # unknown since their packs were sent again; these may be gone
        self.seen: set[str] = set()  # what somebody else is about to delete
        self.told: dict[str, datetime] = {}  # since when all catalogs say that an archive is condemned
        self.last_cut: datetime | None = None
        self.machines = 0
        self.steps = 0
        self._reader: tuple[Path, sqlite3.Connection] | None = None

    def snapshots(self) -> list[tuple[str, str, int, bool]]:
        """Id, job, number and whether it is forgotten, of all that are left."""
        return [
            (forgotten, job, number, bool(gone)) for forgotten, job, number, gone in self._rows(_SNAPSHOTS)
        ]

    def _rows(self, text: str, *values: object) -> list[Any]:
        file = self.site.folder / "inventory.sqlite"
        if self._reader is None or self._reader[0] != file:
            self.let_go()
            self._reader = file, sqlite3.connect(file, check_same_thread=False)
        return self._reader[1].execute(text, values).fetchall()

    def let_go(self) -> None:
        """Read through a new connection from now on: who closes the inventory next is the last one there."""
        if self._reader is not None:
            self._reader[1].close()
            self._reader = None

    def judge(self) -> None:
        """After whatever happened."""
        self.steps += 1
        self._learn()
        readable = self._readable()
        self.lost -= readable
        ids = {number: chunk for number, chunk, *_ in self._rows(_CHUNKS)}
        self.unreadable = set()
        for snapshot, name, chunks in self._rows(_FILES):
            missing = {ids.get(number, b"?") for number in memoryview(chunks or b"").cast("I")} - readable
            assert missing <= self.lost, f"kept, and not to be restored: {name!r} of {snapshot}"
            if missing:
                self.unreadable.add(snapshot)
        self._judge_held()

    def _learn(self) -> None:
        """New snapshots' trees, and what is condemned by now."""
        known = self.snapshots()
        for snapshot, job, number, _ in known:
            if snapshot not in self.trees:
                self.trees[snapshot] = self.coming[job, number]
        now = self.clock.now()
        condemned = {row[0] for row in self._rows(_TOLD)}
        at = min(now, self.last_cut or now)
        self.told = {archive: self.told.get(archive, at) for archive in condemned}
        self.last_cut = None

    def _judge_held(self) -> None:
        """The vault holds what the inventory says, neither more nor less."""
        states = dict(self._rows("SELECT archive_id, state FROM archives WHERE archive_id IS NOT NULL"))
        there = {archive for archive, state in states.items() if state not in {"lost", "deleted"}}
        surely = {archive for archive in there if states[archive] != "deleting"}
        assert surely - self.vault.held.keys() <= self.gone_behind
        pending = self._rows("SELECT count(*) FROM uploads")[0][0]
        unknown = self.vault.held.keys() - there - self.orphans - self.sent_twice
        self.sent_twice |= {archive_id for archive_id in unknown if self._was_sent_again(archive_id, there)}
        unknown -= self.sent_twice
        assert pending or not unknown, f"nobody knows of them: {unknown}"

    def _was_sent_again(self, archive_id: str, there: Collection[str]) -> bool:
        """Whether its upload was done but not recorded, and was gone on with a day later or more.

        A day later Glacier knows no upload that was completed; a check in between would have adopted it.
        """
        if self.vault.traits.lists_at_once:
            return False
        pack, at = self.vault.packs[archive_id], self.vault.held[archive_id]
        again = [other for other in there if self.vault.packs.get(other) == pack and other in self.vault.held]
        return any(self.vault.held[archive_id] - at >= DAY for archive_id in again)

    def _judge_deleted(self, before: Mapping[str, datetime], *, may: bool) -> None:
        """What went was condemned for long enough, and old enough."""
        gone = before.keys() - self.vault.held.keys() - self.orphans
        assert may or not gone
        now = self.clock.now()
        hot = {row[0] for row in self._rows("SELECT archive_id FROM archives WHERE kind = 2")}
        for archive in gone:
            assert archive in self.told, "deleted without a word in the catalogs"
            assert self.told[archive] + DEFAULT_GRACE <= now, "deleted within the grace period"
            if not (archive in hot and self.vault.traits.keeps_metadata_hot):
                age = now - self.skew - before[archive]
                assert age + HOUR >= self.vault.traits.minimum_storage, "deleted before its day"
        if gone and not self.vault.traits.lists_at_once:
            self._excuse(gone)

    def _excuse(self, gone: set[str]) -> None:
        """Count as lost what a deletion left to a copy that the vault lost since its list was made."""
        rows = self._rows(_CHUNKS)
        known = {"lost", "deleting", "deleted"}
        unseen = self.gone_behind - self.vault.held.keys()
        relied_on = {archive for _, archive, place, state in rows if place in unseen and state not in known}
        dispensable = {archive for _, archive, place, _ in rows if place in gone}
        self.lost |= (dispensable & relied_on & self.lost_once) - self._readable()

    def judge_rows(self) -> None:
        """The inventory violates none of its laws.

        After a loss a job may not name yet what another stored anew in its place: its next backup does. What
        was deleted since a copy was there may be missed, if the vault lost the copy before a check saw it.
        """
        key = self.site.keys.secret.content_key
        report = check_invariants(self.site.inventory, key, self.clock, self.site.progress)
        expected = {"named", "stored"} if self.has_lost else set()
        findings = [finding for finding in report.findings if finding.what not in expected]
        assert not findings, findings

    def _readable(self) -> set[bytes]:
        """The ids of chunks that the vault can give back, as far as the inventory knows where they are."""
        bad = {"lost", "deleted", "deleting", "submitted"}
        return {chunk for _, chunk, place, state in self._rows(_CHUNKS)
                if state not in bad and place in self.vault.held}  # fmt: skip

    def _chunks_in(self, archive_id: str) -> set[bytes]:
        """The ids of chunks that this archive is to hold."""
        return {chunk for _, chunk, place, _ in self._rows(_CHUNKS) if place == archive_id}

    def _needed(self, *, also_forgotten: bool = False, alone: bool = False) -> set[str]:
        """Archives with a chunk that a kept snapshot (or any) or a live entry names, by id.

        `alone`: only chunks that no stored archive holds.
        """
        named: set[int] = set()
        for _, _, chunks in self._rows(_FILES.replace(_IF_KEPT, "") if also_forgotten else _FILES):
            named.update(memoryview(chunks or b"").cast("I"))
        for (chunks,) in self._rows("SELECT chunks FROM entries WHERE removed_in IS NULL"):
            named.update(memoryview(chunks or b"").cast("I"))
        rows = self._rows(_CHUNKS)
        wanted = {chunk for number, chunk, _, _ in rows if number in named}
        if alone:
            wanted -= {chunk for _, chunk, _, state in rows if state == "stored"}
        return {archive_id for _, chunk, archive_id, _ in rows if chunk in wanted and archive_id}

    def _unneeded(self) -> set[str]:
        """Data that the vault has, and of which nothing kept needs a chunk."""
        rows = self._rows("SELECT archive_id FROM archives WHERE archive_id IS NOT NULL AND kind = 1")
        return ({row[0] for row in rows} & self.vault.held.keys()) - self._needed()

    def _may_come_true(self) -> bool:
        """Whether some of that is young: a run that was cut off stored it, and its next one may name it."""
        old = self.clock.now() - self.skew - max(self.vault.traits.minimum_storage, DEFAULT_GRACE)
        return any(self.vault.held[archive_id] >= old for archive_id in self._unneeded())

    def _judge_drained(self) -> None:
        states = self._rows("SELECT archive_id, kind, state FROM archives WHERE archive_id IS NOT NULL")
        left = {"stored", "unconfirmed", "retired", "deleted", "lost", "damaged"}
        assert {state for _, _, state in states} <= left
        assert not self._unneeded(), "nothing needs it, and it is still there"
        retired = {archive for archive, _, state in states if state == "retired"}
        assert retired <= self._needed(alone=True), "what is needed of it lies elsewhere too"
        for (count,) in self._rows(_FULLS):
            assert count <= 2

    def _judge_rebuilt(self, rebuilt: Path, report: RebuildReport) -> None:
        """It is as the inventory in use says, but for what is explained, or gone from the vault."""
        found = compare(str(rebuilt), self.site.inventory, self.vault.name, shown_until=report.listed_at)
        differ = [difference for difference in found.differences if not self._is_of_lost(difference)]
        assert not differ, differ

    def _is_of_lost(self, one: RowDifference) -> bool:
        """Whether these are archives that the vault lost, and no check has seen that yet."""
        ids = {example.split(":")[0] for example in one.examples}
        return one.kind == "state" and one.count == len(ids) and not ids & self.vault.held.keys()

    def forgotten_at_rebuild(self, before: set[str]) -> None:
        """Whatever was kept is kept, but for what a catalog that arrived before a cut says."""
        after = {snapshot for snapshot, *_, is_forgotten in self.snapshots() if not is_forgotten}
        assert before - after <= self.forgotten

    def wait(self) -> None:
        """What a cold vault needs to make ready."""
        self.pass_time(6 * HOUR)

    def pass_time(self, by: timedelta) -> None:
        """Time goes by."""
        self.ground.pass_time(by)


_SNAPSHOTS = """SELECT s.id, j.name, s.number, s.forgotten_at IS NOT NULL FROM snapshots s
                JOIN jobs j ON j.number = s.job ORDER BY s.job, s.number"""
_CHUNKS = (
    """SELECT c.number, c.id, a.archive_id, a.state FROM chunks c JOIN archives a ON a.number = c.archive"""
)
_IF_KEPT = "s.forgotten_at IS NULL AND"
_FILES = f"""SELECT s.id, e.name, e.chunks FROM snapshots s JOIN directories d ON d.job = s.job
            JOIN entries e ON e.directory = d.number
            WHERE {_IF_KEPT} e.kind = 1 AND e.added_in <= s.number
              AND (e.removed_in IS NULL OR e.removed_in > s.number)"""
_TOLD = """SELECT archive_id FROM archives a WHERE state IN ('condemned', 'deleting')
           AND EXISTS (SELECT 1 FROM condemnations k WHERE k.archive = a.number)
           AND NOT EXISTS (SELECT 1 FROM catalog_archives n JOIN catalogs c ON c.archive = n.catalog
                           WHERE n.archive = a.number AND NOT EXISTS (
                             SELECT 1 FROM condemnations k WHERE k.archive = a.number AND k.job = c.job))"""
_FULLS = """SELECT count(*) FROM catalogs c JOIN archives a ON a.number = c.archive
            WHERE c.generation = 2 AND a.state = 'stored' GROUP BY c.job"""
