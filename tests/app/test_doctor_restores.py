"""The doctor on a restore of everything: how long, how dear, and what the config has against it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from backup.app.base.opened import opened
from backup.app.doctor import recovery
from backup.app.restores.contexts import GUESSED_LINK, LEAST_MEASURED, LinkOrigin
from backup.cli.trying.demonstration.local_aws import REGION
from backup.inventory.records import runs
from backup.kinds import Outcome
from backup.model import KIB, MIB, JobName
from tests.support.healthy_servers import HealthyServer, healthy_server
from tests.support.servers import Cloud, replace, running_cloud


@pytest.fixture
def healthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HealthyServer:
    return healthy_server(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running_cloud(tmp_path_factory.mktemp("cloud")) as made:
        yield made


def record_restore(healthy: HealthyServer, fetched: int, seconds: float) -> None:
    now = healthy.server.clock.now()
    with closing(opened(healthy.config)) as inventory, inventory.writing() as tx:
        run = runs.open_restore(tx, runs.find_job(tx, JobName("main")), now)
        runs.finish_run(tx, run.number, Outcome.DONE, {"fetched": fetched, "seconds": seconds}, now)


def test_the_link_is_assumed_measured_set_or_limited(healthy: HealthyServer) -> None:
    (one,) = healthy.examined().restores
    assert (one.link.speed, one.link.origin) == (GUESSED_LINK, LinkOrigin.ASSUMED)
    assert (one.files, one.cost, one.hours) == (4, Decimal(0), None)
    assert one.seconds == one.fetched / GUESSED_LINK
    record_restore(healthy, LEAST_MEASURED, 64)
    (one,) = healthy.examined().restores
    assert (one.link.speed, one.link.origin) == (MIB, LinkOrigin.MEASURED)
    healthy.server.config.write_text(healthy.server.config.read_text() + f"\n[restore]\nlink = {2 * MIB}\n")
    (one,) = healthy.examined().restores
    assert (one.link.speed, one.link.origin) == (2 * MIB, LinkOrigin.SET)
    replace(healthy.server, 'kind = "directory"\n', 'kind = "directory"\ndownload_limit = "16KiB/s"\n')
    (one,) = healthy.examined().restores
    assert (one.link.speed, one.link.origin) == (16 * KIB, LinkOrigin.LIMITED)
    assert healthy.found() == set()


def test_a_limit_that_makes_it_very_long_is_a_finding(
    healthy: HealthyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "LONG", recovery.LONG / 1e6)  # what is there is so much smaller
    assert healthy.found() == set(), "only a limit of ours is one"
    replace(healthy.server, 'kind = "directory"\n', 'kind = "directory"\ndownload_limit = "16KiB/s"\n')
    (found,) = healthy.findings()
    assert found.check == "restore-time"
    assert "at its limit of 16.0 KiB/s" in found.what
    assert found.why
    assert "raise download_limit of vault cold" in found.command
    replace(healthy.server, 'download_limit = "16KiB/s"\n', "")
    assert healthy.found() == set()


def test_planning_that_takes_too_long_is_a_note(
    healthy: HealthyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*_: object) -> None:
        time.sleep(3)

    monkeypatch.setattr(recovery, "plan_restore", slow)
    began = time.monotonic()
    report = healthy.examined(seconds=0.3)
    assert time.monotonic() - began < 2.5
    assert not report.findings
    assert not report.restores
    assert "no answer within 0.3 s" in report.notes[0]
    assert report.notes[0].endswith("nightvault restore latest --job main --target DIR --dry-run")


def test_a_price_beyond_the_limit_of_restores(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "home")
    server = cloud.server(tmp_path / "server", vault="dear")
    server.init()
    server.backup()
    healthy = HealthyServer(server, server.key_file)
    told = server.json("restore", "latest", "--target", tmp_path / "to", "--dry-run")
    (quote,) = (quote for quote in told["quotes"] if quote["tier"] == "standard")
    (document,) = server.json("doctor", "--offline", exit_code=1)["full_restores"]
    assert document["cost"] == quote["cost"]["total"]
    assert (document["hours"], document["fetched"]) == (quote["hours"], quote["fetched"])
    assert (document["tier"], document["link_is"]) == ("standard", "assumed")
    text = server.run("doctor", "--offline").stdout
    assert f"after up to {quote['hours'][1]:g} h of waiting (standard); {document['cost']} USD" in text

    def refused() -> list[str]:
        found = healthy.examined(offline=True).findings
        return [finding.what for finding in found if finding.check == "restore-cost"]

    assert refused() == []
    server.config.write_text(server.config.read_text() + '\n[restore]\nmax_restore_cost = "0.001"\n')
    assert refused() == [
        f"a full restore of job main (standard) costs {document['cost']} USD, and max_restore_cost is 0.001"
    ]
    replace(server, 'max_restore_cost = "0.001"', 'max_restore_cost = "5.00"')
    assert refused() == []
    replace(server, f'kind = "glacier"\nregion = "{REGION}"', 'kind = "glacier"\nregion = "xx-nowhere-1"')
    (one,) = healthy.examined(offline=True).restores
    assert one.is_unverified
    assert "USD by prices of another region" in server.run("doctor", "--offline").stdout
    monkeypatch.setattr(recovery, "price_of", lambda *_: None)
    assert refused() == [
        "a full restore of job main (standard) has no known price, and max_restore_cost is 5.00"
    ]
    assert "; price unknown" in server.run("doctor", "--offline").stdout
    replace(server, 'max_restore_cost = "5.00"', "")
    assert refused() == []
