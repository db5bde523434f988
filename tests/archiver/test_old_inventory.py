"""A server that was restored from its own backup, or a copy of it, does not go on silently."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.errors import OlderInventoryError
from backup.model import InventoryId
from backup.rebuilder.context import Wish
from tests.support.backups import Site, server_keys
from tests.support.checks import check, kinds, query
from tests.support.doubles import Blindfolded, Fault, FaultyVault, ManualClock, PowerCut
from tests.support.emulated import RunningEmulator, write_accounts
from tests.support.rebuilds import bare
from tests.support.swapped_vaults import Place, buckets, directories, glacier_vaults, grow, site_at

pytestmark = pytest.mark.no_cover  # many variants of what other tests reach, too


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    folder = tmp_path_factory.mktemp("emulator")
    with RunningEmulator(folder / "state", write_accounts(folder / "accounts.toml")) as running:
        yield running


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["directory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Place:
    """Vaults whose list is made at once."""
    if request.param == "directory":
        return directories(tmp_path, clock)
    return buckets(request.getfixturevalue("emulator"))


@pytest.fixture
def site(place: Place, tmp_path: Path, clock: ManualClock) -> Iterator[Site]:
    made = site_at(place, tmp_path, clock)
    made.backup()
    yield made
    made.close()


def copy_of(site: Site, folder: Path) -> Site:
    """The state directory as it is now, somewhere else."""
    site.inventory.close()
    shutil.copytree(site.folder, folder)
    return replace(site, folder=folder).reopen()


def night(site: Site, name: str) -> None:
    site.clock.sleep(86400)
    grow(site, name)
    site.backup()


def archives_in(site: Site) -> list[str]:
    listing = site.vault.fetch_listing(site.vault.request_listing("t"))
    return sorted(archive.archive_id for archive in listing.archives)


def test_an_old_state_directory_stops(site: Site, tmp_path: Path) -> None:
    """Before anything is written, with numbers, dates and the way out."""
    old = copy_of(site, tmp_path / "copy")
    night(site, "one")
    night(site, "two")
    before = archives_in(site)
    old.clock.sleep(86400)
    with pytest.raises(OlderInventoryError) as caught:
        old.backup()
    said = str(caught.value)
    assert said.startswith(
        "this inventory is older than what it wrote: vault cold holds catalog 3 of job job, of "
    )
    assert said.endswith("and here the newest is catalog 1 of 2026-03-01 02:00 UTC")
    assert "`nightvault rebuild --set-aside --key FILE`" in caught.value.advice
    assert archives_in(site) == before
    assert not site.vault.list_uploads()
    night(site, "three")
    old.close()


def test_the_way_out_works(site: Site, place: Place, tmp_path: Path) -> None:
    old = copy_of(site, tmp_path / "copy")
    night(site, "one")
    with pytest.raises(OlderInventoryError):
        old.backup()
    old.close()
    machine = bare(tmp_path, site)
    assert machine.rebuild(wait=place.pass_hours).state == "done"
    rebuilt = machine.site()
    assert len(rebuilt.snapshots()) == 2
    night(rebuilt, "two")
    rebuilt.close()


def test_a_number_that_was_used_twice_already_is_told_too(site: Site, tmp_path: Path) -> None:
    """Both went on before anybody looked: as many catalogs here as there."""
    old = copy_of(site, tmp_path / "copy")
    before = archives_in(site)
    night(site, "one")
    blind = replace(old, vault=Blindfolded(old.vault, own=before))
    night(blind, "other")
    with pytest.raises(OlderInventoryError, match=r"catalog 2 of job job.*here the newest is catalog 2"):
        old.backup()
    with pytest.raises(OlderInventoryError):
        site.backup()
    old.close()


def test_a_job_that_the_copy_does_not_know(site: Site, tmp_path: Path) -> None:
    """Numbers of entries and archives are the inventory's, whichever job used them."""
    old = copy_of(site, tmp_path / "copy")
    site.with_job(name="second").backup()
    with pytest.raises(
        OlderInventoryError, match=r"of a job that this inventory does not know.*here there is none"
    ):
        old.backup()
    old.close()


def test_another_job_s_catalog_counts(site: Site, tmp_path: Path) -> None:
    second = site.with_job(name="second")
    second.backup()
    old = copy_of(site, tmp_path / "copy")
    again = replace(second, inventory=site.reopen().inventory)
    night(again, "one")
    with pytest.raises(OlderInventoryError, match="of job second"):
        old.backup()
    old.close()
    again.close()


@pytest.mark.parametrize("after", [False, True])
def test_what_arrived_and_was_not_recorded_is_no_stranger(site: Site, after: bool) -> None:
    """The power went between the vault's word and our record: the next run goes on with that."""
    for skip in range(3):
        grow(site, f"cut {skip} {after}")
        faulty = FaultyVault(site.vault, Fault("complete_upload", PowerCut("dark"), after=after, skip=skip))
        with contextlib.suppress(PowerCut):
            site.reopen(faulty).backup()
        site = site.reopen()
        site.backup()
    assert kinds(check(site)) == {}


def test_other_inventories_are_none_of_ours(site: Site, place: Place, tmp_path: Path) -> None:
    for number in range(3):
        night(site, str(number))
    other_id = InventoryId(b"another of 16 b.")
    (tmp_path / "second").mkdir()
    other = site_at(Place(lambda: site.vault, place.pass_hours), tmp_path / "second", site.clock)  # type: ignore[arg-type]
    other = replace(other, keys=server_keys(other_id), inventory=replace(other.inventory, id=other_id))
    other.backup()
    other.close()
    machine = bare(tmp_path, site)
    machine.rebuild(Wish(inventory=site.inventory.id.hex()))
    rebuilt = machine.site()
    night(rebuilt, "the heir goes on")
    assert [snapshot.number for snapshot in rebuilt.snapshots()] == [1, 2, 3, 4, 5]
    rebuilt.close()


def test_check_tells_it_too(site: Site, tmp_path: Path) -> None:
    old = copy_of(site, tmp_path / "copy")
    night(site, "one")
    report = check(old)
    assert report.is_grave
    assert kinds(report) == {"newer-catalog": 1, "orphan": 1}
    (one,) = [finding for finding in report.findings if finding.kind == "newer-catalog"]
    assert "catalog 2, stored " in one.detail
    assert "rebuild --set-aside" in one.detail
    old.close()


def test_a_cold_vault_tells_by_the_next_list(
    emulator: RunningEmulator, tmp_path: Path, clock: ManualClock
) -> None:
    """No list is asked for, but what was fetched is looked at."""
    place = glacier_vaults(emulator, clock)
    site = site_at(place, tmp_path, clock)
    site.backup()
    old = copy_of(site, tmp_path / "copy")
    night(site, "one")
    place.pass_hours()
    report = check(old)
    assert kinds(report) == {"newer-catalog": 1, "orphan": 1}
    before = query(old, "SELECT count(*) FROM archives")
    with pytest.raises(OlderInventoryError, match="vault cold holds catalog 2 of job job"):
        old.backup()
    assert query(old, "SELECT count(*) FROM archives") == before
    assert not check(site).findings
    night(site, "two")
    old.close()
    site.close()
