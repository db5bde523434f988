"""Backups of a server that was rebuilt elsewhere, or of which others say so: nobody builds upon what goes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from backup.catalogs.report import BackupReport
from backup.errors import HeirError, OlderInventoryError
from backup.format.enrolment import HeirMark, enrol
from backup.format.keys import RecoveryKey
from backup.format.records import ForgottenRecord
from backup.inventory.content.strangers import open_strangers
from backup.inventory.store.times import micros
from backup.model import ByteRange, Generation, InventoryId, PackId, PackKind, Tier
from backup.pruner.listed import PruneStoppedError
from backup.rebuilder.context import Wish
from backup.transfer.answers import accept_catalogs
from backup.vault.directory import DirectoryVault
from tests.support.archives import store
from tests.support.backups import INVENTORY_ID, Site, recovery_key
from tests.support.checks import check, kinds, query
from tests.support.doubles import FaultyVault
from tests.support.keepers import Keeper
from tests.support.shared_vaults import AGE, DAY, SharedVault, of_version_1, source_of
from tests.support.strangers import STRANGER_ID, Forgery, forge, listing_of, stranger

OTHERS = InventoryId(b"nobody of these.")


def lists(shared: SharedVault, site: Site) -> None:
    """The server has a list of the vault, where that takes hours."""
    if not shared.vault.traits.lists_at_once:
        check(site)


def assert_refused(shared: SharedVault, site: Site, heir: Site) -> None:
    """Before anything is written: no archive, no upload, no row of one."""
    before, was = shared.archives(), query(site, "SELECT * FROM archives")
    (source_of(site) / "new").write_text("new")
    with pytest.raises(HeirError) as caught:
        site.backup()
    (source_of(site) / "new").unlink()
    assert heir.inventory.id.hex() in str(caught.value)
    assert f"--inventory {heir.inventory.id.hex()}" in caught.value.advice
    assert shared.archives() == before
    assert not shared.vault.list_uploads()
    assert query(site, "SELECT * FROM archives") == was


def test_an_image_of_before_a_rebuild_is_refused(shared: SharedVault) -> None:
    """L3: and so is the old machine itself; on Glacier by the next list that is fetched."""
    first = shared.first(2)
    image = shared.image_of(first)
    heir = shared.heir(first, "heir")
    shared.night(heir, "of the heir")
    for old in (image, first):
        lists(shared, old)
        assert_refused(shared, old, heir)
    assert shared.night(heir, "goes on").outcome == "done"
    shared.assert_whole(heir, shared.folder / "out")


@pytest.mark.slow
@pytest.mark.parametrize("shared", ["glacier"], indirect=True)
def test_a_cold_vault_tells_it_with_the_next_list(shared: SharedVault) -> None:
    """Until then the night is stored."""
    first = shared.first(2)
    heir = shared.heir(first, "heir")
    shared.night(heir, "of the heir")
    assert shared.night(first, "nobody knows").outcome == "done"
    assert "newer-catalog" in kinds(check(first))
    assert_refused(shared, first, heir)


def test_each_of_a_chain_of_rebuilds_is_refused(shared: SharedVault) -> None:
    chain = [shared.first(2)]
    for number in range(3):
        chain.append(shared.heir(chain[-1], f"heir {number}"))
        shared.night(chain[-1], f"of heir {number}")
    assert len(shared.marks()) == 1 + 2 + 3
    for number, old in enumerate(chain[:-1]):
        lists(shared, old)
        with pytest.raises(HeirError) as caught:
            old.backup()
        assert any(heir.inventory.id.hex() in str(caught.value) for heir in chain[number + 1 :])
    assert shared.night(chain[-1], "at last").outcome == "done"


# Without a recovery key's word of version 2.


def _forget_and_prune(shared: SharedVault, heir: Site) -> None:
    """All nights but the newest, whose files are others; what they needed is deleted."""
    numbers = [snapshot.number for snapshot in heir.snapshots()]
    for path in source_of(heir).iterdir():
        path.unlink()
    shared.night(heir, "of the heir alone")
    heir.amend(ForgottenRecord(numbers, micros(shared.clock.now())))
    for _ in range(3):
        shared.prune(heir, deletes=True)
        shared.pass_time(4 * DAY)


def test_without_a_proof_nothing_is_built_upon_what_the_heir_deleted(shared: SharedVault) -> None:
    """L3: the night is stored, partial once, with all of it that is gone."""
    first = of_version_1(shared.first(2))
    files = {path.name: path.read_bytes() for path in source_of(first).iterdir()}
    shared.pass_time(AGE)
    image = shared.image_of(first)
    heir = shared.heir(first, "heir", is_signed=False)
    _forget_and_prune(shared, heir)
    for path in source_of(heir).iterdir():
        path.unlink()
    for name, content in files.items():
        (source_of(image) / name).write_bytes(content)
    lists(shared, image)
    told = [shared.night(image, f"of the image {number}") for number in range(3)]
    assert [report.outcome for report in told] == ["partial", "done", "done"]
    assert heir.inventory.id.hex() in " ".join(told[0].warnings)
    assert told[0].files_again or told[0].bytes_new > sum(map(len, files.values()))
    shared.assert_whole(image, shared.folder / "out")
    with image.inventory.reading() as tx:
        assert {asked.stranger.inventory_id for asked in open_strangers(tx)} == {heir.inventory.id}
    with pytest.raises(PruneStoppedError):
        shared.prune(image)


# Marks that prove nothing.


def _false_marks(thief: Site, heir: HeirMark) -> Sequence[HeirMark]:
    """Whatever another server may write."""
    signer, old = thief.keys.signer.public, RecoveryKey.from_seed(b"o" * 32)
    by_other = enrol(old, STRANGER_ID, signer, [INVENTORY_ID])
    own = thief.keys.signature
    return [
        HeirMark(INVENTORY_ID, STRANGER_ID, signer, bytes(64)),
        HeirMark(INVENTORY_ID, STRANGER_ID, signer, b"\xff" * 64),
        HeirMark(INVENTORY_ID, STRANGER_ID, signer, own),
        HeirMark(INVENTORY_ID, STRANGER_ID, signer, by_other),
        HeirMark(INVENTORY_ID, STRANGER_ID, signer, heir.signature),
        replace(heir, predecessor=INVENTORY_ID),
        replace(heir, predecessor=INVENTORY_ID, heir=STRANGER_ID),
        HeirMark(INVENTORY_ID, STRANGER_ID, bytes(32), bytes(64)),
    ]


def test_a_mark_that_proves_nothing_is_a_hint(shared: SharedVault) -> None:
    """Zeros, junk, a signature for others, by another key, copied from another server's heir."""
    first = shared.first(2)
    other = stranger(first, shared.folder / "other", inventory_id=OTHERS)
    shared.pass_time()
    heir = shared.heir(other, "heir of other")
    shared.night(heir, "leaves its mark")
    (text,) = shared.marks()
    copied = HeirMark.from_text(text)
    thief = stranger(first, ancestors=[OTHERS])
    shared.open += [other, thief]
    assert copied is not None
    for mark in _false_marks(thief, copied):
        shared.vault.add_mark(mark.to_text())
    shared.pass_time()
    lists(shared, first)
    told = [shared.night(first, f"goes on {number}") for number in range(3)]
    assert [report.outcome for report in told] == ["partial", "done", "done"]
    shared.assert_whole(first, shared.folder / "out")
    with pytest.raises(PruneStoppedError):
        shared.prune(first)


def test_what_somebody_labels_as_this_servers_does_not_stop_its_nights(shared: SharedVault) -> None:
    """It does not bear the server's signature; where that cannot be read at once, a person says so."""
    first = shared.first(2)
    thief = stranger(first)
    shared.open.append(thief)
    for number in (1, 900, 901):
        forge(thief, first, Forgery(number=number, labelled=first.inventory.id))
    shared.pass_time()
    lists(shared, first)
    if not shared.vault.traits.lists_at_once:
        with pytest.raises(OlderInventoryError) as caught:
            first.backup()
        (pack,) = re.findall("--accept ([0-9a-f]{32})", caught.value.advice)
    else:
        assert shared.night(first, "beside it").outcome == "done"
        with pytest.raises(PruneStoppedError) as stopped:
            shared.prune(first)
        (pack,) = re.findall("--accept ([0-9a-f]{32})", stopped.value.advice)
    told = accept_catalogs(first.inventory, shared.vault.name, [pack], "ada", shared.clock.now())
    assert told == ["3 catalogs, labelled as this inventory's, will not be asked about any more"]
    shared.night(first, "at last")
    assert shared.prune(first, deletes=True).state == "done"
    assert kinds(check(first)).keys() <= {"orphan", "other-inventory"}
    shared.assert_whole(first, shared.folder / "out")


def test_a_copied_header_under_another_label_does_not_stop_its_nights(shared: SharedVault) -> None:
    """The server's own signature, of another pack."""
    if not shared.vault.traits.lists_at_once:
        pytest.skip("headers cannot be read at once")
    first = shared.first(2)
    own = [line for line in listing_of(first).archives if line.label and line.label.kind is PackKind.CATALOG]
    retrieval = shared.vault.request_retrieval(own[0].archive_id, None, Tier.STANDARD, "copy")
    content = bytes(shared.vault.fetch(retrieval, ByteRange(0, own[0].size)).data)
    assert own[0].label is not None
    label = replace(own[0].label, pack_id=PackId(b"a copied header."), number=900)
    store(shared.vault, content, label)
    assert shared.night(first, "beside it").outcome == "done"


def test_others_catalogs_make_a_night_partial_once(shared: SharedVault) -> None:
    """A bucket's backup looks at its own catalogs alone: there a check tells it."""
    first = shared.first(2)
    thief = stranger(first)
    shared.open.append(thief)
    for number in range(2):
        forge(thief, first, Forgery(claims=[INVENTORY_ID], number=100 + number))
        shared.pass_time()
        assert "not-its-own" in kinds(check(first))
        told = [shared.night(first, f"night {number} {turn}").outcome for turn in range(2)]
        assert told == ["partial" if number == 0 else "done", "done"]
    shared.assert_whole(first, shared.folder / "out")


# The mark itself.


def _marking(site: Site) -> tuple[Site, Counter[str]]:
    faulty = FaultyVault(site.vault)
    return replace(site, vault=faulty), faulty.calls


def test_who_stores_nothing_leaves_no_mark(shared: SharedVault) -> None:
    """Neither a rebuild, nor a look at it, nor a check, restore, plan, keeper: it stops nobody's backup."""
    first = shared.first(2)
    heir, calls = _marking(shared.heir(first, "heir"))
    check(heir)
    heir.prune(only_plan=True)
    heir.restore("latest", shared.folder / "out")
    with heir.inventory.reading() as tx:
        assert open_strangers(tx) == []
    Keeper(shared.folder / "keeper", shared.vault, shared.clock, wait=shared.wait).keep()
    shared.bare(first, "drill").rebuild(Wish(), wait=shared.wait)
    assert not calls["add_mark"]
    assert shared.marks() == []
    lists(shared, first)
    assert shared.night(first, "goes on").outcome == "done"


def test_the_first_run_that_stores_leaves_one_for_each_ancestor_once(shared: SharedVault) -> None:
    """Before its first byte; with a signature that proves it."""
    first = shared.first(2)
    between = shared.heir(first, "between")
    shared.night(between, "one")
    heir, calls = _marking(shared.heir(between, "heir"))
    for name in ("two", "three"):
        shared.night(heir, name)
        assert calls["add_mark"] == 2
    assert list(calls).index("add_mark") < list(calls).index("begin_upload")
    marks = [HeirMark.from_text(text) for text in shared.marks()]
    found = {(mark.predecessor, mark.heir) for mark in marks if mark}
    ids = [site.inventory.id for site in (first, between, heir)]
    assert found == {(ids[0], ids[1]), (ids[0], ids[2]), (ids[1], ids[2])}
    (of_between,) = [mark for mark in marks if mark and (mark.predecessor, mark.heir) == (ids[1], ids[2])]
    assert of_between.is_proven(heir.keys.vouching, [ids[0]])
    assert recovery_key().recipient == heir.keys.recipients[0]


# W7.


def test_a_full_catalog_that_is_gone_is_stored_anew(shared: SharedVault) -> None:
    """W7: by the next backup, where a list shows it at once; else after a check."""
    first = shared.first(3)
    fulls = [
        line for line in listing_of(first).archives if line.label and line.label.generation is Generation.FULL
    ]
    shared.vault.delete_archives({line.archive_id: None for line in fulls})
    shared.pass_time(3 * DAY)
    lists(shared, first)
    report: BackupReport = shared.night(first, "after it")
    assert report.outcome == "done"
    back = shared.heir(first, "back")
    assert [snapshot.id for snapshot in back.snapshots()] == [snapshot.id for snapshot in first.snapshots()]
    shared.assert_whole(back, shared.folder / "out")


def test_a_full_catalog_is_gone_though_something_else_bears_its_pack_id(shared: SharedVault) -> None:
    """Another server can label what it likes: the archive itself must be there."""
    if not shared.vault.traits.lists_at_once:
        pytest.skip("a list is hours old there")
    first = shared.first(2)
    own = [line for line in listing_of(first).archives if line.label and line.label.kind is PackKind.CATALOG]
    shared.vault.delete_archives({line.archive_id: None for line in own})
    for line in own:
        assert line.label is not None
        store(shared.vault, b"a decoy", replace(line.label, job_id=None))
    shared.night(first, "after it")
    machine = shared.bare(first, "again")
    assert machine.rebuild(Wish(inventory=first.inventory.id.hex()), wait=shared.wait).state == "done"


def test_a_mark_that_is_gone_is_left_again(shared: SharedVault) -> None:
    """A check has the whole list: the run after it leaves the mark, which stops the old machine."""
    if not isinstance(shared.vault, DirectoryVault):
        pytest.skip("only a directory lets go of a mark")
    heir = shared.heir(shared.first(2), "heir")
    shared.night(heir, "of the heir")
    marks = shared.marks()
    assert marks
    for path in (shared.folder / "vault").rglob("*heir-*"):
        path.unlink()
    assert shared.marks() == []
    check(heir)
    shared.night(heir, "after the check")
    assert shared.marks() == marks
