"""Tags of a vault, raw on the wire."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.emulated import RunningEmulator
from tests.support.emulator_clients import Reply, Talker, arn_of, new_vault_name

INVALID = (400, "InvalidParameterValueException")


@pytest.fixture
def path(talker: Talker) -> Iterator[str]:
    vault = new_vault_name()
    talker.ask("PUT", f"/-/vaults/{vault}")
    yield f"/-/vaults/{vault}/tags"
    talker.ask("DELETE", f"/-/vaults/{vault}")


def _add(talker: Talker, path: str, tags: object) -> Reply:
    return talker.ask("POST", path, json.dumps({"Tags": tags}).encode(), query="operation=add")


def _remove(talker: Talker, path: str, *keys: str) -> Reply:
    return talker.ask("POST", path, json.dumps({"TagKeys": keys}).encode(), query="operation=remove")


def test_adding_replacing_and_removing(talker: Talker, path: str) -> None:
    listed = talker.ask("GET", path)
    assert (listed.status, listed.body) == (200, b'{"Tags":{}}')
    added = _add(talker, path, {"b": "2", "Ä key": ""})
    assert (added.status, added.body) == (204, b"")
    assert _add(talker, path, {"b": "3", "a": "x y=z@w"}).status == 204
    assert talker.ask("GET", path).json == {"Tags": {"a": "x y=z@w", "b": "3", "Ä key": ""}}
    assert _remove(talker, path, "a", "never").status == 204
    assert talker.ask("GET", path).json == {"Tags": {"b": "3", "Ä key": ""}}


@pytest.mark.parametrize(
    "tags", [{"": "v"}, {"k" * 129: "v"}, {"k": "v" * 256}, {"k!": "v"}, {"k": "a;b"}, {"aws:k": "v"}]
)
def test_tags_outside_the_rules(talker: Talker, path: str, tags: dict[str, str]) -> None:
    assert _add(talker, path, tags).error[:2] == INVALID


def test_shapes_outside_the_rules(talker: Talker, path: str) -> None:
    assert _add(talker, path, {}).error[:2] == (400, "MissingParameterValueException")
    assert _add(talker, path, {"k": 1}).error[:2] == (400, "SerializationException")
    assert _add(talker, path, {f"k{n}": "" for n in range(11)}).error[:2] == INVALID
    assert _remove(talker, path).error[:2] == (400, "MissingParameterValueException")
    for body in (b"", b"[]", b"{", b"[" * 100_000, b'{"Tags":{"\\ud800":""}}', b'{"TagKeys":"k"}'):
        reply = talker.ask("POST", path, body, query="operation=remove")
        assert reply.error[:2] == (400, "SerializationException")


def test_limit_of_a_vault(talker: Talker, path: str, emulator: RunningEmulator) -> None:
    for start in range(0, 50, 10):
        assert _add(talker, path, {f"k{n}": "v" for n in range(start, start + 10)}).status == 204
    assert _add(talker, path, {"k7": "again"}).status == 204
    assert _add(talker, path, {"one more": ""}).error[:2] == (400, "LimitExceededException")
    emulator.change_settings(tag_limit=10)
    assert _add(talker, path, {"k7": "again"}).error[:2] == (400, "LimitExceededException")
    emulator.change_settings(tag_limit=50)


def test_tags_go_with_their_vault(talker: Talker, path: str) -> None:
    _add(talker, path, {"k": "v"})
    vault = path.removesuffix("/tags")
    assert talker.ask("DELETE", vault).status == 204
    missing = (404, "ResourceNotFoundException", f"Vault not found for ARN: {arn_of(vault.split('/')[-1])}")
    assert talker.ask("GET", path).error == missing
    talker.ask("PUT", vault)
    assert talker.ask("GET", path).json == {"Tags": {}}
