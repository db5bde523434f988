"""Object lock of SeaweedFS, which reads S3 in its own way: what is locked there stays, and is found."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from backup.retention.locks import LockRules, locked_until
from backup.vault.s3.requests import BucketLock
from tests.support.archives import read_directly, store
from tests.support.rigs import s3_vault

DAY = timedelta(days=1)
LOCK = BucketLock("GOVERNANCE", partial(locked_until, rules=LockRules(60 * DAY, 10 * DAY)))


@pytest.mark.slow
@pytest.mark.real
def test_what_is_locked_there_stays(seaweedfs: Any) -> None:
    vault = s3_vault(seaweedfs, "locks", storage_class="STANDARD", lock=LOCK)
    vault.create()
    archives = [store(vault, b"pack %d" % number) for number in range(3)]
    end = locked_until(vault.vault_time(), LockRules(60 * DAY, 10 * DAY))
    for key in archives:
        lock = vault.lock_of(key)
        assert lock is not None
        assert (lock.mode, lock.until) == ("GOVERNANCE", end)
        seaweedfs.delete_object(Bucket="locks", Key=key)
    listed = vault.fetch_listing(vault.request_listing("t")).archives
    assert {line.archive_id for line in listed} == set(archives)
    assert vault.lockable([]).archives == vault.lockable([]).covered == set(archives)
    assert [read_directly(vault, key, 6) for key in archives] == [b"pack 0", b"pack 1", b"pack 2"]
    refused = vault.delete_archives(dict.fromkeys(archives))
    assert {refusal.kept_until for refusal in refused.values()} == {end}
    assert vault.lock_until(archives[0], end + DAY).until == end + DAY
    assert vault.lock_until(archives[0], end).until == end + DAY


@pytest.mark.slow
@pytest.mark.real
def test_what_lies_over_it_there_is_seen_and_taken_away(seaweedfs: Any) -> None:
    """A delete marker and another object; never what is locked."""
    vault = s3_vault(seaweedfs, "taken-back", storage_class="STANDARD", lock=LOCK)
    vault.create()
    key = store(vault, b"pack")
    (line,) = vault.versions()
    (ours,) = line.objects
    assert (line.key, line.is_hidden, ours.size) == (key, False, 4)
    seaweedfs.put_object(Bucket="taken-back", Key=key, Body=b"junk")
    seaweedfs.delete_object(Bucket="taken-back", Key=key)
    (line,) = vault.versions()
    assert (line.is_hidden, len(line.markers), len(line.objects)) == (True, 1, 2)
    assert line.objects[-1] == ours
    for version in (line.objects[0].id, *line.markers):
        assert vault.remove_version(key, version) is None
    assert vault.remove_version(key, ours.id) is not None
    (line,) = vault.versions()
    assert (line.is_hidden, list(line.objects)) == (False, [ours])
    assert read_directly(vault, key, 4) == b"pack"
