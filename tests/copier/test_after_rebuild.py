"""After a rebuild of its inventory a server copies on: what is there is read, and nothing is sent again."""

from __future__ import annotations

import os
import shutil
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.archiver.backup import run_backup
from backup.errors import HeirError, NightvaultError
from backup.format.records import ForgottenRecord, MarksRecord
from backup.inventory.content import copied
from backup.inventory.content.copied import KeptThere
from backup.inventory.content.snapshots import list_snapshots
from backup.inventory.store.driver import raw_rows
from backup.inventory.store.invariants import INVARIANTS, database_faults, violations
from backup.inventory.store.times import micros
from backup.kinds import Outcome
from backup.model import MIB, ArchiveId, ArchiveLabel, InventoryId, PackKind, UploadId, VaultName
from backup.protocols import Vault
from backup.pruner.listed import PruneStoppedError
from backup.rebuilder.context import Wish
from backup.vault.directory import DirectoryVault
from backup.vault.glacier import GlacierVault
from tests.copier.support import brought_back, copies, nights
from tests.support.backups import Site
from tests.support.doubles import FaultyVault, ManualClock, PowerCut, cut_at
from tests.support.emulated import RunningEmulator
from tests.support.rebuilds import Bare, archive_file
from tests.support.recovery_keys import NEW, OLD, with_keys
from tests.support.rigs import glacier_client, s3_client, s3_vault
from tests.support.transaction_cuts import cut_transaction
from tests.support.trees import Seen, snapshot_of

DAY = timedelta(days=1)


def rebuilt(site: Site, tmp_path: Path, name: str = "heir", vault: Vault | None = None) -> Site:
    """The server after its state was lost, and its inventory rebuilt from a vault (its own, if None)."""
    machine = Bare(tmp_path / name, vault or site.vault, site)
    machine.new_id = InventoryId(name.encode().ljust(16, b".")[:16])
    machine.rebuild()
    return machine.site()


def said(site: Site, to: Vault) -> dict[int, KeptThere]:
    """The states of the job's snapshots there, as the inventory has them."""
    with site.inventory.reading() as tx:
        ((job,),) = raw_rows(tx, "SELECT number FROM jobs WHERE name = ?", (site.job.name,))
        return copied.kept_there(tx, copied.vault_number(tx, to.name), job)


def rows(site: Site) -> list[tuple[object, ...]]:
    """What the inventory has of copies, with packs in place of numbers."""
    queries = (
        """SELECT a.pack_id, k.state, k.archive_id, k.stored_at, k.version FROM copies k
           JOIN archives a ON a.number = k.archive ORDER BY 1""",
        "SELECT number, is_alone, state, forgotten_at FROM copied_snapshots ORDER BY 1",
        "SELECT a.pack_id, c.at FROM condemned_copies c JOIN archives a ON a.number = c.archive ORDER BY 1",
    )
    with site.inventory.reading() as tx:
        assert not list(database_faults(tx))
        assert not list(filter(None, (violations(tx, invariant) for invariant in INVARIANTS)))
        return [row for sql in queries for row in raw_rows(tx, sql, ())]


def drop_here(site: Site, number: int, clock: ManualClock) -> None:
    """Forget a snapshot, and prune it away from the job's own vault."""
    site.amend(ForgottenRecord([number], micros(clock.now())))
    for _ in range(3):
        site.prune(grace=timedelta(hours=1))
        clock.advance(2 * DAY)


def test_it_copies_on_and_sends_nothing_again(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path
) -> None:
    seen = nights(site, source, 3)
    copies(site, second)
    before = rows(site)
    heir = rebuilt(site, tmp_path)
    with pytest.raises(NightvaultError, match="does not know yet") as told:
        copies(heir, second)
    assert "--key" in told.value.advice
    report = copies(heir, second, with_key=True)
    assert (report.outcome, report.snapshots, report.archives) == (Outcome.DONE, (), 0)
    assert rows(heir) == before
    seen += nights(heir, source, 2, first=3)
    report = copies(heir, second)
    assert (len(report.snapshots), report.problems) == (2, ())
    shutil.rmtree(tmp_path / "vault")
    assert brought_back(heir, second, tmp_path, "bare") == seen


def test_what_only_the_copy_has_stays_there_and_comes_back(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path, clock: ManualClock
) -> None:
    """Forgotten and pruned at home before the rebuild; names that the heir meets again are the same."""
    (source / "sub").mkdir()
    (source / "sub" / "file").write_bytes(os.urandom(50_000))
    seen = nights(site, source, 2)
    site.amend(MarksRecord(2, ["before"], pinned=False))
    shutil.rmtree(source / "sub")
    seen += nights(site, source, 2, first=2)
    copies(site, second)
    for number in (1, 2):
        drop_here(site, number, clock)
    before = rows(site)
    heir = rebuilt(site, tmp_path)
    assert [snapshot.number for snapshot in heir.snapshots()] == [3, 4]
    (source / "sub").mkdir()
    (source / "sub" / "file").write_bytes(os.urandom(50_000))
    seen += nights(heir, source, 1, first=4)
    assert copies(heir, second, with_key=True).problems == ()
    assert rows(heir)[: len(before)] != before, "a night more"
    assert list(said(heir, second).values()) == [KeptThere.COPIED] * 5
    both = replace(heir, copies=(second,), reads_first=second.name)
    with heir.inventory.reading() as tx:
        listed = list_snapshots(tx, copied_to=second.name)
    assert [snapshot.tags for snapshot in listed] == [(), ("before",), (), (), ()]
    for snapshot, was in zip(listed, seen, strict=True):
        assert both.restore(snapshot.id, tmp_path / snapshot.id).outcome is Outcome.DONE
        assert dict(snapshot_of(tmp_path / snapshot.id)) == was
    assert brought_back(heir, second, tmp_path, "there") == seen
    assert brought_back(heir, heir.vault, tmp_path, "here") == seen[2:]
    drop_here(replace(heir, vault=second), 1, clock)
    assert said(heir, second)[1] is KeptThere.FORGOTTEN, "others need its packs, too"
    seen += nights(heir, source, 1, first=5)
    copies(heir, second)
    assert brought_back(heir, second, tmp_path, "later") == seen[1:]
    assert rows(heir)


def test_what_is_forgotten_and_condemned_there_is_known_again(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path, clock: ManualClock
) -> None:
    seen = nights(site, source, 4)
    copies(site, second)
    there = replace(site, vault=second)
    there.amend(ForgottenRecord([1], micros(clock.now())))
    there.prune(grace=5 * DAY)
    clock.advance(DAY)
    there.amend(ForgottenRecord([2], micros(clock.now())))
    before = rows(site)
    heir = rebuilt(site, tmp_path)
    assert copies(heir, second, with_key=True).archives == 0
    assert rows(heir) == before
    assert list(said(heir, second).values()) == [*[KeptThere.FORGOTTEN] * 2, *[KeptThere.COPIED] * 2]
    for _ in range(4):
        replace(heir, vault=second).prune(grace=5 * DAY)
        heir.prune(grace=5 * DAY)
        clock.advance(6 * DAY)
    assert brought_back(heir, second, tmp_path, "there") == seen[2:]
    assert brought_back(site, heir.vault, tmp_path, "here") == seen


def test_rebuilt_from_the_copy_it_copies_back_into_the_vault_of_before(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path
) -> None:
    seen = nights(site, source, 3)
    copies(site, second)
    first = site.vault
    heir = rebuilt(site, tmp_path, vault=second)
    assert copies(heir, first, with_key=True).archives == 0
    seen += nights(heir, source, 2, first=3)
    assert len(copies(heir, first).snapshots) == 2
    assert brought_back(heir, first, tmp_path, "first") == seen
    assert brought_back(heir, second, tmp_path, "second") == seen


def test_a_vault_with_nights_that_the_inventory_never_knew_is_refused(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path
) -> None:
    """Rebuilt from a copy of some nights: a full catalog of that inventory would lose the others."""
    seen = nights(site, source, 2)
    copies(site, second)
    seen += nights(site, source, 2, first=2)
    first = site.vault
    heir = rebuilt(site, tmp_path, vault=second)
    for nights_since in range(2):
        nights(heir, source, nights_since, first=4)
        with pytest.raises(NightvaultError, match="never knew") as told:
            copies(heir, first, with_key=True)
        assert "rebuild --set-aside" in told.value.advice
        assert rows(heir) == []
    assert brought_back(site, first, tmp_path, "first") == seen


def test_twice_rebuilt_and_once_by_another_machine_in_between(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path
) -> None:
    """The machine before copies once more before the heir does; then its mark stops it."""
    seen = nights(site, source, 2)
    copies(site, second)
    nights_at_home = nights(site, source, 1, first=2)
    heir = rebuilt(site, tmp_path)
    assert len(copies(site, second).snapshots) == 1
    seen += nights_at_home
    assert copies(heir, second, with_key=True).archives == 0
    with pytest.raises(HeirError):
        copies(site, second)
    seen += nights(heir, source, 1, first=3)
    copies(heir, second)
    machine = Bare(tmp_path / "third", heir.vault, heir)
    machine.new_id = InventoryId(b"the third one...")
    machine.rebuild(Wish(inventory=heir.inventory.id.hex()))
    third = machine.site()
    seen += nights(third, source, 1, first=4)
    assert len(copies(third, second, with_key=True).snapshots) == 1
    assert brought_back(third, second, tmp_path, "back") == seen


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_cut_at_every_call_of_the_vault(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path, clock: ManualClock, after: bool
) -> None:
    heir, seen = heir_with_a_night_more(site, source, second, tmp_path, clock)
    for call in range(200):
        image = as_it_was(heir, tmp_path)
        is_cut = False
        try:
            copies(image, FaultyVault(second, cut_at(call, after=after)), with_key=True)
        except PowerCut:
            is_cut = True
        require_all(image.reopen(), second, seen, tmp_path / f"try-{call}", proves=not (is_cut and call % 6))
        if not is_cut:
            break
    assert call > 10


def test_cut_at_every_transaction(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path, clock: ManualClock
) -> None:
    heir, seen = heir_with_a_night_more(site, source, second, tmp_path, clock)
    for number in range(200):
        image = as_it_was(heir, tmp_path)
        is_cut = False
        try:
            with cut_transaction(image, number):
                copies(image, second, with_key=True)
        except PowerCut:
            is_cut = True
        folder = tmp_path / f"try-{number}"
        require_all(image.reopen(), second, seen, folder, proves=not (is_cut and number % 6))
        if not is_cut:
            break
    assert number > 10


def heir_with_a_night_more(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path, clock: ManualClock
) -> tuple[Site, list[dict[bytes, Seen]]]:
    """A night is in the copy alone, two are in both, and one was saved since the rebuild."""
    seen = nights(site, source, 3)
    copies(site, second)
    drop_here(site, 1, clock)
    heir = rebuilt(site, tmp_path)
    seen += nights(heir, source, 1, first=3)
    heir.close()
    shutil.copytree(tmp_path / "second", tmp_path / "second as it was")
    return heir, seen


def as_it_was(heir: Site, tmp_path: Path) -> Site:
    """The heir's state, and the other vault, as they were before anything was read there."""
    shutil.rmtree(tmp_path / "second")
    shutil.copytree(tmp_path / "second as it was", tmp_path / "second")
    shutil.rmtree(tmp_path / "image", ignore_errors=True)
    shutil.copytree(heir.folder, tmp_path / "image")
    return replace(heir, folder=tmp_path / "image").reopen()


def require_all(site: Site, to: Vault, seen: list[dict[bytes, Seen]], folder: Path, *, proves: bool) -> None:
    """The next copy does what is left, and everything comes back from there."""
    assert copies(site, to, with_key=True).outcome is Outcome.DONE
    assert copies(site, to).archives == 0
    assert list(said(site, to).values()) == [KeptThere.COPIED] * 4
    assert rows(site)
    if proves:
        assert brought_back(site, to, folder, "bare") == seen
    site.close()


@pytest.mark.parametrize("what", ["damaged", "withheld"])
def test_without_a_catalog_there_an_older_state_is_known_and_the_rest_is_copied_again(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path, what: str
) -> None:
    seen = nights(site, source, 2)
    copies(site, second)
    seen += nights(site, source, 1, first=2)
    copies(site, second)
    with site.inventory.reading() as tx:
        sql = """SELECT a.archive_id FROM archives a JOIN catalogs c ON c.archive = a.number
                 JOIN domains d ON d.number = a.domain JOIN vaults v ON v.number = d.vault
                 WHERE v.name = ? ORDER BY c.number DESC LIMIT 1"""
        ((newest,),) = raw_rows(tx, sql, (second.name,))
    if what == "damaged":
        with open(archive_file(tmp_path / "second", newest), "r+b") as file:
            file.seek(-100, os.SEEK_END)
            file.write(bytes(50))
    else:
        second.delete_archives({ArchiveId(newest): None})
    heir = rebuilt(site, tmp_path)
    assert len(copies(heir, second, with_key=True).snapshots) == 1
    assert list(said(heir, second).values()) == [KeptThere.COPIED] * 3
    assert brought_back(heir, second, tmp_path, "back") == seen
    if what == "damaged":  # as in the job's own vault: a person says that it takes no part
        with pytest.raises(PruneStoppedError, match="does not know"):
            replace(heir, vault=second).prune()
    else:
        assert replace(heir, vault=second).prune().condemned.archives == 0


def test_what_no_catalog_there_says_is_no_copy(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path
) -> None:
    """The copy died before its catalog: what it sent is not counted, and is sent again."""
    seen = nights(site, source, 2)
    copies(site, second)
    seen += nights(site, source, 1, first=2)
    with pytest.raises(PowerCut):
        copies(site, Stops(second))
    heir = rebuilt(site, tmp_path)
    report = copies(heir, second, with_key=True)
    assert (len(report.snapshots), report.problems) == (1, ())
    assert report.archives
    assert brought_back(heir, second, tmp_path, "back") == seen


class Stops(FaultyVault):
    """A vault at which the power goes when a catalog is to be sent."""

    def begin_upload(self, label: ArchiveLabel, part_size: int) -> UploadId:
        if label.kind is PackKind.CATALOG:
            raise PowerCut("at a catalog")
        return super().begin_upload(label, part_size)


def test_nothing_is_condemned_at_home_before_the_copies_were_read(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path, clock: ManualClock
) -> None:
    nights(site, source, 3)
    copies(site, second)
    heir = rebuilt(site, tmp_path)
    heir.amend(ForgottenRecord([1], micros(clock.now())))
    report = heir.prune(copied_to=[second.name])
    assert report.condemned.archives == 0
    assert [f"copies in vault {second.name}" in text for text in report.held] == [True]
    copies(heir, second, with_key=True)
    report = heir.prune(copied_to=[second.name])
    assert (report.condemned.archives > 0, report.held) == (True, [])


@pytest.mark.parametrize("kind", ["GLACIER", "vault of Glacier"])
def test_a_cold_vault_is_waited_for(
    site: Site, source: Path, emulator: RunningEmulator, tmp_path: Path, clock: ManualClock, kind: str
) -> None:
    to: Vault
    if kind == "GLACIER":
        to = s3_vault(s3_client(emulator.s3_url), "relearned", name="cold", clock=clock, storage_class=kind)
    else:
        to = GlacierVault(VaultName("cold"), glacier_client(emulator), "relearned")
    to.create()
    wait = partial(emulator_day, emulator, clock)
    site = replace(site, job=replace(site.job, part_size=8 * MIB), wait=wait)
    seen = nights(site, source, 2)
    copies(site, to)
    wait()
    heir = replace(rebuilt(site, tmp_path), wait=wait)
    seen += nights(heir, source, 1, first=2)
    report = copies(heir, to, with_key=True)
    waits = 0
    while report.waits_for:
        assert (report.snapshots, report.archives) == ((), 0)
        wait()
        waits += 1
        heir = heir.reopen()
        report = copies(heir, to, with_key=True)
    assert (waits > 0) is (kind != "GLACIER") or waits
    assert len(report.snapshots) == 1
    wait()
    assert brought_back(heir, to, tmp_path, "back") == seen


def test_a_vault_that_was_never_listed_is_waited_for_and_then_copied_into(
    site: Site, source: Path, emulator: RunningEmulator, tmp_path: Path, clock: ManualClock
) -> None:
    seen = nights(site, source, 2)
    to = GlacierVault(VaultName("cold"), glacier_client(emulator), "never-listed")
    to.create()
    wait = partial(emulator_day, emulator, clock)
    heir = replace(rebuilt(site, tmp_path), wait=wait)
    reports = [copies(heir, to, with_key=True)]
    while reports[-1].waits_for:
        wait()
        reports.append(copies(heir, to, with_key=True))
    assert [bool(report.waits_for) for report in reports] == [True, True, False]
    assert len(reports[-1].snapshots) == 2
    wait()
    assert brought_back(heir, to, tmp_path, "back") == seen


def emulator_day(emulator: RunningEmulator, clock: ManualClock) -> None:
    """A day passes, and lists are made."""
    clock.advance(DAY)
    emulator.advance(DAY.total_seconds())
    emulator.make_inventories()


def test_another_job_of_which_nothing_new_is_copied_comes_back_with_it(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path
) -> None:
    """Its catalogs there are those of before: numbers of domains and archives mean the same in all."""
    site = with_keys(site, NEW, OLD, enrolled_by=[NEW, OLD])
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "file").write_bytes(os.urandom(50_000))
    other = site.with_job(name="other", sources=[theirs])
    nights(site, source, 1)
    other.backup()
    copies(site, second)
    copies(other, second)
    site = with_keys(site, OLD, enrolled_by=[OLD])
    (source / "later").write_bytes(os.urandom(50_000))
    run_backup(site.job, site.keys, site.world, accept_recipients=True)
    copies(site, second)
    machine = Bare(tmp_path / "heir", site.vault, site, OLD, [NEW])
    machine.rebuild()
    heir = machine.site()
    (source / "at last").write_bytes(os.urandom(50_000))
    run_backup(heir.job, heir.keys, heir.world, accept_recipients=True)
    assert len(copies(heir, second, with_key=True).snapshots) == 1
    machine = Bare(tmp_path / "bare", second, heir, OLD, [NEW])
    machine.rebuild(Wish(inventory=heir.inventory.id.hex()))
    built = machine.site()
    assert len(built.snapshots()) == 3
    (of_other,) = built.with_job(name="other").snapshots()
    for snapshot in (*built.snapshots(), of_other):
        job = built.with_job(name=snapshot.job, sources=[theirs if snapshot is of_other else source])
        assert job.restore(snapshot.id, tmp_path / snapshot.id).outcome is Outcome.DONE
    assert dict(snapshot_of(tmp_path / of_other.id)) == dict(snapshot_of(theirs))
    built.close()
