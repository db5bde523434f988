"""A prune condemns, waits, deletes: nothing that is kept, nothing before its day, and everything at last."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.errors import LockedError
from backup.inventory.content import archives, pruning
from backup.inventory.content.archives import ArchiveState
from backup.inventory.content.lost import lost_chunks
from backup.model import PackKind
from tests.support.nightly_servers import DAY, SIZE, Nights
from tests.support.rebuilds import bare, rows
from tests.support.trees import assert_same_tree, snapshot_of


@pytest.fixture
def nights(tmp_path: Path) -> Iterator[Nights]:
    """Six nights."""
    made = Nights(tmp_path)
    for _ in range(6):
        made.night()
    yield made
    made.site.close()


def test_without_anything_forgotten_nothing_is_condemned(nights: Nights) -> None:
    before = nights.listed()
    report = nights.site.prune()
    assert (report.condemned.archives, report.deleted.archives) == (0, 0)
    assert nights.listed() == before


def test_condemned_then_deleted_after_grace(nights: Nights, tmp_path: Path) -> None:
    nights.forget(1, 2, 3, 4)
    before = nights.listed()
    report = nights.site.prune()
    assert report.condemned.archives == 2  # the packs of the files that only these four nights had
    assert report.deleted.archives == 0
    assert before <= nights.listed()
    assert nights.states().count(ArchiveState.CONDEMNED) == 2
    nights.clock.advance(2 * DAY)
    waiting = nights.site.prune()
    assert waiting.deleted.archives == 0
    assert [group.archives for group in waiting.waiting] == [2]
    assert waiting.waiting[0].until is not None
    nights.clock.advance(2 * DAY)
    done = nights.site.prune()
    assert done.deleted.archives == 2
    assert done.deleted.bytes == report.condemned.bytes
    assert len(before - nights.listed()) == 2
    nights.assert_kept()
    assert [snapshot.number for snapshot in nights.site.snapshots(also_forgotten=True)] == [5, 6]
    assert set(done.dropped) == {"job"}
    again = bare(tmp_path, nights.site)
    assert again.rebuild().state == "done"
    assert rows(again.folder) == rows(nights.site.folder)
    back = again.site()
    for snapshot in back.snapshots():
        back.restore(snapshot.id, tmp_path / "rebuilt" / snapshot.id)
        assert_same_tree(nights.trees[snapshot.number], tmp_path / "rebuilt" / snapshot.id)
    back.close()


def test_a_plan_changes_nothing(nights: Nights) -> None:
    nights.forget(1, 2, 3, 4)
    was = rows(nights.site.folder)
    plan = nights.site.prune(only_plan=True)
    assert plan.is_plan
    assert plan.condemned.archives == 2
    assert rows(nights.site.folder) == was


def test_what_is_taken_back_within_grace_stays(nights: Nights) -> None:
    nights.forget(1, 2, 3, 4)
    nights.site.prune()
    nights.take_back(1, 2, 3, 4)
    report = nights.site.prune()
    assert report.taken_up.archives == 2
    assert set(nights.states()) == {ArchiveState.STORED, ArchiveState.UNCONFIRMED}
    nights.clock.advance(10 * DAY)
    assert nights.site.prune().deleted.archives == 0
    nights.night()
    assert set(nights.states()) == {ArchiveState.STORED}
    nights.assert_kept()


def test_a_server_that_may_not_delete_condemns_and_sees_what_others_deleted(nights: Nights) -> None:
    nights.forget(1, 2, 3, 4)
    nights.site.prune(deletes=False)
    nights.clock.advance(5 * DAY)
    waiting = nights.site.prune(deletes=False)
    assert waiting.deleted.archives == 0
    assert not waiting.may_delete
    with nights.site.inventory.reading() as tx:
        every = archives.list_archives(tx, nights.site.inventory.id)
    condemned = {archive.archive_id: None for archive in every if archive.state is ArchiveState.CONDEMNED}
    nights.vault.delete_archives(condemned)  # type: ignore[arg-type]
    nights.clock.advance(DAY)
    report = nights.site.prune(deletes=False)
    assert report.deleted_elsewhere == 2
    assert ArchiveState.CONDEMNED not in nights.states()
    assert [snapshot.number for snapshot in nights.site.snapshots(also_forgotten=True)] == [5, 6]
    nights.assert_kept()


def test_beside_a_backup_nothing_is_pruned(nights: Nights) -> None:
    with nights.site.inventory.locked("backup"), pytest.raises(LockedError):
        nights.site.prune()


def test_a_deletion_that_was_decided_is_carried_out_by_the_next(nights: Nights) -> None:
    nights.forget(1, 2, 3, 4)
    nights.site.prune()
    nights.clock.advance(4 * DAY)

    class CutError(Exception):
        pass

    class Away:
        def __getattr__(self, name: str) -> object:
            return getattr(nights.vault, name)

        def delete_archives(self, stored: object, *_: object) -> None:
            raise CutError

    with pytest.raises(CutError):
        replace(nights.site, vault=Away()).prune()
    assert nights.states().count(ArchiveState.DELETING) == 2
    report = nights.site.prune()
    assert report.deleted.archives == 2
    nights.assert_kept()


def test_old_catalogs_go_and_the_rest_rebuilds(nights: Nights, tmp_path: Path) -> None:
    """Two full generations and all deltas since the older one stay."""
    for number in range(3):
        enrolled = replace(
            nights.site.keys, enrolments=((nights.site.keys.enrolments[0][0], bytes([number]) * 32),)
        )
        nights.site = replace(nights.site, keys=enrolled)
        nights.night()
    count = len(nights.states(PackKind.CATALOG))
    assert nights.site.prune().condemned.archives > 0
    nights.clock.advance(5 * DAY)
    report = nights.site.prune()
    assert report.deleted.archives > 3
    assert len(nights.states(PackKind.CATALOG)) < count
    nights.assert_kept()


def test_rows_of_what_was_deleted_go_in_the_end(nights: Nights) -> None:
    """The inventory does not grow by what is gone."""

    def count() -> int:
        with nights.site.inventory.reading() as tx:
            return len(archives.states(tx))

    nights.forget(1, 2, 3, 4)
    nights.site.prune()
    nights.clock.advance(4 * DAY)
    nights.site.prune()
    before = count()
    nights.site.prune()
    assert count() == before
    nights.clock.advance(50 * DAY)
    nights.site.prune()
    assert count() == before - 2
    nights.assert_kept()


def test_a_snapshot_can_be_taken_back_as_long_as_its_chunks_lie_elsewhere(
    nights: Nights, tmp_path: Path
) -> None:
    """Its archive is deleted; what entries name of it is found by id in another one, also after a rebuild."""
    contents = nights.restore_file(1, "file 1")
    nights.forget(1, 2, 3, 4)
    assert nights.site.prune().condemned.archives == 2
    nights.night("file 1 again", contents)
    nights.clock.advance(5 * DAY)
    report = nights.site.prune()
    assert report.deleted.archives == 2
    assert [snapshot.number for snapshot in nights.site.snapshots(also_forgotten=True)] == [1, 5, 6, 7]
    nights.assert_lawful()
    nights.take_back(1)
    nights.assert_kept()
    assert nights.site.prune().condemned.archives == 0
    back = bare(tmp_path, nights.site)
    assert back.rebuild().state == "done"
    assert rows(back.folder) == rows(nights.site.folder)
    rebuilt = back.site()
    first = rebuilt.snapshots()[0]
    rebuilt.restore(first.id, tmp_path / "rebuilt")
    assert_same_tree(nights.trees[1], tmp_path / "rebuilt")
    rebuilt.close()


def test_what_is_deleted_although_a_live_file_needs_it_is_stored_again(nights: Nights) -> None:
    """As a rebuild may find it: condemned by a catalog, deleted by somebody, and still named by an entry."""
    with nights.site.inventory.reading() as tx:
        newest = [
            archive
            for archive in archives.list_archives(tx, nights.site.inventory.id)
            if archive.label.kind is PackKind.DATA
        ][-1]
    assert newest.archive_id is not None
    nights.vault.delete_archives({newest.archive_id: None})
    with nights.site.inventory.writing() as tx:
        pruning.record_deleted(tx, [newest.number], nights.clock.now())
    with nights.site.inventory.reading() as tx:
        assert lost_chunks(tx, nights.vault.name).marks
    assert nights.site.backup().bytes_new == SIZE
    with nights.site.inventory.reading() as tx:
        assert not lost_chunks(tx, nights.vault.name).marks
    nights.trees[nights.site.snapshots()[-1].number] = snapshot_of(nights.source)
    nights.assert_kept()
