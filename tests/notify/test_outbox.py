"""The outbox: order, backing off, what is dropped, and a cut at every step: nothing is lost or made twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backup.inventory.records import messages
from backup.inventory.records.messages import Message
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import Inventory
from backup.inventory.store.states import DeliveryState, MessageKind
from backup.model import JobName
from backup.notify.channel import AwayError, Note, RefusedError
from backup.notify.letter import Letter
from backup.notify.outbox import Flushed, deliver
from tests.support.doubles import ManualClock

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


UNIQUE = count()


class KilledError(BaseException):
    """The process is gone."""


@dataclass
class Taking:
    """A channel that keeps what it takes; `says` is what happens to the next notes, in turn."""

    name: str = "one"
    says: list[Exception | None] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    seen: int = 0

    def send(self, note: Note) -> str:
        self.seen += 1
        if self.says and (error := self.says.pop(0)) is not None:
            raise error
        self.taken.append(note.id)
        return "taken"


def note_of(message: Message) -> Note:
    return Note(message.key, message.kind, message.created_at, Letter(message.title, "host"), {})


def add(inventory: Inventory, clock: ManualClock, key: str, *channels: str, **more: Any) -> None:
    message = Message(key, more.pop("kind", MessageKind.FAILED), clock.now(), f"title {key}", {}, **more)
    with inventory.writing() as tx:
        messages.add(tx, message, dict.fromkeys(channels or ("one",), clock.now()))


def flush(inventory: Inventory, clock: ManualClock, *channels: Taking, **more: Any) -> Flushed:
    return deliver(inventory, {channel.name: channel for channel in channels}, note_of, clock, **more)


def states(inventory: Inventory) -> dict[str, tuple[DeliveryState, str | None]]:
    with inventory.reading() as tx:
        return {
            delivery.message.key: (delivery.state, delivery.answer)
            for delivery in messages.newest(tx, limit=99)
        }


def test_in_order_and_once(inventory: Inventory, clock: ManualClock) -> None:
    channel = Taking()
    for key in "abc":
        add(inventory, clock, key)
    assert flush(inventory, clock, channel) == Flushed(3, 0)
    assert flush(inventory, clock, channel) == Flushed(0, 0)
    assert channel.taken == ["a", "b", "c"]


def test_no_two_of_one_key(inventory: Inventory, clock: ManualClock) -> None:
    channel = Taking()
    add(inventory, clock, "a")
    flush(inventory, clock, channel)
    add(inventory, clock, "a")
    assert flush(inventory, clock, channel) == Flushed(0, 0)


def test_one_that_is_away_is_asked_once_a_round(inventory: Inventory, clock: ManualClock) -> None:
    away = Taking(says=[AwayError("away")] * 9)
    other = Taking("other")
    for key in "abc":
        add(inventory, clock, key, "one", "other")
    assert flush(inventory, clock, away, other) == Flushed(3, 3)
    assert away.seen == 1
    assert other.taken == ["a", "b", "c"]
    flush(inventory, clock, away, other)
    assert away.seen == 1, "not before its time"
    clock.advance(MINUTE)
    flush(inventory, clock, away, other)
    assert away.seen == 2
    away.says = []
    clock.advance(HOUR)
    flush(inventory, clock, away, other)
    assert away.taken == ["a", "b", "c"], "in their order"


def test_one_that_refuses_a_message_takes_others(inventory: Inventory, clock: ManualClock) -> None:
    picky = Taking(says=[RefusedError("too long")])
    for key in "ab":
        add(inventory, clock, key)
    assert flush(inventory, clock, picky) == Flushed(1, 1)
    assert states(inventory)["a"] == (DeliveryState.WAITING, "too long")
    clock.advance(HOUR)
    assert flush(inventory, clock, picky) == Flushed(1, 0)
    assert picky.taken == ["b", "a"]


def test_an_error_that_nobody_foresaw_stops_no_other(inventory: Inventory, clock: ManualClock) -> None:
    """Its text is not kept: `http.client` repeats a header that it will not send."""
    odd = Taking(says=[ValueError("Invalid header value b'Bearer SECRET'")])
    other = Taking("other")
    add(inventory, clock, "a", "one", "other")
    add(inventory, clock, "b")
    assert flush(inventory, clock, odd, other) == Flushed(2, 1)
    with inventory.reading() as tx:
        (one,) = messages.waiting(tx)
    assert one.answer == "unexpected ValueError in this channel"


def test_it_backs_off_to_an_hour(inventory: Inventory, clock: ManualClock) -> None:
    away = Taking(says=[AwayError("away")] * 10_000)
    add(inventory, clock, "a")
    for _ in range(3 * 24 * 6):
        flush(inventory, clock, away)
        clock.advance(10 * MINUTE)
    assert 72 <= away.seen <= 80
    away.says = []
    clock.advance(HOUR)
    assert flush(inventory, clock, away) == Flushed(1, 0)


def test_after_thirty_days_it_is_given_up(inventory: Inventory, clock: ManualClock) -> None:
    away = Taking(says=[AwayError("away")] * 10_000)
    add(inventory, clock, "a")
    add(inventory, clock, "behind it")
    for _ in range(31 * 24):
        flush(inventory, clock, away)
        clock.advance(HOUR)
    assert states(inventory)["a"] == (DeliveryState.DROPPED, "not to be sent for 30 days")
    assert states(inventory)["behind it"] == (DeliveryState.DROPPED, "not to be sent for 30 days")
    assert 719 <= away.seen <= 721
    clock.advance(90 * DAY)
    add(inventory, clock, "b")
    flush(inventory, clock, Taking())
    assert list(states(inventory)) == ["b"]


def test_what_was_hardly_tried_is_sent_however_old(inventory: Inventory, clock: ManualClock) -> None:
    """A machine that was off for a month; its network comes up a little later."""
    slow = Taking(says=[AwayError("no network")] * 3)
    add(inventory, clock, "a")
    clock.advance(31 * DAY)
    for _ in range(12):
        flush(inventory, clock, slow)
        clock.advance(MINUTE)
    assert slow.taken == ["a"]


@pytest.mark.parametrize("kind", [MessageKind.FAILED, MessageKind.RUN])
@pytest.mark.parametrize("tried", [0, 1, 5, 200])
@pytest.mark.parametrize("ahead", [7 * HOUR, 31 * DAY, 365 * DAY, -365 * DAY])
def test_a_clock_that_is_wrong_for_one_look_drops_nothing_and_holds_nothing_back(
    inventory: Inventory, clock: ManualClock, kind: MessageKind, tried: int, ahead: timedelta
) -> None:
    away = Taking(says=[AwayError("away")] * (tried + 1))
    add(inventory, clock, "a", kind=kind)
    step = HOUR if kind is MessageKind.FAILED else MINUTE
    for _ in range(tried):
        flush(inventory, clock, away)
        clock.advance(step)
    clock.advance(ahead)
    flush(inventory, clock, away)
    clock.advance(-ahead + MINUTE)
    away.says.clear()
    for _ in range(13 * 60):
        flush(inventory, clock, away)
        clock.advance(MINUTE)
    assert away.taken == ["a"]


def test_a_channel_with_another_name_gets_what_waited(inventory: Inventory, clock: ManualClock) -> None:
    add(inventory, clock, "a", "old", "other")
    old, other, new = Taking("old", says=[AwayError("away")]), Taking("other"), Taking("new")
    assert flush(inventory, clock, old, other) == Flushed(1, 1)

    def chosen(message: Message) -> list[str]:
        return ["other", "new"]

    assert flush(inventory, clock, other, new, chosen=chosen) == Flushed(1, 0)
    assert flush(inventory, clock, other, new, chosen=chosen) == Flushed(0, 0)
    assert (other.taken, new.taken) == (["a"], ["a"])


def test_a_channel_that_the_config_has_no_more(inventory: Inventory, clock: ManualClock) -> None:
    add(inventory, clock, "a", "gone")
    flush(inventory, clock, Taking())
    assert states(inventory)["a"] == (
        DeliveryState.DROPPED,
        "the config does not have this channel any more",
    )


def test_pings_tell_of_now(inventory: Inventory, clock: ManualClock) -> None:
    channel = Taking(says=[AwayError("away")])
    for key, job in (("a", "main"), ("b", "main"), ("c", "other")):
        add(inventory, clock, key, kind=MessageKind.RUN, job=JobName(job))
    flush(inventory, clock, channel)
    assert states(inventory)["a"] == (DeliveryState.DROPPED, "a newer ping of the job follows")
    clock.advance(7 * HOUR)
    flush(inventory, clock, channel)
    clock.advance(MINUTE)
    flush(inventory, clock, channel)
    assert channel.taken == []
    assert states(inventory)["b"] == (DeliveryState.DROPPED, "too late for a ping")


def test_what_is_held_back_can_be_sent_by_hand(inventory: Inventory, clock: ManualClock) -> None:
    message = Message("a", MessageKind.FAILED, clock.now(), "title", {})
    with inventory.writing() as tx:
        messages.add(tx, message, {"one": clock.now() + 5 * HOUR})
    channel = Taking()
    assert flush(inventory, clock, channel) == Flushed(0, 1)
    assert flush(inventory, clock, channel, only_due=False) == Flushed(1, 0)


def test_a_stop_is_heeded_before_each_message(inventory: Inventory, clock: ManualClock) -> None:
    channel = Taking()
    for key in "abc":
        add(inventory, clock, key)
    assert flush(inventory, clock, channel, stop=lambda: len(channel.taken) == 2) == Flushed(2, 1)
    assert flush(inventory, clock, channel) == Flushed(1, 0)
    assert channel.taken == ["a", "b", "c"]


def test_one_process_delivers_at_a_time(inventory: Inventory, clock: ManualClock) -> None:
    add(inventory, clock, "a")
    with inventory.locked("messages"):
        assert flush(inventory, clock, Taking()) == Flushed(0, 1)


@contextmanager
def killed_at(inventory: Inventory, cut: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    """The process dies at the `cut`-th step: each transaction has one before its commit and one after it."""
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1
        if steps == cut:
            raise KilledError

    real = Inventory.writing

    @contextmanager
    def writing(self: Inventory) -> Iterator[Transaction]:
        with real(self) as tx:
            yield tx
            step()
        step()

    with monkeypatch.context() as patch:
        patch.setattr(Inventory, "writing", writing)
        with suppress(KilledError):
            yield lambda: steps


@pytest.mark.parametrize("says", [[], [AwayError("away")], [None, RefusedError("no")]])
def test_a_cut_at_every_step(
    inventory: Inventory, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, says: list[Exception | None]
) -> None:
    """Each message comes, in order; only that which was under way at the cut comes again, with its id."""
    for cut in range(1, 40):
        channel = Taking(says=list(says))
        names = [f"{cut}-{key}" for key in "abc"]
        with killed_at(inventory, cut, monkeypatch) as steps:
            for name in names:
                add(inventory, clock, name)
            flush(inventory, clock, channel)
        for name in names:
            add(inventory, clock, name)  # whoever comes next finds the same run, and makes the same message
        for _ in range(3):
            clock.advance(2 * HOUR)
            last = flush(inventory, clock, channel)
        assert last == Flushed(0, 0)
        assert sorted(set(channel.taken)) == names
        assert len(channel.taken) <= len(names) + 1
        if steps() < cut:
            return
    pytest.fail("there was no end to the steps")


outages = st.lists(st.sampled_from(["ok", "away", "no"]), max_size=30)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(outages, st.lists(st.sampled_from(["one", "other"]), min_size=1, max_size=8))
def test_whatever_the_receivers_do_all_comes_in_the_end(
    inventory: Inventory, clock: ManualClock, fates: list[str], targets: list[str]
) -> None:
    unique = next(UNIQUE)
    errors: Mapping[str, Exception | None] = {"ok": None, "away": AwayError("a"), "no": RefusedError("n")}
    channels = [Taking(name, [errors[fate] for fate in fates]) for name in ("one", "other")]
    for number, target in enumerate(targets):
        add(inventory, clock, f"{unique}-{number}", target)
    for _ in range(len(fates) + 2):
        flush(inventory, clock, *channels)
        clock.advance(2 * HOUR)
    for channel in channels:
        wanted = [f"{unique}-{number}" for number, target in enumerate(targets) if target == channel.name]
        assert sorted(channel.taken) == sorted(wanted), "each once"
