"""Is it still there: archives missing, foreign, orphaned, and what the next backup makes of it."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.checker.check import compare_with_vault
from backup.checker.report import CheckReport
from backup.errors import UnreachableError, VaultMissingError
from backup.format.pack import describe
from backup.inventory.content import archives
from backup.inventory.records import runs
from backup.model import ArchiveId, InventoryId, ListedArchive, Listing, ListingId
from backup.protocols import VaultTraits
from backup.rebuilder.context import Wish
from backup.transfer.retrievals.listing import request_listing
from backup.vault.directory import DirectoryVault
from tests.support.backups import Site
from tests.support.checks import archive_ids, check, check_world, kinds, needing, query, state_of, versions
from tests.support.doubles import START, Fault, FaultyVault, ManualClock, PowerCut
from tests.support.rebuilds import bare, line_of
from tests.support.trees import assert_same_tree

A_DAY = timedelta(days=1)


def settle(site: Site, clock: ManualClock) -> None:
    """Let a list be newer than all archives."""
    clock.advance(A_DAY)


def lose(site: Site, *ids: str) -> None:
    for archive_id in ids:
        site.vault.delete_archives({ArchiveId(archive_id): None})


def test_all_is_there(site: Site, clock: ManualClock) -> None:
    settle(site, clock)
    report = check(site)
    assert (report.state, report.findings, report.is_grave, report.is_partial) == ("done", (), False, False)
    assert report.compared is not None
    assert report.compared.shown == report.compared.listed == len(archive_ids(site, "1"))
    with site.inventory.reading() as tx:
        newest = runs.list_runs(tx, limit=1)[0]
    assert (newest.kind, newest.outcome, newest.number) == ("check", "done", report.run)
    assert newest.report["compared"]["listed"] == report.compared.listed


def test_a_missing_archive_is_named_with_what_it_held_and_stored_again(
    site: Site, source: Path, clock: ManualClock, tmp_path: Path
) -> None:
    settle(site, clock)
    lost = archive_ids(site)[0]
    lose(site, lost)
    report = check(site)
    assert kinds(report) == {"missing": 1}
    assert report.findings[0].what == lost
    assert report.is_grave
    assert state_of(site, lost) == "lost"
    names = needing(site, [lost])
    assert {path.rsplit(b"/", 1)[1] for path in report.affected.paths} == names
    assert report.affected.files >= report.affected.live_files == len(needing(site, [lost], live=True)) > 0
    found = versions(site, [lost])
    assert report.affected.files == len(found)
    for snapshot, number in zip(report.affected.snapshots, (1, 2, 3), strict=True):
        assert snapshot.files == sum(was <= number and (ends or 99) > number for _, was, ends in found)
    again = site.backup()
    assert again.bytes_new > 0
    assert needing(site, [lost], live=True) == set(), "whose chunks were lost has a new version"
    out = tmp_path / "out"
    assert site.restore("latest", out).problems == ()
    assert_same_tree(source, out)
    assert site.backup().bytes_new == 0, "once is enough"


def test_old_snapshots_are_whole_again_where_the_same_chunks_were_stored_again(
    site: Site, clock: ManualClock, tmp_path: Path
) -> None:
    """The first archive's files have not changed since: their chunks come back with the next backup."""
    settle(site, clock)
    lost = archive_ids(site)[0]
    before = site.snapshots()[-1].id
    lose(site, lost)
    check(site)
    site.backup()
    settle(site, clock)
    report = check(site)
    assert any(was <= 3 < (ends or 99) for _, was, ends in versions(site, [lost])), "it needed the archive"
    assert before not in {snapshot.id for snapshot in report.affected.snapshots}
    assert site.restore(before, tmp_path / "out").problems == ()


def test_what_the_source_has_no_more_stays_affected(site: Site, source: Path, clock: ManualClock) -> None:
    (source / "kept nowhere else").write_bytes(b"once" * 400_000)
    site.backup()
    (source / "kept nowhere else").unlink()
    site.backup()
    settle(site, clock)
    (lost,) = [id_ for id_ in archive_ids(site) if b"kept nowhere else" in needing(site, [id_])]
    lose(site, lost)
    assert check(site).is_grave
    site.backup()
    settle(site, clock)
    report = check(site)
    assert report.is_grave
    assert kinds(report) == {"lost": 1}
    assert report.affected.live_files == 0
    assert [path.rsplit(b"/", 1)[1] for path in report.affected.paths] == [b"kept nowhere else"]


def test_a_list_says_nothing_of_what_is_newer(site: Site, disk: DirectoryVault, clock: ManualClock) -> None:
    ids = archive_ids(site, "1")
    settle(site, clock)
    old = disk.fetch_listing(disk.request_listing(""))
    (Path(site.job.sources[0].decode()) / "late").write_bytes(b"late" * 100_000)
    site.backup()
    settle(site, clock)
    report = check(site, vault=Listed(disk, old, late=True))
    assert (report.findings, report.is_grave) == ((), False)
    assert report.compared is not None
    assert report.compared.shown == len(ids)
    assert report.compared.newer == len(archive_ids(site, "1")) - len(ids) > 0


def test_size_or_hash_differ(site: Site, disk: DirectoryVault, clock: ManualClock) -> None:
    settle(site, clock)
    listing = disk.fetch_listing(disk.request_listing(""))
    first, second, *rest = listing.archives
    changed = [
        replace(first, size=7),
        replace(second, tree_hash=None),
    ]
    report = check(site, vault=Listed(disk, Listing(listing.as_of, [*changed, *rest])))
    assert [(finding.kind, finding.what) for finding in report.findings if finding.kind != "lost"] == [
        ("differs", first.archive_id)
    ]
    assert state_of(site, first.archive_id) == "damaged"
    assert state_of(site, second.archive_id) == "stored", "a list without hashes says nothing of them"


def test_what_seemed_lost_is_found_again(site: Site, disk: DirectoryVault, clock: ManualClock) -> None:
    settle(site, clock)
    empty = Listing(clock.now(), [])
    ids = archive_ids(site, "1")
    assert kinds(check(site, vault=Listed(disk, empty))) == {"missing": len(ids)}
    report = check(site)
    assert kinds(report) == {"found-again": len(ids)}
    assert not report.is_grave
    assert {state_of(site, archive_id) for archive_id in ids} == {"stored"}
    assert site.backup().bytes_new == 0


@pytest.mark.parametrize("method", ["state", "request_listing", "listing_status", "fetch_listing"])
def test_cannot_reach_is_not_missing(site: Site, clock: ManualClock, method: str) -> None:
    settle(site, clock)
    faulty = FaultyVault(site.vault, Fault(method, UnreachableError("away"), count=99))
    with pytest.raises(UnreachableError):
        compare_with_vault(check_world(site, vault=faulty))
    assert query(site, "SELECT count(*) FROM archives WHERE state != 'stored'") == [(0,)]
    assert not check(site).findings


def test_a_vault_that_is_not_mounted_has_lost_nothing(site: Site, clock: ManualClock, tmp_path: Path) -> None:
    settle(site, clock)
    (tmp_path / "vault").rename(tmp_path / "elsewhere")
    with pytest.raises(VaultMissingError):
        check(site)
    assert query(site, "SELECT count(*) FROM archives WHERE state != 'stored'") == [(0,)]


def test_foreign_and_other_inventories(site: Site, clock: ManualClock) -> None:
    settle(site, clock)
    (stored,) = archive_ids(site)[:1]
    with site.inventory.reading() as tx:
        label = next(row for row in archives.list_archives(tx, site.inventory.id) if row.archive_id == stored)
    listing = site.vault.fetch_listing(ListingId(site.vault.request_listing("")))
    theirs = replace(label.label, inventory_id=InventoryId(b"somebody else 16"))
    line = listing.archives[0]
    added = [
        ListedArchive(ArchiveId("theirs"), describe(theirs), theirs, 5, line.tree_hash, line.created_at),
        ListedArchive(ArchiveId("photo"), "holiday.jpg", None, 5, line.tree_hash, line.created_at),
        ListedArchive(ArchiveId("twice"), describe(label.label), label.label, 5, None, line.created_at),
    ]
    report = check(site, vault=Listed(site.vault, Listing(listing.as_of, [*listing.archives, *added])))
    assert {finding.what: finding.kind for finding in report.findings} == {
        "theirs": "other-inventory",
        "photo": "foreign",
        "twice": "duplicate",
    }
    assert not report.is_grave


def test_an_orphan_of_a_cut_is_adopted(site: Site, source: Path, clock: ManualClock, tmp_path: Path) -> None:
    """The vault completed the archive; the power went before we recorded that."""
    (source / "new").write_bytes(random.Random(9).randbytes(2_000_000))
    faulty = FaultyVault(site.vault, Fault("complete_upload", PowerCut("between"), after=True))
    with pytest.raises(PowerCut):
        site.reopen(faulty).backup()
    faulty.assert_all_met()
    site = site.reopen()
    ((pack,),) = query(site, "SELECT hex(pack_id) FROM archives WHERE state = 'submitted' LIMIT 1")
    settle(site, clock)
    report = check(site)
    assert kinds(report) == {"adopted": 1}
    assert pack[:8].lower() in report.findings[0].detail
    assert query(site, "SELECT state FROM archives WHERE hex(pack_id) = ?", pack) == [("stored",)]
    counting = FaultyVault(site.vault)
    site = site.reopen(counting)
    site.backup()
    assert not [sent for sent in counting.sent if sent[0] == bytes.fromhex(pack)], "not sent again"
    assert site.restore("latest", tmp_path / "out").problems == ()
    assert_same_tree(source, tmp_path / "out")


def test_nothing_is_adopted_while_a_backup_is_at_work_nor_with_another_hash(
    site: Site, source: Path, clock: ManualClock
) -> None:
    (source / "new").write_bytes(random.Random(9).randbytes(2_000_000))
    faulty = FaultyVault(site.vault, Fault("complete_upload", PowerCut("between"), after=True))
    with pytest.raises(PowerCut):
        site.reopen(faulty).backup()
    site = site.reopen()
    settle(site, clock)
    with site.inventory.locked("backup"):
        assert kinds(check(site)) == {"orphan": 1}
    listing = site.vault.fetch_listing(ListingId(site.vault.request_listing("")))
    recorded = set(archive_ids(site, "archive_id IS NOT NULL"))
    lines = [
        row
        if row.archive_id in recorded
        else ListedArchive(row.archive_id, row.description, row.label, row.size, b"x" * 32, row.created_at)  # type: ignore[arg-type]
        for row in listing.archives
    ]
    report = check(site, vault=Listed(site.vault, Listing(listing.as_of, lines)))
    assert kinds(report) == {"orphan": 1}
    assert "not the size and tree hash" in report.findings[0].detail


def test_a_lost_catalog_brings_a_full_one(
    site: Site, source: Path, clock: ManualClock, tmp_path: Path
) -> None:
    settle(site, clock)
    catalogs = archive_ids(site, "kind = 2")
    lose(site, catalogs[-1])
    report = check(site)
    assert kinds(report) == {"missing": 1}
    assert report.affected.files == 0
    (source / "fourth").write_text("night")
    made = site.backup()
    generations = query(site, "SELECT generation FROM catalogs ORDER BY number DESC LIMIT 2")
    assert sorted(generations) == [(1,), (2,)], "a delta, and the full one that makes the chain whole"
    machine = bare(tmp_path, site)
    rebuilt = machine.rebuild()
    assert [job.snapshots for job in rebuilt.jobs] == [4]
    after = machine.site()
    assert after.restore(made.snapshot, tmp_path / "out").problems == ()
    assert_same_tree(source, tmp_path / "out")
    after.close()


def test_every_cut_of_a_check(site: Site, disk: DirectoryVault, clock: ManualClock) -> None:
    """Cut at each vault call: nothing is marked that is there, and the next check is whole."""
    settle(site, clock)
    lost = archive_ids(site)[-1]
    lose(site, lost)
    for method in ("state", "request_listing", "listing_status", "fetch_listing"):
        for after in (False, True):
            faulty = FaultyVault(disk, Fault(method, PowerCut(method), after=after))
            site = site.reopen(faulty)
            with pytest.raises(PowerCut):
                check(site)
            faulty.assert_all_met()
            assert query(site, "SELECT count(*) FROM archives WHERE state != 'stored'") == [(0,)]
    site = site.reopen(disk)
    assert kinds(check(site)) == {"missing": 1}


class Listed(FaultyVault):
    """A vault whose list is given, and `late`: made before it was asked for."""

    def __init__(self, vault: object, listing: Listing, *, late: bool = False) -> None:
        super().__init__(vault)  # type: ignore[arg-type]
        self._listing = listing
        self._late = late

    @property
    def traits(self) -> VaultTraits:
        return replace(self.vault.traits, lists_at_once=not self._late)

    def fetch_listing(self, listing_id: ListingId) -> Listing:
        return self._listing


AGO = START.timestamp() * 1e6 - 9e10  # microseconds, and a day before


@pytest.mark.parametrize(("before", "taken_up", "recorded", "shown", "after", "found"), [
    ("lost", None, "v", "v", "stored", {"found-again": 1}),
    ("lost", None, None, "v", "unconfirmed", {"found-again": 1}),
    ("lost", None, "v", "other", "lost", {"lost": 1}),
    ("lost", None, "v", "copy", "unconfirmed", {"found-again": 1}),
    ("unconfirmed", None, "v", "v", "stored", {}),
    ("unconfirmed", None, None, "v", "stored", {}),
    ("unconfirmed", None, "v", "other", "damaged", {"differs": 1}),
    ("unconfirmed", None, "v", "copy", "stored", {}),
    ("unconfirmed", AGO, "v", "v", "stored", {}),
    ("unconfirmed", AGO, None, "v", "unconfirmed", {}),
    ("unconfirmed", AGO, "v", "other", "damaged", {"differs": 1}),
    ("unconfirmed", AGO, "v", "copy", "unconfirmed", {}),
    ("stored", None, "v", "other", "stored", {}),
    ("condemned", None, "v", "other", "condemned", {}),
])  # fmt: skip
def test_where_lists_have_no_hash_only_the_objects_version_proves_what_was_gone(
    site: Site, disk: DirectoryVault, clock: ManualClock, before: str, taken_up: float | None,
    recorded: str | None, shown: str, after: str, found: dict[str, int],
) -> None:  # fmt: skip
    """A bucket's list: other objects may have been put in place of those that were lost or deleted.

    In a copy of a bucket, whatever lies beside them came later as well.
    """
    settle(site, clock)
    archive = archive_ids(site)[0]
    with site.inventory.writing() as tx:
        tx.connection.execute("UPDATE archives SET version = 'v'")
        sql = "UPDATE archives SET state = ?, taken_up_at = ?, version = ? WHERE archive_id = ?"
        tx.connection.execute(sql, (before, taken_up, recorded, archive))
    listing = disk.fetch_listing(disk.request_listing(""))
    lines = [
        replace(line, tree_hash=None, version=shown if archive == line.archive_id else "v")
        for line in listing.archives
    ]
    if shown == "copy":
        lines = [replace(line, created_at=line.created_at + timedelta(days=9)) for line in lines]
    for _ in range(2):
        report = check(site, vault=Listed(disk, Listing(clock.now(), lines)))
        assert kinds(report) == found
        assert state_of(site, archive) == after
        clock.advance(A_DAY)
        found = {"lost": 1} if after in {"lost", "damaged"} else {}


def test_the_report_is_json(site: Site, clock: ManualClock) -> None:
    settle(site, clock)
    report = check(site)
    document = report.document()
    assert document["outcome"] == "done"
    assert {"state", "compared", "read", "laws", "findings", "affected"} <= document.keys()
    assert isinstance(report, CheckReport)


def test_clocks_that_differ(site: Site, disk: DirectoryVault, clock: ManualClock) -> None:
    """A vault whose clock is hours ahead of ours calls its list newer than what came after it."""
    settle(site, clock)
    listing = disk.fetch_listing(disk.request_listing(""))
    ahead = timedelta(hours=6)
    lines = [replace(line, created_at=line.created_at + ahead) for line in listing.archives]
    (Path(site.job.sources[0].decode()) / "late").write_bytes(b"late" * 100_000)
    site.backup()
    clock.advance(timedelta(hours=1))
    report = check(site, vault=Listed(disk, Listing(listing.as_of + ahead, lines), late=True))
    assert (report.findings, report.compared and report.compared.newer) == ((), 2)


def test_asked_for_before_it_was_stored(site: Site, disk: DirectoryVault, clock: ManualClock) -> None:
    settle(site, clock)
    listing = disk.fetch_listing(disk.request_listing(""))
    world = check_world(site, vault=Listed(disk, replace(listing, as_of=clock.now() + A_DAY), late=True))
    request_listing(site.inventory, world.vault, clock)
    clock.advance(timedelta(minutes=1))
    (Path(site.job.sources[0].decode()) / "late").write_bytes(b"late" * 100_000)
    site.backup()
    report = compare_with_vault(world)
    assert (report.findings, report.compared and report.compared.newer) == ((), 2)


def test_after_a_rebuild_the_list_confirms(site: Site, clock: ManualClock, tmp_path: Path) -> None:
    replace(site, most_deltas=1).backup()
    settle(site, clock)
    machine = bare(tmp_path, site)
    machine.rebuild(Wish(lines=[line_of(site)]))
    after = machine.site()
    count = len(archive_ids(after, "state = 'unconfirmed'"))
    assert count > 0
    report = check(after)
    assert not report.is_grave
    assert kinds(report) == {"orphan": 4}
    for number, old in enumerate(sorted(report.findings, key=lambda finding: finding.detail), 1):
        says = f"catalog {number} from before the rebuild"
        assert old.detail.startswith(says), "the full one after it has it all"
    assert report.compared is not None
    assert (report.compared.confirmed, report.compared.unconfirmed) == (count, 0)
    lose(after, archive_ids(after)[0])
    settle(after, clock)
    assert kinds(check(after)) == {"missing": 1, "orphan": 4}
    after.close()
