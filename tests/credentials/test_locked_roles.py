"""An intruder with each role of a locked bucket, as printed: what is locked stays, whatever is tried."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from backup.errors import DeniedError
from backup.model import MIB, ArchiveId, ObjectLock
from backup.pruner.keeper.folder import KeeperFolder
from backup.pruner.keeper.given_up import find_given_up
from backup.retention.locks import locked_until, longest_lock
from tests.support.archives import some_bytes, store
from tests.support.backups import Site
from tests.support.clocks import EmulatorClock
from tests.support.emulated import REPOSITORY
from tests.support.intruder import (
    BUCKET,
    DAY,
    FAR,
    MADE,
    MOST,
    NEW,
    ROLES,
    RULES,
    Place,
    key_id,
    locked_place,
    secret_of,
)
from tests.support.keepers import keeper_of
from tests.support.s3_clients import client


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A locked bucket with all roles."""
    with locked_place(tmp_path_factory.mktemp("locked")) as made:
        yield made


def test_the_policies_bound_what_they_allow() -> None:
    """By the days that the rules allow at most, and a part of one."""
    now = datetime.fromisoformat("2026-12-02T01:00:00+00:00")
    assert longest_lock(now, RULES) - now == timedelta(days=MOST)
    assert MADE.keys() >= set(ROLES)
    text = json.dumps([MADE[role] for role in ROLES])
    assert "Bypass" not in text
    assert 'LegalHold"' not in text.replace("GetObjectLegalHold", "")


def test_as_many_attacks_as_the_documentation_says(place: Place) -> None:
    tried = list(place.attacks())
    operations, requests = len({attack.operation for attack in tried}), len(tried) * len(ROLES)
    page = (REPOSITORY / "docs" / "ransomware.md").read_text()
    assert f"{operations} operations, {requests:,} requests" in page


@pytest.mark.parametrize(
    "role",
    [
        *("backup", "prune", "lock"),
        *(
            pytest.param(role, marks=pytest.mark.slow)
            for role in ("restore", "copy", "keeper", "keeper-lock", "undelete")
        ),
    ],
)
def test_an_intruder_with_a_role_harms_nothing_that_is_locked(place: Place, role: str) -> None:
    before, outcomes = place.settings(), Counter[int]()
    tried = set[str]()
    for attack in place.attacks():
        status = place.attempt(role, attack)
        outcomes[status] += 1
        tried.add(attack.operation)
        assert status >= 400 or not place.harm(), (attack, place.harm())
    assert not place.harm(), "something did it that was refused"
    assert place.settings() == before
    assert not place.excessive()
    stored = [f"{prefix}PutObject0" for prefix in NEW[:2]] if role == "backup" else []
    assert sorted(place.tidy()) == stored, "its own server's, without a lock of its choice"
    assert place.read() == place.data
    print(
        f"{role}: {len(tried)} operations, {outcomes.total()} requests, by status {sorted(outcomes.items())}"
    )
    assert len(tried) > 90
    assert outcomes[403] > 0.7 * outcomes.total()


def test_an_upload_in_parts_replaces_nothing(place: Place) -> None:
    """It may be begun on a key that is there; its end is refused, with the condition or not."""
    s3 = client(place.emulator.s3_url, key_id("backup"), secret_of("backup"))
    for key, code in ((place.key, "PreconditionFailed"), (f"{NEW[0]}parts", "")):
        of = {"Bucket": BUCKET.name, "Key": key}
        of["UploadId"] = s3.create_multipart_upload(**of, StorageClass="GLACIER_IR")["UploadId"]
        tag = s3.upload_part(**of, PartNumber=1, Body=b"junk")["ETag"]
        whole = {**of, "MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": tag}]}}
        with pytest.raises(s3.exceptions.ClientError, match="AccessDenied"):
            s3.complete_multipart_upload(**whole)
        with pytest.raises(s3.exceptions.ClientError, match=code) if code else nullcontext():
            s3.complete_multipart_upload(**whole, IfNoneMatch="*")
        if code:
            s3.abort_multipart_upload(**of)
    assert not place.harm()
    assert place.tidy() == [f"{NEW[0]}parts"]


def test_a_stricter_lock_is_no_longer_one(place: Place) -> None:
    """Who may lock may do it in `compliance` mode, but for no longer: nobody need be let end it."""
    archive = store(place.vault("backup"), b"made stricter")
    of: Any = {"Bucket": BUCKET.name, "Key": f"web1/{archive}"}
    of["VersionId"] = place.root.head_object(**of)["VersionId"]
    longest, strict = longest_lock(place.now(), RULES), {"Mode": "COMPLIANCE"}
    for role in ("backup", "lock", "keeper-lock"):
        s3 = client(place.emulator.s3_url, key_id(role), secret_of(role))
        for until in (longest + DAY, datetime.fromisoformat(FAR)):
            with pytest.raises(s3.exceptions.ClientError, match="AccessDenied"):
                s3.put_object_retention(**of, Retention={**strict, "RetainUntilDate": until})
        s3.put_object_retention(**of, Retention={**strict, "RetainUntilDate": longest - DAY})
    assert not place.excessive()


def test_what_each_role_is_for(place: Place) -> None:
    """The lock role locks for longer, and reads nothing; nobody else but a backup locks."""
    longer = place.until + 5 * DAY
    assert longer <= longest_lock(place.now(), RULES)
    of = {"Bucket": BUCKET.name, "Key": place.key, "VersionId": place.version}
    for role in ("restore", "copy", "prune", "keeper"):
        s3 = client(place.emulator.s3_url, key_id(role), secret_of(role))
        with pytest.raises(s3.exceptions.ClientError, match="AccessDenied"):
            s3.put_object_retention(**of, Retention={"Mode": "GOVERNANCE", "RetainUntilDate": longer})
    s3 = client(place.emulator.s3_url, key_id("lock"), secret_of("lock"))
    s3.put_object_retention(**of, Retention={"Mode": "GOVERNANCE", "RetainUntilDate": place.until})
    assert s3.get_object_retention(**of)["Retention"]["RetainUntilDate"] == place.until
    with pytest.raises(DeniedError):
        store(place.vault("lock"), b"junk")
    for read in (s3.get_object, s3.head_object):
        with pytest.raises(s3.exceptions.ClientError):
            read(**of)


def test_another_machine_renews_by_its_role(place: Place, tmp_path: Path) -> None:
    """It reads catalogs, which it needs, and no data; it deletes and stores nothing."""
    clock, source = EmulatorClock(place.emulator), tmp_path / "source"
    source.mkdir()
    (source / "a file").write_bytes(some_bytes(10_000))
    site = Site.create(tmp_path / "state", place.vault("backup"), [source], clock=clock, part_size=5 * MIB)
    site.backup()
    site.close()
    vault = place.vault("keeper-lock")
    keeper = keeper_of(replace(site, vault=vault), tmp_path / "keeper", keep_within=RULES.lock_for).context()
    with KeeperFolder.opened(keeper.folder, renews=True) as folder:
        given_up = find_given_up(keeper, folder)
    stored = {line.archive_id for line in vault.fetch_listing(vault.request_listing("t")).archives}
    assert (given_up.problems, given_up.archives, set(given_up.stored)) == ((), frozenset(), stored)
    lockable = vault.lockable(given_up.inventories)
    assert lockable.archives == stored
    assert len(lockable.others) == 1
    longer = longest_lock(place.now(), RULES) - timedelta(hours=1)
    for archive in (lockable.archives | lockable.others) - {place.key.removeprefix("web1/")}:
        assert vault.lock_until(archive, longer).until == longer
    s3 = client(place.emulator.s3_url, key_id("keeper-lock"), secret_of("keeper-lock"))
    with pytest.raises(s3.exceptions.ClientError, match="AccessDenied"):
        s3.get_object(Bucket=BUCKET.name, Key=place.key)
    with pytest.raises(DeniedError):
        store(vault, b"junk")
    with pytest.raises(DeniedError):
        vault.delete_archives(dict.fromkeys(stored))


def test_a_person_takes_back_what_somebody_did(place: Place) -> None:
    """By the policy that is printed: markers and tags; no other role does, and what is locked stays."""
    stored = store(place.vault("backup"), b"of one night")
    of = {"Bucket": BUCKET.name, "Key": f"web1/{stored}"}
    version = place.root.head_object(**of)["VersionId"]
    place.root.delete_object(**of, IfMatch="*")
    tags = {"TagSet": [{"Key": "expire", "Value": "soon"}]}
    place.root.put_object_tagging(**of, VersionId=version, Tagging=tags)
    person = place.vault("undelete")
    (line,) = [line for line in person.versions() if line.key == stored]
    (marker,) = line.markers
    assert (line.is_hidden, person.is_tagged(line.key, version)) == (True, True)
    for role in ("backup", "restore", "lock"):
        assert place.vault(role).remove_version(line.key, marker) is not None
    assert person.remove_version(line.key, marker) is None
    person.remove_tags(line.key, version)
    assert person.remove_version(line.key, version) is not None
    assert place.root.head_object(**of)["VersionId"] == version
    assert not place.root.get_object_tagging(**of)["TagSet"]


def test_a_person_holds_and_no_role_does(place: Place) -> None:
    """By the policy that is printed, which can neither lock nor delete nor read."""
    archive = store(place.vault("backup"), b"of evidence")
    of = {"Bucket": BUCKET.name, "Key": f"web1/{archive}"}
    for role in ROLES:
        vault = place.vault(role)
        vault.lockable([])
        with pytest.raises(DeniedError):
            vault.hold(archive, is_on=True)
    person = place.vault("legal-hold")
    person.lockable([])
    for is_on in (True, False):
        person.hold(archive, is_on=is_on)
        status = place.root.head_object(**of)["ObjectLockLegalHoldStatus"]
        assert status == ("ON" if is_on else "OFF")
    with pytest.raises(DeniedError):
        person.lock_until(archive, locked_until(place.now(), RULES))
    s3 = client(place.emulator.s3_url, key_id("legal-hold"), secret_of("legal-hold"))
    with pytest.raises(s3.exceptions.ClientError, match="AccessDenied"):
        s3.get_object(**of)


def test_until_its_date_and_no_step_longer(place: Place) -> None:
    """The prune role deletes everything that it can, a moment before the date; a moment after it is gone."""
    hour = timedelta(hours=1)
    place.emulator.advance((place.until - place.now() - hour).total_seconds())
    vault = place.vault("prune")
    archives = {line.archive_id: None for line in vault.fetch_listing(vault.request_listing("t")).archives}
    vault.delete_archives(archives)
    assert place.read() == place.data
    place.emulator.advance(2 * hour.total_seconds())
    latest = place.root.head_object(Bucket=BUCKET.name, Key=place.key, VersionId=place.version)
    assert latest["ObjectLockRetainUntilDate"] == place.until
    assert vault.delete_archives({ArchiveId(place.key.removeprefix("web1/")): None}) == {}


def test_a_stricter_lock_of_before_is_renewed_and_nothing_is_stored_in_that_mode(place: Place) -> None:
    """Since the mode was changed from compliance to governance."""
    archive = store(place.vault("backup"), b"of before")
    (version,) = place.root.list_object_versions(Bucket=BUCKET.name, Prefix=f"web1/{archive}")["Versions"]
    of = {"Bucket": BUCKET.name, "Key": version["Key"], "VersionId": version["VersionId"]}
    root, until = place.root, locked_until(place.now(), RULES)
    root.delete_bucket_policy(Bucket=BUCKET.name)
    root.put_object_retention(**of, Retention={"Mode": "COMPLIANCE", "RetainUntilDate": until})
    statements: Any = MADE["bucket"]["Statement"]
    (denied,) = [some for some in statements if some["Sid"] == "NoOtherLocks"]
    of_before = {**denied, "Action": ["s3:PutObject", "s3:PutObjectRetention"]}
    longer = longest_lock(place.now(), RULES) - timedelta(hours=1)
    root.put_bucket_policy(Bucket=BUCKET.name, Policy=json.dumps({"Statement": [of_before]}))
    with pytest.raises(DeniedError) as caught:
        place.vault("lock").lock_until(archive, longer)
    assert "compliance mode" in caught.value.advice
    root.put_bucket_policy(Bucket=BUCKET.name, Policy=json.dumps(MADE["bucket"]))
    assert place.vault("lock").lock_until(archive, longer) == ObjectLock("COMPLIANCE", longer)
    s3 = client(place.emulator.s3_url, key_id("backup"), secret_of("backup"))
    strict = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until}
    with pytest.raises(s3.exceptions.ClientError, match="AccessDenied"):
        s3.put_object(Bucket=BUCKET.name, Key=f"{version['Key']}0", Body=b"", IfNoneMatch="*", **strict)
