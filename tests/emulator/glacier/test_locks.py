"""Vault locks: the table of states, and what a lock's policy denies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.emulated import ACCOUNT_ID, RunningEmulator, write_accounts
from tests.support.emulator_clients import Reply, Talker, arn_of, new_vault_name

DAY = 24 * 3600
DENIED = (403, "AccessDeniedException")
INVALID = (400, "InvalidParameterValueException")
MISSING = (404, "ResourceNotFoundException")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    """An emulator whose clock may be moved by years."""
    folder = tmp_path_factory.mktemp("locks")
    with RunningEmulator(folder / "state", write_accounts(folder / "accounts.toml")) as running:
        yield running


@pytest.fixture
def talker(own: RunningEmulator) -> Talker:
    return Talker(own.glacier_url)


@pytest.fixture
def vault(talker: Talker) -> str:
    name = new_vault_name()
    talker.ask("PUT", f"/-/vaults/{name}")
    return name


def _policy(vault: str, condition: dict[str, Any] | None = None, **changes: object) -> str:
    statement = {
        "Sid": "keep",
        "Principal": "*",
        "Effect": "Deny",
        "Action": "glacier:DeleteArchive",
        "Resource": [arn_of(vault)],
        "Condition": condition or {"NumericLessThan": {"glacier:ArchiveAgeInDays": "365"}},
        **changes,
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def _initiate(talker: Talker, vault: str, policy: str | None = None) -> Reply:
    body = json.dumps({"Policy": policy or _policy(vault)}).encode()
    return talker.ask("POST", f"/-/vaults/{vault}/lock-policy", body)


def _complete(talker: Talker, vault: str, lock_id: str) -> Reply:
    return talker.ask("POST", f"/-/vaults/{vault}/lock-policy/{lock_id}")


def _abort(talker: Talker, vault: str) -> Reply:
    return talker.ask("DELETE", f"/-/vaults/{vault}/lock-policy")


def _get(talker: Talker, vault: str) -> Reply:
    return talker.ask("GET", f"/-/vaults/{vault}/lock-policy")


def test_without_a_lock(talker: Talker, vault: str) -> None:
    assert _get(talker, vault).error[:2] == MISSING
    assert _abort(talker, vault).status == 204
    assert _complete(talker, vault, "x").error[:2] == MISSING


def test_in_progress(talker: Talker, vault: str) -> None:
    begun = _initiate(talker, vault)
    assert (begun.status, begun.body) == (201, b"")
    assert len(begun.headers["x-amz-lock-id"]) == 24
    shown = _get(talker, vault).json
    assert list(shown) == ["Policy", "State", "CreationDate", "ExpirationDate"]
    assert (shown["Policy"], shown["State"]) == (_policy(vault), "InProgress")
    assert shown["ExpirationDate"] > shown["CreationDate"]
    assert _initiate(talker, vault).error[:2] == DENIED
    assert _complete(talker, vault, "wrong").error[:2] == INVALID
    assert _abort(talker, vault).status == 204
    assert _get(talker, vault).error[:2] == MISSING
    assert _complete(talker, vault, begun.headers["x-amz-lock-id"]).error[:2] == MISSING
    assert _initiate(talker, vault).status == 201


def test_locked_for_ever(own: RunningEmulator, talker: Talker, vault: str) -> None:
    lock_id = _initiate(talker, vault).headers["x-amz-lock-id"]
    assert [_complete(talker, vault, lock_id).status for _ in range(2)] == [204, 204]
    own.advance(40 * DAY)
    assert _complete(talker, vault, lock_id).status == 204
    assert _complete(talker, vault, "wrong").error[:2] == DENIED
    assert _initiate(talker, vault).error[:2] == DENIED
    assert _abort(talker, vault).error[:2] == DENIED
    shown = _get(talker, vault).json
    assert (shown["State"], shown["ExpirationDate"]) == ("Locked", None)


def test_a_day_without_completion_ends_it(own: RunningEmulator, talker: Talker, vault: str) -> None:
    archive = talker.upload(f"/-/vaults/{vault}/archives", b"x", {}).headers["x-amz-archive-id"]
    lock_id = _initiate(talker, vault).headers["x-amz-lock-id"]
    own.advance(DAY - 60)
    assert _get(talker, vault).json["State"] == "InProgress"
    own.advance(61)
    assert _get(talker, vault).error[:2] == MISSING
    assert _complete(talker, vault, lock_id).error[:2] == MISSING
    assert talker.ask("DELETE", f"/-/vaults/{vault}/archives/{archive}").status == 204
    assert _initiate(talker, vault).status == 201


@pytest.mark.parametrize("complete", [False, True])
def test_archives_are_kept_for_their_days(
    own: RunningEmulator, talker: Talker, vault: str, complete: bool
) -> None:
    days = {"NumericLessThan": {"glacier:archiveageindays": 3}} if complete else None
    begun = _initiate(talker, vault, _policy(vault, days))
    if complete:
        _complete(talker, vault, begun.headers["x-amz-lock-id"])
    archive = talker.upload(f"/-/vaults/{vault}/archives", b"x", {}).headers["x-amz-archive-id"]
    path = f"/-/vaults/{vault}/archives/{archive}"
    refused = talker.ask("DELETE", path).error
    assert refused[:2] == DENIED
    assert refused[2] == (
        f"User: arn:aws:iam::{ACCOUNT_ID}:root is not authorized to perform: glacier:DeleteArchive "
        f"on resource: {arn_of(vault)} with an explicit deny in a resource-based policy"
    )
    assert talker.ask("DELETE", f"/-/vaults/{vault}/archives/never").status == 204
    if complete:
        own.advance(3 * DAY - 60)
        assert talker.ask("DELETE", path).error[:2] == DENIED
        own.advance(61)
        assert talker.ask("DELETE", path).status == 204


def test_a_legal_hold_by_tag(talker: Talker, vault: str) -> None:
    hold = {"StringLike": {"glacier:ResourceTag/LegalHold": ["true", ""]}}
    assert _initiate(talker, vault, _policy(vault, hold)).status == 201
    archive = talker.upload(f"/-/vaults/{vault}/archives", b"x", {}).headers["x-amz-archive-id"]
    path, tags = f"/-/vaults/{vault}/archives/{archive}", f"/-/vaults/{vault}/tags"
    for value in ("true", ""):
        talker.ask("POST", tags, json.dumps({"Tags": {"LegalHold": value}}).encode(), query="operation=add")
        assert talker.ask("DELETE", path).error[:2] == DENIED
    talker.ask("POST", tags, b'{"Tags":{"LegalHold":"false"}}', query="operation=add")
    assert talker.ask("DELETE", path).status == 204


def test_another_accounts_principal_is_not_meant(talker: Talker, vault: str) -> None:
    other = {"Principal": {"AWS": "arn:aws:iam::999999999999:root"}}
    assert _initiate(talker, vault, _policy(vault, **other)).status == 201
    archive = talker.upload(f"/-/vaults/{vault}/archives", b"x", {}).headers["x-amz-archive-id"]
    assert talker.ask("DELETE", f"/-/vaults/{vault}/archives/{archive}").status == 204


@pytest.mark.parametrize(
    "policy",
    [
        "no json",
        "{}",
        "[" * 5000,
        '{"Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]}',
        '{"Statement": [{"Effect": "Deny", "Action": "*", "Principal": "*"}]}',
        _policy("v", {"NumericLessThan": {"glacier:ArchiveAgeInDays": "many"}}),
        _policy("v", {"IpAddress": {"aws:SourceIp": "nowhere"}}),
        '{"Statement": [], "Pad": "' + "x" * 20_480 + '"}',
    ],
)
def test_policies_that_are_refused(talker: Talker, vault: str, policy: str) -> None:
    assert _initiate(talker, vault, policy).error[:2] == INVALID


def test_a_lock_survives_a_kill(tmp_path: Path) -> None:
    accounts = write_accounts(tmp_path / "accounts.toml")
    with RunningEmulator(tmp_path / "state", accounts) as running:
        talker = Talker(running.glacier_url)
        talker.ask("PUT", "/-/vaults/v")
        lock_id = _initiate(talker, "v").headers["x-amz-lock-id"]
        _complete(talker, "v", lock_id)
        running.kill()
        running.start()
        assert _get(Talker(running.glacier_url), "v").json["State"] == "Locked"
