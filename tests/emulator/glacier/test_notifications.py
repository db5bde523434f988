"""The notification configuration of a vault, raw on the wire."""

from __future__ import annotations

import json

import pytest

from tests.support.emulator_clients import Talker, arn_of, new_vault_name

TOPIC = "arn:aws:sns:eu-central-1:123456789012:done"
EVENTS = ["ArchiveRetrievalCompleted", "InventoryRetrievalCompleted"]


@pytest.fixture
def vault(talker: Talker) -> str:
    name = new_vault_name()
    talker.ask("PUT", f"/-/vaults/{name}")
    return name


def test_set_read_replace_and_delete(talker: Talker, vault: str) -> None:
    path = f"/-/vaults/{vault}/notification-configuration"
    unset = (
        404,
        "ResourceNotFoundException",
        f"No notification configuration is set for vault: {arn_of(vault)}",
    )
    assert talker.ask("GET", path).error == unset
    for events in (EVENTS, EVENTS[1:]):
        put = talker.ask("PUT", path, json.dumps({"SNSTopic": TOPIC, "Events": events}).encode())
        assert (put.status, put.body) == (204, b"")
        assert talker.ask("GET", path).json == {"SNSTopic": TOPIC, "Events": events}
    assert [talker.ask("DELETE", path).status for _ in range(2)] == [204, 204]
    assert talker.ask("GET", path).error == unset


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ({"Events": EVENTS}, "MissingParameterValueException"),
        ({"SNSTopic": TOPIC}, "MissingParameterValueException"),
        ({"SNSTopic": TOPIC, "Events": ["Done"]}, "InvalidParameterValueException"),
        ({"SNSTopic": "topic", "Events": EVENTS}, "InvalidParameterValueException"),
        ({"SNSTopic": 3, "Events": EVENTS}, "SerializationException"),
        ({"SNSTopic": TOPIC, "Events": "x"}, "SerializationException"),
    ],
)
def test_mistakes(talker: Talker, vault: str, raw: object, code: str) -> None:
    path = f"/-/vaults/{vault}/notification-configuration"
    assert talker.ask("PUT", path, json.dumps(raw).encode()).error[:2] == (400, code)
