"""Checks by a schedule: the list is compared, then a sample is read; the limit of cost holds."""

from __future__ import annotations

import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from backup.app.money import limits
from backup.app.money.prices import Quote
from backup.app.tasks.tasks import scheduled_tasks
from backup.checker.report import CheckReport
from backup.config import load_config
from backup.cost import Bill, Load
from backup.errors import InterruptedRunError, LimitRefusedError
from backup.kinds import TaskKind
from backup.model import MIB, Tier, VaultName
from backup.operations.check import Check, amount_of
from backup.operations.recorded import step_of
from tests.support.daemons import last_start
from tests.support.doubles import ManualClock, Silent
from tests.support.servers import Server, directory_server, replace

COLD = VaultName("cold")


@pytest.fixture
def server(tmp_path: Path) -> Server:
    made = directory_server(tmp_path)
    replace(made, 'kind = "directory"', 'kind = "directory"\ncheck = "weekly"')
    made.init()
    return made


def check(server: Server) -> CheckReport:
    config = load_config(str(server.config))
    return step_of(config, Check, COLD, clock=server.clock, progress=Silent())


def sampled(server: Server, amount: str) -> None:
    replace(server, 'check = "weekly"', f'check = "weekly"\ncheck_sample = "{amount}"')


def test_it_is_a_task_of_its_vault(server: Server) -> None:
    config = load_config(str(server.config))
    (found,) = [task for task in scheduled_tasks(config) if task.kind is TaskKind.CHECK]
    assert (str(found), found.vault, found.is_exclusive) == ("check of vault cold", COLD, False)


def test_the_list_is_compared(server: Server) -> None:
    server.backup()
    report = check(server)
    assert (report.outcome, report.read) == ("done", None)
    assert report.compared is not None
    assert report.compared.shown == report.compared.listed > 0
    config = load_config(str(server.config))
    assert last_start(config, TaskKind.CHECK, "cold") == server.clock.now()


def test_a_sample_is_read_after_it(server: Server) -> None:
    sampled(server, "100%")
    assert check(server).read is None, "nothing is stored yet"
    server.backup()
    report = check(server)
    assert report.outcome == "done"
    assert report.read is not None
    assert report.read.never_read == 0
    assert [run["kind"] for run in server.json("runs")[:2]] == ["check", "check"]


def test_a_check_that_is_stopped_does_not_wait_for_its_download_limit(server: Server) -> None:
    sampled(server, "100%")
    server.backup()
    replace(server, 'kind = "directory"\n', 'kind = "directory"\ndownload_limit = "64KiB/s"\n')
    stop = threading.Event()

    class Stopping(ManualClock):
        def sleep(self, seconds: float) -> None:
            stop.set()
            super().sleep(seconds)

    config, clock = load_config(str(server.config)), Stopping()
    with pytest.raises(InterruptedRunError):
        step_of(config, Check, COLD, clock=clock, progress=Silent(), stop=stop)
    assert len(clock.slept) == 1
    report = check(server)
    assert report.read is not None
    assert report.read.never_read == 0, "the next one goes on"


def test_what_is_damaged_is_found_and_no_sample_hides_what_is_missing(server: Server) -> None:
    sampled(server, "100%")
    server.backup()
    files = [path for path in (server.folder / "vault").rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.chmod(0o600)
    largest.write_bytes(data)
    assert check(server).is_grave
    assert server.json("status", exit_code=1)["concerns"][0]["level"] == "critical"
    largest.unlink()
    report = check(server)
    assert report.is_grave
    assert report.read is None


@pytest.mark.parametrize(
    ("words", "of_a_gib"), [("1%", 10_737_419), ("0.5%", 5_368_710), ("5MiB", 5 * MIB), ("100%", 1024 * MIB)]
)
def test_amounts(words: str, of_a_gib: int) -> None:
    assert amount_of(words).of(1024 * MIB) == of_a_gib


@pytest.mark.parametrize(("total", "is_refused"), [("0.40", False), ("0.60", True), (None, True)])
def test_a_sample_costs_no_more_than_a_restore_may(
    server: Server, total: str | None, is_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vault is a directory, which is free; here it is held to a price as a cold one is."""
    sampled(server, "100%")
    server.config.write_text(server.config.read_text() + "\n[restore]\nmax_restore_cost = 0.50\n")
    server.backup()
    monkeypatch.setattr(limits, "FREE", ())

    def quotes(*_: Any) -> list[Quote]:
        bill = None if total is None else Bill(retrieval=Decimal(total))
        return [Quote(Tier.STANDARD, Load(1, 1, 1, 1, 1, 1), (), bill, None)]

    monkeypatch.setattr("backup.operations.check.quote_sample", quotes)
    if is_refused:
        with pytest.raises(LimitRefusedError, match="max_restore_cost"):
            check(server)
    else:
        assert check(server).read is not None


def test_a_limit_refuses_a_sample_while_the_table_of_prices_has_a_mistake(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampled(server, "100%")
    server.backup()
    monkeypatch.setattr(limits, "FREE", ())
    (server.state / "prices.toml").write_text("nonsense")
    assert check(server).read is not None
    server.config.write_text(server.config.read_text() + "\n[restore]\nmax_restore_cost = 0.50\n")
    with pytest.raises(LimitRefusedError, match=r"max_restore_cost, 0\.5: money: not known") as refused:
        check(server)
    assert "`nightvault prices`" in (refused.value.advice or "")
