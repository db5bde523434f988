"""The desk that asks a vault: rounds, requests side by side, whose fault a refusal is, what is believed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest
from msgspec.structs import replace

from backup.errors import (
    ArchiveMissingError,
    CapacityError,
    DeniedError,
    NightvaultError,
    UnreachableError,
    VaultError,
)
from backup.model import ArchiveId, ByteRange, RetrievalId, RetrievalState, RetrievalStatus, Tier
from backup.transfer.retrievals.ask import ask
from backup.transfer.retrievals.client import Pending, RetrievalAnswer, RetrievalClient, Seen, Verdict, Wanted
from backup.transfer.retrievals.look import look
from backup.transfer.retrievals.rounds import due
from backup.transfer.retry import RetryPolicy
from backup.vault.directory import DirectoryVault
from tests.support.doubles import FaultyVault, ManualClock


class Shelf(FaultyVault):
    """A vault that says to each archive what it is told to, and knows tokens."""

    def __init__(self, vault: DirectoryVault, **says: NightvaultError) -> None:
        super().__init__(vault)
        self.says = says
        self.asked: list[str] = []
        self.taken: dict[str, RetrievalId] = {}
        self.statuses: dict[RetrievalId, RetrievalStatus] = {}
        self.waits = True

    @property
    def traits(self):  # type: ignore[no-untyped-def]
        return replace(self.vault.traits, waits=self.waits)

    def request_retrieval(
        self, archive_id: ArchiveId, extent: ByteRange | None, tier: Tier, token: str
    ) -> RetrievalId:
        del extent, tier
        self.asked.append(archive_id)
        if isinstance(error := self.says.get(archive_id), UnreachableError):
            self.taken[token] = RetrievalId(f"job of {archive_id}")  # taken, but the answer is lost
            del self.says[archive_id]
        if error is not None:
            raise error
        return RetrievalId(f"job of {archive_id}")

    def open_retrievals(self) -> dict[str, RetrievalId]:
        return self.taken

    def retrieval_statuses(self, ids):  # type: ignore[no-untyped-def]
        return {id_: self.statuses[id_] for id_ in ids}


class Memory:
    """A store of records that are names."""

    def __init__(self, *, granted: bool = False) -> None:
        self.granted = granted
        self.answers: dict[str, RetrievalAnswer[str]] = {}
        self.waiting: list[Pending[str]] = []
        self.last: Sequence[Seen[str]] = ()

    def pending(self) -> Sequence[Pending[str]]:
        return self.waiting

    def seen(self, seen: Sequence[Seen[str]]) -> None:
        self.last = seen

    def has_granted(self) -> bool:
        return self.granted

    def answered(self, answers: Sequence[RetrievalAnswer[str]]) -> None:
        self.answers = {answer.record: answer for answer in answers}

    def settled(self) -> set[str]:
        return {name for name, answer in self.answers.items() if answer.retrieval_id or answer.refused}


def want(name: str) -> Wanted[str]:
    return Wanted(name, ArchiveId(name), 10, ByteRange(0, 10), Tier.BULK, f"token of {name}", name)


def desk_of(vault: Shelf, clock: ManualClock, notes: list[str] | None = None) -> RetrievalClient:
    said = notes if notes is not None else []
    return RetrievalClient(vault, clock, RetryPolicy(clock), said.append, askers=1)


WANTED = [want(name) for name in ("a", "b", "c")]


@pytest.mark.parametrize("error", [CapacityError("none sold"), DeniedError("no right")])
def test_those_who_would_fare_alike_are_not_asked_for(
    disk: DirectoryVault, clock: ManualClock, error: NightvaultError
) -> None:
    vault, store = Shelf(disk, b=error), Memory()
    if isinstance(error, DeniedError):
        with pytest.raises(DeniedError):
            ask(WANTED, store, desk_of(vault, clock))
    else:
        outcome = ask(WANTED, store, desk_of(vault, clock))
        assert (outcome.short, outcome.has_settled) == (error, True)
    assert store.settled() == {"a"}
    assert vault.asked == ["a", "b"]


def test_an_archive_that_is_gone_does_not_keep_the_others(disk: DirectoryVault, clock: ManualClock) -> None:
    vault, store = Shelf(disk, a=ArchiveMissingError("gone")), Memory()
    assert ask(WANTED, store, desk_of(vault, clock)).short is None
    assert store.settled() == {"a", "b", "c"}
    assert [answer.record for answer in store.answers.values() if answer.refused] == ["a"]


@pytest.mark.parametrize("granted", [False, True])
def test_a_refusal_that_names_no_fault_is_the_vault_s_until_it_granted_something(
    disk: DirectoryVault, clock: ManualClock, granted: bool
) -> None:
    unclear = {name: VaultError("input/output error") for name in "abc"}
    vault, store = Shelf(disk, **unclear), Memory(granted=granted)
    if granted:
        ask(WANTED, store, desk_of(vault, clock))
        assert store.settled() == {"a", "b", "c"}
    else:
        with pytest.raises(VaultError, match="input/output"):
            ask(WANTED, store, desk_of(vault, clock))
        assert store.settled() == set()


def test_a_lost_answer_is_found_by_its_token(disk: DirectoryVault, clock: ManualClock) -> None:
    vault, store = Shelf(disk, a=UnreachableError("cut")), Memory()
    ask(WANTED[:1], store, desk_of(vault, clock))
    assert vault.asked == ["a"]
    assert store.answers["a"].retrieval_id == "job of a"


@pytest.mark.parametrize(
    ("state", "failures", "age", "waits", "verdict"),
    [
        (RetrievalState.WAITING, 0, 9, True, Verdict.WAITS),
        (RetrievalState.READY, 0, 9, True, Verdict.READY),
        (RetrievalState.EXPIRED, 0, 1, True, Verdict.WAITS),
        (RetrievalState.EXPIRED, 0, -1, True, Verdict.WAITS),  # the clock was ahead when it was asked for
        (RetrievalState.EXPIRED, 0, 1, False, Verdict.AGAIN),
        (RetrievalState.EXPIRED, 5, 9, True, Verdict.AGAIN),
        (RetrievalState.FAILED, 0, 1, True, Verdict.AGAIN),
        (RetrievalState.FAILED, 1, 9, True, Verdict.GIVEN_UP),
    ],
)
def test_what_follows_from_the_vault_s_word(
    disk: DirectoryVault,
    clock: ManualClock,
    state: RetrievalState,
    failures: int,
    age: int,
    waits: bool,
    verdict: Verdict,
) -> None:
    vault, store, notes = Shelf(disk), Memory(), list[str]()
    vault.waits = waits
    job = RetrievalId("job")
    vault.statuses[job] = RetrievalStatus(state, "its own word")
    store.waiting = [Pending("a", job, clock.now() - timedelta(minutes=age), failures)]
    look(store, desk_of(vault, clock, notes))
    assert [seen.verdict for seen in store.last] == [verdict]
    assert bool(notes) == (verdict is Verdict.AGAIN)


@pytest.mark.parametrize(
    ("sizes", "under_way", "budget", "waits", "count"),
    [
        ([5, 5, 5], 0, 10, True, 2),
        ([5, 5, 5], 6, 10, True, 0),
        ([5, 5, 5], 5, 10, True, 1),
        ([50, 5], 0, 10, True, 1),  # one that is larger than a round goes alone
        ([50, 5], 1, 10, True, 0),
        ([50, 5], 1, None, True, 2),
        ([50, 5], 1, 10, False, 2),
        ([], 0, 10, True, 0),
    ],
)
def test_a_round(
    disk: DirectoryVault, sizes: list[int], under_way: int, budget: int | None, waits: bool, count: int
) -> None:
    traits = replace(disk.traits, waits=waits)
    chosen = due(sizes, lambda size: size, under_way=under_way, budget=budget, traits=traits)
    assert list(chosen) == sizes[:count]
