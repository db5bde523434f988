"""A restore from a Glacier vault: asked for once, waited for, fetched later, whatever happens in between."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from backup.errors import (
    DeniedError,
    RetrievalExpiredError,
    RetrievalNotReadyError,
    UnreachableError,
    UsageError,
)
from backup.inventory.content.archives import list_archives
from backup.inventory.records.retrievals import Restore, find_restore
from backup.kinds import Outcome
from backup.model import MIB, PackKind, ProblemKind, RetrievalState, RetrievalStatus, Tier
from backup.restorer.dump.dump import REQUEST, STDOUT, ask_once
from backup.restorer.restore import advance, begin_restore, deliver, is_ready, plan_restore, waiting_report
from backup.restorer.selection.choice import Choice, Output
from tests.restorer.cold import Cold
from tests.support.doubles import NO_LIMIT, Fault, PowerCut, cut_at
from tests.support.rigs import HOUR
from tests.support.trees import assert_same_tree, snapshot_of


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_asked_for_then_waited_for_then_delivered(cold: Cold, out: Path) -> None:
    restore = cold.begin(out)
    assert cold.jobs() == []
    assert [retrieval.state for retrieval in cold.known(restore)] == ["planned"] * 2
    known = advance(restore, cold.site.restore_world)
    assert [retrieval.state for retrieval in known] == ["waiting"] * 2
    assert waiting_report(restore, known).waiting == 2
    assert not out.exists()
    with pytest.raises(RetrievalNotReadyError, match="still waits"):
        deliver(restore, known, cold.site.restore_world)
    cold.pass_hours(1)
    cold.site = cold.site.reopen()
    again = cold.begin(out)
    assert (again.id, is_ready(advance(again, cold.site.restore_world))) == (restore.id, False)
    cold.pass_hours(4)
    cold.site = cold.site.reopen()
    known = advance(cold.begin(out), cold.site.restore_world)
    assert is_ready(known)
    report = deliver(restore, known, cold.site.restore_world)
    assert (report.outcome, report.retrievals, report.problems) == (Outcome.DONE, 2, ())
    assert_same_tree(cold.source, out)
    assert len(cold.jobs()) == 2


def test_only_the_ranges_that_are_needed_are_asked_for(cold: Cold, out: Path) -> None:
    with cold.site.inventory.reading() as tx:
        sizes = {
            archive.archive_id: archive.size
            for archive in list_archives(tx, cold.site.inventory.id)
            if archive.label.kind is PackKind.DATA
        }
    restore = cold.begin(out, "c-third")
    advance(restore, cold.site.restore_world)
    (job,) = cold.jobs()
    size = sizes[job["ArchiveId"]]
    start, last = map(int, job["RetrievalByteRange"].split("-"))
    assert start % MIB == 0
    assert (last + 1) % MIB == 0 or last + 1 == size
    assert last + 1 - start <= 5 * MIB < size
    cold.pass_hours(5)
    known = advance(restore, cold.site.restore_world)
    report = deliver(restore, known, cold.site.restore_world)
    assert report.retrieved == last + 1 - start
    assert (out / "c-third").read_bytes() == (cold.source / "c-third").read_bytes()


def test_a_loop_that_waits(cold: Cold, out: Path) -> None:
    world = cold.site.restore_world
    restore = cold.begin(out)
    rounds = 0
    while not is_ready(known := advance(restore, world)):
        rounds += 1
        cold.pass_hours(0.5)
    assert rounds == 8  # Standard takes 3 h 50 min
    assert deliver(restore, known, world).outcome is Outcome.DONE
    assert len(cold.jobs()) == 2


@pytest.mark.parametrize("tier", list(Tier))
def test_the_tier_that_was_wanted(cold: Cold, out: Path, tier: Tier) -> None:
    world = cold.site.restore_world
    plan = plan_restore(cold.site.snapshot(), os.fsencode(cold.source / "other"), world)
    restore = begin_restore(plan, os.fsencode(out), world, NO_LIMIT, tier=tier, keys=lambda: [cold.site.key])
    advance(restore, world)
    assert [job["Tier"] for job in cold.jobs()] == [str(tier).capitalize()]


def test_an_output_that_expired_is_asked_for_again_alone(cold: Cold, out: Path) -> None:
    vault = cold.behind(Fault("request_retrieval", DeniedError("no"), skip=1))
    restore = cold.begin(out)
    with pytest.raises(DeniedError):
        advance(restore, cold.site.restore_world)
    vault.assert_all_met()
    assert [retrieval.state for retrieval in cold.known(restore)] == ["waiting", "planned"]
    cold.pass_hours(20)
    known = advance(restore, cold.site.restore_world)
    assert [retrieval.state for retrieval in known] == ["ready", "waiting"]
    cold.pass_hours(10)  # the first output is gone by now, the second is there
    known = advance(restore, cold.site.restore_world)
    assert [retrieval.state for retrieval in known] == ["waiting", "ready"]
    assert vault.calls["request_retrieval"] == 4
    cold.pass_hours(5)
    known = advance(restore, cold.site.restore_world)
    assert is_ready(known)
    assert deliver(restore, known, cold.site.restore_world).outcome is Outcome.DONE
    assert_same_tree(cold.source, out)


@pytest.mark.parametrize("target", [STDOUT, REQUEST])
def test_what_lapses_of_a_dump_is_not_asked_for_again_where_nobody_watches(cold: Cold, target: bytes) -> None:
    """The dump is over: who pays for it again begins anew."""
    world, begun = cold.site.restore_world, begin_dump(cold, target)
    ask_once(begun, world)
    asked = [job["JobId"] for job in cold.jobs()]
    assert len(asked) == 2
    if target == STDOUT:
        cold.pass_hours(5)
        ask_once(begun, world)
        assert is_ready(cold.known(begun))
        assert state_of(cold, begun) == "open"
    cold.pass_hours(40)
    ask_once(begun, world)
    assert state_of(cold, begun) == "cancelled"
    assert not os.listdir(world.key_directory)
    with pytest.raises(UsageError, match="cancelled already"):
        ask_once(begun, world)
    assert {job["JobId"] for job in cold.jobs()} <= set(asked)


def test_a_request_asks_for_the_rest_and_is_over_once_all_has_come(cold: Cold) -> None:
    vault = cold.behind(Fault("request_retrieval", DeniedError("no"), skip=1))
    world, begun = cold.site.restore_world, begin_dump(cold, REQUEST)
    with pytest.raises(DeniedError):
        ask_once(begun, world)
    vault.assert_all_met()
    assert [retrieval.state for retrieval in cold.known(begun)] == ["waiting", "planned"]
    ask_once(begun, world)
    assert [retrieval.state for retrieval in cold.known(begun)] == ["waiting"] * 2
    cold.pass_hours(5)
    ask_once(begun, world)
    assert state_of(cold, begun) == "cancelled"
    assert [retrieval.state for retrieval in cold.known(begun)] == ["ready"] * 2


def begin_dump(cold: Cold, target: bytes) -> Restore:
    """One of everything."""
    world = cold.site.restore_world
    choice = Choice(output=Output.TAR)
    plan = plan_restore(cold.site.snapshot(), os.fsencode(cold.source), world, choice)
    return begin_restore(plan, target, world, NO_LIMIT, tier=Tier.STANDARD, keys=lambda: [cold.site.key])


def state_of(cold: Cold, restore: Restore) -> str:
    """The recorded state of a restore."""
    with cold.site.inventory.reading() as tx:
        return find_restore(tx, restore.number).state


def test_an_output_that_expires_while_it_is_fetched(cold: Cold, out: Path) -> None:
    restore = cold.begin(out)
    advance(restore, cold.site.restore_world)
    cold.pass_hours(5)
    known = advance(restore, cold.site.restore_world)
    cold.pass_hours(30)
    with pytest.raises(RetrievalExpiredError) as caught:
        deliver(restore, known, cold.site.restore_world)
    assert "same command again" in caught.value.advice
    assert snapshot_of(out) == {}
    known = advance(restore, cold.site.restore_world)
    assert [retrieval.state for retrieval in known] == ["waiting"] * 2
    cold.pass_hours(5)
    known = advance(restore, cold.site.restore_world)
    assert deliver(restore, known, cold.site.restore_world).outcome is Outcome.DONE
    assert_same_tree(cold.source, out)


FAULTS: list[dict[str, Any]] = [
    {"code": "ServiceUnavailableException", "after": True},
    {"reset": True, "after": True},
    {"reset": True},
    {"code": "ThrottlingException", "count": 3},
]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_lost_answer_is_not_asked_for_twice(cold: Cold, out: Path, fault: dict[str, Any]) -> None:
    restore = cold.begin(out)
    cold.emulator.set_faults([{"operation": "InitiateJob", **fault}])
    known = advance(restore, cold.site.restore_world)
    assert [retrieval.state for retrieval in known] == ["waiting"] * 2
    assert [planned["met"] for planned in cold.emulator.faults()] == [fault.get("count", 1)]
    jobs = {job["JobId"] for job in cold.jobs()}
    assert jobs == {retrieval.retrieval_id for retrieval in known}


def test_an_answer_that_was_lost_with_the_process_is_found_again(cold: Cold, out: Path) -> None:
    restore = cold.begin(out)
    cold.behind(Fault("request_retrieval", PowerCut(), after=True))
    with pytest.raises(PowerCut):
        advance(restore, cold.site.restore_world)
    assert [retrieval.state for retrieval in cold.known(restore)] == ["planned"] * 2
    assert len(cold.jobs()) == 1
    cold.behind()
    known = advance(restore, cold.site.restore_world)
    assert {job["JobId"] for job in cold.jobs()} == {retrieval.retrieval_id for retrieval in known}
    assert len(known) == 2


def test_cut_at_every_vault_call(cold: Cold, tmp_path: Path) -> None:
    def attempt(out: Path) -> None:
        restore = cold.begin(out)
        while not is_ready(known := advance(restore, cold.site.restore_world)):
            cold.pass_hours(2)
        deliver(restore, known, cold.site.restore_world)

    counted = cold.behind()
    attempt(tmp_path / "counted")
    asked = len(cold.jobs())
    assert counted.total > 5
    for call in range(counted.total):
        out = tmp_path / f"out-{call}"
        cold.behind(cut_at(call, after=call % 2 == 0))
        before = len(cold.jobs())
        with pytest.raises(PowerCut):
            attempt(out)
        cold.behind()
        attempt(out)
        assert_same_tree(cold.source, out)
        assert len(cold.jobs()) - before <= asked
        cold.pass_hours(30)  # let the service forget, for the list is of one page


def test_a_job_that_the_service_does_not_know_yet_is_not_asked_for_twice(
    cold: Cold, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore = cold.begin(out, "other")
    advance(restore, cold.site.restore_world)
    unknown = RetrievalStatus(RetrievalState.EXPIRED)
    real = cold.vault.retrieval_statuses
    with monkeypatch.context() as patch:
        patch.setattr(cold.vault, "retrieval_statuses", lambda ids: dict.fromkeys(real(ids), unknown))
        cold.clock.advance(timedelta(seconds=100))
        (known,) = advance(restore, cold.site.restore_world)
        assert (known.state, len(cold.jobs())) == ("waiting", 1)
        cold.clock.advance(timedelta(seconds=100))
        (known,) = advance(restore, cold.site.restore_world)
        assert (known.state, len(cold.jobs())) == ("waiting", 2)


def test_a_job_that_failed_is_asked_for_again(cold: Cold, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    restore = cold.begin(out, "other")
    advance(restore, cold.site.restore_world)
    real = cold.vault.retrieval_statuses
    with monkeypatch.context() as patch:
        failed = RetrievalStatus(RetrievalState.FAILED, "an internal reason")
        patch.setattr(cold.vault, "retrieval_statuses", lambda ids: dict.fromkeys(real(ids), failed))
        (known,) = advance(restore, cold.site.restore_world)
    assert known.state == "waiting"
    assert len(cold.jobs()) == 2
    assert any("an internal reason" in note for note in cold.site.progress.notes)
    cold.pass_hours(5)
    done = advance(restore, cold.site.restore_world)
    assert deliver(restore, done, cold.site.restore_world).outcome is Outcome.DONE


def test_an_archive_that_was_deleted_before_it_was_ready(cold: Cold, out: Path) -> None:
    restore = cold.begin(out)
    known = advance(restore, cold.site.restore_world)
    archive_id = next(job["ArchiveId"] for job in cold.jobs() if job["JobId"] == known[1].retrieval_id)
    cold.vault.delete_archives({archive_id: None})
    cold.pass_hours(5)
    known = advance(restore, cold.site.restore_world)  # the job failed; asking again is refused
    assert [retrieval.state for retrieval in known] == ["ready", "failed"]
    assert is_ready(known)
    report = deliver(restore, known, cold.site.restore_world)
    assert [(problem.path, problem.kind) for problem in report.problems] == [(b"other", ProblemKind.DAMAGED)]
    assert "archive is gone" in report.problems[0].detail
    expected = snapshot_of(cold.source)
    del expected[b"other"]
    assert_same_tree(expected, out)
    assert len(cold.jobs()) == 2


def test_an_archive_that_was_deleted_once_it_was_ready_still_comes(cold: Cold, out: Path) -> None:
    restore = cold.begin(out)
    advance(restore, cold.site.restore_world)
    cold.pass_hours(5)
    known = advance(restore, cold.site.restore_world)
    for job in cold.jobs():
        cold.vault.delete_archives({job["ArchiveId"]: None})
    assert deliver(restore, known, cold.site.restore_world).outcome is Outcome.DONE
    assert_same_tree(cold.source, out)


FETCH_FAULTS: list[dict[str, Any]] = [
    {"truncate": 100_000},
    {"corrupt": True},
    {"reset": True},
    {"code": "ServiceUnavailableException", "count": 4},
]


@pytest.mark.parametrize("fault", FETCH_FAULTS, ids=str)
def test_what_came_broken_is_fetched_again(cold: Cold, out: Path, fault: dict[str, Any]) -> None:
    restore = cold.begin(out)
    advance(restore, cold.site.restore_world)
    cold.pass_hours(5)
    known = advance(restore, cold.site.restore_world)
    cold.emulator.set_faults([{"operation": "GetJobOutput", **fault}])
    assert deliver(restore, known, cold.site.restore_world).outcome is Outcome.DONE
    assert [planned["met"] for planned in cold.emulator.faults()] == [fault.get("count", 1)]
    assert_same_tree(cold.source, out)


@pytest.mark.parametrize("act", ["ListJobs", "DescribeJob", "GetJobOutput"])
def test_a_service_that_stays_away_loses_nothing(cold: Cold, out: Path, act: str) -> None:
    restore = cold.begin(out)
    steps: list[Callable[[], object]] = []
    if act != "ListJobs":
        advance(restore, cold.site.restore_world)
        cold.pass_hours(5)
    if act == "GetJobOutput":
        known = advance(restore, cold.site.restore_world)
        steps.append(lambda: deliver(restore, known, cold.site.restore_world))
    else:
        steps.append(lambda: advance(restore, cold.site.restore_world))
    fault = {"operation": act, "code": "ServiceUnavailableException", "count": 100}
    cold.emulator.set_faults([fault])
    with pytest.raises(UnreachableError):
        steps[0]()
    assert cold.clock.slept
    cold.emulator.set_faults([])
    while not is_ready(known := advance(restore, cold.site.restore_world)):
        cold.pass_hours(5)
    assert deliver(restore, known, cold.site.restore_world).outcome is Outcome.DONE
    assert_same_tree(cold.source, out)
    assert len(cold.jobs()) == 2


def test_two_restores_share_what_one_has_asked_for(cold: Cold, tmp_path: Path) -> None:
    world = cold.site.restore_world
    one, other = cold.begin(tmp_path / "one"), cold.begin(tmp_path / "other", "other")
    advance(one, world)
    assert len(cold.jobs()) == 2
    assert [known.state for known in advance(other, world)] == ["waiting"]
    assert len(cold.jobs()) == 2
    cold.pass_hours(5)
    for restore in (other, one):
        deliver(restore, advance(restore, world), world)
    late = cold.begin(tmp_path / "late", "other")  # the output lives still
    known = advance(late, world)
    assert is_ready(known)
    deliver(late, known, world)
    assert len(cold.jobs()) == 2
    assert_same_tree(cold.source, tmp_path / "one")
    for name in ("other", "late"):
        assert (tmp_path / name / "other").read_bytes() == (cold.source / "other").read_bytes()


def test_an_output_that_is_gone_is_not_shared(cold: Cold, tmp_path: Path) -> None:
    world = cold.site.restore_world
    one = cold.begin(tmp_path / "one", "other")
    advance(one, world)
    cold.emulator.advance(40 * HOUR)  # it is gone, though by our clock it would live
    cold.clock.advance(timedelta(minutes=5))
    other = cold.begin(tmp_path / "other", "other")
    assert [retrieval.state for retrieval in advance(other, world)] == ["planned"]
    known = advance(other, world)
    assert len(cold.jobs()) == 1
    assert [retrieval.retrieval_id for retrieval in known] == [job["JobId"] for job in cold.jobs()]
    known = advance(one, world)
    assert [retrieval.retrieval_id for retrieval in known] == [job["JobId"] for job in cold.jobs()]
    cold.pass_hours(5)
    for restore in (one, other):
        deliver(restore, advance(restore, world), world)
    assert len(cold.jobs()) == 1


def test_a_backup_between_request_and_delivery(cold: Cold, out: Path) -> None:
    before = snapshot_of(cold.source)
    restore = cold.begin(out)
    advance(restore, cold.site.restore_world)
    (cold.source / "other").write_bytes(b"changed since")
    (cold.source / "a-first").unlink()
    cold.site.backup()
    cold.pass_hours(5)
    known = advance(restore, cold.site.restore_world)
    assert deliver(restore, known, cold.site.restore_world).outcome is Outcome.DONE
    assert_same_tree(before, out)
