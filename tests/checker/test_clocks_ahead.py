"""Checks, restores and backups after a clock that was ahead: nothing waits for it."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from backup.checker.check import compare_with_vault
from backup.inventory.records import readings, retrievals, runs
from backup.inventory.store.states import RetrievalStage
from backup.inventory.store.times import micros
from backup.kinds import Outcome
from backup.model import ArchiveId, ByteRange, RetrievalId, RetrievalState, RetrievalStatus, Tier
from backup.restorer.asking import OUTPUT_LIVES, _seen
from backup.transfer.concurrency import Concurrency, Gate
from backup.transfer.retrievals import listing
from backup.vault.directory import DirectoryVault
from tests.support.backups import Site
from tests.support.checks import check, check_world, kinds, query
from tests.support.doubles import ManualClock

AHEAD = timedelta(days=400)


def add_and_back_up(site: Site, clock: ManualClock, name: str, ahead: timedelta) -> None:
    source = Path(os.fsdecode(site.job.sources[0]))
    (source / name).write_bytes(os.urandom(300_000))
    clock.advance(ahead)
    site.backup()
    clock.advance(-ahead)


def test_the_next_run_tells_of_a_snapshot_that_is_still_to_come(site: Site, clock: ManualClock) -> None:
    """Told once, by the run after it."""
    add_and_back_up(site, clock, "ahead", AHEAD)
    clock.advance(timedelta(days=1))
    (warning,) = site.backup().warnings
    assert "clock was ahead" in warning
    assert site.snapshots()[-2].id[:8] in warning
    clock.advance(timedelta(days=1))
    assert site.backup().warnings == ()


def test_what_was_stored_by_a_clock_that_was_ahead_is_missed_all_the_same(
    site: Site, clock: ManualClock
) -> None:
    """It does not count as newer than each list for 400 days."""
    add_and_back_up(site, clock, "ahead", AHEAD)
    clock.advance(timedelta(days=1))
    lost = query(site, "SELECT archive_id FROM archives ORDER BY number DESC LIMIT 1")[0][0]
    site.vault.delete_archives({ArchiveId(lost): None})
    report = check(site)
    assert "missing" in kinds(report)
    assert [finding.what for finding in report.findings if finding.kind == "missing"] == [lost]


def test_what_was_read_by_a_clock_that_was_ahead_is_read_again(site: Site, clock: ManualClock) -> None:
    """It is not the last to be read for 400 days."""
    archive = query(site, "SELECT number FROM archives ORDER BY number LIMIT 1")[0][0]
    with site.inventory.writing() as tx:
        run = runs.open_check(tx, clock.now())
        piece = (archive, 0, 100, ByteRange(0, 100), "token")
        readings.plan_readings(tx, run.number, site.vault.name, [piece], Tier.STANDARD)
        tx.connection.execute(
            "UPDATE readings SET state = 'read', read_at = ?", (micros(clock.now() + AHEAD),)
        )
        assert readings.read_before(tx, site.vault.name, clock.now()) == {}
        assert archive in readings.read_before(tx, site.vault.name, clock.now() + AHEAD)


def test_an_output_s_life_is_no_longer_than_from_now_on(clock: ManualClock) -> None:
    """What waits by a clock that was ahead is not shared long after it is gone."""
    now = clock.now()
    one = retrievals.Retrieval(
        1,
        1,
        ByteRange(0, 1),
        Tier.BULK,
        "t",
        RetrievalId("r"),
        RetrievalStage.WAITING,
        now,
        ByteRange(0, 1),
        0,
        now + AHEAD,
    )
    for state in (RetrievalState.WAITING, RetrievalState.READY):
        assert _seen(one, RetrievalStatus(state), now).until == now + OUTPUT_LIVES


def test_parts_at_once_are_found_again_after_the_clock_was_set_back(clock: ManualClock) -> None:
    """More is tried, however far the clock was ahead."""
    gate = Gate(Concurrency(1, 8), clock)
    gate.waiting = 1  # there is always somebody
    for step in range(5):
        with gate.passing(1000):
            clock.advance(timedelta(seconds=1))
            if step == 1:
                clock.advance(-AHEAD)
    assert gate.lanes.now == 2


def test_a_speed_that_was_measured_while_the_clock_was_set_is_none(site: Site, clock: ManualClock) -> None:
    """A rate by a clock that was ahead is not taken for a slow link, which asks for next to nothing."""
    with site.inventory.writing() as tx:
        for seconds in (100.0, AHEAD.total_seconds(), -5.0):
            run = runs.open_restore(tx, None, clock.now())
            report = {"fetched": 10**9, "seconds": seconds}
            runs.finish_run(tx, run.number, Outcome.DONE, report, clock.now())
        assert retrievals.restore_speed(tx, least=1) == 10**7


def test_a_list_of_a_day_still_to_come_is_not_fresh(
    site: Site, disk: DirectoryVault, clock: ManualClock
) -> None:
    """A newer one is asked for, however far the clock was ahead."""

    class Waiting:
        """What the traits of a vault say that makes its list once a day."""

        waits, keeps_metadata_hot, lists_at_once = True, False, False

    class Cold:
        traits, name = Waiting(), disk.name

    world = check_world(site, vault=disk)
    assert compare_with_vault(world).state == "done"

    def is_fresh() -> bool:
        return listing._has_fresh(site.inventory, Cold(), clock, None)  # type: ignore[arg-type]

    assert is_fresh()
    with site.inventory.writing() as tx:
        tx.connection.execute("UPDATE listings SET requested_at = ?", (micros(clock.now() + AHEAD),))
    assert not is_fresh()
