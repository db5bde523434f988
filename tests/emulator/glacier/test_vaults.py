"""Vault operations over HTTP, with boto3 and raw."""

from __future__ import annotations

import re
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.emulated import ACCOUNT_ID, REGION, RunningEmulator
from tests.support.emulator_clients import Talker, arn_of, client, code_and_message, new_vault_name

MS_DATE = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture
def glacier(emulator: RunningEmulator) -> Any:
    return client(emulator.glacier_url)


def test_a_fresh_vault_on_the_wire(talker: Talker) -> None:
    vault = new_vault_name()
    created = talker.ask("PUT", f"/-/vaults/{vault}")
    assert (created.status, created.body) == (201, b"")
    assert created.headers["location"] == f"/{ACCOUNT_ID}/vaults/{vault}"
    assert len(created.headers["x-amzn-requestid"]) == 48
    described = talker.ask("GET", f"/-/vaults/{vault}")
    assert described.headers["content-type"] == "application/json"
    expected = (
        rf'\{{"CreationDate":"{MS_DATE}","LastInventoryDate":null,"NumberOfArchives":0,"SizeInBytes":0,'
        rf'"VaultARN":"{arn_of(vault)}","VaultName":"{vault}"\}}'
    )
    assert re.fullmatch(expected, described.body.decode())


def test_creating_again_changes_nothing(glacier: Any) -> None:
    vault = new_vault_name()
    glacier.create_vault(vaultName=vault)
    before = glacier.describe_vault(vaultName=vault)["CreationDate"]
    glacier.create_vault(vaultName=vault, accountId=ACCOUNT_ID)
    assert glacier.describe_vault(vaultName=vault)["CreationDate"] == before


def test_a_vault_that_is_not_there(talker: Talker) -> None:
    expected = (404, "ResourceNotFoundException", f"Vault not found for ARN: {arn_of('nowhere')}")
    for path in ("", "/jobs", "/multipart-uploads", "/jobs/x/output"):
        reply = talker.ask("GET", f"/-/vaults/nowhere{path}")
        assert reply.error == expected
        assert reply.json["type"] == "Client"


def test_names_with_other_characters(talker: Talker) -> None:
    created = talker.send("PUT", "/-/vaults/a$b", b"", talker.signed("PUT", "/-/vaults/a%24b"))
    assert created.error == (400, "InvalidParameterValueException", f"Invalid vault name: {arn_of('a$b')}")
    assert talker.ask("PUT", "/-/vaults/" + "a" * 256).status == 400


def test_vaults_are_parted_by_region(glacier: Any, talker: Talker) -> None:
    vault = new_vault_name()
    glacier.create_vault(vaultName=vault)
    elsewhere = talker.ask("GET", f"/-/vaults/{vault}", region="us-west-2")
    assert (
        elsewhere.error[2]
        == f"Vault not found for ARN: arn:aws:glacier:us-west-2:{ACCOUNT_ID}:vaults/{vault}"
    )


def test_listing_pages_by_ten_in_ascii_order(talker: Talker) -> None:
    names = [f"{letter}{number}" for letter in "bAa" for number in range(4)]
    for name in names:
        talker.ask("PUT", f"/-/vaults/{name}", region="us-east-2")
    first = talker.ask("GET", "/-/vaults", region="us-east-2").json
    assert list(first) == ["Marker", "VaultList"]
    assert [vault["VaultName"] for vault in first["VaultList"]] == sorted(names)[:10]
    assert first["Marker"] == f"arn:aws:glacier:us-east-2:{ACCOUNT_ID}:vaults/{sorted(names)[9]}"
    marker = first["Marker"].replace(":", "%3A").replace("/", "%2F")
    rest = talker.ask("GET", "/-/vaults", query=f"marker={marker}", region="us-east-2").json
    assert [vault["VaultName"] for vault in rest["VaultList"]] == sorted(names)[10:]
    assert rest["Marker"] is None


@pytest.mark.parametrize("limit", ["0", "11", "x", "-1"])
def test_limits_out_of_range(talker: Talker, limit: str) -> None:
    assert talker.ask("GET", "/-/vaults", query=f"limit={limit}").error[:2] == (
        400,
        "InvalidParameterValueException",
    )


def test_pagination_with_boto3(emulator: RunningEmulator, glacier: Any) -> None:
    names = {new_vault_name() for _ in range(3)}
    for name in names:
        glacier.create_vault(vaultName=name)
    pages = glacier.get_paginator("list_vaults").paginate(PaginationConfig={"PageSize": 2})
    assert names <= {vault["VaultName"] for page in pages for vault in page["VaultList"]}


def test_another_account_is_denied(talker: Talker) -> None:
    reply = talker.ask("GET", "/999999999999/vaults")
    assert reply.error[:2] == (403, "AccessDeniedException")


def test_counts_are_those_of_the_last_inventory(emulator: RunningEmulator, glacier: Any) -> None:
    vault = new_vault_name()
    glacier.create_vault(vaultName=vault)
    glacier.upload_archive(vaultName=vault, body=b"12345")
    assert glacier.describe_vault(vaultName=vault)["NumberOfArchives"] == 0
    emulator.advance(24 * 3600)
    described = glacier.describe_vault(vaultName=vault)
    assert (described["NumberOfArchives"], described["SizeInBytes"]) == (1, 32773)
    made = described["LastInventoryDate"]
    emulator.advance(48 * 3600)
    assert glacier.describe_vault(vaultName=vault)["LastInventoryDate"] == made


def test_deleting_follows_the_inventory(emulator: RunningEmulator, glacier: Any) -> None:
    vault = new_vault_name()
    glacier.delete_vault(vaultName=vault)
    glacier.create_vault(vaultName=vault)
    archive = glacier.upload_archive(vaultName=vault, body=b"1")["archiveId"]
    message = f"Vault not empty or recently written to: {arn_of(vault)}"
    for act in (
        lambda: None,
        lambda: glacier.delete_archive(vaultName=vault, archiveId=archive),
        lambda: glacier.upload_archive(vaultName=vault, body=b"2"),
        emulator.make_inventories,
    ):
        act()
        with pytest.raises(ClientError) as refused:
            glacier.delete_vault(vaultName=vault)
        assert code_and_message(refused) == ("InvalidParameterValueException", message)


def test_an_empty_inventory_lets_a_vault_go(emulator: RunningEmulator, glacier: Any) -> None:
    vault = new_vault_name()
    glacier.create_vault(vaultName=vault)
    archive = glacier.upload_archive(vaultName=vault, body=b"1")["archiveId"]
    glacier.delete_archive(vaultName=vault, archiveId=archive)
    upload = glacier.initiate_multipart_upload(vaultName=vault, partSize="1048576")["uploadId"]
    emulator.make_inventories()
    glacier.initiate_job(vaultName=vault, jobParameters={"Type": "inventory-retrieval"})
    glacier.delete_vault(vaultName=vault)
    glacier.delete_vault(vaultName=vault)
    glacier.create_vault(vaultName=vault)
    assert glacier.list_jobs(vaultName=vault)["JobList"] == []
    with pytest.raises(ClientError):
        glacier.list_parts(vaultName=vault, uploadId=upload)


def test_requests_that_are_no_operation(talker: Talker) -> None:
    vault = new_vault_name()
    for method, path, query in (
        ("PATCH", f"/-/vaults/{vault}", ""),
        ("GET", f"/-/no/{REGION}", ""),
        ("POST", f"/-/vaults/{vault}/tags", "operation=other"),
        ("PUT", f"/-/vaults/{vault}/lock-policy", ""),
    ):
        assert talker.ask(method, path, query=query).error[:2] == (400, "BadRequest")
