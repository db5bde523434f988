"""What a keeper may delete, decided from two states: each condition alone keeps an archive."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec import Struct, field
from msgspec.structs import replace

from backup.format.enrolment import HeirMark
from backup.inventory.content.archives import ArchiveState
from backup.inventory.content.pruning import Condemnation, StoredArchive
from backup.inventory.content.shrunk import Wait
from backup.inventory.content.snapshots import Snapshot
from backup.inventory.store.states import StepStage
from backup.inventory.store.times import micros
from backup.lineage import Family
from backup.model import (
    ArchiveId,
    ArchiveLabel,
    Generation,
    InventoryId,
    JobName,
    ListedArchive,
    Listing,
    PackId,
    PackKind,
    SnapshotId,
    VaultName,
)
from backup.pruner.keeper.lineages import (
    Lineage,
    lineages,
    pair_of,
    require_covered,
    require_its_own,
)
from backup.pruner.keeper.report import Sign
from backup.pruner.keeper.rules import Decision, KeeperRules, decide
from backup.pruner.keeper.signs import find_signs
from backup.pruner.keeper.state import State
from backup.pruner.listed import PruneStoppedError
from backup.rebuilder.report import RebuildReport, RebuiltJob, Suspicion

DAY = timedelta(days=1)
NOW = datetime(2026, 6, 1, tzinfo=UTC)
FLOOR = NOW - 30 * DAY
OURS, THEIRS, BEFORE = InventoryId(b"o" * 16), InventoryId(b"t" * 16), InventoryId(b"b" * 16)
SIGNER = b"o" * 32
JOB, OTHER = b"j" * 16, b"k" * 16
RULES = KeeperRules(NOW, FLOOR, {PackKind.DATA: 10 * DAY, PackKind.CATALOG: timedelta(0)})


def pack(number: int) -> PackId:
    return PackId(number.to_bytes(16, "big"))


def line(number: int, at: datetime, label: ArchiveLabel) -> ListedArchive:
    return ListedArchive(ArchiveId(f"a{number}"), "", label, 100, None, at)


def data(number: int, at: datetime = NOW - 100 * DAY, inventory: InventoryId = OURS) -> ListedArchive:
    return line(number, at, ArchiveLabel(PackKind.DATA, pack(number), inventory))


def catalog(
    number: int,
    at: datetime,
    *,
    full: bool = False,
    job: bytes = JOB,
    inventory: InventoryId = OURS,
) -> ListedArchive:
    generation = Generation.FULL if full else Generation.DELTA
    label = ArchiveLabel(PackKind.CATALOG, pack(1000 + number), inventory, number, generation, job)
    return line(1000 + number, at, label)


FULL, DELTA = catalog(1, NOW - 90 * DAY, full=True), catalog(2, NOW - 80 * DAY)
ARCHIVE = data(1)


def archive(number: int = 1, at: datetime = FLOOR - DAY, **changes: Any) -> StoredArchive:
    told = {1: Condemnation(at, at)}
    made = StoredArchive(
        number, pack(number), ArchiveId(f"a{number}"), PackKind.DATA, ArchiveState.CONDEMNED, 100, NOW,
        frozenset({1}), told, None, "", run_is_open=False,
    )  # fmt: skip
    return replace(made, **changes)


def state(*archives: StoredArchive, needed: frozenset[int] = frozenset(), **changes: Any) -> State:
    report = RebuildReport(StepStage.DONE, VaultName("v"), predecessor=OURS)
    made = State(
        report=report,
        archives={stored.archive_id: stored for stored in archives},
        needed=needed,
        packs=frozenset(stored.pack_id for stored in archives),
        jobs={JOB: "job"},
        applied={FULL.archive_id: JOB, DELTA.archive_id: JOB},
        bases={JOB: FULL.archive_id},
        writers={stored.archive_id: (OURS, SIGNER) for stored in archives},
        snapshots=(),
    )
    return replace(made, **changes)


def server(*lines: ListedArchive) -> Lineage:
    (found,) = lineages(Listing(NOW, lines or (FULL, DELTA, ARCHIVE)), family())
    return found


def family(*more: InventoryId) -> Family:
    """Inventories of which something was read, each with a signer of its own."""
    found = Family([])
    for inventory_id in (OURS, *more):
        found.note_signer(inventory_id, inventory_id[:1] * 32)
    return found


def goes(decided: Decision) -> list[int]:
    return [stored.number for stored in decided.delete]


def test_what_both_states_condemn_and_do_not_need_goes() -> None:
    decided = decide(server(), state(archive()), state(archive()), RULES)
    assert goes(decided) == [1]
    assert decided.delete[0].stored_at == ARCHIVE.created_at


class Case(Struct, frozen=True):
    """One thing that is otherwise, and what it is told as."""

    newest: State = field(default_factory=lambda: state(archive()))
    floor: State = field(default_factory=lambda: state(archive()))
    lineage: Lineage = field(default_factory=server)
    rules: KeeperRules = RULES
    waits: str = ""
    needed: int = 0
    held: int = 0
    strange: int = 0


STORED = archive(state=ArchiveState.STORED, condemned_by={})
TWO_JOBS = archive(jobs=frozenset({1, 2}))
WAIT = Wait(JobName("job"), 1, JOB, VaultName("v"), SnapshotId("ab" * 8), NOW, ())
CASES = {
    "its job waits for an answer, by the newest": Case(newest=state(archive(), waits=[WAIT]), waits="shrunk"),
    "its job waits for an answer, by the floor's": Case(floor=state(archive(), waits=[WAIT]), waits="shrunk"),
    "one of its jobs waits": Case(
        newest=state(TWO_JOBS, waits=[WAIT]), floor=state(TWO_JOBS), waits="shrunk"
    ),
    "the newest state needs it": Case(newest=state(archive(), needed=frozenset({1})), needed=1),
    "the floor's state needs it": Case(floor=state(archive(), needed=frozenset({1})), held=1),
    "the newest state does not condemn it": Case(newest=state(STORED)),
    "the floor's state does not condemn it": Case(floor=state(STORED), waits="catalogs"),
    "the floor's state has taken it up": Case(
        floor=state(archive(state=ArchiveState.STORED)), waits="catalogs"
    ),
    "the floor's state does not know it": Case(floor=state(), waits="catalogs"),
    "a second job named it, by the newest": Case(newest=state(TWO_JOBS), waits="catalogs"),
    "a second job named it, by the floor's": Case(floor=state(TWO_JOBS), waits="catalogs"),
    "condemned within the floor": Case(floor=state(archive(at=FLOOR + DAY)), waits="grace"),
    "its minimum duration is not over": Case(
        rules=replace(RULES, minimum={**RULES.minimum, PackKind.DATA: 101 * DAY}), waits="duration"
    ),
    "it is another server's": Case(
        lineage=server(FULL, DELTA, data(1, inventory=THEIRS)), strange=1
    ),
    "it is another pack": Case(
        lineage=server(FULL, DELTA, replace(data(2), archive_id=ArchiveId("a1"))), strange=1
    ),
    "it is a catalog": Case(
        lineage=server(FULL, DELTA, line(1, NOW, ArchiveLabel(PackKind.CATALOG, pack(1), OURS, 1,
                                                               Generation.DELTA, JOB))), strange=1
    ),
    "nobody knows what it is": Case(
        lineage=server(FULL, DELTA, replace(ARCHIVE, label=None)), strange=1
    ),
    "the list does not show it": Case(lineage=server(FULL, DELTA)),
}  # fmt: skip


def test_a_job_that_did_not_name_it_may_wait() -> None:
    waiting = state(archive(), waits=[replace(WAIT, job_number=2, job_id=OTHER)])
    assert goes(decide(server(), waiting, waiting, RULES)) == [1]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_each_condition_alone_keeps_it(case: Case) -> None:
    decided = decide(case.lineage, case.newest, case.floor, case.rules)
    assert goes(decided) == []
    assert [waiting_archive.why.name.lower() for waiting_archive in decided.waiting] == [case.waits][
        : bool(case.waits)
    ]
    counts = len(decided.needed), len(decided.held), len(decided.strange)
    assert counts == (case.needed, case.held, case.strange)


@pytest.mark.parametrize("is_named", [False, True])
def test_an_ancestor_without_a_catalog_is_its_own_unless_others_name_it(is_named: bool) -> None:
    """It may be a server whose first backup is not over."""
    writers = {archive().archive_id: (BEFORE, SIGNER)}
    made = state(archive(), writers=writers)
    named_by = {BEFORE: {OURS, THEIRS}} if is_named else {BEFORE: {OURS}}
    lineage = server(FULL, DELTA, data(1, inventory=BEFORE))
    lineage = replace(lineage, ancestors=frozenset({BEFORE}), named_by=named_by)
    assert goes(decide(lineage, made, made, RULES)) == ([] if is_named else [1])


# What no state describes.


def condemning(made: State, number: int, at: datetime, job: bytes = JOB) -> State:
    report = replace(made.report, condemned_catalogs={pack(number): (job, micros(at))})
    return replace(made, report=report)


FULLS = [catalog(number, NOW - (100 - number) * DAY, full=True) for number in (1, 5, 9)]
OLD = catalog(3, NOW - 97 * DAY)


def test_an_old_catalog_goes_with_two_full_ones_above_it() -> None:
    floor = condemning(state(), 1003, FLOOR)
    assert [stored.archive_id for stored in decide(server(*FULLS, OLD), state(), floor, RULES).delete] == [
        "a1003"
    ]


@pytest.mark.parametrize(
    ("lines", "at", "job"),
    [
        ([*FULLS[:2], OLD], FLOOR, JOB),
        ([*FULLS[:2], catalog(9, FLOOR + DAY, full=True), OLD], FLOOR, JOB),
        ([*FULLS, OLD], FLOOR + timedelta(seconds=1), JOB),
        ([*FULLS, OLD], FLOOR, OTHER),
        ([*FULLS, replace(OLD, label=None)], FLOOR, JOB),
    ],
    ids=["one full above", "the second within the floor", "condemned within it", "another job", "unknown"],
)
def test_an_old_catalog_stays(lines: list[ListedArchive], at: datetime, job: bytes) -> None:
    decided = decide(server(*lines), state(), condemning(state(), 1003, at, job), RULES)
    assert decided.delete == []


def test_a_catalog_that_a_state_is_made_of_stays() -> None:
    floor = condemning(state(), 1003, FLOOR)
    of_it = replace(state(), applied={OLD.archive_id: JOB})
    lineage = server(*FULLS, OLD)
    assert decide(lineage, of_it, floor, RULES).delete == []
    assert decide(lineage, state(), replace(floor, applied=of_it.applied), RULES).delete == []


def test_what_a_run_stored_for_nothing_goes_unless_a_state_knows_it() -> None:
    floor, lineage = condemning(state(), 1, FLOOR), server()
    assert [stored.archive_id for stored in decide(lineage, state(), floor, RULES).delete] == ["a1"]
    known = state(replace(archive(), state=ArchiveState.STORED))
    assert decide(lineage, known, floor, RULES).delete == []
    assert decide(lineage, state(waits=[WAIT]), floor, RULES).delete == []
    assert decide(lineage, state(), replace(floor, waits=[WAIT]), RULES).delete == []
    assert decide(server(FULL, DELTA, data(1, inventory=THEIRS)), state(), floor, RULES).delete == []


# Whether all catalogs are known.


def assert_stops(lineage: Lineage, newest: State, floor: State, words: str) -> None:
    with pytest.raises(PruneStoppedError, match=words) as caught:
        require_covered(lineage, newest, floor)
    assert caught.value.advice


NEW = catalog(3, NOW - DAY)


def test_every_catalog_must_be_in_a_state_or_older() -> None:
    require_covered(server(), state(), state())
    older = catalog(0, NOW - 95 * DAY)
    require_covered(server(FULL, DELTA, older), state(), state())
    lineage = server(FULL, DELTA, NEW)
    with_new = replace(state(), applied={**state().applied, NEW.archive_id: JOB})
    require_covered(lineage, with_new, with_new)
    assert_stops(lineage, state(), with_new, "1 catalogs of this server are not part of the state")
    assert_stops(lineage, with_new, state(), "number 3")


def test_a_full_catalog_is_in_the_newest_state_and_passed_over_by_the_other() -> None:
    full = catalog(3, NOW - DAY, full=True)
    newest = replace(state(), applied={full.archive_id: JOB}, bases={JOB: full.archive_id})
    require_covered(server(FULL, DELTA, full), newest, state())
    assert_stops(server(FULL, DELTA, full), state(), state(), "not part of the state")


def test_catalogs_of_the_job_by_somebody_else_stop_both_until_a_person_answers() -> None:
    beside = catalog(3, NOW - DAY, inventory=THEIRS)
    listing = Listing(NOW, [FULL, DELTA, beside])
    ours, theirs = lineages(listing, family(THEIRS))
    assert [lineage.inventories for lineage in (ours, theirs)] == [{OURS}, {THEIRS}]
    for lineage in (ours, theirs):
        with pytest.raises(PruneStoppedError, match="not-its-own") as caught:
            require_its_own(lineage)
        assert f"--accept {lineage.strangers[0].pack_id.hex()}" in caught.value.advice
    answers = {(ours.name, pair_of(stranger)) for stranger in ours.strangers}
    ours, theirs = lineages(listing, family(THEIRS), answers)
    require_its_own(ours)
    with pytest.raises(PruneStoppedError, match="not-its-own"):
        require_its_own(theirs)


def test_catalogs_of_an_heir_count() -> None:
    beside = catalog(3, NOW - DAY, inventory=THEIRS)
    known = family(THEIRS)
    known.accept(THEIRS, OURS)
    (lineage,) = lineages(Listing(NOW, [FULL, DELTA, beside]), known)
    assert (lineage.inventories, lineage.newest) == (frozenset({OURS, THEIRS}), THEIRS)
    assert_stops(lineage, state(), state(), "not part of the state")


def test_what_a_server_wrote_when_its_heir_was_at_work_counts() -> None:
    """It is older than where the state begins, and the heir knew nothing of it."""
    full = catalog(3, NOW - 50 * DAY, full=True)
    known = family(BEFORE)
    known.accept(OURS, BEFORE)
    newest = replace(state(), applied={full.archive_id: JOB}, bases={JOB: full.archive_id})
    for at, counts in ((NOW - 95 * DAY, False), (NOW - 70 * DAY, True)):
        theirs = catalog(9, at, inventory=BEFORE)
        (lineage,) = lineages(Listing(NOW, [FULL, DELTA, full, theirs]), known)
        if counts:
            assert_stops(lineage, newest, newest, "not part of the state")
        else:
            require_covered(lineage, newest, newest)


@pytest.mark.parametrize("heir", [OURS, THEIRS])
def test_a_mark_that_no_catalog_proves_replaces_nobody(heir: InventoryId) -> None:
    """Anybody may leave one: a server may be named as its own heir."""
    mark = HeirMark(OURS, heir, SIGNER, bytes(64)).to_text()
    left = ListedArchive(ArchiveId("a mark"), mark, None, 1, None, NOW - 100 * DAY)
    require_covered(server(FULL, DELTA, catalog(0, NOW - 95 * DAY), left), state(), state())


def test_catalogs_of_a_job_that_was_not_rebuilt_count() -> None:
    other = catalog(5, NOW - 99 * DAY, job=OTHER)
    assert_stops(server(FULL, DELTA, other), state(), state(), "not part of the state")


@pytest.mark.parametrize(
    "kind",
    ["refused", "other-key", "relabelled", "damaged", "missing", "newer", "newer-format", "out-of-range"],
)
def test_a_catalog_that_is_not_right_stops_it(kind: str) -> None:
    report = replace(state().report, suspicions=[Suspicion(kind, "a1", "it is so")])
    for pair in ((replace(state(), report=report), state()), (state(), replace(state(), report=report))):
        assert_stops(server(), *pair, rf"\({kind}\): a1: it is so")


def test_a_second_archive_of_one_catalog_stops_nothing() -> None:
    report = replace(state().report, suspicions=[Suspicion("duplicate", NEW.archive_id, "the same")])
    require_covered(server(FULL, DELTA, NEW), *2 * [replace(state(), report=report)])


def test_newer_catalogs_that_cannot_be_applied_stop_it() -> None:
    report = replace(state().report, jobs=[RebuiltJob("job", 2, 1, 2, not_covered=(4, 5))])
    assert_stops(server(), replace(state(), report=report), state(), "cannot be applied: 4, 5")


def test_servers_with_jobs_of_their_own_are_apart() -> None:
    theirs = catalog(1, NOW, job=OTHER, inventory=THEIRS)
    found = lineages(Listing(NOW, [FULL, theirs]), family(THEIRS))
    assert [lineage.newest for lineage in found] == [OURS, THEIRS]


# What looks like an attack.


def snapshot(number: int, **changes: Any) -> Snapshot:
    at = NOW - (60 - number) * DAY
    made = Snapshot(SnapshotId(f"s{number}"), JobName("job"), 1, number, None, at, at, "h", (), (), 1, 1)
    return replace(made, **changes)


NIGHTS = [snapshot(number) for number in range(1, 13)]


def signs(newest: list[Snapshot], floor: list[Snapshot], lineage: Lineage | None = None) -> list[Sign]:
    there = replace(state(), snapshots=newest), replace(state(), snapshots=floor)
    return [finding.sign for finding in find_signs(lineage or server(), *there, RULES)]


def forgotten(few: int, at: datetime) -> list[Snapshot]:
    return [replace(night, forgotten_at=at) for night in NIGHTS[:few]] + NIGHTS[few:]


def test_many_forgotten_on_one_day_are_told() -> None:
    assert signs(NIGHTS, NIGHTS) == []
    assert signs(NIGHTS, forgotten(4, NOW - DAY)) == []
    assert signs(NIGHTS, forgotten(5, NOW - DAY)) == [Sign.FORGOTTEN]
    assert signs(NIGHTS, forgotten(5, FLOOR - DAY)) == []
    one_a_day = [replace(night, forgotten_at=NOW - night.number * DAY) for night in NIGHTS]
    assert signs(NIGHTS, one_a_day) == []


def test_those_dropped_without_having_been_forgotten_are_told() -> None:
    assert signs(NIGHTS[1:], NIGHTS) == [Sign.DROPPED]
    assert signs(NIGHTS[1:], forgotten(1, NOW - DAY)) == []


def test_dates_that_cannot_be_right_are_told() -> None:
    ahead = [*NIGHTS, snapshot(13, started_at=NOW + 2 * DAY)]
    assert signs(ahead, ahead) == [Sign.DATES]
    back = [*NIGHTS, snapshot(13, started_at=NOW - 400 * DAY), snapshot(14)]
    assert signs(back, back) == [Sign.DATES]


def test_much_condemned_on_one_day_is_told() -> None:
    def told(count: int, at: datetime) -> list[Sign]:
        stored = [
            archive(number, state=ArchiveState.STORED, condemned_by={}) for number in range(20, 32 - count)
        ]
        floor = state(*(archive(number, at=at) for number in range(1, count + 1)), *stored)
        return [finding.sign for finding in find_signs(server(), state(), floor, RULES)]

    assert told(5, NOW - DAY) == [Sign.CONDEMNED]
    assert told(4, NOW - DAY) == []
    assert told(5, FLOOR - DAY) == []


def test_a_flood_of_catalogs_is_told() -> None:
    nightly = [catalog(number, NOW - (60 - number) * DAY) for number in range(3, 50)]

    def told(count: int, at: datetime) -> list[Sign]:
        flood = [catalog(100 + number, at) for number in range(count)]
        return signs(NIGHTS, NIGHTS, server(FULL, DELTA, *nightly, *flood))

    assert told(8, NOW - 5 * DAY) == []
    assert told(10, NOW - 5 * DAY) == [Sign.FLOOD]
