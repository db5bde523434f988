"""Which vault it is, and what it shows of an inventory now, asked of every vault."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from backup.errors import VaultMissingError
from backup.model import ArchiveId, ArchiveLabel, Generation, InventoryId, PackId, PackKind
from backup.vault.s3.vault import S3Vault
from tests.support.archives import CATALOG, some_bytes, some_label, store
from tests.support.rigs import Rig, s3_vault

OURS = CATALOG.inventory_id
OTHERS = InventoryId(b"o" * 16)
TOKEN = "5e" * 16
JOBS = [bytes([number]) * 16 for number in (0x11, 0x55, 0xEE)]
_packs = itertools.count()


def catalog(job: bytes, number: int, *, inventory: InventoryId = OURS) -> ArchiveLabel:
    pack = PackId(next(_packs).to_bytes(16, "big"))
    generation = Generation.DELTA if number % 2 else Generation.FULL
    return ArchiveLabel(PackKind.CATALOG, pack, inventory, number, generation, job)


def keep(rig: Rig, label: ArchiveLabel) -> ArchiveId:
    return store(rig.vault, some_bytes(64), label)


# Which vault it is.


def test_a_vault_is_known_once_it_has_an_identity(rig: Rig) -> None:
    before = rig.vault.identities(OURS)
    rig.vault.add_identity(OURS, TOKEN)
    known = rig.vault.identities(OURS)
    assert len(known) == 1
    assert not before or list(before) == list(known), "one that it had by itself stays"


def test_an_answer_that_was_lost_is_asked_for_again_without_harm(rig: Rig) -> None:
    rig.vault.add_identity(OURS, TOKEN)
    known = list(rig.vault.identities(OURS))
    rig.vault.add_identity(OURS, TOKEN)
    assert list(rig.vault.identities(OURS)) == known


def test_two_vaults_are_told_apart(rig: Rig) -> None:
    rig.elsewhere.create()
    rig.vault.add_identity(OURS, TOKEN)
    rig.elsewhere.add_identity(OURS, TOKEN[::-1])
    assert not {*rig.vault.identities(OURS)} & {*rig.elsewhere.identities(OURS)}


def test_two_inventories_in_one_vault_have_each_their_own(rig: Rig) -> None:
    rig.vault.add_identity(OURS, TOKEN)
    rig.vault.add_identity(OTHERS, TOKEN[::-1])
    assert len(rig.vault.identities(OURS)) == len(rig.vault.identities(OTHERS)) == 1


def test_an_identity_is_no_archive(rig: Rig) -> None:
    rig.vault.add_identity(OURS, TOKEN)
    archive_id = store(rig.vault, b"abc")
    rig.make_listable()
    listing_id = rig.vault.request_listing("t")
    rig.make_ready()
    assert [archive.archive_id for archive in rig.vault.fetch_listing(listing_id).archives] == [archive_id]
    assert not rig.vault.newest_catalogs(OURS, {})
    assert not rig.vault.list_uploads()


def test_a_vault_that_is_not_there_has_none(rig: Rig) -> None:
    with pytest.raises(VaultMissingError):
        rig.elsewhere.identities(OURS)


# What it shows of an inventory now.


def test_the_newest_catalogs_are_those_of_one_inventory(rig: Rig) -> None:
    ours = {keep(rig, catalog(job, number)) for job in JOBS for number in (1, 2, 3)}
    keep(rig, catalog(JOBS[0], 9, inventory=OTHERS))
    keep(rig, some_label())
    rig.vault.add_identity(OURS, TOKEN)
    found = {archive.archive_id: archive for archive in rig.vault.newest_catalogs(OURS, {})}
    assert set(found) == (ours if rig.vault.traits.lists_at_once else set())
    for archive in found.values():
        assert archive.label is not None
        assert archive.created_at.tzinfo


def test_none_that_is_as_new_as_what_is_known_is_left_out(rig: Rig) -> None:
    if not rig.vault.traits.lists_at_once:
        pytest.skip("it lists nothing at once")
    newer = {keep(rig, catalog(job, number)) for job in JOBS for number in (7, 8)}
    for number in (1, 2, 6):
        keep(rig, catalog(JOBS[0], number))
    unknown = keep(rig, catalog(b"n" * 16, 1))
    found = {archive.archive_id for archive in rig.vault.newest_catalogs(OURS, dict.fromkeys(JOBS, 7))}
    assert newer | {unknown} <= found


def test_a_vault_with_nothing_shows_nothing(rig: Rig) -> None:
    assert not rig.vault.newest_catalogs(OURS, {JOBS[0]: 3})


# A bucket: how many requests that takes, and what else may lie there.


@pytest.fixture
def bucket(emulated_s3: Any) -> S3Vault:
    """An empty bucket on the emulator."""
    vault = s3_vault(emulated_s3, f"identity-{next(_packs)}", prefix="p/")
    vault.create()
    return vault


@pytest.fixture
def pages(emulated_s3: Any) -> Any:
    """What lists were asked for, in pages of four keys."""
    asked: list[dict[str, Any]] = []

    def small(params: dict[str, Any], **_: Any) -> None:
        params["MaxKeys"] = 4
        asked.append(dict(params))

    emulated_s3.meta.events.register("provide-client-params.s3.ListObjectsV2", small, unique_id="small")
    yield asked
    emulated_s3.meta.events.unregister("provide-client-params.s3.ListObjectsV2", unique_id="small")


def test_old_catalogs_are_not_listed_page_by_page(bucket: S3Vault, pages: list[dict[str, Any]]) -> None:
    for job in JOBS:
        for number in range(1, 31):
            store(bucket, b"x", catalog(job, number))
    bucket.add_identity(OURS, TOKEN)
    found = bucket.newest_catalogs(OURS, dict.fromkeys(JOBS, 30))
    newest = [archive for archive in found if archive.label and archive.label.number == 30]
    assert len(newest) == len(JOBS)
    assert len(pages) <= 1 + len(JOBS), "of 23 pages"
    assert {page["Prefix"] for page in pages} == {f"p/meta/{OURS.hex()}/"}, "nothing of the data is listed"


def test_all_pages_of_an_unknown_job_are_seen(bucket: S3Vault, pages: list[dict[str, Any]]) -> None:
    stored = {store(bucket, b"x", catalog(JOBS[1], number)) for number in range(1, 12)}
    assert {archive.archive_id for archive in bucket.newest_catalogs(OURS, {JOBS[0]: 3})} == stored
    assert len(pages) == 3


def test_one_list_tells_which_bucket_it_is(bucket: S3Vault, pages: list[dict[str, Any]]) -> None:
    for number in range(1, 20):
        store(bucket, b"x", catalog(JOBS[0], number))
    bucket.add_identity(OURS, TOKEN)
    assert bucket.identities(OURS) == [TOKEN]
    assert len(pages) == 1


def test_something_else_below_such_a_key_is_listed_as_what_it_is(bucket: S3Vault, emulated_s3: Any) -> None:
    name = bucket.state().location.split("/")[2]
    ours = f"p/meta/{OURS.hex()}/vault-"
    keys = [f"{ours}{'ab' * 16}", f"{ours}{'AB' * 16}", f"{ours}{'cd' * 16}.bak"]
    for key, body in zip(keys, (b"not empty", b"", b""), strict=True):
        emulated_s3.put_object(Bucket=name, Key=key, Body=body)
    assert bucket.identities(OURS) == []
    listed = bucket.fetch_listing(bucket.request_listing("t")).archives
    assert {archive.archive_id for archive in listed} == {key.removeprefix("p/") for key in keys}
    assert {archive.label for archive in listed} == {None}


def test_the_right_to_delete_archives_does_not_delete_an_identity(bucket: S3Vault) -> None:
    bucket.add_identity(OURS, TOKEN)
    bucket.delete_archives({ArchiveId(f"meta/{OURS.hex()}/vault-{TOKEN}"): None})
    assert bucket.identities(OURS) == [TOKEN]


def test_without_the_checksum_of_s3_an_identity_is_guarded_by_another(emulated_s3: Any) -> None:
    vault = s3_vault(emulated_s3, f"identity-{next(_packs)}", checksums="none")
    vault.create()
    vault.add_identity(OURS, TOKEN)
    vault.add_identity(OURS, TOKEN)
    assert vault.identities(OURS) == [TOKEN]
