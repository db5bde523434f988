"""The acts of a restore, repeated, at the same time and cut at every step."""

from __future__ import annotations

import errno
import os
import random
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from backup.errors import LockedError, TargetError, UsageError
from backup.format.keys import RecoveryKey
from backup.inventory.records.retrievals import Restore, list_restores
from backup.inventory.records.runs import list_runs
from backup.kinds import Outcome
from backup.model import MIB, Tier
from backup.restorer.restore import (
    RestoreReport,
    advance,
    begin_restore,
    cancel,
    deliver,
    find_restore,
    plan_restore,
    waiting_report,
)
from tests.restorer.sites import begun, leftovers, sql, users_of
from tests.support.backups import Site
from tests.support.doubles import NO_LIMIT, FaultyVault, PowerCut, cut_at
from tests.support.trees import assert_same_tree, snapshot_of


def test_the_same_command_again_finds_the_open_restore(full: Site, source: Path, out: Path) -> None:
    one, _ = begun(full, out)
    world = full.restore_world
    for path in (os.fsencode(source), os.fsencode(source) + b"/"):
        plan = plan_restore(full.snapshot(), path, world)

        def no_key() -> list[RecoveryKey]:
            raise AssertionError("an open restore has its keys")

        again = begin_restore(plan, os.fsencode(out), world, NO_LIMIT, tier=Tier.BULK, keys=no_key)
        assert again == one
    other = begin_restore(
        plan, os.fsencode(out) + b"2", world, NO_LIMIT, tier=Tier.BULK, keys=lambda: [full.key]
    )
    assert other.id != one.id


def test_two_processes_that_begin_at_once_begin_one_restore(full: Site, source: Path, out: Path) -> None:
    world = full.restore_world
    plan = plan_restore(full.snapshot(), os.fsencode(source), world)
    first: list[object] = []

    def key() -> list[RecoveryKey]:  # while this one types, the other begins
        begin = begin_restore(
            plan, os.fsencode(out), world, NO_LIMIT, tier=Tier.STANDARD, keys=lambda: [full.key]
        )
        first.append(begin)
        return [full.key]

    assert begin_restore(plan, os.fsencode(out), world, NO_LIMIT, tier=Tier.STANDARD, keys=key) == first[0]
    assert len(os.listdir(full.folder / "restores")) == 1


def test_find_by_id_and_prefix(full: Site, out: Path) -> None:
    restore, known = begun(full, out)
    assert find_restore(full.inventory, restore.id[:4]) == restore
    assert waiting_report(restore, known).outcome is Outcome.RUNNING
    for words in ("", "x"):
        with pytest.raises(UsageError, match="no restore"):
            find_restore(full.inventory, words)


def test_a_restore_that_is_over_does_nothing_more(full: Site, out: Path) -> None:
    restore, known = begun(full, out)
    world = full.restore_world
    deliver(restore, known, world)
    for act in (lambda: advance(restore, world), lambda: deliver(restore, known, world)):
        with pytest.raises(UsageError, match="is done already"):
            act()
    with pytest.raises(UsageError, match="is done already"):
        cancel(restore, full.inventory, world.key_directory, full.clock)
    assert not [name for name in os.listdir(full.folder) if name.startswith("restore-")]


def test_cancel_wipes_the_keys(full: Site, out: Path) -> None:
    restore, _ = begun(full, out)
    cancel(restore, full.inventory, str(full.folder / "restores"), full.clock)
    assert os.listdir(full.folder / "restores") == []
    assert find_restore(full.inventory, restore.id).state == "cancelled"


def test_keys_that_a_dead_process_left_are_wiped_by_the_next_restore(
    full: Site, source: Path, out: Path
) -> None:
    restore, _ = begun(full, out)
    (full.folder / "restores" / f"{'0' * 16}.keys").write_bytes(b"orphan")
    (full.folder / "restores" / "README").write_text("not ours")
    begun(full, out / "other")
    names = set(os.listdir(full.folder / "restores"))
    assert len(names) == 3
    assert {"README", f"{restore.id}.keys"} < names


def test_two_processes_do_not_carry_on_the_same_restore(full: Site, out: Path) -> None:
    restore, known = begun(full, out)
    world = full.restore_world
    with full.inventory.locked(f"restore-{restore.id}"):
        for act in (
            lambda: advance(restore, world),
            lambda: deliver(restore, known, world),
            lambda: cancel(restore, full.inventory, world.key_directory, full.clock),
        ):
            with pytest.raises(LockedError, match="carried on by another process"):
                act()
    deliver(restore, known, world)


def test_two_restores_at_once(full: Site, source: Path, out: Path, tmp_path: Path) -> None:
    one, known_one = begun(full, out)
    other, known_other = begun(full, tmp_path / "other")
    deliver(other, known_other, full.restore_world)
    deliver(one, known_one, full.restore_world)
    assert_same_tree(source, out)
    assert_same_tree(source, tmp_path / "other")


def test_a_restore_within_a_backup(full: Site, source: Path, out: Path) -> None:
    """While a backup reads and stores, a restore of an earlier snapshot runs from beginning to end."""
    before = snapshot_of(source)
    earlier = full.snapshot().id
    (source / "new").write_bytes(random.Random(3).randbytes(4 * MIB))
    reports: list[RestoreReport] = []
    running = [False]

    def stop() -> bool:
        if not running[0]:
            running[0] = True
            reports.append(full.restore(earlier, out))
        return False

    full.stop = stop
    assert full.backup().outcome is Outcome.DONE
    assert reports[0].outcome is Outcome.DONE
    assert_same_tree(before, out)


def _open(site: Site) -> Restore:
    """The one restore that is open."""
    with site.inventory.reading() as tx:
        (one,) = list_restores(tx, only_open=True)
    return one


CUTS: list[Callable[[int], BaseException]] = [
    lambda call: OSError(errno.ENOSPC, f"No space left at write {call}"),
    lambda call: OSError(errno.EIO, f"Input/output error at write {call}"),
    lambda call: PowerCut(f"at write {call}"),
]


@pytest.mark.parametrize("failure", CUTS, ids=["full", "broken", "cut"])
def test_cut_at_every_write(
    full: Site,
    source: Path,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: Callable[[int], BaseException],
) -> None:
    real, calls = os.pwrite, [0]

    def counting(file: int, data: memoryview, offset: int) -> int:
        calls[0] += 1
        return real(file, data, offset)

    monkeypatch.setattr(os, "pwrite", counting)
    full.restore("latest", out.with_name("counted"))
    whole = snapshot_of(source)
    for cut in range(calls[0]):
        left = [cut]

        def failing(file: int, data: memoryview, offset: int, left: list[int] = left, cut: int = cut) -> int:
            left[0] -= 1
            if left[0] < 0:
                real(file, data[: len(data) // 2], offset)
                raise failure(cut)
            return real(file, data, offset)

        monkeypatch.setattr(os, "pwrite", failing)
        with pytest.raises((TargetError, PowerCut)):
            full.restore("latest", out)
        half = [name for name in leftovers(out) if f"-{_open(full).id}-" in name]
        assert leftovers(out) == half  # they wait for the next sitting
        for name, seen in snapshot_of(out).items():
            if seen.kind == stat.S_IFREG and os.path.basename(os.fsdecode(name)) not in half:
                assert seen == whole[name]
        if cut % 3 == 0:  # go on with it; else begin anew
            monkeypatch.setattr(os, "pwrite", real)
            full.restore("latest", out)
            assert_same_tree(source, out)
        else:
            cancel(_open(full), full.inventory, str(full.folder / "restores"), full.clock)
        assert not leftovers(out)
    monkeypatch.setattr(os, "pwrite", real)
    full.restore("latest", out)
    assert not leftovers(out)
    assert_same_tree(source, out)
    with full.inventory.reading() as tx:
        outcomes = {run.outcome for run in list_runs(tx, limit=500) if run.kind == "restore"}
    assert Outcome.DONE in outcomes


def test_a_file_that_the_target_cannot_hold_is_reported_and_the_rest_goes_on(
    full: Site, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwrite

    def small(file: int, data: memoryview, offset: int) -> int:
        if offset >= MIB:
            raise OSError(errno.EFBIG, "File too large")
        return real(file, data, offset)

    monkeypatch.setattr(os, "pwrite", small)
    report = full.restore("latest", out)
    assert {problem.path for problem in report.problems} == {b"large", b"sub/again"}
    assert {problem.detail for problem in report.problems} == {"not restored: File too large"}
    expected = snapshot_of(source)
    del expected[b"large"], expected[b"sub/again"]
    assert_same_tree(expected, out)


def test_an_archive_that_is_lost_between_plan_and_request(full: Site, source: Path, out: Path) -> None:
    world = full.restore_world
    plan = plan_restore(full.snapshot(), os.fsencode(source), world)
    assert plan.retrieved == sum(part.extent.length for part in plan.ranges) > 0
    restore = begin_restore(
        plan, os.fsencode(out), world, NO_LIMIT, tier=Tier.STANDARD, keys=lambda: [full.key]
    )
    sql(full, "UPDATE archives SET archive_id = NULL, state = 'lost' WHERE number = 1")
    known = advance(restore, world)
    assert [retrieval.state for retrieval in known if retrieval.archive == 1] == ["failed"]
    report = deliver(restore, known, world)
    assert {os.path.basename(problem.path) for problem in report.problems} == users_of(full, "archive = 1")


def test_cut_at_every_vault_call(full: Site, source: Path, out: Path) -> None:
    counted = FaultyVault(full.vault)
    full.reopen(counted).restore("latest", out.with_name("counted"))
    assert counted.total > 5
    for after in (False, True):
        for call in range(counted.total):
            vault = FaultyVault(full.vault, cut_at(call, after=after))
            site = full.reopen(vault)
            try:
                site.restore("latest", out)  # the last calls of the count may be fetches that ran ahead
            except PowerCut:
                assert not leftovers(out)
                report = full.reopen().restore("latest", out)
                assert report.outcome is Outcome.DONE
            assert_same_tree(source, out)
            assert os.listdir(full.folder / "restores") == []


def test_a_failed_delivery_is_a_failed_run(full: Site, out: Path) -> None:
    out.write_text("a file")
    with pytest.raises(TargetError):
        full.restore("latest", out)
    with full.inventory.reading() as tx:
        run = list_runs(tx)[0]
    assert (run.kind, run.outcome) == ("restore", Outcome.FAILED)
    assert "cannot be used" in run.report["error"]


def test_an_interrupted_delivery_is_an_interrupted_run(
    full: Site, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("backup.restorer.writer.write.Writer.finish", interrupt)
        with pytest.raises(KeyboardInterrupt):
            full.restore("latest", out)
    with full.inventory.reading() as tx:
        assert list_runs(tx)[0].outcome is Outcome.INTERRUPTED
    assert full.restore("latest", out).outcome is Outcome.DONE


@pytest.mark.parametrize("kind", ["special", "end"])
def test_a_delivery_that_is_interrupted_while_it_begins_begins_anew(
    full: Site, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """What has no content is made at the beginning alone: no later sitting would have missed it."""

    def interrupt(*_args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"backup.restorer.writer.write.Writer.{kind}", interrupt)
        with pytest.raises(KeyboardInterrupt):
            full.restore("latest", out)
    assert full.restore("latest", out).outcome is Outcome.DONE
    assert_same_tree(source, out)
