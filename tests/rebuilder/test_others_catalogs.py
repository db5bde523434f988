"""Catalogs of a server's job that another server of the vault wrote: a rebuild never uses them, and tells."""

from __future__ import annotations

import os
from collections.abc import Collection

import pytest
from msgspec.structs import replace

from backup.errors import UsageError
from backup.format.enrolment import HeirMark
from backup.format.keys import RecoveryKey, Signer
from backup.format.line import RecoveryLine
from backup.model import ArchiveLabel, Generation, InventoryId, PackId, PackKind
from backup.rebuilder.context import Wish
from backup.rebuilder.report import RebuildReport
from tests.support.archives import store
from tests.support.backups import INVENTORY_ID, Site
from tests.support.catalogs import kinds
from tests.support.checks import query
from tests.support.rebuilds import line_of
from tests.support.shared_vaults import KINDS, SharedVault, of_version_1, source_of
from tests.support.strangers import FIRST, NONE, STRANGER_ID, Forgery, forge, packs_of, stranger

THIRD_ID = InventoryId(b"of a third one..")
OTHERS = InventoryId(b"nobody of these.")
HIGH = 1000
FORGERIES = {
    "a full one of the newest state": Forgery(),
    "one of that number": Forgery(number=3),
    "one with a high number": Forgery(number=HIGH),
    "one by another name": Forgery(name="another name"),
    "a full one that follows nothing": Forgery(parent=NONE),
    "a job's first": Forgery(parent=FIRST, number=HIGH),
    "a delta": Forgery(generation=Generation.DELTA),
    "a delta with a high number": Forgery(generation=Generation.DELTA, number=HIGH),
    "one that claims": Forgery(claims=[INVENTORY_ID]),
    "one that claims others, too": Forgery(claims=[OTHERS, INVENTORY_ID]),
    "a delta that claims": Forgery(generation=Generation.DELTA, claims=[INVENTORY_ID]),
    "one that is labelled as ours": Forgery(labelled=INVENTORY_ID),
    "a delta that is labelled as ours": Forgery(generation=Generation.DELTA, labelled=INVENTORY_ID),
    "one that claims and is labelled as ours": Forgery(claims=[INVENTORY_ID], labelled=INVENTORY_ID),
}
# Each in a directory, and a few of them elsewhere, where they are all tried at once.
_CASES = [
    pytest.param(kind, name, marks=[pytest.mark.slow] * (kind != KINDS[0]))
    for kind in KINDS
    for name in (FORGERIES if kind == KINDS[0] else list(FORGERIES)[::3])
]
_SNAPSHOTS = "SELECT id FROM snapshots ORDER BY id"


def rebuilt(
    shared: SharedVault, of: Site, name: str, *, lines: Collection[RecoveryLine] = ()
) -> tuple[RebuildReport, Site]:
    """A bare machine's report, and its server."""
    machine = shared.bare(of, name)
    inventory = None if lines else of.inventory.id.hex()
    report = machine.rebuild(Wish(inventory=inventory, lines=list(lines)), wait=shared.wait)
    site = machine.site()
    shared.open.append(site)
    return report, site


def assert_comes_back(
    shared: SharedVault, of: Site, name: str, told: Collection[str], *, lines: Collection[RecoveryLine] = ()
) -> None:
    """Exactly its snapshots and its files, and `told` is named."""
    report, back = rebuilt(shared, of, name, lines=lines)
    assert [snapshot.id for snapshot in back.snapshots()] == [snapshot.id for snapshot in of.snapshots()]
    assert [job.name for job in report.jobs] == [of.job.name]
    shared.assert_whole(back, shared.folder / f"out {name}", source_of(of))
    assert bool(told) == bool({"not-its-own", "relabelled"} & set(kinds(report))), report.suspicions
    assert set(told) <= set(kinds(report))
    if told:
        assert report.is_partial


@pytest.mark.parametrize(("shared", "name"), _CASES, indirect=["shared"])
def test_what_another_server_forges_is_named_and_not_used(shared: SharedVault, name: str) -> None:
    """F1: with the vault alone; and with a recovery line, where nothing else is looked at."""
    forgery, first = FORGERIES[name], shared.first(2)
    line = line_of(first)
    thief = stranger(first)
    shared.open.append(thief)
    forge(thief, first, replace(forgery, condemned=packs_of(first)))
    shared.pass_time()
    told = "relabelled" if forgery.labelled else "not-its-own"
    assert_comes_back(shared, first, "by list", [told])
    assert_comes_back(shared, first, "by line", [], lines=[line])
    _, back = rebuilt(shared, thief, "thief back")
    assert query(back, _SNAPSHOTS) == query(thief, _SNAPSHOTS)  # its forgery repeats its own


def forge_all(shared: SharedVault, thief: Site, first: Site, *, is_labelled: bool = True) -> None:
    """Every way, one after the other; one that is labelled as its own stops a server's nights."""
    packs = packs_of(first)
    for forgery in FORGERIES.values():
        if forgery.labelled and not is_labelled:
            continue
        forge(thief, first, replace(forgery, condemned=packs))
    shared.pass_time()


def third(first: Site, **more: object) -> Site:
    """One more server of the vault."""
    folder = first.folder.parent / "third"
    return stranger(first, folder, inventory_id=THIRD_ID, signer=Signer(b"3" * 32), **more)  # type: ignore[arg-type]


def test_all_at_once_and_three_servers_go_on(shared: SharedVault) -> None:
    """Two get their own back, whose nights came before the forgeries of the third, between and after them."""
    first = shared.first(2)
    thief, other = stranger(first), third(first)
    shared.open += [thief, other]
    forge_all(shared, thief, first, is_labelled=False)
    shared.night(first, "after them")
    forge_all(shared, thief, other, is_labelled=False)
    for site in (first, other):
        shared.night(site, "at last")
    forge_all(shared, thief, first)
    forge_all(shared, thief, other)
    assert_comes_back(shared, first, "first back", ["not-its-own", "relabelled"])
    assert_comes_back(shared, other, "other back", ["not-its-own"])
    assert_comes_back(shared, first, "first by line", [], lines=[line_of(first)])


def test_nobody_is_led_to_the_thief(shared: SharedVault) -> None:
    """With all that it can say: catalogs that claim, and marks that it is the heir."""
    first = shared.first(2)
    thief = stranger(first, ancestors=[OTHERS])
    shared.open.append(thief)
    forge_all(shared, thief, first)
    for signature in (bytes(64), b"\xff" * 64, thief.keys.signature, first.keys.signature):
        for predecessor in (INVENTORY_ID, OTHERS):
            mark = HeirMark(predecessor, STRANGER_ID, thief.keys.signer.public, signature)
            shared.vault.add_mark(mark.to_text())
    shared.pass_time()
    machine = shared.bare(first, "bare")
    with pytest.raises(UsageError, match="catalogs of several inventories") as caught:
        machine.rebuild(wait=shared.wait)
    assert INVENTORY_ID.hex() in str(caught.value)
    assert STRANGER_ID.hex()[:8] not in caught.value.advice
    report, _ = rebuilt(shared, first, "led")
    assert "heir" not in kinds(report)


# What the recovery key signed counts for what it signed alone.


@pytest.mark.parametrize("claims", [[INVENTORY_ID], [OTHERS, INVENTORY_ID], [INVENTORY_ID, OTHERS]])
def test_a_signature_for_other_ancestors_proves_nothing(
    shared: SharedVault, claims: list[InventoryId]
) -> None:
    """Also beside a catalog that says what was signed."""
    first = shared.first(2)
    thief = stranger(first, ancestors=[OTHERS])
    shared.open.append(thief)
    forge(thief, first, Forgery(claims=claims))
    forge(thief, first, Forgery(claims=[OTHERS], number=HIGH))
    forge(thief, first, Forgery(claims=claims, number=HIGH + 1, generation=Generation.DELTA))
    shared.pass_time()
    report, _ = rebuilt(shared, first, "told")
    assert "heir" not in kinds(report)
    assert_comes_back(shared, first, "back", ["not-its-own"])


def test_an_ancestor_that_claims_makes_no_heir(shared: SharedVault) -> None:
    """The thief was rebuilt from another inventory, by the key's word, which says that it follows ours."""
    first = shared.first(2)
    other = third(first)
    thief = stranger(first, ancestors=[THIRD_ID])
    shared.open += [other, thief]
    forge(other, first, Forgery(claims=[INVENTORY_ID]))
    forge(thief, first, Forgery(claims=[THIRD_ID], number=HIGH))
    shared.pass_time()
    report, _ = rebuilt(shared, first, "told")
    assert "heir" not in kinds(report)
    assert_comes_back(shared, first, "back", ["not-its-own"])


@pytest.mark.parametrize("is_given", [False, True])
def test_another_recovery_key_makes_no_heir_of_what_the_first_vouches_for(
    shared: SharedVault, is_given: bool
) -> None:
    """Somebody has a key that was given up: it may vouch for what no newer key knows, and no more."""
    first, old = shared.first(2), RecoveryKey.from_seed(b"o" * 32)
    keys = replace(first.keys, recipients=(*first.keys.recipients, old.recipient))
    thief = stranger(replace(first, keys=keys), by=[old], ancestors=[INVENTORY_ID])
    shared.open.append(thief)
    forge(thief, first, Forgery(claims=[INVENTORY_ID], number=HIGH))
    forge(thief, first, Forgery(claims=[INVENTORY_ID], number=HIGH + 1, generation=Generation.DELTA))
    shared.pass_time()
    machine = shared.bare(first, "bare")
    machine.more_keys = [old] if is_given else []
    report = machine.rebuild(Wish(inventory=INVENTORY_ID.hex()), wait=shared.wait)
    assert {"not-its-own"} <= set(kinds(report))
    assert "heir" not in kinds(report)
    back = machine.site()
    shared.open.append(back)
    assert [snapshot.id for snapshot in back.snapshots()] == [snapshot.id for snapshot in first.snapshots()]


# The right heir.


def test_an_older_inventory_is_named_as_such(shared: SharedVault) -> None:
    """Where a list is made at once its heir's catalog is read; else it is named as not proven."""
    first = shared.first(2)
    heir = shared.heir(first, "heir")
    shared.night(heir, "of the heir")
    report, _ = rebuilt(shared, first, "older")
    assert ("heir" if shared.vault.traits.lists_at_once else "not-its-own") in kinds(report)
    assert report.is_partial
    assert_comes_back(shared, heir, "newest", [])
    with pytest.raises(UsageError) as caught:
        shared.bare(first, "bare").rebuild(wait=shared.wait)
    assert f"goes on, --inventory {heir.inventory.id.hex()[:8]}" in caught.value.advice


def test_rebuilt_twice_with_one_job_at_first(shared: SharedVault) -> None:
    """L5: the second rebuild has the other job, too, or says that it is left out."""
    first = shared.first(2)
    second = first.with_job(name="second")
    second.backup()
    shared.pass_time()
    one = shared.heir(first, "one job", jobs="second")
    assert query(one, "SELECT name FROM jobs") == [("second",)]
    shared.night(one.with_job(name="second"), "of the heir")
    report, both = rebuilt(shared, one, "both jobs")
    assert sorted(job.name for job in report.jobs) == ["job", "second"]
    assert [snapshot.id for snapshot in both.snapshots()] == [snapshot.id for snapshot in first.snapshots()]
    machine = shared.bare(one, "left out")
    wish = Wish(inventory=one.inventory.id.hex(), jobs=frozenset({"second"}))
    assert "left-out" in kinds(machine.rebuild(wish, wait=shared.wait))


def test_a_label_with_a_high_number_hides_no_ancestor(shared: SharedVault) -> None:
    """An ancestor that the signer proves is known by its catalogs: the newest label's is none of its own."""
    first = shared.first(2)
    first.with_job(name="second").backup()
    shared.pass_time()
    heir = of_version_1(shared.heir(first, "heir", jobs="job"))
    shared.night(heir, "of the heir")
    for number in range(3):
        pack, job_id = PackId(b"made up pack %3d" % number), b"of any other job"
        place = PackKind.CATALOG, pack, first.inventory.id, 2**30 + number, Generation.DELTA, job_id
        store(shared.vault, b"no catalog", ArchiveLabel(*place))
    shared.pass_time()
    report, _ = rebuilt(shared, heir, "again")
    assert sorted(job.name for job in report.jobs) == ["job", "second"]


@pytest.mark.slow
@pytest.mark.parametrize("shared", ["glacier"], indirect=True)
def test_junk_under_this_servers_name_ends_in_a_cold_vault(shared: SharedVault) -> None:
    """What was damaged was asked for anew in each act, and others expired meanwhile: it never ended."""
    first = shared.first(2)
    job_id = line_of(first).job_id
    for number in range(3):
        pack, inventory_id = PackId(b"made up pack %3d" % number), first.inventory.id
        place = PackKind.CATALOG, pack, inventory_id, 1000 + number, Generation.FULL, job_id
        store(shared.vault, b"no catalog", ArchiveLabel(*place))
    shared.pass_time()
    machine, acts = shared.bare(first, "again"), 1
    while (report := machine.act(Wish(inventory=first.inventory.id.hex()))).state == "waiting":
        acts += 1
        assert acts < 10
        shared.wait()
    assert [job.number for job in report.jobs] == [line_of(first).number]


@pytest.mark.parametrize("shared", ["directory"], indirect=True)
def test_terabytes_of_somebody_else_stop_no_rebuild(shared: SharedVault) -> None:
    """Its header is well signed; the rest would have to come down to see whether it is an heir's."""
    first = shared.first(2)
    thief = stranger(first)
    for number in (HIGH, HIGH + 1):
        archive = forge(thief, first, Forgery(number=number))
        os.truncate(shared.folder / "vault" / "archives" / archive[:2] / archive, 2**43)
    report, _ = rebuilt(shared, first, "again")
    assert kinds(report) == ["not-its-own"]
