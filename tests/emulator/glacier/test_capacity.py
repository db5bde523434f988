"""Provisioned capacity: units, and Expedited retrievals while capacity is short."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backup.emulator.glacier.capacity import month_later
from tests.support.emulated import RunningEmulator, write_accounts
from tests.support.emulator_clients import Reply, Talker

PATH = "/-/provisioned-capacity"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RunningEmulator]:
    accounts = write_accounts(tmp_path / "accounts.toml")
    options = ("--set", "expedited_capacity=false", "--set", "insufficient_capacity_status=400")
    with RunningEmulator(tmp_path / "state", accounts, options=options) as running:
        yield running


def _ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2026-01-31T10:00:00", "2026-02-28T10:00:00"),
        ("2026-08-31T00:00:01", "2026-09-30T00:00:01"),
        ("2026-12-15T23:59:59", "2027-01-15T23:59:59"),
    ],
)
def test_a_month(start: str, end: str) -> None:
    assert month_later(_ms(start)) == _ms(end)


def test_units(own: RunningEmulator) -> None:
    talker = Talker(own.glacier_url)
    assert talker.ask("GET", PATH).json == {"ProvisionedCapacityList": []}
    bought = [talker.ask("POST", PATH) for _ in range(2)]
    assert [(reply.status, reply.body) for reply in bought] == [(201, b"")] * 2
    assert talker.ask("POST", PATH).error[:2] == (400, "LimitExceededException")
    units = talker.ask("GET", PATH).json["ProvisionedCapacityList"]
    assert [unit["CapacityId"] for unit in units] == [reply.headers["x-amz-capacity-id"] for reply in bought]
    assert all(set(unit) == {"CapacityId", "StartDate", "ExpirationDate"} for unit in units)
    assert talker.ask("GET", PATH, region="us-west-2").json == {"ProvisionedCapacityList": []}
    own.advance(31 * 24 * 3600)
    assert talker.ask("GET", PATH).json == {"ProvisionedCapacityList": []}
    assert talker.ask("POST", PATH).status == 201


def _expedited(talker: Talker, archive: str) -> Reply:
    wanted = {"Type": "archive-retrieval", "ArchiveId": archive, "Tier": "Expedited"}
    return talker.ask("POST", "/-/vaults/v/jobs", json.dumps(wanted).encode())


def test_scarcity(own: RunningEmulator) -> None:
    talker = Talker(own.glacier_url)
    talker.ask("PUT", "/-/vaults/v")
    archive = talker.upload("/-/vaults/v/archives", b"x", {}).headers["x-amz-archive-id"]
    assert _expedited(talker, archive).error[:2] == (400, "InsufficientCapacityException")
    own.change_settings(insufficient_capacity_status=503)
    refused = _expedited(talker, archive)
    assert (refused.status, refused.json["type"]) == (503, "Server")
    talker.ask("POST", PATH)
    assert [_expedited(talker, archive).status for _ in range(4)] == [202, 202, 202, 503]
    own.advance(301)
    assert _expedited(talker, archive).status == 202
    own.change_settings(expedited_capacity=True)
    assert [_expedited(talker, archive).status for _ in range(4)] == [202] * 4
