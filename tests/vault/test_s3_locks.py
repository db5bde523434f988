"""A bucket that locks what is stored: versions are named, and what an intruder puts over them is not ours."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from backup.errors import ArchiveMissingError, DeniedError, VaultError
from backup.format.enrolment import HeirMark
from backup.model import ArchiveId, ByteRange, InventoryId, ObjectLock, RetrievalState, Tier
from backup.retention.locks import LockRules, locked_until
from backup.vault.s3.requests import BucketLock
from backup.vault.s3.vault import S3Vault
from tests.support.archives import CATALOG, store
from tests.support.clocks import EmulatorClock
from tests.support.emulated import RunningEmulator
from tests.support.rigs import s3_vault
from tests.support.s3_clients import new_bucket_name

DAY = timedelta(days=1)
RULES = LockRules(lock_for=60 * DAY, step=10 * DAY)
LOCK = BucketLock("GOVERNANCE", partial(locked_until, rules=RULES))
OURS = InventoryId(bytes(range(16)))
TOKEN = "0123456789abcdef" * 2


@pytest.fixture
def vault(emulated_s3: Any) -> S3Vault:
    """A vault in a new bucket with object lock, below a prefix."""
    made = s3_vault(emulated_s3, new_bucket_name(), storage_class="STANDARD", prefix="web1/", lock=LOCK)
    made.create()
    return made


def bucket_of(vault: S3Vault) -> str:
    """The name of its bucket."""
    return vault.state().location.split("/")[2]


def keys_of(client: Any, vault: S3Vault) -> dict[str, Any]:
    """The versions in its bucket, by key: the newest."""
    found = client.list_object_versions(Bucket=bucket_of(vault)).get("Versions", [])
    return {line["Key"]: line for line in reversed(found)}


def hide(client: Any, vault: S3Vault) -> None:
    """Put a delete marker over every object."""
    for key in keys_of(client, vault):
        client.delete_object(Bucket=bucket_of(vault), Key=key)


def read(vault: S3Vault, archive_id: ArchiveId, length: int) -> bytes:
    """The bytes of an archive."""
    retrieval = vault.request_retrieval(archive_id, None, Tier.STANDARD, "token")
    statuses = vault.retrieval_statuses([retrieval])
    assert statuses[retrieval].state is RetrievalState.READY
    return bytes(vault.fetch(retrieval, ByteRange(0, length)).data)


def test_all_that_is_stored_is_locked(emulated_s3: Any, emulator: RunningEmulator, vault: S3Vault) -> None:
    """From its first moment, by the vault's clock, to the end of a step: packs, identity, marks."""
    store(vault, b"pack")
    vault.add_identity(OURS, TOKEN)
    vault.add_mark(HeirMark(OURS, OURS, bytes(32), bytes(64)).to_text())
    now = EmulatorClock(emulator).now()
    found = keys_of(emulated_s3, vault)
    assert len(found) == 3
    for key in found:
        head = emulated_s3.head_object(Bucket=bucket_of(vault), Key=key)
        until = head["ObjectLockRetainUntilDate"]
        assert head["ObjectLockMode"] == "GOVERNANCE"
        assert until - now + timedelta(minutes=1) >= 60 * DAY
        assert until - now <= 70 * DAY
        assert not (until - datetime(2020, 1, 1, tzinfo=UTC)) % (10 * DAY)


def test_what_is_hidden_is_listed_and_read(emulated_s3: Any, vault: S3Vault) -> None:
    """Delete markers over all, and then junk in their place."""
    archives = [store(vault, b"pack %d" % number) for number in range(5)]
    vault.add_identity(OURS, TOKEN)
    before = vault.fetch_listing(vault.request_listing("token")).archives
    hide(emulated_s3, vault)
    for key in keys_of(emulated_s3, vault):
        emulated_s3.put_object(Bucket=bucket_of(vault), Key=key, Body=b"junk")
    again = s3_vault(
        emulated_s3, bucket_of(vault), storage_class="STANDARD", prefix="web1/", lock=LOCK
    )  # another process, that remembers nothing
    for seen in (vault, again):
        assert list(seen.fetch_listing(seen.request_listing("token")).archives) == list(before)
        assert list(seen.identities(OURS)) == [TOKEN]
        assert seen.state_with_identities(OURS).identities == [TOKEN]
        for number, archive in enumerate(archives):
            assert read(seen, archive, 6) == b"pack %d" % number
        retrievals = [seen.request_retrieval(archive, None, Tier.STANDARD, "token") for archive in archives]
        told = seen.retrieval_statuses(retrievals)
        assert {status.state for status in told.values()} == {RetrievalState.READY}


def test_what_is_frozen_and_hidden_is_retrieved(emulated_s3: Any, emulator: RunningEmulator) -> None:
    vault = s3_vault(emulated_s3, new_bucket_name(), storage_class="GLACIER", lock=LOCK)
    vault.create()
    archives = [store(vault, b"pack %d" % number) for number in range(5)]
    hide(emulated_s3, vault)
    retrievals = [vault.request_retrieval(archive, None, Tier.STANDARD, "token") for archive in archives]
    for few in (retrievals[:1], retrievals):
        states = {status.state for status in vault.retrieval_statuses(few).values()}
        assert states == {RetrievalState.WAITING}
    emulator.advance(13 * 3600)
    for few in (retrievals[:1], retrievals):
        states = {status.state for status in vault.retrieval_statuses(few).values()}
        assert states == {RetrievalState.READY}
    assert bytes(vault.fetch(retrievals[2], ByteRange(0, 6)).data) == b"pack 2"


def test_a_deletion_names_the_version(emulated_s3: Any, emulator: RunningEmulator, vault: S3Vault) -> None:
    """Refused with the day until the lock is over, also of what is hidden; then nothing of it stays."""
    gone, hidden = store(vault, b"one"), store(vault, b"two")
    emulated_s3.delete_object(Bucket=bucket_of(vault), Key=f"web1/{hidden}")
    refused = vault.delete_archives({gone: None, hidden: None})
    assert sorted(refused) == sorted([gone, hidden])
    now = EmulatorClock(emulator).now()
    for refusal in refused.values():
        assert refusal.kept_until is not None
        assert 59 * DAY < refusal.kept_until - now <= 70 * DAY
    emulator.advance(71 * 24 * 3600)
    assert vault.delete_archives({gone: None, hidden: None}) == {}
    assert not keys_of(emulated_s3, vault)
    assert vault.delete_archives({gone: None, hidden: None}) == {}


def test_an_archive_that_is_not_there(vault: S3Vault) -> None:
    missing = store(s3_vault_beside(vault), b"elsewhere")
    with pytest.raises(ArchiveMissingError):
        vault.request_retrieval(missing, None, Tier.STANDARD, "token")
    assert vault.delete_archives({missing: None}) == {}


def s3_vault_beside(vault: S3Vault) -> S3Vault:
    """A vault in the same bucket, below another prefix."""
    client: Any = vault._requests.client
    return s3_vault(client, bucket_of(vault), storage_class="STANDARD", prefix="web2/", lock=LOCK)


def test_newest_catalogs_that_are_hidden(emulated_s3: Any, vault: S3Vault) -> None:
    catalog = store(vault, b"catalog", CATALOG)
    hide(emulated_s3, vault)
    assert [line.archive_id for line in vault.newest_catalogs(CATALOG.inventory_id, {})] == [catalog]


def test_a_bucket_without_object_lock_stores_nothing(emulated_s3: Any) -> None:
    """Rather than what is not locked."""
    name = new_bucket_name()
    s3_vault(emulated_s3, name).create()
    with pytest.raises(VaultError, match="Object Lock"):
        store(s3_vault(emulated_s3, name, lock=LOCK), b"pack")


def test_locks_are_seen_and_set_later(emulated_s3: Any, emulator: RunningEmulator, vault: S3Vault) -> None:
    """Of what is hidden, too; a lock that ends later, or is stricter, stays as it is."""
    pack, other = store(vault, b"pack"), store(vault, b"other")
    vault.add_identity(OURS, TOKEN)
    vault.add_mark(HeirMark(OURS, OURS, bytes(32), bytes(64)).to_text())
    store(s3_vault_beside(vault), b"not below the prefix")
    assert vault.lockable([OURS]).covered == frozenset()
    hide(emulated_s3, vault)
    there = vault.lockable([OURS])
    archives, others = there.archives, there.others
    assert archives == {pack, other}
    assert len(others) == 2
    assert there.covered == archives | others
    assert not vault.lockable([]).others
    assert vault.locks
    now = vault.vault_time()
    assert abs(now - EmulatorClock(emulator).now()) < timedelta(minutes=1)
    first = locked_until(now, RULES)
    for key in (*archives, *others):
        assert vault.lock_of(key) == ObjectLock("GOVERNANCE", first)
    later = first + DAY
    assert vault.lock_until(pack, later) == ObjectLock("GOVERNANCE", later)
    assert vault.lock_until(pack, first) == ObjectLock("GOVERNANCE", later)
    (version,) = (
        line["VersionId"]
        for line in emulated_s3.list_object_versions(Bucket=bucket_of(vault))["Versions"]
        if line["Key"].endswith(other)
    )
    strict = {"Mode": "COMPLIANCE", "RetainUntilDate": first}
    where = {"Bucket": bucket_of(vault), "Key": f"web1/{other}", "VersionId": version}
    emulated_s3.put_object_retention(**where, Retention=strict)
    assert vault.lock_until(other, later) == ObjectLock("COMPLIANCE", later)


def test_what_was_stored_before_is_locked_later(emulated_s3: Any) -> None:
    """Versions and object lock that were switched on later: the version of before has no name of its own."""
    name = new_bucket_name()
    plain = s3_vault(emulated_s3, name, storage_class="STANDARD")
    plain.create()
    pack = store(plain, b"pack")
    status = {"Status": "Enabled"}
    emulated_s3.put_bucket_versioning(Bucket=name, VersioningConfiguration=status)
    emulated_s3.put_object_lock_configuration(
        Bucket=name, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"}
    )
    vault = s3_vault(emulated_s3, name, storage_class="STANDARD", lock=LOCK)
    assert vault.lockable([]).archives == {pack}
    assert vault.lock_of(pack) is None
    until = locked_until(vault.vault_time(), RULES)
    assert vault.lock_until(pack, until).until == until
    hide(emulated_s3, vault)
    assert read(vault, pack, 4) == b"pack"
    assert list(vault.delete_archives({pack: None})) == [pack]
    with pytest.raises(ArchiveMissingError):
        vault.lock_of(ArchiveId("data/" + "0" * 32 + "/" + "1" * 32))


def test_a_lock_that_the_policy_does_not_allow(emulated_s3: Any, vault: S3Vault) -> None:
    pack = store(vault, b"pack")
    denied = {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObjectRetention"}
    statement = {**denied, "Resource": f"arn:aws:s3:::{bucket_of(vault)}/*"}
    emulated_s3.put_bucket_policy(Bucket=bucket_of(vault), Policy=json.dumps({"Statement": [statement]}))
    with pytest.raises(DeniedError):
        vault.lock_until(pack, locked_until(vault.vault_time(), RULES) + DAY)
