"""Another server of a shared bucket, with the same role, puts its own objects where this server's belong.

They have the size and CRC of what it saw in the lists of open uploads; none is taken for this server's.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from backup.app.aws_setup.documents import AwsSetup, BucketSetup, s3_policies
from backup.errors import ArchiveTakenError
from backup.format import records
from backup.format.crc64 import combine_crc64
from backup.kinds import RunKind
from backup.model import ArchiveId
from backup.rebuilder.context import Wish
from backup.transfer.fetching.journal import Journal
from backup.vault.aws import make_s3_client
from backup.vault.s3.vault import S3Vault
from tests.support.backups import Site
from tests.support.byte_changes import with_crc64
from tests.support.checks import check, kinds, query
from tests.support.clocks import EmulatorClock
from tests.support.doubles import Fault, FaultyVault, ManualClock, PowerCut
from tests.support.emulated import TEST_KEY, RunningEmulator, StaticKey, write_accounts
from tests.support.rigs import s3_vault
from tests.support.shared_vaults import SharedVault, source_of
from tests.support.strangers import listing_of

CLASS = "GLACIER_IR"


def policies(bucket: str) -> Any:
    """The documents that are shipped, for a bucket that servers share."""
    place = BucketSetup(bucket, "", CLASS, "STANDARD", is_plain=True)
    setup = AwsSetup("aws", "eu-central-1", "123456789012", "v", "", (), 3600, bucket=place)
    return s3_policies(setup, place)


SERVER = StaticKey(
    access_key_id="AKIASERVERSERVERSERV",
    secret_access_key="server/secret+access/key/of/the/emulat00",
    user="server",
    policy=json.dumps(policies("taken-*")["backup"]),
)


@dataclass
class Place:
    """A bucket with the shipped policies; `whole` is a vault that may all, for restores and rebuilds."""

    shared: SharedVault
    whole: S3Vault
    thief: Any
    bucket: str
    emulator: RunningEmulator
    started: Callable[[], S3Vault]  # the vault of a process that has just begun

    def uploads(self, kind: str) -> list[dict[str, Any]]:
        """The open uploads of that kind, as the thief sees them."""
        found = self.thief.list_multipart_uploads(Bucket=self.bucket).get("Uploads", ())
        return [upload for upload in found if upload["Key"].startswith(kind)]

    def forged(self, upload: dict[str, Any]) -> bytes:
        """Junk of the size and CRC of an open upload."""
        at = {"Bucket": self.bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
        parts = self.thief.list_parts(**at)["Parts"]
        crcs = [int.from_bytes(base64.b64decode(part["ChecksumCRC64NVME"]), "big") for part in parts]
        sizes = [part["Size"] for part in parts]
        return with_crc64(sum(sizes), combine_crc64(zip(crcs, sizes, strict=True)))

    def take(self, kind: str, *, aborts: bool = False) -> None:
        """Put such junk at the key of each open upload, and abort that."""
        for upload in self.uploads(kind):
            body = self.forged(upload)
            if aborts:
                at = {"Bucket": self.bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
                self.thief.abort_multipart_upload(**at)
            self.put(upload["Key"], body)

    def put(self, key: str, body: bytes) -> None:
        """What the role for backups may."""
        storage_class = CLASS if key.startswith("data/") else "STANDARD"
        self.thief.put_object(
            Bucket=self.bucket, Key=key, Body=body, StorageClass=storage_class, IfNoneMatch="*"
        )

    def dead(self, site: Site, *, after: bool = False) -> None:
        """A night that ends before, or after, its data are completed."""
        (source_of(site) / "secret").write_bytes(b"secret" * 9000)
        with pytest.raises(PowerCut):
            site.reopen(
                FaultyVault(site.vault, Fault("complete_upload", PowerCut("dead"), after=after))
            ).backup()

    def again(self, site: Site) -> Site:
        """The server, the next night."""
        self.shared.pass_time()
        self.shared.vault = self.started()
        made = site.reopen(self.shared.vault)
        self.shared.open.append(made)
        return made

    def assert_whole(self, site: Site, target: Path) -> Site:
        """All snapshots are rebuilt from the bucket, and the newest comes back; by who may read."""
        self.shared.vault = self.whole
        machine = self.shared.bare(site, "bare")
        report = machine.rebuild(Wish(inventory=site.inventory.id.hex()))
        back = machine.site()
        self.shared.open.append(back)
        assert report.state == "done"
        assert [snapshot.id for snapshot in back.snapshots()] == [
            snapshot.id for snapshot in site.snapshots()
        ]
        self.shared.assert_whole(back, target, source_of(site))
        return back


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    """An emulated AWS with a server's role beside the administrator's."""
    folder = tmp_path_factory.mktemp("cloud")
    accounts = write_accounts(folder / "accounts.toml", keys=(TEST_KEY, SERVER))
    with RunningEmulator(folder / "state", accounts) as running:
        yield running


_buckets = iter(range(1000))


@pytest.fixture(params=["shipped"])
def place(request: pytest.FixtureRequest, cloud: RunningEmulator, tmp_path: Path) -> Iterator[Place]:
    """A new bucket; this server has the shipped role, or one that may read as well."""

    def client(key: StaticKey) -> Any:
        session = boto3.Session(key.access_key_id, key.secret_access_key, region_name="eu-central-1")
        return make_s3_client(session, region="eu-central-1", endpoint=cloud.s3_url, path_style=True)

    def vault(key: StaticKey) -> S3Vault:
        clock = EmulatorClock(cloud)
        return s3_vault(client(key), bucket, name="shared", clock=clock, storage_class=CLASS)

    bucket, root = f"taken-{next(_buckets)}", client(TEST_KEY)
    where = {"LocationConstraint": "eu-central-1"}
    root.create_bucket(Bucket=bucket, CreateBucketConfiguration=where)
    root.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policies(bucket)["bucket"]))
    whole = vault(TEST_KEY)
    key = SERVER if request.param == "shipped" else TEST_KEY
    shared = SharedVault(vault(key), ManualClock(EmulatorClock(cloud).now()), tmp_path, cloud)
    yield Place(shared, whole, client(SERVER), bucket, cloud, lambda: vault(key))
    shared.close()


@pytest.mark.parametrize(
    ("place", "kind"), [("shipped", "data/"), ("reads", "data/"), ("shipped", "meta/")], indirect=["place"]
)
def test_a_night_at_whose_keys_something_lies_fails_and_the_next_stores_it(
    place: Place, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = place.shared.first(2)
    complete = S3Vault.complete_upload

    def taken_before(vault: S3Vault, *args: Any) -> Any:
        place.take(kind)
        return complete(vault, *args)

    with monkeypatch.context() as patch:
        patch.setattr(S3Vault, "complete_upload", taken_before)
        with pytest.raises(ArchiveTakenError, match=f"something else lies at {kind}"):
            place.shared.night(first, "secret")
    assert place.uploads(kind) == []
    place.shared.pass_time()
    assert place.shared.night(first, "the night after").problems == ()
    assert kinds(check(first)) == {"orphan": 1}
    place.assert_whole(first, tmp_path / "out")


@pytest.mark.parametrize("aborts", [True, False], ids=["aborted", "open"])
def test_what_a_dead_night_left_is_stored_anew(place: Place, aborts: bool, tmp_path: Path) -> None:
    first = place.shared.first(1)
    place.dead(first)
    place.take("data/", aborts=aborts)
    first = place.again(first)
    assert first.backup().problems == ()
    assert any("something else lies at data/" in note for note in first.progress.notes)
    assert place.uploads("") == []
    assert kinds(check(first)) == {"orphan": 1}
    place.assert_whole(first, tmp_path / "out")


def test_what_a_dead_night_stored_is_known_by_a_list(place: Place, tmp_path: Path) -> None:
    first = place.shared.first(1)
    place.dead(first, after=True)
    first = place.again(first)
    ((pack,),) = query(first, "SELECT pack_id FROM archives WHERE state = 'submitted'")
    assert first.backup().problems == ()
    (state, version), *_ = query(first, "SELECT state, version FROM archives WHERE pack_id = ?", pack)
    assert state == "stored"
    versions = {line.label.pack_id: line.version for line in listing_of(first).archives if line.label}
    assert versions[pack] == version
    assert kinds(check(first)) == {}
    place.assert_whole(first, tmp_path / "out")


def test_a_part_that_somebody_replaced_is_sent_again(place: Place, tmp_path: Path) -> None:
    first = place.shared.first(1)
    place.dead(first)
    (upload,) = place.uploads("data/")
    at = {"Bucket": place.bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
    place.thief.upload_part(**at, PartNumber=1, Body=place.forged(upload))
    first = place.again(first)
    assert first.backup().problems == ()
    assert kinds(check(first)) == {}
    place.assert_whole(first, tmp_path / "out")


@pytest.mark.parametrize(("case", "state", "found"), [
    ("there", "stored", {}),
    ("another", "damaged", {"differs": 1}),
    ("unknown", "unconfirmed", {}),
])  # fmt: skip
def test_what_was_deleted_and_taken_back_is_built_upon_only_if_it_is_the_same(
    place: Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: str,
    state: str,
    found: dict[str, int],
) -> None:
    """The file comes back, after somebody who deletes elsewhere had its archive deleted."""
    if case == "unknown":  # versions before this one recorded none
        monkeypatch.setattr(S3Vault, "take_version", lambda *_: "")
    shared, first = place.shared, place.shared.first(2)
    (gone,) = shared.give_up(first)
    (pack, size) = query(first, "SELECT pack_id, size FROM archives WHERE archive_id = ?", gone)[0]
    if case != "there":
        assert not place.whole.delete_archives({ArchiveId(gone): None})
        place.put(gone, b"J" * size)
    first.amend(records.TakenUpRecord([pack]), kind=RunKind.PRUNE)
    shared.pass_time()
    assert kinds(check(first)) == found
    assert query(first, "SELECT state FROM archives WHERE archive_id = ?", gone) == [(state,)]
    shared.night(first, "given up")
    told = any("nothing proves that what it shows" in note for note in first.progress.notes)
    assert (told, kinds(check(first))) == (case == "unknown", {})
    shared.pass_time()
    back = place.assert_whole(first, tmp_path / "out")
    assert query(back, "SELECT state FROM archives WHERE archive_id = ?", gone) == [(state,)]


def test_a_rebuild_names_what_lies_in_place_of_an_archive(place: Place) -> None:
    """As after `rebuild --before`, to a state that is older than a deletion."""
    first = place.shared.first(2)
    gone, size = query(first, "SELECT archive_id, size FROM archives WHERE kind = 1 ORDER BY number")[0]
    assert not place.whole.delete_archives({ArchiveId(gone): None})
    place.put(gone, b"J" * size)
    place.shared.vault = place.whole
    machine = place.shared.bare(first, "bare")
    report = machine.rebuild(Wish(inventory=first.inventory.id.hex()))
    assert [(found.kind, found.archive_id) for found in report.suspicions] == [("differs", gone)]
    back = machine.site()
    place.shared.open.append(back)
    assert query(back, "SELECT state FROM archives WHERE archive_id = ?", gone) == [("damaged",)]


def test_a_copy_of_the_bucket_is_as_good(place: Place, tmp_path: Path) -> None:
    """What copies objects makes other parts, and so gives them other ETags."""
    first, root = place.shared.first(2), place.whole._requests.client
    copy = place.bucket + "-copy"
    root.create_bucket(Bucket=copy, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    for line in root.list_objects_v2(Bucket=place.bucket)["Contents"]:
        body = root.get_object(Bucket=place.bucket, Key=line["Key"])["Body"].read()
        root.put_object(Bucket=copy, Key=line["Key"], Body=body, StorageClass=line["StorageClass"])
    clock = EmulatorClock(place.emulator)
    place.whole = s3_vault(root, copy, name="shared", clock=clock, storage_class=CLASS)
    place.assert_whole(first, tmp_path / "out")
    back = place.shared.open[-1]
    assert query(back, "SELECT DISTINCT state FROM archives") == [("stored",)]


def test_a_list_that_waits_for_catalogs_keeps_what_tells_objects(place: Place, tmp_path: Path) -> None:
    listing = listing_of(place.shared.first(1))
    assert all(line.version for line in listing.archives)
    with Journal.opened(str(tmp_path / "journal"), "shared") as journal:
        journal.keep_listing(listing)
        assert journal.kept_listing() == listing
