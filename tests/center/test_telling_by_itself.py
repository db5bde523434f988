"""A server with `[center]` tells it by itself: each command that ran something, and the daemon."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.centers import Center, center_database, free_port, needs_postgresql, new_center
from tests.support.real_daemons import running
from tests.support.servers import Server

pytestmark = [pytest.mark.real, pytest.mark.slow, needs_postgresql]


@pytest.fixture
def center(tmp_path: Path) -> Iterator[Center]:
    with center_database() as (_, url):
        made = new_center(tmp_path, url)
        made.port = free_port()
        yield made


@pytest.fixture
def web(center: Center) -> Server:
    """A server whose config names the center."""
    made = center.server("web1")
    made.config.write_text(f'{made.config.read_text()}\n[center]\nurl = "{center.address}"\n')
    return made


def test_a_command_tells_what_it_did_also_what_failed(center: Center, web: Server) -> None:
    with center.served() as log:
        web.backup()
        (host,) = center.command("list")["hosts"]
        assert (host["name"], host["reports"], host["jobs"]) == ("web1", 1, 1)
        assert host["good_since"] is not None
        shutil.rmtree(web.source)
        web.run("backup")
        shown = center.command("show", "web1")
        assert (shown["reports"], shown["standing"]) == (2, "warning")
        assert web.json("center", "tell")["number"] == 3
    assert log.read_text() == ""


def test_a_center_that_is_away_is_a_warning_and_the_doctor_knows(center: Center, web: Server) -> None:
    def found() -> list[str]:
        report = web.json("doctor", "--offline", exit_code=web.run("doctor", "--offline").exit_code)
        return [finding["what"] for finding in report["findings"] if finding["check"] == "center"]

    assert found() == [f"the center {center.address} was never told how this server is"]
    began = time.monotonic()
    done = web.run("backup")
    assert done.exit_code == 0
    assert "warning: the center could not be told, and is told later" in done.stderr
    assert time.monotonic() - began < 60
    with center.served():
        web.backup()
        assert found() == []
    (host,) = center.command("list")["hosts"]
    assert host["reports"] == 2  # the one that waited, and what is new


def test_the_daemon_tells_when_it_starts_and_when_a_run_has_ended(center: Center, web: Server) -> None:
    def reports() -> int:
        return sum(host["reports"] for host in center.command("list")["hosts"])

    def wait_for(count: int) -> None:
        until = time.monotonic() + 90
        while reports() < count:
            assert time.monotonic() < until
            time.sleep(0.5)

    with running(web.config) as daemon:
        daemon.wait_for("the center cannot be told, and is tried again later")
        daemon.stop()
    with center.served(), running(web.config) as daemon:
        wait_for(2)
        web.json("run", "main")
        wait_for(3)
        daemon.stop()
    assert center.command("show", "web1")["good_since"] is not None
