"""The system's clock: a date, or a sentence that it has none."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from backup.app import clock
from backup.errors import ClockError


@pytest.mark.parametrize("year", [9999, 10_000])
def test_a_clock_beyond_the_calendar_is_no_mistake_of_ours(
    monkeypatch: pytest.MonkeyPatch, year: int
) -> None:
    class Late(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime(year, 1, 1, tzinfo=UTC)  # from 10,000 on as Python's own: ValueError

    monkeypatch.setattr(clock, "datetime", Late)
    with pytest.raises(ClockError, match="at the end of the calendar") as caught:
        clock.SystemClock().now()
    assert "timedatectl" in caught.value.advice


def test_it_is_now() -> None:
    assert clock.SystemClock().now().tzinfo is UTC
