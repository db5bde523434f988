"""`wait_until`: the one loop by which commands wait for a vault."""

from __future__ import annotations

from itertools import pairwise

import pytest

from backup.cli.support.waiting import LONGEST_PAUSE, hours_text, wait_until
from backup.transfer.retry import RetryLimit
from tests.support.command_line import CliAt
from tests.support.doubles import ManualClock


class Phases:
    """A `Progress` that writes down the phases."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def start(self, title: str, total: int | None = None, *, counts: str = "file") -> None:
        self.seen.append(title)

    def expect(self, total: int | None, *, sends: bool = False) -> None:
        """Do nothing."""

    def advance(
        self, *, files: int = 0, done: int = 0, packed: int = 0, uploaded: int = 0, stored: int = 0
    ) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""

    def finish(self, *, is_done: bool = True) -> None:
        self.seen.append("done" if is_done else "not done")


class Vault:
    """Something that is ready after so many looks, and keeps the reach of each."""

    def __init__(self, looks: int) -> None:
        self._looks = looks
        self.reaches: list[RetryLimit] = []

    def look(self, retry_limit: RetryLimit) -> int:
        self.reaches.append(retry_limit)
        return len(self.reaches)

    def is_ready(self, count: int) -> bool:
        return count >= self._looks


def waited(looks: int, *, stays: bool = True) -> tuple[int, list[float], list[str], list[RetryLimit]]:
    """The outcome of a wait for something that is ready at the `looks`th look after the first."""
    clock, vault, phases = ManualClock(), Vault(looks), Phases()
    found = wait_until(
        vault.is_ready,
        0,
        vault.look,
        cli=CliAt(clock),
        progress=phases,
        stays=stays,
        title=lambda count: f"waits since look {count}",
        hint="it is safe to interrupt",
    )
    return found, clock.slept, phases.seen, vault.reaches


def test_what_is_ready_is_not_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert waited(0) == (0, [], [], [])
    assert capsys.readouterr().err == ""


def test_a_command_that_does_not_stay_gets_what_was_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert waited(3, stays=False) == (0, [], [], [])
    assert capsys.readouterr().err == ""


def test_it_is_one_phase_however_often_it_looks(capsys: pytest.CaptureFixture[str]) -> None:
    found, _, phases, reaches = waited(4)
    assert found == 4
    assert phases == ["waits since look 0", "done"]
    assert capsys.readouterr().err == "it is safe to interrupt\n"
    assert all(retry_limit.has_answered for retry_limit in reaches)


def test_pauses_grow_to_five_minutes() -> None:
    totals = [0.0]
    for looks in range(1, 25):
        totals.append(sum(waited(looks)[1]))
    pauses = [after - before for before, after in pairwise(totals)]
    assert pauses[:3] == [1.0, 1.5, 2.25]
    assert pauses == sorted(pauses)
    assert pauses[-1] == pytest.approx(LONGEST_PAUSE)


def test_progress_is_told_during_a_long_pause() -> None:
    assert max(waited(20)[1]) <= 5.0


@pytest.mark.parametrize(
    ("least", "most", "text"),
    [(1 / 60, 5 / 60, "1 to 5 minutes"), (3, 5, "3 to 5 hours"), (0, 12, "up to 12 hours")],
)
def test_hours_in_words(least: float, most: float, text: str) -> None:
    assert hours_text(least, most) == text
