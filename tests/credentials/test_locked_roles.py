"""An intruder with each role of a locked bucket, as printed: what is locked stays, whatever is tried.

The table of what is tried is the emulator's own: every operation of S3 on a bucket or object, plain, on the
version, and with each parameter that could harm.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct
from msgspec.structs import replace

from backup.app.aws_setup.documents import AwsSetup, BucketSetup, documents
from backup.emulator.s3.operations import OPERATIONS
from backup.errors import DeniedError
from backup.model import MIB, ArchiveId, ByteRange, ObjectLock, Tier, VaultName
from backup.pruner.keeper.folder import KeeperFolder
from backup.pruner.keeper.given_up import find_given_up
from backup.retention.locks import LockRules, locked_until, longest_lock
from backup.vault.s3.requests import Bucket, BucketLock
from backup.vault.s3.vault import S3Vault
from tests.support.archives import some_bytes, store
from tests.support.backups import Site
from tests.support.clocks import EmulatorClock, OffsetClock
from tests.support.emulated import (
    ACCOUNT_ID,
    REGION,
    REPOSITORY,
    TEST_KEY,
    RunningEmulator,
    StaticKey,
    write_accounts,
)
from tests.support.keepers import keeper_of
from tests.support.s3_clients import S3Talker, client

DAY = timedelta(days=1)
RULES = LockRules(60 * DAY, 10 * DAY)
MOST = 71
BUCKET = BucketSetup(
    "locked-bucket", "web1/", "GLACIER_IR", "STANDARD", is_plain=True, lock_mode="GOVERNANCE", lock_days=MOST
)
SETUP = AwsSetup("aws", REGION, ACCOUNT_ID, "", "arn:aws:x:y:z:a/b", [], 3600, bucket=BUCKET)
MADE = documents(SETUP)
ROLES = ("backup", "restore", "prune", "keeper", "lock", "keeper-lock", "undelete")
FAR = "2126-01-01T00:00:00Z"
HARMFUL: tuple[Mapping[str, str], ...] = (
    {},
    {"x-amz-bypass-governance-retention": "true"},
    {"x-amz-object-lock-mode": "GOVERNANCE", "x-amz-object-lock-retain-until-date": FAR},
    {"x-amz-object-lock-mode": "COMPLIANCE", "x-amz-object-lock-retain-until-date": FAR},
    {"x-amz-object-lock-legal-hold": "ON"},
    {"x-amz-storage-class": "DEEP_ARCHIVE"},
    {"x-amz-tagging": "delete=me"},
    {"if-match": "*"},
)


def retention(mode: str, until: str) -> str:
    """The document of PutObjectRetention."""
    return f"<Retention><Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>"


class Attack(Struct, frozen=True):
    """What is tried: an operation, its headers, whether it names the version, and its body."""

    operation: str
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: str


class Place(Struct, frozen=True):
    """A locked bucket with a data pack, and the keys of each role."""

    emulator: RunningEmulator
    key: str
    version: str
    data: bytes
    until: datetime

    @property
    def root(self) -> Any:
        """boto3 as the account's root."""
        return client(self.emulator.s3_url)

    def vault(self, role: str) -> S3Vault:
        """The vault with a role's keys."""
        s3 = client(self.emulator.s3_url, key_id(role), secret_of(role))
        lock = BucketLock("GOVERNANCE", partial(locked_until, rules=RULES))
        bucket = Bucket(BUCKET.name, REGION, "web1/", "GLACIER_IR", lock=lock)
        return S3Vault(VaultName("bucket"), s3, bucket, OffsetClock())

    def attacks(self) -> Iterator[Attack]:
        """Everything that is tried."""
        expire = (
            "<LifecycleConfiguration><Rule><ID>a</ID><Status>Enabled</Status><Filter/><Expiration><Days>1</Days>"
            "</Expiration><NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays>"
            "</NoncurrentVersionExpiration></Rule></LifecycleConfiguration>"
        )
        default = "<DefaultRetention><Mode>COMPLIANCE</Mode><Years>100</Years></DefaultRetention>"
        enabled = "<ObjectLockEnabled>Enabled</ObjectLockEnabled>"
        soon = (self.until - 50 * DAY).strftime("%Y-%m-%dT%H:%M:%SZ")
        named = f"<Key>{self.key}</Key><VersionId>{self.version}</VersionId>"
        bodies = {
            "PutObject": ("junk",),
            "PutObjectRetention": (
                *(retention(mode, FAR) for mode in ("GOVERNANCE", "COMPLIANCE")),
                *(retention(mode, soon) for mode in ("GOVERNANCE", "COMPLIANCE")),
                "<Retention></Retention>",
            ),
            "PutObjectLegalHold": tuple(
                f"<LegalHold><Status>{on}</Status></LegalHold>" for on in ("ON", "OFF")
            ),
            "DeleteObjects": (
                f"<Delete><Object>{named}</Object></Delete>",
                f"<Delete><Object><Key>{self.key}</Key></Object></Delete>",
            ),
            "PutBucketVersioning": (
                "<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>",
            ),
            "PutObjectLockConfiguration": (
                f"<ObjectLockConfiguration>{enabled}<Rule>{default}</Rule></ObjectLockConfiguration>",
            ),
            "PutBucketLifecycleConfiguration": (expire,),
            "PutBucketPolicy": (json.dumps({"Statement": []}),),
            "RestoreObject": ("<RestoreRequest><Days>300</Days></RestoreRequest>",),
        }
        for operation in OPERATIONS:
            if operation.on == "service" or operation.name == "CreateBucket":
                continue
            path = f"/{BUCKET.name}" + (f"/{self.key}" if operation.on == "object" else "")
            flags = [f"{flag}=2" if flag == "list-type" else f"{flag}=" for flag in operation.flags]
            queries = [flags]
            if "versionId" in operation.options:
                queries.append([*flags, f"versionId={self.version}"])
            for query in queries:
                for body in bodies.get(operation.name, ("",)):
                    for headers in HARMFUL:
                        source = (
                            {"x-amz-copy-source": f"{BUCKET.name}/{self.key}"} if operation.copies else {}
                        )
                        told = {**source, **headers}
                        yield Attack(
                            operation.name, operation.method, path, "&".join(sorted(query)), told, body
                        )

    def attempt(self, role: str, attack: Attack) -> int:
        """Try it with a role's keys; the status of the answer."""
        digest = base64.b64encode(hashlib.md5(attack.body.encode()).digest()).decode()
        headers = {"content-md5": digest, **attack.headers} if attack.body else attack.headers
        talker = S3Talker(self.emulator.s3_url, key_id(role), secret_of(role))
        reply = talker.ask(attack.method, attack.path, attack.body.encode(), headers, query=attack.query)
        return int(reply.status)

    def harm(self) -> str:
        """What is wrong with the locked version, or with the bucket, if anything is."""
        head = self.root.head_object(Bucket=BUCKET.name, Key=self.key, VersionId=self.version)
        until, latest = head["ObjectLockRetainUntilDate"], longest_lock(self.now(), RULES)
        if head["ObjectLockMode"] != "GOVERNANCE" or not self.until <= until <= latest:
            return f"it is locked until {until} ({head['ObjectLockMode']})"
        if head.get("ObjectLockLegalHoldStatus") == "ON":
            return "it is held for ever"
        return ""

    def settings(self) -> tuple[object, ...]:
        """The settings of the bucket on which all depends."""
        of = {"Bucket": BUCKET.name}
        return (
            json.loads(self.root.get_bucket_policy(**of)["Policy"]),
            self.root.get_bucket_versioning(**of)["Status"],
            self.root.get_object_lock_configuration(**of)["ObjectLockConfiguration"],
        )

    def longest(self) -> datetime:
        """The latest end of any lock in the bucket."""
        ends: list[datetime] = []
        for page in self.root.get_paginator("list_object_versions").paginate(Bucket=BUCKET.name):
            for line in page.get("Versions", ()):
                of = {"Bucket": BUCKET.name, "Key": line["Key"], "VersionId": line["VersionId"]}
                ends.append(self.root.head_object(**of).get("ObjectLockRetainUntilDate", self.until))
        return max(ends)

    def now(self) -> datetime:
        """The emulator's time."""
        return datetime.fromisoformat(self.emulator.now())

    def read(self) -> bytes:
        """The pack, as the restore role reads it."""
        vault = self.vault("restore")
        (archive,) = [
            line.archive_id
            for line in vault.fetch_listing(vault.request_listing("t")).archives
            if self.key.endswith(line.archive_id)
        ]
        retrieval = vault.request_retrieval(archive, None, Tier.STANDARD, "t")
        return bytes(vault.fetch(retrieval, ByteRange(0, len(self.data))).data)


def key_id(role: str) -> str:
    """The id of a role's key."""
    return f"AKIA{role.upper().replace('-', ''):X<16}"


def secret_of(role: str) -> str:
    """Its secret."""
    return f"{role:/<40}"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A locked bucket with all roles."""
    folder: Path = tmp_path_factory.mktemp("locked")
    keys = [
        StaticKey(key_id(role), secret_of(role), user=role, policy=json.dumps(MADE[role]))
        for role in (*ROLES, "legal-hold")
    ]
    with RunningEmulator(
        folder / "state", write_accounts(folder / "a.toml", keys=[TEST_KEY, *keys])
    ) as running:
        root = client(running.s3_url)
        where: Any = {"LocationConstraint": REGION}
        root.create_bucket(
            Bucket=BUCKET.name, ObjectLockEnabledForBucket=True, CreateBucketConfiguration=where
        )
        root.put_bucket_policy(Bucket=BUCKET.name, Policy=json.dumps(MADE["bucket"]))
        data = some_bytes(100_000)
        half = Place(running, "", "", data, datetime.fromisoformat(running.now()))
        key = f"web1/{store(half.vault('backup'), data)}"
        head = root.head_object(Bucket=BUCKET.name, Key=key)
        yield Place(running, key, head["VersionId"], data, head["ObjectLockRetainUntilDate"])


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
            for role in ("restore", "keeper", "keeper-lock", "undelete")
        ),
    ],
)
def test_an_intruder_with_a_role_harms_nothing_that_is_locked(place: Place, role: str) -> None:
    before, outcomes = place.settings(), Counter[int]()
    tried = set[str]()
    for attack in place.attacks():
        outcomes[place.attempt(role, attack)] += 1
        tried.add(attack.operation)
        assert not place.harm(), (attack, place.harm())
    assert place.settings() == before
    assert place.longest() <= longest_lock(place.now(), RULES)
    assert place.read() == place.data
    print(
        f"{role}: {len(tried)} operations, {outcomes.total()} requests, by status {sorted(outcomes.items())}"
    )
    assert len(tried) > 90
    assert outcomes[403] > 0.7 * outcomes.total()


def test_what_each_role_is_for(place: Place) -> None:
    """The lock role locks for longer, and reads nothing; nobody else but a backup locks."""
    longer = place.until + 5 * DAY
    assert longer <= longest_lock(place.now(), RULES)
    of = {"Bucket": BUCKET.name, "Key": place.key, "VersionId": place.version}
    for role in ("restore", "prune", "keeper"):
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
