"""Labels that anybody who may store can make up: a rebuild passes over nothing, and numbers stay in range."""

from __future__ import annotations

import os

import pytest
from msgspec.structs import replace

from backup.format.catalog import Record
from backup.inventory.content.identities import numbers_skipped
from backup.model import (
    ArchiveLabel,
    ByteRange,
    Generation,
    InventoryId,
    ListedArchive,
    PackId,
    PackKind,
    Tier,
)
from backup.rebuilder.context import Wish
from backup.rebuilder.members import QuestionError
from tests.support.archives import store
from tests.support.backups import Site
from tests.support.rebuilds import line_of
from tests.support.shared_vaults import DAY, SharedVault, source_of
from tests.support.strangers import (
    STRANGER_ID,
    Forgery,
    forge,
    listing_of,
    start_of,
    store_forged,
    stranger,
)


def junk(shared: SharedVault, inventory_id: InventoryId, number: int, job_id: bytes) -> None:
    """What is called a delta of a job, and is nothing."""
    pack = PackId(os.urandom(16))
    label = ArchiveLabel(PackKind.CATALOG, pack, inventory_id, number, Generation.DELTA, job_id)
    store(shared.vault, b"junk", label)


def catalogs_of(shared: SharedVault, site: Site) -> list[ListedArchive]:
    """Its catalogs in the vault, by number."""
    lines = [line for line in listing_of(site).archives if line.label is not None]
    own = [line for line in lines if line.label and line.label.inventory_id == site.inventory.id]
    return sorted(
        (line for line in own if line.label and line.label.kind is PackKind.CATALOG),
        key=lambda line: line.label.number if line.label else 0,
    )


def content_of(shared: SharedVault, line: ListedArchive) -> bytes:
    """What another server reads where it may."""
    retrieval = shared.vault.request_retrieval(line.archive_id, None, Tier.STANDARD, "copy")
    if not shared.vault.traits.lists_at_once:
        shared.wait()
    return bytes(shared.vault.fetch(retrieval, ByteRange(0, line.size)).data)


def forge_unnamed(thief: Site, victim: Site, number: int) -> str:
    """A full catalog of the victim's job, which its label does not name."""
    line = line_of(victim)
    place = Forgery(number=number).place(line, PackId(bytes(16)), thief)
    start, words = start_of(place, line.job, 1, ()), list[Record]()
    return store_forged(thief, place, start, words, lambda label: replace(label, job_id=None))


def numbers(site: Site) -> list[int]:
    """Those of its snapshots."""
    return [snapshot.number for snapshot in site.snapshots()]


def rebuilt(shared: SharedVault, site: Site, name: str, wish: Wish | None = None) -> tuple[Site, list[str]]:
    """The server, rebuilt from the vault's list; kinds of what was suspicious."""
    machine = shared.bare(site, name)
    report = machine.rebuild(wish or Wish(inventory=site.inventory.id.hex()), wait=shared.wait)
    made = machine.site()
    shared.open.append(made)
    return made, [suspicion.kind for suspicion in report.suspicions]


def test_a_copy_of_an_old_catalog_hides_no_later_one(shared: SharedVault) -> None:
    """Two labels without a job: a copy of its own oldest full one, and a high number of a thief's."""
    first = replace(shared.first(2), most_deltas=3)
    thief = stranger(first)
    shared.open.append(thief)
    oldest = next(line for line in catalogs_of(shared, first) if line.label and line.label.number == 1)
    copy = content_of(shared, oldest)
    for number in range(5):
        shared.night(first, f"later {number}")
    assert oldest.label is not None
    store(shared.vault, copy, replace(oldest.label, job_id=None))
    store(shared.vault, copy, replace(oldest.label, number=950))
    forge_unnamed(thief, first, 900)
    shared.pass_time()
    again, kinds = rebuilt(shared, first, "again")
    assert numbers(again) == numbers(first)
    assert "not-its-own" in kinds


def test_a_low_label_dates_no_later_catalog(shared: SharedVault) -> None:
    """`--before` goes by the vault's dates; in a directory, which has none, it says what it leaves out."""
    first = shared.first(4)
    moment = shared.clock.now()
    shared.pass_time()
    shared.night(first, "later")
    wish = Wish(inventory=first.inventory.id.hex(), before=moment)
    before, _ = rebuilt(shared, first, "before", wish)
    junk(shared, first.inventory.id, 3, line_of(first).job_id)
    shared.pass_time()
    again, kinds = rebuilt(shared, first, "again", wish)
    if shared.vault.traits.lists_for_nothing:
        assert "newer" in kinds
    else:
        assert numbers(again) == numbers(before)


@pytest.mark.parametrize("number", [2**40, 10**10 - 1])
def test_a_high_label_moves_no_number_out_of_range(shared: SharedVault, number: int) -> None:
    """The server goes on under small numbers, and so does the one that is rebuilt from it."""
    first = shared.first(2)
    if number >= 10**10 and shared.vault.traits.keeps_metadata_hot:
        pytest.skip("a key of a bucket has ten digits")
    junk(shared, first.inventory.id, number, line_of(first).job_id)
    shared.pass_time()
    heir = shared.heir(first, "heir")
    shared.night(heir, "of the heir")
    again = shared.heir(heir, "again")
    shared.night(again, "of that heir")
    shared.night(again, "and one more")
    highest = [line.label.number for line in catalogs_of(shared, again) if line.label]
    skipped = sum(numbers_skipped(site.inventory.ancestors) for site in (heir, again))
    assert max(highest) < skipped + 10
    last, _ = rebuilt(shared, again, "last")
    assert numbers(last) == numbers(again)


def test_an_inventory_that_says_it_follows_one_of_which_nothing_is_left_is_asked_about(
    shared: SharedVault,
) -> None:
    """A recovery line of today, and all of its server's catalogs are gone."""
    first = shared.first(2)
    line = line_of(first)
    thief = stranger(first)
    shared.open.append(thief)
    forge(thief, first, Forgery(claims=[first.inventory.id]))
    shared.pass_time()
    gone = [listed.archive_id for listed in catalogs_of(shared, first)]
    own = [
        listed
        for listed in listing_of(first).archives
        if listed.label and listed.label.kind is PackKind.CATALOG
    ]
    gone += [listed.archive_id for listed in own if listed.label and listed.label.job_id != line.job_id]
    shared.vault.delete_archives(dict.fromkeys(gone))
    shared.pass_time(2 * DAY)
    with pytest.raises(QuestionError, match="nothing proves that") as caught:
        rebuilt(shared, first, "asks", Wish(lines=[line]))
    pack = caught.value.advice.split("--accept ")[1][:32]
    made, _ = rebuilt(shared, first, "accepts", Wish(lines=[line], accepted=(pack,)))
    assert STRANGER_ID in made.inventory.ancestors


def test_a_forgery_under_a_servers_own_pack_id_is_named(shared: SharedVault) -> None:
    first = shared.first(3)
    thief = stranger(first)
    shared.open.append(thief)
    line = line_of(first)
    packs = [listed.label.pack_id for listed in catalogs_of(shared, first) if listed.label]
    forgery = Forgery(number=900)
    place = forgery.place(line, PackId(bytes(16)), thief)
    store_forged(
        thief, place, start_of(place, line.job, 1, ()), [], lambda label: replace(label, pack_id=packs[0])
    )
    shared.pass_time()
    again, kinds = rebuilt(shared, first, "again")
    assert numbers(again) == numbers(first)
    assert "not-its-own" in kinds


def test_terabytes_without_a_job_are_not_brought(shared: SharedVault) -> None:
    if not shared.vault.traits.lists_for_nothing:
        pytest.skip("a sparse file is made in a directory")
    first = shared.first(2)
    thief = stranger(first)
    shared.open.append(thief)
    for number in (900, 901):
        archive = forge_unnamed(thief, first, number)
        os.truncate(shared.folder / "vault" / "archives" / archive[:2] / archive, 2**43)
    again, _ = rebuilt(shared, first, "again")
    assert numbers(again) == numbers(first)
    shared.assert_whole(again, shared.folder / "out", source_of(first))
