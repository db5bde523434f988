"""The system's clock: a date, or a sentence that it has none; and another one, that of an emulator."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from backup.app.base import clock
from backup.config import VaultSettings
from backup.errors import ClockError
from backup.model import VaultName
from tests.support.servers import running_cloud


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


def test_an_emulator_whose_clock_was_stepped_is_named(tmp_path: Path) -> None:
    with running_cloud(tmp_path) as cloud:
        server = cloud.server(tmp_path / "web1", vault="nightly", clock=clock.SystemClock())
        server.init()
        server.backup()
        server.backup()
        cloud.emulator.advance(3600)
        server.config.write_text(
            server.config.read_text().replace("[[job]]", "[retention.few]\nkeep_last = 1\n\n[[job]]")
            + 'retention = "few"\n'
        )
        for words in (("prune",), ("prune", "--dry-run"), ("forget",)):
            said = " ".join(server.fails(1, *words).split())
            assert "this machine's clock says" in said
            assert "set the clock right" in said
            assert "is nightvault's emulator, its clock was stepped" in said


@pytest.mark.parametrize(
    ("endpoint", "is_named"),
    [(None, False), ("https://s3.eu-central-1.amazonaws.com", False), ("http://127.0.0.1:9090", True)],
)
def test_what_is_in_aws_is_no_emulator(endpoint: str | None, is_named: bool) -> None:
    vault = VaultSettings(name=VaultName("cold"), kind="glacier", endpoint=endpoint)
    assert bool(clock.of_emulator(vault)) == is_named
    for text, is_told in (("this machine's clock says 1, vault cold says 2", is_named), ("other", False)):
        with pytest.raises(ClockError) as caught, clock.naming_emulator(vault):
            raise ClockError(text, advice="set it")
        assert ("its clock was stepped" in caught.value.advice) == is_told
        assert caught.value.advice.startswith("set it")
