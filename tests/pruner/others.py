"""Others that write into a server's vault: a hostile second server, an old image of it, a second heir."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from backup.catalogs.context import Keys
from backup.errors import OlderInventoryError
from backup.format import records
from backup.format.enrolment import HeirMark
from backup.format.header import CatalogFeature, CatalogFields, CatalogOption
from backup.format.pack import parse_header
from backup.inventory.records.runs import find_job
from backup.inventory.store.database import open_inventory
from backup.inventory.store.times import micros
from backup.model import ArchiveId, ArchiveLabel, Generation, InventoryId, JobName, PackId
from backup.pruner.listed import PruneStoppedError
from backup.pruner.report import PruneReport
from backup.transfer.answers import accept_catalogs
from tests.pruner.judged import HOUR, JOBS
from tests.pruner.judged_others import UNRECORDED
from tests.pruner.world import FILES, World
from tests.support.backups import Site
from tests.support.checks import check
from tests.support.doubles import Silent
from tests.support.holding import Ground
from tests.support.rebuilds import Bare
from tests.support.strangers import STRANGER_ID, start_of, store_forged, stranger
from tests.support.trees import assert_same_tree, snapshot_of

_PACK = re.compile("--accept ([0-9a-f]{32})")


class Forgery(Struct, frozen=True):
    """What a hostile server makes up: numbers choose among what there is."""

    job: int = 0
    shape: str = "full"  # or "delta", "first"
    parent: str = "newest"  # or "older", "made up"
    number: str = "next"  # or "low", "high"
    condemned: int = 0  # how many data packs, from the newest on
    dropped: int = 0  # how many snapshots
    claims: str = "nobody"  # or "server", "ancestor"
    label: str = "true"  # or "other job", "no job", "ancestor", "server"


class Others(World):
    """The server, its vault, and all that others do to it."""

    def __init__(self, folder: Path, ground: Ground) -> None:
        super().__init__(folder, ground)
        self.thief: Site | None = None
        self.image: tuple[Path, Keys] | None = None
        self.rival: Site | None = None
        self.images = 0

    # A hostile server. It has its own signer, enrolled by the same recovery key.

    def hostile(self, forgery: Forgery) -> None:
        """It stores a catalog; where its label says that the server wrote it, somebody looks at once."""
        if not self._rows("SELECT id FROM jobs"):
            return
        if forgery.label != "server":
            self.store_hostile(forgery)
        elif not self.skew:
            self._lie_of_the_server(forgery)

    def hostile_mark(self, number: int) -> None:
        """It leaves the mark of an heir, with a signature of nothing."""
        thief = self._thief()
        lineage = (self.site.inventory.id, *self.site.inventory.ancestors)
        heir = STRANGER_ID if number % 2 else InventoryId(b"an heir that is%d" % (number % 10))
        mark = HeirMark(lineage[number % len(lineage)], heir, thief.keys.signer.public, bytes([number]) * 64)
        self.elsewhere.add_mark(mark.to_text())

    def _thief(self) -> Site:
        if self.thief is None:
            self.thief = stranger(replace(self.site, vault=self.elsewhere), self.folder / "thief")
        return self.thief

    def store_hostile(self, forgery: Forgery) -> ArchiveId:
        """Store a catalog as it is described, of a job that the server has."""
        thief = self._thief()
        jobs = self._rows("SELECT number, id, name FROM jobs ORDER BY number")
        job, job_id, name = jobs[forgery.job % len(jobs)]
        catalogs = self._rows(_CATALOGS, job)
        newest = max((number for number, *_ in catalogs), default=0)
        is_first = forgery.shape == "first"
        place = CatalogFields(
            job_id,
            {"low": 1, "next": newest + 1, "high": newest + 1000}[forgery.number],
            Generation.DELTA if forgery.shape == "delta" else Generation.FULL,
            *((PackId(bytes(16)), bytes(32)) if is_first else _parent(catalogs, forgery)),
            thief.keys.enrolments,
            features=CatalogFeature.FIRST_DELTA if is_first else CatalogFeature(0),
            options=CatalogOption.SIGNED_CONTENT,
        )
        ancestors = self.site.inventory.ancestors
        claims = {"nobody": (), "server": (self.site.inventory.id, *ancestors), "ancestor": ancestors}
        start = start_of(place, name, 0 if is_first else newest, claims[forgery.claims])
        return store_forged(thief, place, start, self._words(job, forgery), self._relabel(forgery, job_id))

    def _words(self, job: int, forgery: Forgery) -> list[records.Record]:
        packs = [row[0] for row in self._rows(_PACKS)][: forgery.condemned]
        numbers = [row[0] for row in self._rows(_NUMBERS, job)][: forgery.dropped]
        words: list[records.Record] = []
        if numbers:
            words.append(records.ForgottenRecord(numbers, 1))
            words.append(records.DroppedRecord(numbers))
        return [*words, records.CondemnedRecord(packs, 1)] if packs else words

    def _relabel(self, forgery: Forgery, job_id: bytes) -> Callable[[ArchiveLabel], ArchiveLabel]:
        others = [row[0] for row in self._rows("SELECT id FROM jobs") if row[0] != job_id]
        every: dict[str, dict[str, Any]] = {
            "other job": {"job_id": others[0] if others else b"some other job.."},
            "no job": {"job_id": None},
            "server": {"inventory_id": self.site.inventory.id},
            "ancestor": {"inventory_id": (*self.site.inventory.ancestors, STRANGER_ID)[0]},
        }
        changes = every.get(forgery.label, {})

        def relabel(label: ArchiveLabel) -> ArchiveLabel:
            return replace(label, **changes)

        return relabel

    def _lie_of_the_server(self, forgery: Forgery) -> None:
        """What is said to be the server's own stops it, and nothing goes; then somebody removes it."""
        archive_id = self.store_hostile(forgery)
        self.wait_for_list()
        held = set(self.vault.held)
        self.keep()
        with suppress(PruneStoppedError, OlderInventoryError):
            while self.prune().state == "waiting":
                self.wait()
        assert held <= self.vault.held.keys(), "deleted beside what nobody knows"
        if self.vault.traits.lists_at_once:
            self.back_up(0)  # it does not bear the server's signature
            self.judge()
        self.rebuild_aside(0)
        self.elsewhere.remove([archive_id])
        self.wait_for_list()
        self._compare()

    # An old image.

    def old_image(self) -> None:
        """Somebody copies the state directory."""
        self.reopen()
        self.let_go()
        self.site.close()
        self.images += 1
        folder = self.folder / f"image {self.images}"
        shutil.copytree(self.site.folder, folder)
        self.reopen()
        self.image = folder, self.site.keys

    def old_image_wakes(self, which: int, *, looks: bool, prunes: bool) -> None:
        """It backs up; it may look at a list first, and prune afterwards.

        Without an heir of it both would write under one name: then what it stored is removed by hand, and it
        itself, too. Where lists are late, a new one is fetched: older ones show what was removed.
        """
        if self.image is None:
            return
        folder, keys = self.image
        inventory = open_inventory(f"sqlite:///{folder / 'inventory.sqlite'}", lock_directory=str(folder))
        image = replace(
            self.site, folder=folder, inventory=inventory, keys=keys, vault=self.elsewhere, progress=Silent()
        )
        has_heir = inventory.id != self.site.inventory.id
        before = set(self.elsewhere.held)
        try:
            self._goes_on(image, which, looks=looks, prunes=prunes)
        finally:
            inventory.close()
        if not has_heir:
            self.elsewhere.remove(self.elsewhere.held.keys() - before)
            self.image = None
            if not self.vault.traits.lists_at_once:
                self.wait_for_list()
                self._compare()

    def _goes_on(self, other: Site, which: int, *, looks: bool, prunes: bool) -> None:
        """A night of another machine of this server; perhaps it forgets and prunes."""
        try:
            if other is not self.rival and not _has_job(other, JOBS[which % len(JOBS)]):
                return  # a job that it makes itself would be this server's, too: an ancestor's
            if looks and abs(self.skew) < HOUR:
                self.wait_for_list()
                check(other)
            self._night(other, which, looks=looks)
            if prunes:
                self._prunes_elsewhere(other, which)
        except OlderInventoryError:
            pass
        finally:
            self.judge_elsewhere()

    def _night(self, other: Site, which: int, *, looks: bool) -> None:
        """What it says is saved must come back from there, as far as it could know of what went."""
        name = JOBS[which % len(JOBS)]
        self.change(which, which % len(FILES), which)
        other = other.with_job(sources=[self.folder / name], name=name)
        tree = snapshot_of(self.folder / name)
        report = other.backup()
        self.trees[report.snapshot] = tree  # where no heir has stored anything yet, a rebuild goes on from it
        if self.judge_night(other, looks=looks):
            target = self.folder / f"out elsewhere {self.steps}"
            other.restore(report.snapshot, target)
            assert_same_tree(tree, target)
            shutil.rmtree(target)

    def _prunes_elsewhere(self, other: Site, which: int) -> None:
        kept = other.with_job(name=JOBS[which % len(JOBS)]).snapshots()
        if kept:
            self.forgotten_elsewhere.add(kept[0].id)
            word = records.ForgottenRecord([kept[0].number], micros(self.clock.now()))
            other.with_job(name=JOBS[which % len(JOBS)]).amend(word)
        with suppress(PruneStoppedError):
            for _ in range(3):
                if other.prune().state != "waiting":
                    break
                self.wait()

    # A second heir.

    def second_heir(self, which: int) -> None:
        """The server is rebuilt elsewhere twice from the same state; both go on."""
        self.reopen()
        writer = self.writer()
        if writer is None:
            return
        self.wait_for_list()
        self.images += 1
        bare = self._bare(f"rival {self.images}", InventoryId(b"rival %10d" % self.images))
        if self.rival is not None:
            self.rival.close()
        self.rival = self.made_anew(bare, writer)
        self.rebuild()
        self._goes_on(self.rival, which, looks=False, prunes=False)

    def rival_goes_on(self, which: int, *, looks: bool, prunes: bool) -> None:
        """The second heir has another night."""
        if self.rival is not None:
            self._goes_on(self.rival, which, looks=looks, prunes=prunes)

    def rebuild_aside(self, which: int) -> None:
        """A rebuild that nobody goes on with: a kept snapshot comes back from it, byte for byte."""
        self.reopen()
        writer = self.writer()
        kept = [row for row in self.snapshots() if not row[3] and row[0] not in self.unreadable]
        if writer is None or not kept or self._rows(UNRECORDED):
            return
        self.wait_for_list()
        self.images += 1
        mine = self.site
        self.site = self.made_anew(
            self._bare(f"aside {self.images}", InventoryId(b"aside of others.")), writer
        )
        try:
            known = {row[0] for row in self.snapshots() if not row[3]}
            snapshot, job, *_ = kept[which % len(kept)]
            assert {row[0] for row in kept} <= known, "kept, and not rebuilt"
            self.restore_one(snapshot, job)
        finally:
            self.let_go()
            self.site.close()
            shutil.rmtree(self.site.folder)
            self.site = mine

    def _bare(self, name: str, new_id: InventoryId) -> Bare:
        bare = Bare(self.folder / name, self.elsewhere, replace(self.site, vault=self.elsewhere))
        bare.new_id = new_id
        return bare

    # A person.

    def answer(self) -> None:
        """Somebody says of all that stops a prune, or the keeper, that it takes no part, or is known."""
        self.answer_prune()
        if abs(self.skew) < HOUR / 15 and self.unanswered_by_keeper():
            self._answer_keeper()

    def answer_prune(self) -> None:
        """All that a prune asks about."""
        if abs(self.skew) > HOUR:
            return
        for _ in range(8):
            try:
                if self.prune(only_plan=True).state != "waiting":
                    break
            except PruneStoppedError as error:
                if not error.accept:
                    break
                now, who = self.clock.now(), "somebody"
                accept_catalogs(self.site.inventory, self.vault.name, error.accept, who, now)
                continue
            self.wait()

    def _answer_keeper(self) -> None:
        report = self.keeper().keep(only_plan=True)
        labels, held = self.elsewhere.labels, self.elsewhere.held
        others = {labels[name].pack_id.hex() for name in held.keys() & labels.keys()}
        packs = [pack for inventory in report.inventories for pack in _PACK.findall(inventory.advice or "")]
        packs = [pack for pack in packs if pack in others]  # this server does take part; the next list has it
        if packs:
            self.keeper(packs).keep(only_plan=True)
            self.keeper_answers |= {bytes.fromhex(pack) for pack in packs}

    def keep(self, _which: int = 0) -> None:
        """While somebody's catalogs of its jobs wait for an answer, the keeper deletes nothing of it."""
        before = set(self.vault.held)
        super().keep()
        if before - self.vault.held.keys():
            asked = self.unanswered_by_keeper()
            assert not asked, f"deleted, although nobody answered to {asked}"

    def prune_to_the_end(self) -> PruneReport:
        """With an answer to all that stops it."""
        self.answer_prune()
        return super().prune_to_the_end()

    def close(self, *, every: bool) -> None:
        """With the machines of the others."""
        for other in (self.thief, self.rival):
            if other is not None:
                other.close()
        super().close(every=every)


def _parent(catalogs: Sequence[tuple[int, bytes, bytes]], forgery: Forgery) -> tuple[PackId, bytes]:
    """Pack id and header hash of what it is said to follow."""
    if not catalogs or forgery.parent == "made up":
        return PackId(b"made up pack id."), b"h" * 32
    _, pack, header = catalogs[0 if forgery.parent == "newest" else -1]
    return PackId(pack), parse_header(header).hash


def _has_job(site: Site, name: str) -> bool:
    with site.inventory.reading() as tx:
        return find_job(tx, JobName(name)) is not None


_CATALOGS = """SELECT c.number, a.pack_id, a.header FROM catalogs c JOIN archives a ON a.number = c.archive
               WHERE c.job = ? AND c.generation = 1 ORDER BY c.number DESC"""
_PACKS = "SELECT pack_id FROM archives WHERE kind = 1 AND archive_id IS NOT NULL ORDER BY number DESC"
_NUMBERS = "SELECT number FROM snapshots WHERE job = ? ORDER BY number DESC"
