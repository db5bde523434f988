"""An intruder with each role of a locked bucket, as printed: everything that is tried, on a bucket for it.

The table of what is tried is the emulator's own: every operation of S3 on a bucket or object, plain, on the
version, and with each parameter that could harm. `python -m tests.support.intruder` tries it and prints it, a
request on each line.
"""

from __future__ import annotations

import base64
import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import Struct

from backup.app.aws_setup.documents import AwsSetup, BucketSetup, documents
from backup.emulator.s3.operations import OPERATIONS
from backup.model import ByteRange, Tier, VaultName
from backup.retention.locks import LockRules, locked_until, longest_lock
from backup.vault.s3.requests import Bucket, BucketLock
from backup.vault.s3.vault import S3Vault
from tests.support.archives import some_bytes, store
from tests.support.clocks import OffsetClock
from tests.support.emulated import ACCOUNT_ID, REGION, TEST_KEY, RunningEmulator, StaticKey, write_accounts
from tests.support.s3_clients import S3Talker, client

DAY = timedelta(days=1)
RULES = LockRules(60 * DAY, 10 * DAY)
MOST = 71
BUCKET = BucketSetup(
    "locked-bucket", "web1/", "GLACIER_IR", "STANDARD", is_plain=True, lock_mode="GOVERNANCE", lock_days=MOST
)
SETUP = AwsSetup("aws", REGION, ACCOUNT_ID, "", "arn:aws:x:y:z:a/b", [], 3600, bucket=BUCKET)
MADE = documents(SETUP)
ROLES = ("backup", "restore", "copy", "prune", "keeper", "lock", "keeper-lock", "undelete")
FAR = "2126-01-01T00:00:00Z"
HARMFUL: tuple[Mapping[str, str], ...] = (
    {},
    {"x-amz-bypass-governance-retention": "true"},
    {"x-amz-object-lock-mode": "GOVERNANCE", "x-amz-object-lock-retain-until-date": FAR},
    {"x-amz-object-lock-mode": "COMPLIANCE", "x-amz-object-lock-retain-until-date": FAR},
    {"x-amz-object-lock-legal-hold": "ON"},
    {"x-amz-storage-class": "DEEP_ARCHIVE"},
    {"x-amz-tagging": "delete=me"},
    {"x-amz-acl": "public-read-write"},
    {"if-match": "*"},
)
STORING = ("PutObject", "CopyObject", "CreateMultipartUpload")
NEW = ("web1/data/new/", "web1/meta/new/", "web2/data/new/")
"""The operations that store are tried on new keys, too: of packs, catalogs and another server."""


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
        bodies = self._bodies()
        for operation in OPERATIONS:
            if operation.on == "service":
                continue
            flags = [f"{flag}=2" if flag == "list-type" else f"{flag}=" for flag in operation.flags]
            queries = [flags]
            if "versionId" in operation.options:
                queries.append([*flags, f"versionId={self.version}"])
            source = {"x-amz-copy-source": f"{BUCKET.name}/{self.key}"} if operation.copies else {}
            path, name = f"/{BUCKET.name}", operation.name
            for query in queries:
                for body in bodies.get(name, ("",)):
                    for headers in HARMFUL:
                        at = f"{path}/{self.key}" if operation.on == "object" else path
                        told = {**source, **headers}
                        yield Attack(name, operation.method, at, "&".join(sorted(query)), told, body)
            for prefix in NEW if name in STORING else ():
                for number, headers in enumerate(HARMFUL):
                    told = {**source, **headers, "if-none-match": "*"}
                    if name == "CreateMultipartUpload":
                        del told["if-none-match"]  # it is the end of an upload that names it
                    at, body = f"{path}/{prefix}{name}{number}", "junk" if name == "PutObject" else ""
                    yield Attack(name, operation.method, at, "&".join(flags), told, body)

    def tidy(self) -> list[str]:
        """Take away what was stored on new keys, and delete markers; return the new keys that there were."""
        answer, new = self.root.list_object_versions(Bucket=BUCKET.name), list[str]()
        for line in (*answer.get("DeleteMarkers", ()), *answer.get("Versions", ())):
            if line["Key"].startswith(NEW):
                new.append(line["Key"])
            elif "Size" in line:
                continue
            self.root.delete_object(Bucket=BUCKET.name, Key=line["Key"], VersionId=line["VersionId"])
        return new

    def _bodies(self) -> Mapping[str, tuple[str, ...]]:
        """The documents that an operation is tried with."""
        expire = (
            "<LifecycleConfiguration><Rule><ID>a</ID><Status>Enabled</Status><Filter/><Expiration><Days>1</Days>"
            "</Expiration><NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays>"
            "</NoncurrentVersionExpiration></Rule></LifecycleConfiguration>"
        )
        default = "<DefaultRetention><Mode>COMPLIANCE</Mode><Years>100</Years></DefaultRetention>"
        enabled = "<ObjectLockEnabled>Enabled</ObjectLockEnabled>"
        soon = (self.until - 50 * DAY).strftime("%Y-%m-%dT%H:%M:%SZ")
        named = f"<Key>{self.key}</Key><VersionId>{self.version}</VersionId>"
        return {
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

    def attempt(self, role: str, attack: Attack) -> int:
        """Try it with a role's keys; the status of the answer."""
        digest = base64.b64encode(hashlib.md5(attack.body.encode()).digest()).decode()
        headers = {"content-md5": digest, **attack.headers} if attack.body else attack.headers
        talker = S3Talker(self.emulator.s3_url, key_id(role), secret_of(role))
        reply = talker.ask(attack.method, attack.path, attack.body.encode(), headers, query=attack.query)
        return int(reply.status)

    def harm(self) -> str:
        """What is wrong with the locked version, if anything is; one request, as root."""
        talker, where = S3Talker(self.emulator.s3_url), f"/{BUCKET.name}/{self.key}"
        reply = talker.ask("HEAD", where, query=f"versionId={self.version}")
        if reply.status != 200:
            return f"its version is not there: {reply.status}"
        lock = {name.removeprefix("x-amz-object-lock-"): value for name, value in reply.headers.items()}
        now, until = parsedate_to_datetime(lock["date"]), datetime.fromisoformat(lock["retain-until-date"])
        if lock["mode"] != "GOVERNANCE" or not self.until <= until <= longest_lock(now, RULES):
            return f"it is locked until {until} ({lock['mode']})"
        if lock.get("legal-hold") == "ON":
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

    def excessive(self) -> list[tuple[str, object]]:
        """The versions of any key that are held, or locked for longer than anybody may, and how."""
        found = list[tuple[str, object]]()
        root, most = self.root, longest_lock(self.now(), RULES)
        for page in root.get_paginator("list_object_versions").paginate(Bucket=BUCKET.name):
            for line in page.get("Versions", ()):
                of = {"Bucket": BUCKET.name, "Key": line["Key"], "VersionId": line["VersionId"]}
                head = root.head_object(**of)
                until = head.get("ObjectLockRetainUntilDate", self.until)
                if until > most or head.get("ObjectLockLegalHoldStatus") == "ON":
                    found.append((line["Key"], head))
        return found

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


@contextmanager
def locked_place(folder: Path) -> Iterator[Place]:
    """A locked bucket with all roles, on an emulator that has its state in this folder."""
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


def main() -> None:
    """Print what is tried with each role, and the status of each answer."""
    print("role\tstatus\toperation\tmethod\tpath and query\theaders\tbody")
    with tempfile.TemporaryDirectory() as folder, locked_place(Path(folder)) as place:
        for role in ROLES:
            for of in place.attacks():
                headers = " ".join(f"{name}={value}" for name, value in of.headers.items())
                status, where = place.attempt(role, of), f"{of.path}?{of.query}"
                print(role, status, of.operation, of.method, where, headers, of.body, sep="\t")
            place.tidy()
            assert not place.harm(), role


if __name__ == "__main__":
    main()
