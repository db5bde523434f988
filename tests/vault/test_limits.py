"""Vaults keep to their limits: every byte that is sent or fetched is counted once, and no other."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from backup.app.base.clock import SystemClock
from backup.errors import InterruptedRunError
from backup.format.treehash import tree_hash
from backup.model import KIB, MIB, ByteRange, Tier, VaultName
from backup.protocols import Clock, Vault
from backup.vault.directory import DirectoryVault
from backup.vault.glacier import GlacierVault
from backup.vault.rate_limit import LATE, SLICE, RateLimit, RateLimits, Timetable, Window
from backup.vault.s3.requests import Bucket
from backup.vault.s3.vault import S3Vault
from tests.support.archives import complete, part_of, some_bytes, some_label
from tests.support.doubles import ManualClock
from tests.support.emulated import REGION, RunningEmulator
from tests.support.rigs import ripen

_numbers = itertools.count()
SIZE = MIB + 300 * KIB
UP, DOWN = 256 * KIB, 512 * KIB


@dataclass
class Limited:
    """A vault with limits, the clock that they go by, and what makes a retrieval ready."""

    vault: Vault
    clock: ManualClock
    stop: threading.Event
    ripen: Callable[[], object]

    def seconds(self) -> float:
        """How long the limits made anybody wait, since they were last asked."""
        slept = sum(self.clock.slept)
        self.clock.slept.clear()
        return slept


def rate_limits(clock: Clock, stop: threading.Event, up: int = UP, down: int = DOWN) -> RateLimits:
    """Limits for all day."""
    rates = (RateLimit(Timetable([Window(0, 0, limit)]), clock, stop.is_set) for limit in (up, down))
    return RateLimits(*rates)


@pytest.fixture(params=["directory", "glacier", "s3"])
def limited(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Limited]:
    clock, stop = ManualClock(), threading.Event()
    limits, name = rate_limits(clock, stop), f"limited-{next(_numbers)}"
    vault: Vault
    if request.param == "directory":
        vault = DirectoryVault(VaultName("disk"), str(tmp_path / "vault"), clock, limits)
        vault.create()
        yield Limited(vault, clock, stop, lambda: None)
        return
    emulator: RunningEmulator = request.getfixturevalue("emulator")
    if request.param == "glacier":
        client = request.getfixturevalue("client")
        vault = GlacierVault(VaultName("cold"), client, name, limits=limits)
    else:
        client = request.getfixturevalue("emulated_s3")
        bucket = Bucket(name, REGION, storage_class="GLACIER_IR")
        vault = S3Vault(VaultName("bucket"), client, bucket, clock, limits)
    vault.create()
    yield Limited(vault, clock, stop, lambda: ripen(emulator))


def test_what_goes_up_and_comes_down_takes_the_time_that_the_limits_give(limited: Limited) -> None:
    vault, data, label = limited.vault, some_bytes(SIZE), some_label()
    part_size = 8 * MIB
    upload_id = vault.begin_upload(label, part_size)
    limited.seconds()
    vault.put_part(upload_id, part_of(data, 0, part_size), memoryview(data))
    assert limited.seconds() == pytest.approx((SIZE - SLICE) / UP, abs=2 * LATE.total_seconds())
    archive_id = vault.complete_upload(upload_id, label, SIZE, tree_hash(data), [part_of(data, 0, part_size)])
    retrieval_id = vault.request_retrieval(archive_id, None, Tier.STANDARD, "t")
    limited.ripen()
    assert limited.seconds() == 0.0
    fetched = vault.fetch(retrieval_id, ByteRange(0, SIZE))
    assert fetched.data == data
    assert limited.seconds() == pytest.approx((SIZE - SLICE) / DOWN, abs=2 * LATE.total_seconds())


def test_a_stop_ends_a_part_that_waits_for_its_turns_and_it_can_be_sent_again(limited: Limited) -> None:
    vault, data, label = limited.vault, some_bytes(MIB), some_label()
    smallest = vault.traits.smallest_part
    upload_id = vault.begin_upload(label, smallest)
    part = part_of(data, 0, smallest)
    limited.stop.set()
    with pytest.raises(InterruptedRunError):
        vault.put_part(upload_id, part, memoryview(data))
    limited.stop.clear()
    vault.put_part(upload_id, part, memoryview(data))
    archive_id = complete(vault, upload_id, label, data)
    retrieval_id = vault.request_retrieval(archive_id, None, Tier.STANDARD, "t")
    limited.ripen()
    limited.stop.set()
    with pytest.raises(InterruptedRunError):
        vault.fetch(retrieval_id, ByteRange(0, MIB))
    limited.stop.clear()
    assert vault.fetch(retrieval_id, ByteRange(0, MIB)).data == data


def test_a_listing_of_the_service_comes_down_within_the_limit(
    emulator: RunningEmulator, client: object
) -> None:
    clock = ManualClock()
    limits = rate_limits(clock, threading.Event(), down=16 * KIB)
    vault = GlacierVault(VaultName("cold"), client, f"limited-{next(_numbers)}", limits=limits)
    vault.create()
    emulator.make_inventories()
    listing_id = vault.request_listing("t")
    ripen(emulator)
    assert vault.fetch_listing(listing_id).archives == []
    assert len(clock.slept) <= 1


def test_parts_on_threads_share_one_limit(tmp_path: Path) -> None:
    limits = rate_limits(SystemClock(), threading.Event(), up=4 * MIB)
    vault = DirectoryVault(VaultName("disk"), str(tmp_path / "vault"), SystemClock(), limits)
    vault.create()
    data = some_bytes(3 * MIB)
    upload_id = vault.begin_upload(some_label(), MIB)
    began = SystemClock().now()
    threads = [
        threading.Thread(
            target=vault.put_part,
            args=(upload_id, part_of(data[at : at + MIB], at), memoryview(data)[at : at + MIB]),
        )
        for at in range(0, 3 * MIB, MIB)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(vault.list_parts(upload_id, MIB)) == 3
    assert (SystemClock().now() - began).total_seconds() >= 3 / 4 - 2 * LATE.total_seconds()
