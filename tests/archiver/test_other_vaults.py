"""Another vault in the place of the one that was backed up into is noticed, and told."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from backup.checker import read_sample
from backup.checker.sample import Amount
from backup.errors import OtherVaultError
from backup.format import records
from backup.format.header import parse_header
from backup.inventory.content import identities
from backup.model import ArchiveId, ByteRange, InventoryId, Listing, ListingId, Tier, VaultIdentity, VaultName
from backup.rebuilder.catalogs.file import read_catalog_file
from backup.transfer.whole import WholeArchive, fetch_to_files
from backup.vault.directory import DirectoryVault
from tests.support.backups import Site, server_keys
from tests.support.checks import archive_file, archive_ids, check, check_world, kinds, query, state_of
from tests.support.doubles import NO_LIMIT, Fault, FaultyVault, ManualClock, PowerCut
from tests.support.emulated import RunningEmulator, write_accounts
from tests.support.rebuilds import bare
from tests.support.rigs import s3_client
from tests.support.swapped_vaults import (
    Place,
    buckets,
    directories,
    glacier_vaults,
    grow,
    site_at,
    with_vault,
)
from tests.support.trees import assert_same_tree

pytestmark = pytest.mark.no_cover  # many variants of what other tests reach, too


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    folder = tmp_path_factory.mktemp("emulator")
    with RunningEmulator(folder / "state", write_accounts(folder / "accounts.toml")) as running:
        yield running


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["directory", "glacier", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Place:
    if request.param == "directory":
        return directories(tmp_path, clock)
    running: RunningEmulator = request.getfixturevalue("emulator")
    return glacier_vaults(running, clock) if request.param == "glacier" else buckets(running)


@pytest.fixture
def site(place: Place, tmp_path: Path, clock: ManualClock) -> Iterator[Site]:
    """One backup into the vault that the inventory knows from then on."""
    made = site_at(place, tmp_path, clock)
    made.backup()
    yield made
    made.close()


def identity_of(site: Site) -> str | None:
    ((found,),) = query(site, "SELECT identity FROM vaults")
    return None if found is None else str(found)


def forget_identity(site: Site) -> None:
    """The inventory as 0.1.0 left it."""
    with sqlite3.connect(site.folder / "inventory.sqlite") as database:
        database.execute("UPDATE vaults SET identity = NULL")
    database.close()


def states(site: Site) -> set[str]:
    return {row[0] for row in query(site, "SELECT DISTINCT state FROM archives")}


# A backup.


def test_a_vault_is_known_from_its_first_backup_on(site: Site) -> None:
    known = identity_of(site)
    assert known in list(site.vault.identities(site.inventory.id))
    grow(site, "later")
    site.backup()
    assert identity_of(site) == known
    assert len(site.vault.identities(site.inventory.id)) == 1


def test_a_backup_stops_before_another_vault(site: Site, place: Place) -> None:
    """Nothing is written to it; both are named, and the way out."""
    swapped = place.another()
    swapped.add_identity(site.inventory.id, "ab" * 16)
    grow(site, "later")
    with pytest.raises(OtherVaultError, match=r"vault cold .*is another one than before") as caught:
        with_vault(site, swapped).backup()
    assert str(identity_of(site)) in str(caught.value)
    assert swapped.identities(site.inventory.id)[0] in str(caught.value)
    assert "`nightvault vaults accept cold`" in caught.value.advice
    assert not swapped.list_uploads()
    assert site.backup().bytes_new > 0, "with the right one it goes on"


def test_a_backup_stops_before_a_vault_that_is_empty(site: Site, place: Place) -> None:
    """A disk that was just made a vault, a bucket of the same name in another account."""
    with pytest.raises(OtherVaultError, match="is another one than before"):
        with_vault(site, place.another()).backup()


def test_what_it_costs(site: Site) -> None:
    """Two requests a run, and none of those that it cost before: counted, so that it stays so."""
    counting = FaultyVault(site.vault)
    with_vault(site, counting).backup()
    looked = {
        name: counting.calls[name] for name in ("state", "identities", "newest_catalogs", "add_identity")
    }
    asked = int(site.vault.traits.lists_at_once)
    assert looked["identities"] == 1
    assert looked["newest_catalogs"] == asked
    assert looked["state"] == looked["add_identity"] == 0
    assert not counting.calls["fetch_listing"]


CLAIMS = {
    **dict.fromkeys(("encryption", "algorithm", "cipher", "sealing", "checksums", "compression"), "none"),
    **dict.fromkeys(("recipients", "signers", "features"), ()),
}


def claim_in_directory(top: Path) -> None:
    """Say in every file that is not sealed, and in some that others would read, that nothing is sealed."""
    for path in top.rglob("*.json"):
        path.chmod(0o600)
        path.write_bytes(msgspec.json.encode(msgspec.json.decode(path.read_bytes()) | CLAIMS))
    for name in ("config", "config.json", "nightvault.toml"):
        (top / name).write_bytes(msgspec.json.encode(CLAIMS))


def claim_in_bucket(client: Any, bucket: str) -> None:
    """The same by tags of the bucket, metadata and tags of its objects, and objects of its own."""
    tags = {"TagSet": [{"Key": name, "Value": "none"} for name in CLAIMS]}
    client.put_bucket_tagging(Bucket=bucket, Tagging=tags)
    for found in client.list_objects_v2(Bucket=bucket)["Contents"]:
        where = {"Bucket": bucket, "Key": found["Key"]}
        client.copy_object(
            **where,
            CopySource=where,
            MetadataDirective="REPLACE",
            Metadata=dict.fromkeys(CLAIMS, "none"),
            StorageClass=found["StorageClass"],
        )
        client.put_object_tagging(**where, Tagging=tags)
    for name in ("config", "config.json", "nightvault.toml"):
        client.put_object(Bucket=bucket, Key=f"web1/{name}", Body=msgspec.json.encode(CLAIMS))


@pytest.mark.parametrize("place", ["directory", "s3"], indirect=True)
def test_nothing_that_a_vault_says_decides_how_and_for_whom_is_sealed(
    site: Site, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Each byte of it may be another's: the config says for whom, and how is said nowhere."""
    location = site.vault.state().location
    before = set(archive_ids(site, "archive_id IS NOT NULL"))
    client = None
    if isinstance(site.vault, DirectoryVault):
        claim_in_directory(Path(location))
    else:
        client = s3_client(request.getfixturevalue("emulator").s3_url)
        claim_in_bucket(client, location.split("/")[2])
    secrets = [os.urandom(5000), os.urandom(5000)]
    (tmp_path / "source" / "secret").write_bytes(secrets[0])
    site.backup()
    new = bare(tmp_path, site)
    assert new.rebuild().state == "done"
    site.inventory.close()
    again = new.site()
    meant = {recipient.id for recipient in site.keys.recipients}
    assert {recipient.id for recipient in again.keys.recipients} == meant
    (tmp_path / "source" / "another").write_bytes(secrets[1])
    again.backup()
    stored = set(archive_ids(again, "archive_id IS NOT NULL")) - before
    assert len(stored) >= 4
    for archive_id in stored:
        if client is None:
            data = archive_file(Path(location), archive_id).read_bytes()
        else:
            found = client.get_object(Bucket=location.split("/")[2], Key=f"web1/{archive_id}")
            data = found["Body"].read()
        assert not [secret for secret in (*secrets, b"another") if secret in data]
        header = parse_header(data)
        assert {stanza.recipient_id for stanza in header.stanzas} == meant
        assert header.fields.signer_public == site.keys.signer.public
    assert not again.restore("latest", tmp_path / "out").problems
    assert_same_tree(tmp_path / "source", tmp_path / "out")
    again.close()


def test_a_cut_while_an_identity_is_left(place: Place, tmp_path: Path, clock: ManualClock) -> None:
    """What was left is found, and known from then on: no second one is left."""
    site = site_at(place, tmp_path, clock)
    for after in (False, True):
        cut = FaultyVault(site.vault, Fault("add_identity", PowerCut("dark"), after=after))
        if site.vault.identities(site.inventory.id):
            pytest.skip("it has one by itself")
        with pytest.raises(PowerCut):
            site.reopen(cut).backup()
    site = site.reopen()
    site.backup()
    assert [identity_of(site)] == list(site.vault.identities(site.inventory.id))
    site.close()


def test_before_anything_was_stored_any_vault_will_do(
    place: Place, tmp_path: Path, clock: ManualClock
) -> None:
    """A bucket that was made anew after `init`, say: there is nothing to lose."""
    site = site_at(place, tmp_path, clock)
    with site.inventory.writing() as tx:
        identities.set_vault_identity(tx, site.vault.name, VaultIdentity("the first one"))
    site.backup()
    assert identity_of(site) in list(site.vault.identities(site.inventory.id))
    site.close()


# An inventory of 0.1.0.


def test_the_first_run_on_a_vault_of_before_knows_it(site: Site) -> None:
    """It shows the newest catalog, so it is the one."""
    known = identity_of(site)
    forget_identity(site)
    grow(site, "later")
    site.backup()
    assert identity_of(site) == known


def test_the_first_run_does_not_trust_the_first_vault_seen(site: Site, place: Place) -> None:
    """A vault without our newest catalog may be the wrong disk; a cold one will do."""
    forget_identity(site)
    counting = FaultyVault(place.another())
    swapped = with_vault(site, counting)
    if not site.vault.traits.lists_at_once:
        swapped.backup()
        assert identity_of(site) == swapped.vault.identities(site.inventory.id)[0]
        return
    newest = archive_ids(site, "kind = 2")[-1]
    with pytest.raises(OtherVaultError, match=f"may be another vault.*newest catalog.*{newest}") as caught:
        swapped.backup()
    assert "`nightvault vaults accept cold`" in caught.value.advice
    assert identity_of(site) is None
    assert not counting.calls["add_identity"]
    site.backup()


def test_a_vault_that_lost_all_is_told_from_one_that_is_not_ours(site: Site, place: Place) -> None:
    """A check of an inventory of 0.1.0 marks nothing where not one archive of ours is shown."""
    if not site.vault.traits.lists_at_once:
        pytest.skip("clocks decide there")
    forget_identity(site)
    report = check(with_vault(site, place.another()))
    assert kinds(report)["other-vault"] == 1
    assert states(site) == {"stored"}


# A check.


def test_check_tells_what_a_swapped_vault_lacks(site: Site, place: Place) -> None:
    """At once, no hour's margin; and nothing is marked as lost, as nothing is."""
    report = check(with_vault(site, place.another()))
    found = kinds(report)
    assert report.is_grave
    assert found.pop("other-vault") == 1
    first = report.findings[0]
    assert (first.kind, first.what) == ("other-vault", "cold")
    assert str(identity_of(site)) in first.detail
    assert "Nothing was marked as lost" in first.detail
    if site.vault.traits.lists_at_once:
        assert found == {"missing": len(archive_ids(site, "1"))}
    assert states(site) == {"stored"}
    assert not check(site).findings, "the right one has it all"


def test_a_list_that_is_made_at_once_needs_no_margin(site: Site) -> None:
    """What is gone is missed in the next second, whatever our clock said when it was stored."""
    if not site.vault.traits.lists_at_once:
        pytest.skip("its list is a day old")
    lost = archive_ids(site)[0]
    site.vault.delete_archives({ArchiveId(lost): None})
    report = check(site)
    assert {finding.what: finding.kind for finding in report.findings} == {lost: "missing"}
    assert state_of(site, lost) == "lost"


def test_what_was_stored_while_the_list_was_made_is_newer(site: Site) -> None:
    if not site.vault.traits.lists_at_once:
        pytest.skip("its list is a day old")

    class Late(FaultyVault):
        """A backup stores something just after the list was made."""

        def fetch_listing(self, listing_id: ListingId) -> Listing:
            listing = self.vault.fetch_listing(listing_id)
            grow(site, "meanwhile")
            site.backup()
            return listing

    report = check(site, vault=Late(site.vault))
    assert (report.findings, report.compared and report.compared.newer) == ((), 2)


def test_reading_back_marks_nothing_that_another_vault_lacks(site: Site, place: Place) -> None:
    world = check_world(site, vault=place.another())
    run = read_sample.begin_reading(
        read_sample.plan_sample(Amount(share=Fraction(1)), world), world, NO_LIMIT
    )
    with pytest.raises(OtherVaultError):
        read_sample.go_on(run, world)
    assert states(site) == {"stored"}


# A restore.


def test_a_restore_says_that_it_is_another_vault(site: Site, place: Place, tmp_path: Path) -> None:
    """Not that each archive is missing."""
    with pytest.raises(OtherVaultError, match="is another one than before"):
        with_vault(site, place.another()).restore("latest", tmp_path / "out")
    assert query(site, "SELECT count(*) FROM restores") == [(0,)]
    site.restore("latest", tmp_path / "out")
    assert_same_tree(tmp_path / "source", tmp_path / "out")


# A rebuild, and two inventories.


def test_a_rebuilt_inventory_knows_the_vault_and_goes_on(site: Site, place: Place, tmp_path: Path) -> None:
    place.pass_hours()
    machine = bare(tmp_path, site)
    machine.rebuild(wait=place.pass_hours)
    rebuilt = machine.site()
    by_itself = site.vault.identities(InventoryId(b"n" * 16))
    assert identity_of(rebuilt) == (by_itself[0] if by_itself else None)
    grow(rebuilt, "later")
    rebuilt.backup()
    assert [identity_of(rebuilt)] == list(site.vault.identities(rebuilt.inventory.id))
    with pytest.raises(OtherVaultError):
        with_vault(rebuilt, place.another()).backup()
    assert not [note for note in machine.progress.notes if "a copy of it?" in note]
    rebuilt.close()


def test_two_inventories_in_one_vault(site: Site, place: Place, tmp_path: Path, clock: ManualClock) -> None:
    """Each knows the vault by itself, and neither takes the other's catalogs for its own."""
    (tmp_path / "other").mkdir()
    other = site_at(Place(lambda: site.vault, place.pass_hours), tmp_path / "other", clock)
    other_id = InventoryId(b"another of 16 b.")
    other = replace(other, keys=server_keys(other_id), inventory=replace(other.inventory, id=other_id))
    other.backup()
    grow(site, "later")
    site.backup()
    other.backup()
    assert identity_of(site) in list(site.vault.identities(site.inventory.id))
    assert identity_of(other) in list(site.vault.identities(other.inventory.id))
    other.close()


# What catalogs say of it.


def test_catalogs_say_into_which_vault_they_were_written(tmp_path: Path, clock: ManualClock) -> None:
    """The last field of the Vault record, which 0.1.0 passes over."""
    site = site_at(directories(tmp_path, clock), tmp_path, clock)
    report = site.backup()
    path = tmp_path / "catalog"
    archive = next(
        archive
        for archive in site.vault.newest_catalogs(site.inventory.id, {})
        if archive.archive_id == report.catalog
    )
    asked = site.vault.request_retrieval(archive.archive_id, None, Tier.STANDARD, "t")
    extent = ByteRange(0, archive.size)
    list(fetch_to_files(site.vault, clock, [WholeArchive(asked, archive.size, extent, str(path))]))
    found = [
        record
        for record in read_catalog_file(str(path)).records([site.key])
        if isinstance(record, records.VaultRecord)
    ]
    assert found == [records.VaultRecord(1, "cold", str(identity_of(site)))]

    class AsIn010(msgspec.Struct, frozen=True, array_like=True, tag=3):
        number: int
        name: str

    assert msgspec.msgpack.decode(msgspec.msgpack.encode(found[0]), type=AsIn010) == AsIn010(1, "cold")
    assert (
        msgspec.msgpack.decode(msgspec.msgpack.encode(AsIn010(1, "cold")), type=records.VaultRecord).identity
        == ""
    )
    site.close()


def test_a_rebuild_from_a_copy_says_so(tmp_path: Path, clock: ManualClock) -> None:
    """Archives that somebody copied to another disk: nothing is refused, and it is told."""
    site = site_at(directories(tmp_path, clock), tmp_path, clock)
    site.backup()
    first = Path(site.vault.state().location)
    copy = DirectoryVault(VaultName("cold"), str(tmp_path / "copy"), clock)
    copy.create()
    (tmp_path / "copy" / "archives").rmdir()
    (first / "archives").rename(tmp_path / "copy" / "archives")
    machine = bare(tmp_path, with_vault(site, copy))
    assert machine.rebuild().state == "done"
    (note,) = [told for told in machine.progress.notes if "a copy of it?" in told]
    assert str(identity_of(site)) in note
    rebuilt = machine.site()
    clock.advance(timedelta(hours=1))
    assert rebuilt.backup().bytes_new == 0
    rebuilt.close()
    site.close()
