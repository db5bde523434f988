"""What a copy's policy forgot comes back in that vault, as `forget --undo --vault` takes it back."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.app.retention.undo import known_snapshots, returns, undo_of_job
from backup.catalogs.amend import Amended, amending
from backup.errors import UsageError
from backup.format.records import ForgottenRecord
from backup.inventory.content import copied
from backup.inventory.content.archives import ArchiveState
from backup.inventory.content.copied import KeptThere
from backup.inventory.records import runs
from backup.inventory.store.driver import changed, raw_rows
from backup.inventory.store.states import RestoreStage
from backup.inventory.store.times import micros
from backup.model import SnapshotId, VaultName
from backup.vault.directory import DirectoryVault
from tests.copier.support import brought_back, copies, nights
from tests.support.backups import Site
from tests.support.doubles import FaultyVault, ManualClock, PowerCut, cut_at
from tests.support.trees import snapshot_of

DAY = timedelta(days=1)
GRACE = 7 * DAY


def take_back(
    site: Site, to: DirectoryVault | FaultyVault, ids: Sequence[SnapshotId], *, if_all: bool = True
) -> list[Amended]:
    """Take snapshots of the site's job back, in the vault with copies."""
    there = replace(site, vault=to)
    with amending(site.keys, there.world, site.job.sending) as amender:
        with site.inventory.reading() as tx:
            names = runs.job_names_by_number(tx)
            vault = copied.vault_number(tx, to.name)
            found = [runs.find_job(tx, names[job]) for job in copied.jobs_copied_to(tx, vault)]
        rows = [row for row in found if row is not None]
        [row] = [row for row in rows if row.name == site.job.name]
        return list(undo_of_job(site.inventory, amender, rows, row, ids, if_all=if_all))


def forget_there(site: Site, to: DirectoryVault, numbers: list[int], clock: ManualClock) -> None:
    replace(site, vault=to).amend(ForgottenRecord(numbers, micros(clock.now())))


def states(site: Site, to: DirectoryVault) -> dict[int, ArchiveState]:
    with site.inventory.reading() as tx:
        return {copy.archive: copy.state for copy in copied.list_copies(tx, copied.vault_number(tx, to.name))}


def kept(site: Site, to: DirectoryVault) -> set[KeptThere]:
    """The states of the job's snapshots there."""
    with site.inventory.reading() as tx:
        row = runs.find_job(tx, site.job.name)
        assert row is not None
        return set(copied.kept_there(tx, copied.vault_number(tx, to.name), row.number).values())


def test_what_another_job_condemned_is_taken_up_with_it(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path, clock: ManualClock
) -> None:
    """Two jobs share a pack: both condemned it there, and one of them wants it back."""
    other = site.with_job(sources=[source], name="other")
    seen = []
    for _ in range(2):
        (source / "shared").write_bytes(os.urandom(1_500_000))
        for each in (site, other):
            each.backup()
        seen.append(dict(snapshot_of(source)))
    for each in (site, other):
        copies(each, second)
        forget_there(each, second, [1], clock)
    replace(site, vault=second).prune(grace=GRACE)
    gone = {number for number, state in states(site, second).items() if state is ArchiveState.CONDEMNED}
    with site.inventory.reading() as tx:
        said = list(raw_rows(tx, "SELECT DISTINCT job FROM condemned_copies", ()))
    assert gone
    assert len(said) == 2, "both jobs' catalogs condemned"
    clock.advance(2 * DAY)
    done = take_back(site, second, [site.snapshots()[0].id])
    assert [(amended.vault, amended.job) for amended in done] == [
        ("second", "other"),
        ("second", site.job.name),
    ]
    assert {states(site, second)[number] for number in gone} == {ArchiveState.UNCONFIRMED}
    clock.advance(GRACE)
    for _ in range(3):
        assert replace(site, vault=second).prune(grace=timedelta(hours=1)).deleted.archives == 0
        clock.advance(2 * DAY)
    assert {states(site, second)[number] for number in gone} == {ArchiveState.STORED}
    assert brought_back(site, second, tmp_path, "there") == seen
    assert [s.forgotten_at for s in site.snapshots()] == [None, None], "at home nothing was forgotten"


@pytest.mark.parametrize("is_read", [False, True])
def test_what_is_deleted_there_does_not_come_back(
    site: Site, source: Path, second: DirectoryVault, clock: ManualClock, tmp_path: Path, *, is_read: bool
) -> None:
    """Not for an open restore, either, which reads what is left of it."""
    nights(site, source, 3)
    copies(site, second)
    ids = [snapshot.id for snapshot in site.snapshots()]
    forget_there(site, second, [1, 2], clock)
    with site.inventory.writing() as tx:
        lost = "SELECT min(archive) FROM copies k JOIN archives a ON a.number = k.archive WHERE a.kind = 1"
        changed(tx, f"UPDATE copies SET state = ? WHERE archive = ({lost})", (ArchiveState.DELETED,))
    if is_read:
        site.restore(ids[0], tmp_path / "out")
        with site.inventory.writing() as tx:
            assert changed(tx, "UPDATE restores SET state = ?", (RestoreStage.OPEN,))
    with site.inventory.reading() as tx:
        known = [snapshot for snapshot in known_snapshots(tx, second.name) if snapshot.forgotten_at]
        found = returns(tx, known, second.name)
        assert returns(tx, known).lost == (), "at home it is all there"
    assert [snapshot.id for snapshot in found.lost] == ids[:1]
    with pytest.raises(UsageError, match="were deleted"):
        take_back(site, second, ids)
    assert kept(site, second) == {KeptThere.COPIED, KeptThere.FORGOTTEN}
    take_back(site, second, ids, if_all=False)
    with site.inventory.reading() as tx:
        left = [snapshot.id for snapshot in known_snapshots(tx, second.name) if snapshot.forgotten_at]
    assert left == ids[:1]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_it_is_cut_at_every_call_and_goes_on(
    site: Site, source: Path, tmp_path: Path, clock: ManualClock, *, after: bool
) -> None:
    seen = nights(site, source, 2)
    first = site.snapshots()[0].id
    for call in range(60):
        to = DirectoryVault(VaultName(f"second-{call}"), str(tmp_path / f"second-{call}"), clock)
        to.create()
        copies(site, to)
        forget_there(site, to, [1], clock)
        replace(site, vault=to).prune(grace=GRACE)
        cut = False
        try:
            take_back(site, FaultyVault(to, cut_at(call, after=after)), [first])
        except PowerCut:
            cut = True
        site = site.reopen()
        assert brought_back(site, to, tmp_path, f"cut-{call}") in (seen, seen[1:])
        take_back(site, to, [first])
        assert kept(site, to) == {KeptThere.COPIED}
        for _ in range(2):
            clock.advance(GRACE)
            replace(site, vault=to).prune(grace=timedelta(hours=1))
        assert brought_back(site, to, tmp_path, f"bare-{call}") == seen
        shutil.rmtree(tmp_path / f"second-{call}")
        if not cut:
            assert call > 3
            return
    pytest.fail("it never came to an end")
