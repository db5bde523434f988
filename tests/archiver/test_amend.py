"""Changes of what was saved before: true once their catalog is stored, the same after a cut and a rebuild."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.errors import LockedError, UsageError
from backup.format import records
from backup.format.catalog import encode_record
from backup.format.pack import parse_header
from backup.inventory.content import archives
from backup.inventory.content.archives import Archive, ArchiveState
from backup.inventory.records import amendments
from backup.inventory.records.runs import list_runs
from backup.kinds import Outcome
from backup.model import Generation, PackKind, VaultName
from backup.vault.directory import DirectoryVault
from tests.support.backups import Site
from tests.support.doubles import FaultyVault, ManualClock, PowerCut, cut_at
from tests.support.rebuilds import bare, catalog_rows, rows

NIGHTS = 4
AT = 1_700_000_000_000_000


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Four nights, each of which adds a file."""
    clock = ManualClock()
    vault = DirectoryVault(VaultName("disk"), str(tmp_path / "vault"), clock)
    vault.create()
    made = Site.create(tmp_path / "state", vault, [tmp_path / "source"], clock=clock)
    (tmp_path / "source").mkdir()
    for night in range(NIGHTS):
        (tmp_path / "source" / f"file {night}").write_bytes(os.urandom(100_000))
        made.backup()
    yield made
    made.close()


def _archives(site: Site, kind: PackKind) -> list[Archive]:
    with site.inventory.reading() as tx:
        return [
            archive for archive in archives.list_archives(tx, site.inventory.id) if archive.label.kind is kind
        ]


def _every(site: Site) -> list[records.Record]:
    """One amendment of each kind."""
    packs: list[bytes] = [archive.label.pack_id for archive in _archives(site, PackKind.DATA)]
    return [
        records.ForgottenRecord([1, 2], AT),
        records.TakenBackRecord([2]),
        records.MarksRecord(3, ["before the move", "år"], True, "keep it", AT + 5),
        records.CondemnedRecord([packs[0]], AT),
        records.RetiredRecord([packs[1], packs[2]]),
        records.TakenUpRecord([packs[2]]),
    ]


def features_of(header: bytes) -> int:
    """The required features of a catalog."""
    catalog = parse_header(header).fields.catalog
    assert catalog is not None
    return int(catalog.features)


def test_a_forgotten_snapshot_is_not_shown_and_comes_back(site: Site, tmp_path: Path) -> None:
    first, *rest = site.snapshots()
    site.amend(records.ForgottenRecord([first.number], AT))
    assert site.snapshots() == rest
    assert [snapshot.id for snapshot in site.snapshots(also_forgotten=True)] == [
        first.id,
        *(snapshot.id for snapshot in rest),
    ]
    with pytest.raises(UsageError, match="was forgotten on") as caught:
        site.snapshot(first.id)
    assert f"forget --undo {first.id[:8]}" in (caught.value.advice or "")
    site.amend(records.TakenBackRecord([first.number]))
    assert site.snapshot(first.id) == first
    assert not site.restore(first.id, tmp_path / "out").problems


def test_a_catalog_without_a_snapshot_is_a_delta_of_the_chain(site: Site) -> None:
    before = catalog_rows(site.folder)
    amended = site.amend(records.ForgottenRecord([1], AT))
    new = [row for row in catalog_rows(site.folder) if row not in before]
    assert [row[1] for row in new] == [Generation.DELTA]
    assert features_of(new[0][5]) == 2
    assert f",{new[0][0]}," in amended.recovery_line
    assert new[0][2] == max(row for row in before if row[1] == Generation.DELTA)[4]


def test_tags_alone_need_no_feature_of_a_reader(site: Site) -> None:
    site.amend(records.MarksRecord(1, ["a"], False))
    assert features_of(max(catalog_rows(site.folder))[5]) == 0
    assert site.snapshots()[0].tags == ("a",)


def test_a_rebuild_gives_every_mark(site: Site, tmp_path: Path) -> None:
    site.amend(*_every(site))
    with_deltas = bare(tmp_path, site)
    assert with_deltas.rebuild().state == "done"
    assert rows(with_deltas.folder) == rows(site.folder)
    with_deltas.site().close()


def test_a_full_catalog_carries_every_mark(site: Site, tmp_path: Path) -> None:
    site.amend(*_every(site))
    enrolled = replace(site.keys, enrolments=((site.keys.enrolments[0][0], b"e" * 32),))
    replace(site, keys=enrolled).amend(records.TakenBackRecord([]))  # a full one is due: another enrolment
    newest = max(catalog_rows(site.folder))
    assert newest[1] == Generation.FULL
    assert features_of(newest[5]) == 2
    again = bare(tmp_path, site)
    assert again.rebuild().state == "done"
    assert rows(again.folder) == rows(site.folder)


def test_condemned_and_retired_archives_are_not_built_upon_and_restored_from(
    site: Site, tmp_path: Path
) -> None:
    newest = site.snapshots()[-1]
    packs: list[bytes] = [archive.label.pack_id for archive in _archives(site, PackKind.DATA)]
    site.amend(records.RetiredRecord(packs[:2]), records.CondemnedRecord(packs[2:], AT))
    assert not site.restore(newest.id, tmp_path / "out").problems
    report = replace(site, job=replace(site.job, reread=True)).backup()
    assert report.bytes_new == NIGHTS * 100_000
    assert {archive.state for archive in _archives(site, PackKind.DATA)[:NIGHTS]} == {
        ArchiveState.RETIRED,
        ArchiveState.CONDEMNED,
    }


def test_dropping_takes_entries_that_only_they_had(site: Site, tmp_path: Path) -> None:
    (tmp_path / "source" / "file 0").unlink()
    site.backup()
    site.amend(records.DroppedRecord([1, 2, 3, 4]))
    kept = rows(site.folder)
    assert [snapshot[2] for snapshot in kept["snapshots"]] == [5]
    assert b"file 0" not in {entry[2] for entry in kept["entries"]}
    again = bare(tmp_path, site)
    assert again.rebuild().state == "done"
    assert rows(again.folder) == kept


def test_while_a_backup_runs_nothing_is_amended(site: Site) -> None:
    with site.inventory.locked("backup"), pytest.raises(LockedError):
        site.amend(records.ForgottenRecord([1], AT))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_cut_at_every_call_leaves_all_or_nothing(site: Site, tmp_path: Path, after: bool) -> None:
    """What the next run makes of it is what a rebuild makes of it."""
    vault, number = site.vault, 0
    while True:
        number += 1
        was = rows(site.folder)
        mark = records.MarksRecord(1, [f"cut {number}"], False)
        try:
            replace(site, vault=FaultyVault(vault, cut_at(number, after=after))).amend(mark)
        except PowerCut:
            site = site.reopen(vault)
            site.amend(records.TakenBackRecord([]))  # the next run, which finishes what was left
            now = rows(site.folder)
            assert now["snapshots"] == was["snapshots"] or site.snapshots()[0].tags == (f"cut {number}",)
            again = bare(tmp_path, site, f"bare {number}")
            assert again.rebuild().state == "done"
            assert rows(again.folder) == now
        else:
            break
    assert number > 3
    with site.inventory.reading() as tx:
        outcomes = {run.outcome for run in list_runs(tx)}
    assert outcomes <= {Outcome.DONE, Outcome.INTERRUPTED}
    site.close()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_tags_of_a_backup_come_through_a_cut(site: Site, tmp_path: Path, after: bool) -> None:
    """A snapshot has its tags or is not there."""
    vault = site.vault
    counted = FaultyVault(vault)
    tagged = replace(site, job=replace(site.job, tags=("b", "a")))
    replace(tagged, vault=counted).backup()
    for number in range(counted.total - 4, counted.total):  # the catalog, which is all that is sent
        known = len(site.snapshots())
        with pytest.raises(PowerCut):
            replace(tagged, vault=FaultyVault(vault, cut_at(number, after=after))).backup()
        site = site.reopen(vault)
        tagged = replace(tagged, inventory=site.inventory)
        site.amend(records.TakenBackRecord([]))  # the next run, which finishes what was left
        assert all(snapshot.tags == ("a", "b") for snapshot in site.snapshots()[NIGHTS:])
        assert len(site.snapshots()) in {known, known + 1}
    assert len(site.snapshots()) > NIGHTS + 1
    again = bare(tmp_path, site)
    assert again.rebuild().state == "done"
    assert rows(again.folder) == rows(site.folder)
    site.close()


def test_a_snapshot_that_0_1_0_prepared_is_understood() -> None:
    record = records.SnapshotRecord("ab", 1, 2, 3, "host", [b"/"], 4, 5, [])
    assert amendments.decode(encode_record(record)) == [record]
    marks = records.MarksRecord(1, ["a"], False)
    assert amendments.decode(amendments.encode([record, marks])) == [record, marks]
    assert amendments.decode(amendments.encode([])) == []
