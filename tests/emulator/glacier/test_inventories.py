"""Inventories: snapshots, their exact bytes, their pages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from backup.emulator.core.state.clock import DAY_MS
from backup.emulator.core.state.meter import BilledStore
from backup.emulator.core.state.store import Store, Transaction
from backup.emulator.glacier.archives import Piece, add_archive
from backup.emulator.glacier.inventories import (
    as_csv,
    as_json,
    make_due_inventories,
    make_inventory,
    select_items,
)
from tests.support.emulated import RunningEmulator
from tests.support.emulator_clients import arn_of, client, code_and_message, new_vault_name

HOURS = 5 * 3600


@pytest.fixture
def tx(tmp_path: Path) -> Iterator[Transaction]:
    store = Store(tmp_path / "state", speed=1)
    with store.transaction() as found:
        found.db.execute("INSERT INTO vaults VALUES (1, '1', 'r', 'v', 0, NULL, NULL, 0, 0)")
        yield found
    store.close()


def _add(tx: Transaction, size: int, description: str = "") -> None:
    add_archive(
        tx, BilledStore("1", "glacier", "r", "v"), 1, description, "ab" * 32, [Piece(0, size, "file", b"")]
    )


def _items(tx: Transaction, **how: Any) -> tuple[list[Any], int | None]:
    given = {"start_ms": None, "end_ms": None, "first": 0, "limit": None, **how}
    return select_items(tx, 1, **given)


def test_sizes_that_real_jobs_reported(tx: Transaction) -> None:
    _add(tx, 5)
    make_inventory(tx, 1, 0)
    arn = "arn:aws:glacier:ap-northeast-1:123456789012:vaults/examplevault"
    assert len(as_json(arn, 0, _items(tx)[0])) == 443


def test_sizes_that_another_real_job_reported(tx: Transaction) -> None:
    _add(tx, 5798098, "20170822-respaldo01")
    _add(tx, 2803, "20170822-respaldo02")
    make_inventory(tx, 1, 0)
    arn = "arn:aws:glacier:us-west-2:123456789012:vaults/iot-cloud-mis-respaldos"
    assert len(as_json(arn, 0, _items(tx)[0])) == 806


def test_csv_quotes_as_the_service_does(tx: Transaction) -> None:
    for text in ("plain", "a,b", 'say "hi"', "back\\slash"):
        _add(tx, 1, text)
    make_inventory(tx, 1, 0)
    lines = as_csv(_items(tx)[0]).decode().split("\r\n")
    assert lines[0] == "ArchiveId,ArchiveDescription,CreationDate,Size,SHA256TreeHash"
    assert [line.split(",", 1)[1].split(",20")[0] for line in lines[1:-1]] == [
        *("plain", '"a,b"', '"say \\"hi\\""', "back\\slash"),
    ]
    assert lines[-1] == ""


def test_daily_only_if_something_changed(tx: Transaction) -> None:
    make_due_inventories(tx)
    assert tx.db.execute("SELECT inventory_ms FROM vaults").fetchone()[0] is None
    _add(tx, 1)
    changed = tx.db.execute("SELECT changed_ms FROM vaults").fetchone()[0]
    make_due_inventories(tx)
    assert tx.db.execute("SELECT inventory_ms FROM vaults").fetchone()[0] is None
    tx.db.execute("UPDATE vaults SET changed_ms = ?", (changed - DAY_MS,))
    make_due_inventories(tx)
    row = tx.db.execute("SELECT * FROM vaults").fetchone()
    assert row["inventory_ms"] == (changed - DAY_MS) // DAY_MS * DAY_MS + DAY_MS
    assert (row["changed_ms"], row["inventory_archives"]) == (None, 1)


def test_pages_of_items(tx: Transaction) -> None:
    for size in range(1, 6):
        _add(tx, size)
    tx.db.execute("UPDATE archives SET created_ms = size * 1000")
    make_inventory(tx, 1, 0)
    rows, following = _items(tx, limit=2)
    assert [row["size"] for row in rows] == [1, 2]
    rows, following = _items(tx, limit=2, first=following)
    assert [row["size"] for row in rows] == [3, 4]
    rows, following = _items(tx, limit=2, first=following)
    assert ([row["size"] for row in rows], following) == ([5], None)
    rows, _ = _items(tx, start_ms=2000, end_ms=4000)
    assert [row["size"] for row in rows] == [2, 3]


@pytest.fixture
def glacier(emulator: RunningEmulator) -> Any:
    return client(emulator.glacier_url)


@pytest.fixture
def vault(glacier: Any) -> str:
    name = new_vault_name()
    glacier.create_vault(vaultName=name)
    return name


def _ask(glacier: Any, vault: str, **more: Any) -> str:
    wanted = {"Type": "inventory-retrieval", **more}
    return str(glacier.initiate_job(vaultName=vault, jobParameters=wanted)["jobId"])


def _sizes(glacier: Any, vault: str, job: str) -> list[int]:
    output = glacier.get_job_output(vaultName=vault, jobId=job)["body"].read()
    return [entry["Size"] for entry in json.loads(output)["ArchiveList"]]


def test_before_the_first_inventory(glacier: Any, vault: str) -> None:
    glacier.upload_archive(vaultName=vault, body=b"x")
    with pytest.raises(ClientError) as refused:
        _ask(glacier, vault)
    assert code_and_message(refused) == (
        "ResourceNotFoundException",
        (
            f"Inventory retrieval jobs for vault {arn_of(vault)} cannot be initiated yet, as Amazon Glacier "
            "has not yet generated an initial inventory for this vault."
        ),
    )


def test_an_inventory_is_a_snapshot(emulator: RunningEmulator, glacier: Any, vault: str) -> None:
    first = glacier.upload_archive(vaultName=vault, body=b"x")["archiveId"]
    emulator.make_inventories()
    glacier.upload_archive(vaultName=vault, body=b"xx")
    glacier.delete_archive(vaultName=vault, archiveId=first)
    job = _ask(glacier, vault)
    described = glacier.describe_job(vaultName=vault, jobId=job)
    assert "InventorySizeInBytes" not in described
    assert described["InventoryRetrievalParameters"] == {"Format": "JSON"}
    assert "Tier" not in described
    emulator.advance(HOURS)
    assert _sizes(glacier, vault, job) == [1]
    assert arn_of(vault) in emulator.make_inventories()
    assert arn_of(vault) not in emulator.make_inventories()
    later = _ask(glacier, vault)
    emulator.advance(HOURS)
    assert _sizes(glacier, vault, later) == [2]
    assert _sizes(glacier, vault, job) == [1]


def test_output_on_the_wire(emulator: RunningEmulator, glacier: Any, vault: str) -> None:
    archive = glacier.upload_archive(vaultName=vault, body=b"12345")
    emulator.make_inventories()
    job = _ask(glacier, vault)
    emulator.advance(HOURS)
    output = glacier.get_job_output(vaultName=vault, jobId=job)
    text = output["body"].read().decode()
    assert output["contentType"] == "application/json"
    assert "checksum" not in output
    described = glacier.describe_job(vaultName=vault, jobId=job)
    assert described["InventorySizeInBytes"] == len(text)
    inventory = json.loads(text)
    made = glacier.describe_vault(vaultName=vault)["LastInventoryDate"]
    assert inventory["InventoryDate"] == made[:19] + "Z"
    created = inventory["ArchiveList"][0]["CreationDate"]
    assert text == (
        f'{{"VaultARN":"{arn_of(vault)}","InventoryDate":"{made[:19]}Z","ArchiveList":[{{'
        f'"ArchiveId":"{archive["archiveId"]}","ArchiveDescription":"","CreationDate":"{created}","Size":5,'
        f'"SHA256TreeHash":"{archive["checksum"]}"}}]}}'
    )
    datetime.strptime(created, "%Y-%m-%dT%H:%M:%SZ")  # noqa: DTZ007
    part = glacier.get_job_output(vaultName=vault, jobId=job, range="bytes=0-9")
    assert (part["status"], part["body"].read().decode()) == (206, text[:10])
    assert "checksum" not in part


def test_csv_output(emulator: RunningEmulator, glacier: Any, vault: str) -> None:
    glacier.upload_archive(vaultName=vault, body=b"12345")
    emulator.make_inventories()
    job = _ask(glacier, vault, Format="CSV")
    emulator.advance(HOURS)
    output = glacier.get_job_output(vaultName=vault, jobId=job)
    assert output["contentType"] == "text/csv"
    assert output["body"].read().count(b"\r\n") == 2


def test_pages_over_jobs(emulator: RunningEmulator, glacier: Any, vault: str) -> None:
    for size in range(1, 6):
        glacier.upload_archive(vaultName=vault, body=b"x" * size)
    emulator.make_inventories()
    found: list[int] = []
    marker: dict[str, str] = {}
    for _ in range(3):
        given = {
            "Limit": "2",
            "StartDate": "2000-01-01T00:00:00Z",
            "EndDate": "2999-01-01T00:00:00Z",
            **marker,
        }
        job = _ask(glacier, vault, InventoryRetrievalParameters=given)
        emulator.advance(HOURS)
        found += _sizes(glacier, vault, job)
        shown = glacier.describe_job(vaultName=vault, jobId=job)["InventoryRetrievalParameters"]
        assert (shown["Limit"], shown["StartDate"]) == ("2", "2000-01-01T00:00:00Z")
        marker = {"Marker": shown["Marker"]} if "Marker" in shown else {}
    assert found == [1, 2, 3, 4, 5]
    assert not marker
    none = _ask(glacier, vault, InventoryRetrievalParameters={"EndDate": "2000-01-01T00:00:00Z"})
    emulator.advance(HOURS)
    assert _sizes(glacier, vault, none) == []


def test_an_empty_vault_may_be_listed_once_an_inventory_was_made(
    emulator: RunningEmulator, glacier: Any, vault: str
) -> None:
    emulator.make_inventories()
    job = _ask(glacier, vault)
    emulator.advance(HOURS)
    assert _sizes(glacier, vault, job) == []
