"""The extractor in a vault of several servers: each job's state comes from its own server alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from msgspec.structs import replace

from backup.format.enrolment import enrol, slots
from backup.format.header import HeaderFields, seal_header
from backup.format.keys import Signer, plain_key_file
from backup.inventory.records import runs
from backup.model import InventoryId, PackKind, VaultName
from backup.rebuilder.context import Wish
from backup.rebuilder.members import Trust
from backup.vault.directory import DirectoryVault
from tests.support.backups import INVENTORY_ID, Site, enrolled, recovery_key
from tests.support.catalogs import catalogs
from tests.support.doubles import ManualClock
from tests.support.extract_script import extract, imported
from tests.support.integrity import list_now
from tests.support.rebuilds import NEW_ID, bare
from tests.support.strangers import CONTENT, STRANGER_ID, forged_full, packs_of, stranger
from tests.support.trees import assert_same_tree, snapshot_of


class Shared:
    """A vault of two servers: the site, and a stranger who is enrolled by the same recovery key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock()
        self.vault = DirectoryVault(VaultName("disk"), str(folder / "vault"), self.clock)
        self.vault.create()
        self.source = folder / "source"
        self.source.mkdir()
        (self.source / "ours").write_text("ours " * 1000)
        self.site = Site.create(folder / "state", self.vault, [self.source], clock=self.clock)
        self.archives = folder / "vault" / "archives"
        self.key = folder / "recovery.key"
        self.key.write_bytes(plain_key_file(recovery_key()))

    def night(self, site: Site | None = None, name: str = "another") -> str:
        """One more night; its snapshot."""
        (self.source / name).write_text(name * 1000)
        self.clock.sleep(86400)
        return (site or self.site).backup().snapshot

    def extract(self, *words: object, code: int = 0) -> str:
        """What the script said."""
        return extract("--key", self.key, *words, self.archives, code=code)

    def extracted(self, *words: object, code: int = 0) -> tuple[Path, str]:
        """Where the source came to lie, and what the script said."""
        target = self.folder / f"out {len(list(self.folder.glob('out *')))}"
        told = self.extract(*words, "--target", target, code=code)
        return Path(f"{target}{self.source}"), told


@pytest.fixture
def shared(tmp_path: Path) -> Shared:
    return Shared(tmp_path)


@pytest.fixture
def thief(shared: Shared) -> Site:
    """The stranger, after two nights of the site."""
    shared.night(name="one")
    shared.night(name="two")
    return stranger(shared.site)


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with imported("nightvault_extract_strangers") as module:
        yield module


def remove_fulls(shared: Shared, inventory_id: InventoryId) -> None:
    """The full catalogs of an inventory are lost."""
    for archive in list_now(shared.vault).archives:
        label = archive.label
        if label is not None and label.inventory_id == inventory_id and label.generation == 2:
            shared.vault.delete_archives({archive.archive_id: None})


# F1.


@pytest.mark.parametrize("name", ["job", "another name"])
def test_a_forged_full_catalog_is_named_and_not_used(shared: Shared, thief: Site, name: str) -> None:
    """The job's id proves whose it is: no question is asked."""
    forged_full(thief, shared.site, name=name, condemned=packs_of(shared.site))
    out, told = shared.extracted("--job", "job", code=3)
    assert_same_tree(shared.source, out)
    assert "not-its-own: catalog 3 of job" in told
    assert STRANGER_ID.hex() in told
    listed = shared.extract("--job", "job", "--list", code=3)
    assert [snapshot.id for snapshot in shared.site.snapshots()] == [
        line[:16] for line in listed.splitlines()
    ][:2]
    assert thief.snapshot().id not in listed
    told = shared.extract("--job", "theirs", "--list")
    assert thief.snapshot().id in told
    assert told.endswith(f"1 files  {len(CONTENT)} bytes\n")


def test_a_forged_base_spoils_no_later_night(shared: Shared, thief: Site) -> None:
    forged_full(thief, shared.site)
    snapshot = shared.night(name="three")
    out, told = shared.extracted("--job", "job", "--snapshot", snapshot[:8], code=3)
    assert_same_tree(shared.source, out)
    assert "not-its-own" in told


def test_to_call_somebody_an_ancestor_proves_nothing(shared: Shared, thief: Site) -> None:
    forged_full(thief, shared.site, claims=[INVENTORY_ID])
    out, told = shared.extracted("--job", "job", code=3)
    assert_same_tree(shared.source, out)
    assert "not-its-own" in told
    assert "goes on" not in told


@pytest.fixture
def unbound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs are made as versions before made them: their ids follow from nothing."""
    make = runs.get_or_create_job
    monkeypatch.setattr(runs, "get_or_create_job", lambda *words, **_: make(*words))


@pytest.mark.usefixtures("unbound")
def test_a_job_of_earlier_versions_is_a_question(shared: Shared, thief: Site) -> None:
    """Both have it by the same name: who is meant must be said, and nothing is mixed."""
    forged_full(thief, shared.site)
    said = shared.extract("--job", "job", "--list", code=1)
    assert all(
        f"job with --inventory {inventory_id.hex()}" in said for inventory_id in (INVENTORY_ID, STRANGER_ID)
    )
    words = ("--job", "job", "--inventory")
    out, told = shared.extracted(*words, INVENTORY_ID.hex()[:8], code=3)
    assert_same_tree(shared.source, out)
    assert f"is by inventory {STRANGER_ID.hex()}" in told
    listed = shared.extract(*words, STRANGER_ID.hex(), "--list", code=3)
    assert thief.snapshot().id in listed
    assert shared.site.snapshot().id not in listed
    said = shared.extract("--inventory", "ffff", "--list", code=1)
    assert "0 inventories begin with ffff" in said


@pytest.mark.usefixtures("unbound")
def test_another_name_for_the_same_job_is_no_question(shared: Shared, thief: Site) -> None:
    forged_full(thief, shared.site, name="another name")
    out, told = shared.extracted("--job", "job", code=3)
    assert_same_tree(shared.source, out)
    assert "not-its-own" in told


def test_a_pack_under_the_id_of_another_hides_nothing(shared: Shared, thief: Site) -> None:
    """Pack ids are random, and anybody can read and write those of others."""
    pack_id = catalogs(shared.site)[2, "delta"].label
    assert pack_id is not None
    fields = HeaderFields(PackKind.DATA, pack_id.pack_id, STRANGER_ID, thief.keys.signer.public)
    header = seal_header(
        fields, pack_key=bytes(32), recipients=thief.keys.recipients, signer=thief.keys.signer
    )
    for name in ("0", "zz"):
        (shared.archives / name).write_bytes(header + bytes(1000))
    out, _ = shared.extracted("--job", "job")
    assert_same_tree(shared.source, out)


# Rebuilt servers.


def rebuilt(shared: Shared, *, by_signature: bool) -> Site:
    """The server is lost and rebuilt, and one more night is saved; its full catalog is lost.

    `by_signature`: it has another signer, and only the recovery key's signature says whom it follows; else
    the same signer, and no such signature.
    """
    machine = bare(shared.folder, shared.site)
    machine.rebuild(Wish(trust=Trust(), inventory=INVENTORY_ID.hex()))
    site, key = machine.site(), shared.site.key
    signer = Signer(b"n" * 32) if by_signature else site.keys.signer
    tags = {key.recipient.id: key.enrolment_tag(NEW_ID, signer.public)}
    signed = {key.recipient.id: enrol(key, NEW_ID, signer.public, [INVENTORY_ID])}
    filled = slots([key.recipient.id], tags, signed if by_signature else {})
    site = replace(
        site, keys=replace(site.keys, signer=signer, enrolments=filled, vouching=(), signature=b"")
    )
    shared.night(site, "after the rebuild")
    remove_fulls(shared, NEW_ID)
    return site


@pytest.mark.parametrize("by_signature", [True, False])
def test_a_rebuilt_server_goes_on_from_what_was_before(shared: Shared, by_signature: bool) -> None:
    shared.night(name="one")
    shared.night(name="two")
    before = snapshot_of(shared.source)
    site = rebuilt(shared, by_signature=by_signature)
    listed = shared.extract("--list")
    assert [snapshot.id for snapshot in site.snapshots()] == [line[:16] for line in listed.splitlines()]
    out, _ = shared.extracted()
    assert_same_tree(shared.source, out)
    out, told = shared.extracted("--inventory", INVENTORY_ID.hex(), code=3)
    assert_same_tree(before, out)
    assert f"inventory {NEW_ID.hex()} was rebuilt from {INVENTORY_ID.hex()} and goes on" in told


def test_without_a_proof_nobody_goes_on(shared: Shared) -> None:
    """As before, with a signature for other ancestors: an older state comes, and what is left is named."""
    shared.night(name="one")
    shared.night(name="two")
    before = snapshot_of(shared.source)
    machine = bare(shared.folder, shared.site)
    machine.rebuild(Wish(trust=Trust(), inventory=INVENTORY_ID.hex()))
    site = machine.site()
    keys = enrolled(replace(site.keys, signer=Signer(b"n" * 32)), NEW_ID, [shared.site.key], [STRANGER_ID])
    shared.night(replace(site, keys=keys), "after the rebuild")
    out, told = shared.extracted(code=3)
    assert_same_tree(before, out)
    assert f"is by inventory {NEW_ID.hex()}, which nothing proves" in told


# The rules alone, where honest writers make no such catalogs.


A, B = b"a" * 16, b"b" * 16
JOB = b"j" * 16


def catalog_of(
    script: ModuleType,
    writer: bytes,
    number: int,
    generation: int,
    parent: Any,
    claim: tuple[bytes, ...] = (),
) -> Any:
    """A catalog that was proven, by its header alone."""
    above = parent.header.hash if parent is not None else bytes(32)
    raw = b"%s %d %d" % (writer, number, generation)
    header = script.Header(raw, 2, generation, raw, writer, b"of " + writer, 0, JOB, number, above)
    pack = script.Pack(f"{number}", header)
    pack.start = script.Start("job", claim, None)
    return pack


def state_of(script: ModuleType, owner: bytes, *catalogs: Any, signers: dict[bytes, bytes]) -> Any:
    """What is found for that inventory."""
    family = script.Family([])
    for pack in catalogs:
        pack.header.signer = signers[pack.header.inventory]
        family.note(pack.header, pack.start, 0)
    return script.Histories(list(catalogs), [], family).find(JOB, owner)


DELTA, FULL = 1, 2
STRANGERS, ONE_SERVER = {A: b"1", B: b"2"}, {A: b"1", B: b"1"}


def test_a_delta_of_another_inventory_is_on_no_way(script: ModuleType) -> None:
    full = catalog_of(script, A, 1, FULL, None)
    full.header.is_first = True
    theirs = catalog_of(script, B, 2, DELTA, full)
    ours = catalog_of(script, A, 3, DELTA, theirs)
    found = state_of(script, A, full, theirs, ours, signers=STRANGERS)
    assert found.chain == [full]
    assert any("catalog 3 cannot be applied" in text for text in found.told)
    assert any("not-its-own" in text for text in found.told)
    theirs.start.claim = (A,)
    heir = catalog_of(script, B, 4, DELTA, ours, (A,))
    found = state_of(script, B, full, theirs, ours, heir, signers=ONE_SERVER)
    assert found.chain == [full, theirs], "after what an ancestor wrote, on the way back, comes no heir"
    assert any("catalog 4 cannot be applied" in text for text in found.told)


def test_a_full_catalog_counts_where_its_writer_stands(script: ModuleType) -> None:
    """The heir's own counts for the state that it goes on from, and not on the way to any before."""
    first = catalog_of(script, A, 1, DELTA, None)
    second = catalog_of(script, A, 2, DELTA, first)
    next_one = catalog_of(script, B, 5, DELTA, second, (A,))
    of_heir = catalog_of(script, B, 3, FULL, second, (A,))
    found = state_of(script, B, first, second, next_one, of_heir, signers=ONE_SERVER)
    assert found.chain == [of_heir, next_one]
    too_old = catalog_of(script, B, 4, FULL, first, (A,))
    found = state_of(script, B, first, second, next_one, too_old, signers=ONE_SERVER)
    assert found.chain == [too_old]
    assert any("catalog 5 cannot be applied" in text for text in found.told)
    of_other = catalog_of(script, B, 4, FULL, second)
    found = state_of(script, A, first, second, of_other, signers=STRANGERS)
    assert found.chain == []
    assert any("the only full catalog" in text for text in found.told)


def test_numbers_rise(script: ModuleType) -> None:
    full = catalog_of(script, A, 1, FULL, None)
    full.header.is_first = True
    second = catalog_of(script, A, 3, DELTA, full)
    third = catalog_of(script, A, 2, DELTA, second)
    assert state_of(script, A, full, second, third, signers=STRANGERS).chain == []


def test_two_that_go_on_from_one_are_told(script: ModuleType) -> None:
    full = catalog_of(script, A, 1, FULL, None)
    full.header.is_first = True
    both = [catalog_of(script, A, number, DELTA, full) for number in (2, 3)]
    found = state_of(script, A, full, *both, signers=STRANGERS)
    assert found.chain == [full, both[1]]
    assert any("two catalogs go on" in text for text in found.told)


def test_a_later_key_makes_no_heir_of_whom_the_first_vouches_for(script: ModuleType) -> None:
    """Whoever has a recovery key that was given up could else go on with everything."""
    header = catalog_of(script, B, 5, DELTA, None).header

    class Key:
        def __init__(self, signs: bool) -> None:
            self.signs = signs

        def signed(self, *_: object) -> bool:
            return self.signs

    for rank, ancestors in ((0, []), (1, [A])):
        family = script.Family([Key(False), Key(True)])
        family.note_signer(A, b"1", rank)
        family.note(header, script.Start("job", (A,), None), 1)
        assert family.ancestors(B) == ancestors
