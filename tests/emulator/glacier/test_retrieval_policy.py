"""Data retrieval policies: their forms, and which retrievals they refuse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.emulated import RunningEmulator
from tests.support.emulator_clients import MIB, Reply, Talker, new_vault_name

PATH = "/-/policies/data-retrieval"
REGION = "ap-south-1"
HOURS = 3600
DENIED = (400, "PolicyEnforcedException", "InitiateJob request denied by current data retrieval policy.")


@pytest.fixture
def restored(talker: Talker, emulator: RunningEmulator) -> Iterator[RunningEmulator]:
    yield emulator
    _set(talker, {"Strategy": "None"})
    emulator.change_settings(free_tier_bytes_per_day=10 * 1024**3 // 30)


def _set(talker: Talker, *rules: object) -> Reply:
    return talker.ask("PUT", PATH, json.dumps({"Policy": {"Rules": rules}}).encode(), region=REGION)


def _policy(talker: Talker) -> Any:
    return talker.ask("GET", PATH, region=REGION).json


def test_forms(talker: Talker, restored: RunningEmulator) -> None:
    assert _policy(talker) == {"Policy": {"Rules": [{"BytesPerHour": None, "Strategy": "None"}]}}
    for rule in ({"Strategy": "BytesPerHour", "BytesPerHour": 2**63 - 1}, {"Strategy": "FreeTier"}):
        put = _set(talker, rule)
        assert (put.status, put.body) == (204, b"")
        assert _policy(talker) == {"Policy": {"Rules": [{"BytesPerHour": None, **rule}]}}


@pytest.mark.parametrize(
    "rules",
    [
        [],
        [{"Strategy": "None"}, {"Strategy": "None"}],
        [{"Strategy": "Free"}],
        [{}],
        ["x"],
        [{"Strategy": "BytesPerHour"}],
        [{"Strategy": "FreeTier", "BytesPerHour": 1}],
        [{"Strategy": "BytesPerHour", "BytesPerHour": 0}],
        [{"Strategy": "BytesPerHour", "BytesPerHour": 2**63}],
        [{"Strategy": "BytesPerHour", "BytesPerHour": True}],
    ],
)
def test_mistakes(talker: Talker, rules: list[object]) -> None:
    assert _set(talker, *rules).error[:2] == (400, "InvalidParameterValueException")


def test_a_policy_must_be_there(talker: Talker) -> None:
    assert talker.ask("PUT", PATH, b"{}").error[:2] == (400, "MissingParameterValueException")
    assert talker.ask("PUT", PATH, b'{"Policy": 3}').error[:2] == (400, "InvalidParameterValueException")


class Retrieving:
    """An archive of 4 MiB in a region of its own, to ask for."""

    def __init__(self, talker: Talker) -> None:
        self._talker = talker
        self._vault = new_vault_name()
        talker.ask("PUT", f"/-/vaults/{self._vault}", region=REGION)
        body = bytes(4 * MIB)
        path = f"/-/vaults/{self._vault}/archives"
        self._archive = talker.upload(path, body, {}, region=REGION).headers["x-amz-archive-id"]

    def ask(self, mib: int, tier: str = "Standard") -> Reply:
        wanted = {"Type": "archive-retrieval", "ArchiveId": self._archive, "Tier": tier}
        wanted["RetrievalByteRange"] = f"0-{mib * MIB - 1}"
        path = f"/-/vaults/{self._vault}/jobs"
        return self._talker.ask("POST", path, json.dumps(wanted).encode(), region=REGION)


def test_a_rate_limits_what_is_in_progress(talker: Talker, restored: RunningEmulator) -> None:
    retrieving = Retrieving(talker)
    _set(talker, {"Strategy": "BytesPerHour", "BytesPerHour": MIB})  # 3.83 MiB in the time of a retrieval
    assert retrieving.ask(4).error == DENIED
    assert retrieving.ask(3).status == 202
    assert retrieving.ask(1).error == DENIED
    assert retrieving.ask(4, "Bulk").status == 202
    assert retrieving.ask(4, "Expedited").status == 202
    restored.advance(4 * HOURS)
    assert retrieving.ask(1).status == 202


def test_the_free_tier_is_one_of_days(talker: Talker, restored: RunningEmulator) -> None:
    restored.advance(25 * HOURS)
    retrieving = Retrieving(talker)
    restored.change_settings(free_tier_bytes_per_day=3 * MIB)
    _set(talker, {"Strategy": "FreeTier"})
    assert retrieving.ask(4).error == DENIED
    assert retrieving.ask(2).status == 202
    restored.advance(5 * HOURS)
    assert retrieving.ask(2).error == DENIED
    restored.advance(20 * HOURS)
    assert retrieving.ask(2).status == 202
