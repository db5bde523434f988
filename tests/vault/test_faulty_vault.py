"""The faults that tests plan happen as planned."""

from __future__ import annotations

from datetime import timedelta

import pytest

from backup.errors import ThrottledError, UnreachableError
from backup.model import MIB
from backup.vault.directory import DirectoryVault
from tests.support.archives import CATALOG, complete, cut, part_of, send, some_bytes, some_label, store
from tests.support.doubles import START, Fault, FaultyVault, ManualClock, PowerCut, Silent, cut_at


def test_faults_come_in_turn_and_are_counted(directory: DirectoryVault) -> None:
    vault = FaultyVault(
        directory,
        Fault("put_part", UnreachableError("away"), skip=1, count=2),
        Fault("list_uploads", ThrottledError("slower")),
    )
    upload_id = vault.begin_upload(some_label(), MIB)
    outcomes = []
    for _ in range(4):
        try:
            vault.put_part(upload_id, part_of(b"x", 0), memoryview(b"x"))
            outcomes.append("done")
        except UnreachableError:
            outcomes.append("away")
    assert outcomes == ["done", "away", "away", "done"]
    assert vault.calls["put_part"] == 4
    with pytest.raises(AssertionError, match="slower"):
        vault.assert_all_met()
    with pytest.raises(ThrottledError):
        vault.list_uploads()
    vault.assert_all_met()


def test_before_or_after_the_call_took_effect(directory: DirectoryVault) -> None:
    for after in (False, True):
        vault = FaultyVault(directory, Fault("begin_upload", UnreachableError("away"), after=after))
        with pytest.raises(UnreachableError):
            vault.begin_upload(CATALOG, MIB)
        assert len(directory.list_uploads()) == after


def test_the_power_can_be_cut_at_any_call_and_stays_off(directory: DirectoryVault) -> None:
    calls = FaultyVault(directory)
    store(calls, b"abc")
    assert calls.total == 3
    for call in range(calls.total):
        vault = FaultyVault(directory, cut_at(call))
        with pytest.raises(PowerCut):
            store(vault, b"abc")
        with pytest.raises(PowerCut):
            vault.list_uploads()
        vault.assert_all_met()
    assert len(directory.list_uploads()) == 2


def test_sent_parts_are_counted_by_pack(directory: DirectoryVault) -> None:
    data = some_bytes(MIB + 1)
    upload_id = directory.begin_upload(CATALOG, MIB)
    vault = FaultyVault(directory)
    send(vault, upload_id, data, cut(data))
    send(vault, upload_id, data, cut(data)[:1])
    complete(vault, upload_id, CATALOG, data)
    assert vault.sent == {(CATALOG.pack_id, 0): 2, (CATALOG.pack_id, MIB): 1}


def test_a_clock_moved_by_hand() -> None:
    clock = ManualClock()
    clock.sleep(1.5)
    clock.advance(timedelta(hours=1))
    assert clock.now() - START == timedelta(hours=1, seconds=1.5)
    assert clock.slept == [1.5]


def test_silent_progress_adds_up() -> None:
    progress = Silent()
    progress.start("send", 10)
    progress.advance(files=1, done=4)
    progress.advance(done=6, stored=5)
    progress.note("hello")
    progress.finish()
    assert (progress.phases, progress.files, progress.done, progress.stored) == (["send"], 1, 10, 5)
    assert progress.notes == ["hello"]
