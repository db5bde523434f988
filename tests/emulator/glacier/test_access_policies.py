"""Access policies of vaults: their life cycle, what they deny, and whom they let in from another account."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.emulated import ACCOUNT_ID, RunningEmulator, StaticKey, write_accounts
from tests.support.emulator_clients import Reply, Talker, arn_of, new_vault_name

OTHER_ID = "210987654321"
OTHER = StaticKey("AKIAOTHEROTHEROTHER0", "another-secret")
DENIED = (403, "AccessDeniedException")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    """An emulator with two accounts."""
    folder = tmp_path_factory.mktemp("two")
    accounts = write_accounts(folder / "accounts.toml", others={OTHER_ID: OTHER})
    with RunningEmulator(folder / "state", accounts) as running:
        yield running


@pytest.fixture
def owner(own: RunningEmulator) -> Talker:
    return Talker(own.glacier_url)


@pytest.fixture
def guest(own: RunningEmulator) -> Talker:
    return Talker(own.glacier_url, OTHER.access_key_id, OTHER.secret_access_key)


@pytest.fixture
def vault(owner: Talker) -> str:
    name = new_vault_name()
    owner.ask("PUT", f"/-/vaults/{name}")
    return name


def _set(talker: Talker, vault: str, **statement: Any) -> Reply:
    given = {"Effect": "Allow", "Action": "glacier:*", "Resource": arn_of(vault), **statement}
    body = json.dumps({"Policy": json.dumps({"Statement": [given]})}).encode()
    return talker.ask("PUT", f"/-/vaults/{vault}/access-policy", body)


def test_set_read_and_delete(owner: Talker, vault: str) -> None:
    path = f"/-/vaults/{vault}/access-policy"
    unset = (404, "ResourceNotFoundException", f"No vault access policy is set for: {arn_of(vault)}")
    assert owner.ask("GET", path).error == unset
    policy = '{"Statement": [{"Effect":"Allow","Principal":"*","Action":"glacier:ListJobs","Resource":"*"}]}'
    put = owner.ask("PUT", path, json.dumps({"Policy": policy}).encode())
    assert (put.status, put.body) == (204, b"")
    assert owner.ask("GET", path).json == {"Policy": policy}
    assert [owner.ask("DELETE", path).status for _ in range(2)] == [204, 204]
    assert owner.ask("GET", path).error == unset


def test_mistakes(owner: Talker, vault: str) -> None:
    path = f"/-/vaults/{vault}/access-policy"
    assert owner.ask("PUT", path, b"{}").error[1] == "MissingParameterValueException"
    assert owner.ask("PUT", path, b'{"Policy": {}}').error[1] == "SerializationException"
    assert owner.ask("PUT", path, b'{"Policy": "x"}').error[1] == "InvalidParameterValueException"


def test_a_deny_holds_for_the_owner_too(owner: Talker, vault: str) -> None:
    _set(owner, vault, Effect="Deny", Action="glacier:UploadArchive", Principal="*")
    assert owner.upload(f"/-/vaults/{vault}/archives", b"x", {}).error[:2] == DENIED
    assert owner.ask("GET", f"/-/vaults/{vault}").status == 200


def test_two_accounts_are_kept_apart(owner: Talker, guest: Talker, vault: str) -> None:
    assert guest.ask("GET", f"/-/vaults/{vault}").error[:2] == (404, "ResourceNotFoundException")
    assert guest.ask("PUT", f"/-/vaults/{vault}").headers["location"] == f"/{OTHER_ID}/vaults/{vault}"
    archive = guest.upload(f"/{OTHER_ID}/vaults/{vault}/archives", b"x", {}).headers["x-amz-archive-id"]
    wanted = json.dumps({"Type": "archive-retrieval", "ArchiveId": archive}).encode()
    missing = owner.ask("POST", f"/-/vaults/{vault}/jobs", wanted)
    assert missing.error == (404, "ResourceNotFoundException", f"The archive ID was not found: {archive}")
    assert guest.ask("POST", f"/-/vaults/{vault}/jobs", wanted).status == 202
    assert guest.ask("GET", f"/{ACCOUNT_ID}/vaults/{vault}").error[:2] == DENIED
    assert guest.ask("GET", f"/{ACCOUNT_ID}/vaults").error[:2] == DENIED
    assert guest.ask("GET", "/000000000000/vaults/x").error[:2] == DENIED


@pytest.mark.parametrize("principal", [OTHER_ID, f"arn:aws:iam::{OTHER_ID}:root", "*"])
def test_a_guest_may_what_the_policy_grants(owner: Talker, guest: Talker, vault: str, principal: str) -> None:
    _set(owner, vault, Action=["glacier:UploadArchive", "glacier:Describe*"], Principal={"AWS": principal})
    path = f"/{ACCOUNT_ID}/vaults/{vault}"
    assert guest.ask("GET", path).json["VaultARN"] == arn_of(vault)
    location = guest.upload(f"{path}/archives", b"x", {}).headers["location"]
    assert location.startswith(f"/{ACCOUNT_ID}/vaults/{vault}/archives/")
    assert guest.ask("DELETE", location).error[:2] == DENIED
    assert guest.ask("GET", f"/{ACCOUNT_ID}/vaults/other").error[:2] == DENIED


def test_plain_http_may_be_denied(owner: Talker, vault: str) -> None:
    secure = {"Bool": {"aws:SecureTransport": False}}
    _set(owner, vault, Effect="Deny", Principal="*", Action="glacier:DescribeVault", Condition=secure)
    assert owner.ask("GET", f"/-/vaults/{vault}").error[:2] == DENIED
    told = {"x-forwarded-proto": "https", "x-forwarded-for": "192.0.2.1"}
    assert owner.ask("GET", f"/-/vaults/{vault}", headers=told).error[:2] == DENIED, "anyone can say so"


def test_half_a_surrogate_is_refused_wherever_it_stands(owner: Talker, vault: str) -> None:
    half = "\ud800"
    for odd in (
        {half: 1},
        {"Sid": half},
        {"Action": half},
        {"Principal": {half: "*"}},
        {"Condition": {half: {"aws:CurrentTime": "x"}}},
        {"Condition": {"StringEquals": {half: "x"}}},
    ):
        refused = _set(owner, vault, **odd)
        assert refused.error[:2] == (400, "InvalidParameterValueException"), odd


def test_policies_survive_a_restart(tmp_path: Path) -> None:
    with RunningEmulator(tmp_path / "state", write_accounts(tmp_path / "accounts.toml")) as running:
        talker = Talker(running.glacier_url)
        talker.ask("PUT", "/-/vaults/v")
        assert _set(talker, "v", Principal="*").status == 204
        running.restart()
        assert Talker(running.glacier_url).ask("GET", "/-/vaults/v/access-policy").status == 200
