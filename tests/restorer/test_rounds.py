"""What comes while the rest waits, rounds that the link brings down, vaults that cannot serve a tier."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.errors import CapacityError, DeniedError, RecoveryKeyError, RetrievalExpiredError
from backup.format.keys import RecoveryKey
from backup.inventory.records.retrievals import Restore
from backup.inventory.store.states import RetrievalStage
from backup.kinds import Outcome
from backup.model import OnCapacity, Tier
from backup.restorer.report import is_partly_ready, stage
from backup.restorer.restore import (
    advance,
    begin_restore,
    choose_on_capacity,
    deliver,
    is_ready,
    plan_restore,
    step,
)
from tests.restorer.cold import Cold
from tests.support.doubles import NO_LIMIT, Fault
from tests.support.trees import assert_same_tree


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_what_is_ready_comes_while_the_rest_waits(cold: Cold, out: Path) -> None:
    cold.behind(Fault("request_retrieval", DeniedError("no"), skip=1))
    restore = cold.begin(out)
    assert stage(restore, cold.known(restore)) == "planned"
    with pytest.raises(DeniedError):
        advance(restore, cold.site.restore_world)
    assert stage(restore, cold.known(restore)) == "waiting"
    cold.pass_hours(5)
    known = advance(restore, cold.site.restore_world)
    assert [retrieval.state for retrieval in known] == ["ready", "waiting"]
    assert (is_ready(known), is_partly_ready(known), stage(restore, known)) == (False, True, "partly ready")
    ready = known[0].until
    assert ready is not None
    report = deliver(restore, known, cold.site.restore_world)
    assert (report.outcome, report.waiting, report.files) == (Outcome.RUNNING, 1, 3)
    assert (out / "b-filler").read_bytes() == (cold.source / "b-filler").read_bytes()
    assert not (out / "other").exists()
    cold.pass_hours(30)  # the first output is long gone: it is not missed
    cold.site = cold.site.reopen()
    known = advance(restore, cold.site.restore_world)
    cold.pass_hours(5)
    known = advance(restore, cold.site.restore_world)
    assert [retrieval.state for retrieval in known] == ["fetched", "ready"]
    report = deliver(restore, known, cold.site.restore_world)
    assert (report.outcome, report.files) == (Outcome.DONE, 4)
    assert_same_tree(cold.source, out)


def test_a_step_asks_waits_brings_and_asks_for_what_there_is_room_for(cold: Cold, out: Path) -> None:
    world = replace(cold.site.restore_world, round_bytes=1)
    restore = cold.begin(out)
    states = []
    for _ in range(3):
        done = step(restore, world)
        states.append(
            ([str(retrieval.state) for retrieval in done.known], done.report and done.report.outcome)
        )
        cold.pass_hours(5)
    assert states == [
        (["waiting", "planned"], None),
        (["fetched", "waiting"], Outcome.RUNNING),
        (["fetched", "ready"], Outcome.DONE),
    ]
    assert len(cold.jobs()) == 2
    assert_same_tree(cold.source, out)


def test_what_came_is_told_also_if_the_rest_cannot_be_asked_for(
    cold: Cold, out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    restore, world = cold.begin(out), replace(cold.site.restore_world, round_bytes=1)
    step(restore, world)
    cold.pass_hours(5)
    cold.behind(Fault("request_retrieval", DeniedError("no")))
    caplog.set_level("INFO")
    with pytest.raises(DeniedError):
        step(restore, replace(cold.site.restore_world, round_bytes=1))
    (told,) = [record.getMessage() for record in caplog.records if restore.id in record.getMessage()]
    assert told.startswith(f"restore {restore.id}: running, 3 files of ")
    assert (out / "b-filler").read_bytes() == (cold.source / "b-filler").read_bytes()


@pytest.mark.parametrize("may_lapse", [False, True])
def test_what_expires_before_a_step_fetches_it_is_paid_again_only_if_it_may(
    cold: Cold, out: Path, may_lapse: bool
) -> None:
    restore, world = cold.begin(out), cold.site.restore_world
    step(restore, world)
    cold.pass_hours(5)
    known = advance(restore, world)
    cold.pass_hours(30)
    assert cold.jobs() == []
    if may_lapse:
        assert step(restore, world, known=known, may_lapse=True).report is None
    else:
        with pytest.raises(RetrievalExpiredError):
            step(restore, world, known=known)
    assert len(cold.jobs()) == (2 if may_lapse else 0)


def test_a_round_is_no_more_than_comes_down_in_time(cold: Cold, out: Path) -> None:
    world = replace(cold.site.restore_world, round_bytes=1)
    restore = cold.begin(out)
    rounds = 0
    while not is_ready(known := advance(restore, world)):
        assert [retrieval.state for retrieval in known].count(RetrievalStage.WAITING) <= 1
        if is_partly_ready(known):
            deliver(restore, known, world)
            continue
        rounds += 1
        assert len(cold.jobs()) <= rounds
        cold.pass_hours(5)
    report = deliver(restore, known, world)
    assert (report.outcome, rounds, len(cold.jobs())) == (Outcome.DONE, 2, 2)
    assert_same_tree(cold.source, out)


def _begin(cold: Cold, out: Path, on_capacity: OnCapacity) -> Restore:
    world = cold.site.restore_world
    plan = plan_restore(cold.site.snapshot(), str(cold.source / "other").encode(), world)
    return begin_restore(
        plan,
        str(out).encode(),
        world,
        NO_LIMIT,
        tier=Tier.EXPEDITED,
        keys=lambda: [cold.site.key],
        on_capacity=on_capacity,
    )


@pytest.mark.parametrize(
    ("choice", "tier"), [(OnCapacity.STANDARD, Tier.STANDARD), (OnCapacity.BULK, Tier.BULK)]
)
def test_another_tier_when_this_one_is_sold_out(
    cold: Cold,
    out: Path,
    choice: OnCapacity,
    tier: Tier,
) -> None:
    restore = _begin(cold, out, choice)
    cold.emulator.set_faults([{"operation": "InitiateJob", "code": "InsufficientCapacityException"}])
    (known,) = advance(restore, cold.site.restore_world)
    assert (known.state, known.tier) == ("planned", tier)
    (known,) = advance(restore, cold.site.restore_world)
    assert (known.state, [job["Tier"] for job in cold.jobs()]) == ("waiting", [str(tier).capitalize()])


def test_waiting_until_there_is_capacity_or_the_user_chooses_otherwise(cold: Cold, out: Path) -> None:
    restore = _begin(cold, out, OnCapacity.WAIT)
    fault = {"operation": "InitiateJob", "code": "PolicyEnforcedException", "count": 3}
    cold.emulator.set_faults([fault])
    for _ in range(2):
        (known,) = advance(restore, cold.site.restore_world)
        assert (known.state, known.tier) == ("planned", Tier.EXPEDITED)
    failing = choose_on_capacity(restore, cold.site.inventory, OnCapacity.FAIL)
    with pytest.raises(CapacityError):
        advance(failing, cold.site.restore_world)
    (known,) = advance(failing, cold.site.restore_world)
    assert (known.state, known.tier, len(cold.jobs())) == ("waiting", Tier.EXPEDITED, 1)


def test_several_keys_and_none_that_fits(cold: Cold, out: Path) -> None:
    world = cold.site.restore_world
    plan = plan_restore(cold.site.snapshot(), str(cold.source).encode(), world)
    wrong = RecoveryKey.from_seed(bytes(32))
    with pytest.raises(RecoveryKeyError, match="opens 2 of the 2 archives") as caught:
        begin_restore(plan, str(out).encode(), world, NO_LIMIT, tier=Tier.BULK, keys=lambda: [wrong])
    assert caught.value.exit_code == 12
    assert cold.jobs() == []
    keys = [wrong, cold.site.key]
    restore = begin_restore(plan, str(out).encode(), world, NO_LIMIT, tier=Tier.BULK, keys=lambda: keys)
    assert len(advance(restore, world)) == 2
