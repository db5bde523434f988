"""What must be true of a server beside which others write into its vault.

Whatever they store, each kept snapshot comes back from the inventory and from a rebuild of it, byte for byte;
nothing goes but what the server itself condemned long enough ago; and nothing goes for this server while
somebody's catalogs of its jobs wait for an answer. A backup tells of each of them once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from contextlib import closing
from datetime import datetime
from pathlib import Path

from backup.catalogs.report import BackupReport
from backup.kinds import Outcome
from backup.lineage import NO_JOB, marks_in
from backup.model import ArchiveLabel, PackKind
from backup.pruner.listed import PruneStoppedError
from backup.retention.prune import DEFAULT_GRACE
from tests.pruner.judged import DAY, HOUR, Judged
from tests.support.backups import Site
from tests.support.holding import Elsewhere, Ground

Pair = tuple[bytes, bytes]
_ASKS = "nothing proves that it is this server"
_UNKNOWN = "this inventory does not know"


UNRECORDED = """SELECT 1 FROM runs WHERE outcome = 'running' AND prepared IS NOT NULL
                UNION ALL SELECT 1 FROM archives WHERE kind = 2 AND state = 'submitted'"""
_MARKS = "SELECT description FROM listed_archives WHERE description LIKE '%/heir-%'"


class JudgedBesideOthers(Judged):
    """The server, its vault, what others store there, and what must be true all the same."""

    def __init__(self, folder: Path, ground: Ground) -> None:
        super().__init__(folder, ground)
        self.elsewhere = Elsewhere(
            ground.vault, lambda: self.clock.now() - self.skew, tells_time=ground.has_clock
        )
        self.forgotten_elsewhere: set[str] = set()
        self.keeper_answers: set[bytes] = set()  # packs
        self.tellings: set[tuple[bytes, str]] = set()  # inventory, and the sentence
        self.untold: dict[str, datetime] = {}  # when an archive was seen to be condemned no more

    # Who waits for an answer, by what was really stored.

    def unanswered(self, shown: Collection[str] | None = None) -> set[Pair]:
        """Pairs of inventory and job by others (in a list that shows these), which nobody answered to.

        Also marks of machines of this server that stored nothing, and of which no rebuild could know.
        """
        answered = set(self._rows("SELECT inventory, job FROM strangers WHERE accepted_at IS NOT NULL"))
        found = self._pairs({label for label in self.elsewhere.labels if shown is None or label in shown})
        if shown is None:
            own = self._lineage()
            marks = [*self.elsewhere.marks, *marks_in(row[0] for row in self._rows(_MARKS))]
            others = [mark for mark in marks if mark.predecessor in own and mark.heir not in own]
            found |= {(mark.heir, NO_JOB) for mark in others}
        return found - answered

    def unanswered_by_keeper(self) -> set[Pair]:
        """The same for a keeper, of what the vault's list surely shows; a second heir is one of them."""
        late = self.clock.now() - (DAY * 0 if self.vault.traits.lists_at_once else 2 * DAY)
        shown = {archive for archive, at in self.elsewhere.held.items() if at <= late - self.skew}
        catalogs = self._catalogs(self.keeper_answers)
        found = {(label.inventory_id, label.job_id or NO_JOB) for label in catalogs}
        return self._pairs(shown) & found

    def _pairs(self, archive_ids: Collection[str]) -> set[Pair]:
        jobs = {row[0] for row in self._rows("SELECT id FROM jobs")}
        passed = {row[0] for row in self._rows("SELECT pack FROM passed_catalogs")}
        labels = [self.elsewhere.labels[id_] for id_ in archive_ids if id_ in self.elsewhere.labels]
        return {
            (label.inventory_id, label.job_id or NO_JOB)
            for label in labels
            if label.kind is PackKind.CATALOG
            and label.job_id in jobs
            and label.inventory_id not in self._lineage()
            and label.pack_id not in passed
        }

    def _catalogs(self, but: Collection[bytes]) -> list[ArchiveLabel]:
        """Catalogs of others, unless the pair was answered by one of these packs."""
        labels = [label for label in self.elsewhere.labels.values() if label.kind is PackKind.CATALOG]
        done = {(label.inventory_id, label.job_id) for label in labels if label.pack_id in but}
        return [label for label in labels if (label.inventory_id, label.job_id) not in done]

    def doubled(self) -> bool:
        """Whether catalogs are there that another machine, or a liar, stored as this server's."""
        return any(label.inventory_id in self._lineage() for label in self._catalogs(()))

    def knows_all(self, *writers: bytes) -> bool:
        """Whether the vault knows no more of what these inventories wrote than the one in use.

        An old image of an ancestor goes on with it, where no heir has stored anything yet.
        """
        labels = [label for label in self._catalogs(()) if label.inventory_id in writers]
        known = {row[0] for row in self._rows("SELECT pack_id FROM archives")}
        return not self._rows(UNRECORDED) and {label.pack_id for label in labels} <= known

    def _lineage(self) -> set[bytes]:
        return {self.site.inventory.id, *self.site.inventory.ancestors}

    # Laws.

    def may_ask(self, error: PruneStoppedError) -> bool:
        """A prune stops for what others stored, and for nothing like it where nobody did.

        Catalogs of a clock that was ahead seem to be newer than where a rebuilt state begins: somebody must
        say that they are known.
        """
        asks, knows_not = _ASKS in str(error), _UNKNOWN in str(error)
        if asks and not self.unanswered():
            return False
        if knows_not and not (self.doubled() or (self.has_jumped and bool(error.accept))):
            return False
        return asks or knows_not

    def judge_listed(self) -> None:
        """No prune is done by a list that shows catalogs of its jobs by others that nobody answered to."""
        asked = self.unanswered({row[0] for row in self._rows(_SHOWN)})
        assert not asked, f"a prune did not stop, although nobody answered to {asked}"

    def judge_told(self, report: BackupReport) -> None:
        """Others make a backup partial once for each pair, and nothing else of it."""
        told = {(self.site.inventory.id, warning) for warning in report.warnings if _ASKS in warning}
        assert not told & self.tellings, "told again"
        assert not told or report.outcome is Outcome.PARTIAL
        assert not told or self.elsewhere.labels or self.elsewhere.marks, "there is nobody else"
        self.tellings |= told

    def judge_elsewhere(self) -> None:
        """Another machine of this server deletes nothing but what this one condemned long enough ago.

        Where lists are late it may not see for two days that it was taken up again.
        """
        now = self.clock.now()
        late = {archive for archive, at in self.untold.items() if now - at <= 2 * DAY}
        may = {archive for archive, at in self.told.items() if at + DEFAULT_GRACE <= now}
        if not self.vault.traits.lists_at_once:
            may |= late
        gone = self.elsewhere.deleted & self.vault.held.keys()
        assert gone <= may, "another machine deleted what was not condemned, or within the grace period"
        for archive_id in gone:
            self.vault.held.pop(archive_id)
            self.gone_behind.add(archive_id)
        self.elsewhere.deleted.clear()

    def judge_night(self, other: Site, *, looks: bool) -> bool:
        """Whether a night of another machine must come back from there.

        An old image, or a second heir, whose night is saved relies on nothing that went, but for what the
        vault lost and no check has seen. Where lists are late that is so once a list was fetched.
        """
        with closing(sqlite3.connect(other.folder / "inventory.sqlite")) as database:
            stored = {row[0] for row in database.execute(_STORED)}
        absent = stored - self.vault.held.keys() - self.elsewhere.held.keys()
        if self.vault.traits.lists_at_once or (looks and abs(self.skew) < HOUR):
            assert absent <= self.vanished, "it goes on with what was deleted"
        return not absent

    def forgotten_at_rebuild(self, before: set[str]) -> None:
        """See `Judged`. Where no heir had stored anything, the rebuild goes on from an old image's nights."""
        known = {row[0] for row in self._rows("SELECT archive_id FROM archives")}
        taken_over = known & self.elsewhere.held.keys()
        for archive_id in taken_over:
            self.vault.held[archive_id] = self.elsewhere.held.pop(archive_id)
            self.vault.packs[archive_id] = self.elsewhere.labels.pop(archive_id).pack_id
        if taken_over:
            self.forgotten |= self.forgotten_elsewhere
        super().forgotten_at_rebuild(before)

    def _learn(self) -> None:
        before = set(self.told)
        super()._learn()
        now = self.clock.now()
        self.untold |= dict.fromkeys(before - self.told.keys(), now)


_STORED = "SELECT archive_id FROM archives WHERE state = 'stored' AND kind = 1"
_SHOWN = """SELECT archive_id FROM listed_archives WHERE listing =
            (SELECT max(number) FROM listings WHERE state = 'kept')"""
