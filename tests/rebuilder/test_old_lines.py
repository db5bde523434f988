"""Old recovery lines, whose catalogs were deleted since: a later state is found, never an older one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backup.errors import UsageError
from backup.format.line import RecoveryLine
from backup.inventory.content import archives
from backup.inventory.content.archives import Archive
from backup.model import InventoryId
from backup.rebuilder.catalogs.candidates import NothingToRebuildError
from backup.rebuilder.context import Wish
from backup.rebuilder.members import OlderStateError
from tests.support.backups import Site
from tests.support.catalogs import kinds
from tests.support.doubles import ManualClock
from tests.support.rebuilds import Bare, bare, line_of, rows
from tests.support.swapped_vaults import Place, buckets, directories, glacier_vaults, grow, site_at

KINDS = ["directory", "glacier", "s3"]


@pytest.fixture(autouse=True)
def often_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full catalog after each delta."""
    monkeypatch.setattr("backup.catalogs.full.DELTAS_A_FULL", 1)


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Place:
    kind = getattr(request, "param", "directory")
    if kind == "directory":
        return directories(tmp_path, clock)
    emulator = request.getfixturevalue("emulator")
    return glacier_vaults(emulator, clock) if kind == "glacier" else buckets(emulator)


@pytest.fixture
def old(place: Place, tmp_path: Path, clock: ManualClock) -> Iterator[Site]:
    site = site_at(place, tmp_path, clock)
    yield site
    site.close()


def nights(site: Site, *names: str) -> None:
    for name in names:
        grow(site, name)
        site.clock.sleep(86400)
        site.backup()


def catalogs_of(site: Site) -> dict[tuple[int, str], Archive]:
    """The catalogs that a server stored, by number and generation."""
    with site.inventory.reading() as tx:
        found = archives.list_archives(tx, site.inventory.id)
    return {
        (archive.label.number, archive.label.generation.name.lower()): archive
        for archive in found
        if archive.label.generation is not None and archive.label.inventory_id == site.inventory.id
    }


def remove(site: Site, one: Archive) -> None:
    assert one.archive_id is not None
    site.vault.delete_archives({one.archive_id: None})


def prune_catalogs(site: Site) -> list[int]:
    """Delete catalogs as old ones are: two full generations, and the deltas since the older one, stay."""
    known = catalogs_of(site)
    fulls = sorted(number for number, generation in known if generation == "full")
    old = [number for number, _ in known if number < fulls[-2]]
    for key, archive in known.items():
        if key[0] in old:
            remove(site, archive)
    return sorted(old)


def rebuild(new: Bare, place: Place, *lines: RecoveryLine, inventory: str | None = None) -> object:
    return new.rebuild(Wish(lines=lines, inventory=inventory), wait=place.pass_hours)


@pytest.mark.parametrize("place", KINDS, indirect=True)
def test_the_vaults_list_takes_the_place_of_an_old_line(old: Site, place: Place, tmp_path: Path) -> None:
    nights(old, "a")
    line = line_of(old)
    nights(old, "b", "c")
    gone = prune_catalogs(old)
    assert line.number in gone
    assert len(gone) == 2
    place.pass_hours()
    new = bare(tmp_path, old)
    report = rebuild(new, place, line)
    assert kinds(report) == []
    assert [job.line_met for job in report.jobs] == [True]  # type: ignore[attr-defined]
    assert any("recovery line of job job is old" in note for note in new.progress.notes)
    assert rows(new.folder)["snapshots"] == rows(old.folder)["snapshots"]
    assert rows(new.folder)["entries"] == rows(old.folder)["entries"]


@pytest.mark.parametrize("place", KINDS, indirect=True)
def test_an_older_state_is_refused_all_the_same(old: Site, place: Place, tmp_path: Path) -> None:
    """The line's catalogs are gone, and what is there is from before them."""
    nights(old, "a")
    before = set(catalogs_of(old))
    nights(old, "b")
    line = line_of(old)
    for key, archive in catalogs_of(old).items():
        if key not in before:
            remove(old, archive)
    place.pass_hours()
    new = bare(tmp_path, old)
    with pytest.raises(OlderStateError, match=f"catalog {line.number} "):
        rebuild(new, place, line)
    assert not (new.folder / "inventory.sqlite").exists()


def successor(site: Site, tmp_path: Path, name: str) -> Site:
    """Another server, rebuilt from what this one stored, that goes on with the job."""
    new = bare(tmp_path, site, name)
    new.new_id = InventoryId(name.encode().ljust(16, b"."))
    new.rebuild(Wish(inventory=site.inventory.id.hex()))
    return new.site()


def remove_all(site: Site) -> None:
    for archive in catalogs_of(site).values():
        remove(site, archive)


def test_a_line_of_before_a_rebuild(old: Site, place: Place, tmp_path: Path) -> None:
    """The server was rebuilt since, and nothing of the line's inventory is kept."""
    nights(old, "a")
    line = line_of(old)
    second = successor(old, tmp_path, "second")
    nights(second, "b")
    remove_all(old)
    report = rebuild(new := bare(tmp_path, second), place, line)
    assert kinds(report) == []
    assert rows(new.folder)["snapshots"] == rows(second.folder)["snapshots"]
    second.close()


def test_the_last_of_those_that_went_on(old: Site, place: Place, tmp_path: Path) -> None:
    nights(old, "a")
    line = line_of(old)
    second = successor(old, tmp_path, "second")
    nights(second, "b")
    remove_all(old)
    third = successor(second, tmp_path, "third")
    nights(third, "c")
    report = rebuild(last := bare(tmp_path, third, "last"), place, line)
    assert report.predecessor == third.inventory.id  # type: ignore[attr-defined]
    assert rows(last.folder)["snapshots"] == rows(third.folder)["snapshots"]
    second.close()
    third.close()


def test_two_that_went_on_are_told_apart_by_the_user(old: Site, place: Place, tmp_path: Path) -> None:
    nights(old, "a")
    line = line_of(old)
    one = successor(old, tmp_path, "one")
    nights(one, "b")
    other = successor(old, tmp_path, "other")
    nights(other, "c")
    remove_all(old)
    with pytest.raises(UsageError, match="several inventories"):
        rebuild(bare(tmp_path, old, "none"), place, line)
    report = rebuild(bare(tmp_path, old, "meant"), place, line, inventory=one.inventory.id.hex())
    assert report.predecessor == one.inventory.id  # type: ignore[attr-defined]
    one.close()
    other.close()


def test_nothing_is_left(old: Site, place: Place, tmp_path: Path) -> None:
    nights(old, "a")
    line = line_of(old)
    remove_all(old)
    with pytest.raises(NothingToRebuildError):
        rebuild(bare(tmp_path, old), place, line)


def test_only_the_newest_generation_is_asked_for(
    old: Site, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list is no reason to retrieve what a newer full catalog makes needless."""
    nights(old, "a")
    line = line_of(old)
    nights(old, "b", "c")
    prune_catalogs(old)
    newest = max(number for number, generation in catalogs_of(old) if generation == "full")
    asked: set[str] = set()
    real = old.vault.request_retrieval

    def counting(archive_id: str, *rest: object) -> object:
        asked.add(archive_id)
        return real(archive_id, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(old.vault, "request_retrieval", counting)
    rebuild(bare(tmp_path, old), place, line)
    assert line.full is not None
    wanted = {archive.archive_id for (number, _), archive in catalogs_of(old).items() if number >= newest}
    assert asked == wanted | {line.delta.archive_id, line.full.archive_id}
