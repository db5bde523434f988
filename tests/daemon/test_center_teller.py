"""The daemon tells a center on its own thread: at first, after runs, later and later if it is away."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from backup.config import Config
from backup.config.monitoring import CenterSettings
from backup.daemon.center_teller import LONGEST_PAUSE, CenterTeller, pause_after
from backup.daemon.task_run import TaskEnd, TaskRun
from backup.errors import UnreachableError
from backup.inventory.records.tasks import TaskState
from tests.support.daemons import Figures, task
from tests.support.doubles import ManualClock

CONFIG = Config(
    path="/etc/nightvault/config.toml",
    state_dir="/state",
    inventory_url="sqlite:////state/inventory.sqlite",
    center=CenterSettings(url="https://center.example"),
)
PATIENCE = 30.0


class Center:
    """A center that counts how often it was told, and may be away."""

    def __init__(self) -> None:
        self.told, self.tried, self.is_away = 0, 0, False
        self.hangs = threading.Event()

    def tell(self, config: Config) -> None:
        """Be told, or be away."""
        assert config.center is not None
        self.tried += 1
        if self.hangs.is_set():
            time.sleep(PATIENCE)
        if self.is_away:
            raise UnreachableError("nobody there")
        self.told += 1


def teller(
    center: Center, config: Config = CONFIG, *, look: float = 300.0, away: float = 0.01
) -> CenterTeller:
    return CenterTeller(
        lambda: config, center.tell, look_seconds=look, spread_seconds=0.01, away_seconds=away
    )


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def ended(one: CenterTeller) -> None:
    now = ManualClock().now()
    run = TaskRun(task(), now, Figures())
    one.began(run)
    one.ended(run, TaskEnd(TaskState.DONE, now))


def test_it_is_told_at_first_and_after_each_run() -> None:
    center = Center()
    one = teller(center)
    with one.telling():
        until(lambda: center.told == 1)
        ended(one)
        until(lambda: center.told == 2)


def test_it_is_told_now_and_then_without_a_run() -> None:
    center = Center()
    with teller(center, look=0.02).telling():
        until(lambda: center.told >= 3)


def test_through_a_bucket_it_is_told_less_often() -> None:
    center, config = Center(), replace(CONFIG, center=CenterSettings(url="s3://cold-of-ours"))
    with teller(center, config, look=0.02).telling():
        until(lambda: center.told == 1)
        time.sleep(0.3)
    assert center.told == 1


def test_one_that_is_away_is_tried_again_and_named_once(caplog: pytest.LogCaptureFixture) -> None:
    center = Center()
    center.is_away = True
    one = teller(center)
    caplog.set_level("INFO")
    with one.telling():
        until(lambda: center.tried >= 3)
        center.is_away = False
        until(lambda: center.told == 1)
        until(lambda: "told again" in caplog.text)
    assert caplog.text.count("cannot be told") == 1


def test_runs_that_end_do_not_hasten_the_next_try_of_one_that_is_away() -> None:
    center = Center()
    center.is_away = True
    one = teller(center, away=1000.0)
    with one.telling():
        until(lambda: center.tried == 1)
        for _ in range(5):
            ended(one)
        time.sleep(0.2)
    assert center.tried == 1


def test_pauses_double_up_to_an_hour_and_differ_between_servers() -> None:
    for failed in range(1, 12):
        pauses = [pause_after(failed, 60.0, random.Random(seed)) for seed in range(200)]
        longest = min(60.0 * 2 ** (failed - 1), LONGEST_PAUSE)
        assert longest / 2 <= min(pauses) < 0.55 * longest
        assert 0.95 * longest < max(pauses) <= longest
        assert len(set(pauses)) == 200


def test_a_center_that_hangs_holds_up_neither_runs_nor_the_end() -> None:
    center = Center()
    center.hangs.set()
    one = teller(center)
    began = time.monotonic()
    with one.telling():
        until(lambda: center.tried == 1)
        ended(one)
    assert time.monotonic() - began < PATIENCE / 2


def test_without_a_section_nothing_is_told() -> None:
    center = Center()
    with teller(center, replace(CONFIG, center=None), look=0.01).telling():
        time.sleep(0.2)
    assert center.tried == 0
