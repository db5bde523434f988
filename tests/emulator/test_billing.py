"""The meter: quantities and money of each item, worked out by hand; kept over restarts and deletions."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest

from backup.cost import parse_prices
from backup.emulator.billing.prices import all_rows, row_of
from backup.emulator.core.state.schema import STEPS
from backup.model import Tier
from tests.support import emulator_clients, s3_clients
from tests.support.emulated import ACCOUNT_ID, REGION, RunningEmulator, write_accounts
from tests.support.emulator_clients import pattern, tree_hash
from tests.support.s3_clients import new_bucket

DAY = 24 * 3600
GB = 1024**3
MIB = 1024 * 1024
SHARES = Decimal("0.0001")
"""How far the real time that a test takes may move a share of a month."""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    """An emulator whose clock may be stepped."""
    folder = tmp_path_factory.mktemp("billing")
    with RunningEmulator(folder / "state", write_accounts(folder / "accounts.toml")) as running:
        yield running


def to_next_month(own: RunningEmulator) -> datetime:
    """Step the clock to the first of July of the next year: a month of 31 days, and another; its date."""
    now = datetime.fromisoformat(own.now())
    year = now.year + 1
    first = datetime(year, 7, 1, tzinfo=UTC)
    own.advance((first - now).total_seconds())
    return first


def lines(
    own: RunningEmulator, name: str, month: str | None = None
) -> dict[tuple[str, str], dict[str, Decimal]]:
    """Quantity and cost by kind and item of a vault or bucket, of a month or of all."""
    found: dict[tuple[str, str], dict[str, Decimal]] = {}
    for position in own.bill()["bill"]:
        if position["name"] == name and month in (None, position["month"]):
            assert (position["account"], position["region"]) == (ACCOUNT_ID, REGION)
            assert abs(
                Decimal(position["total"]) - sum(Decimal(line["cost"]) for line in position["lines"])
            ) < Decimal("1e-10")
            for line in position["lines"]:
                sums = found.setdefault((line["kind"], line["item"]), defaultdict(Decimal))
                sums["quantity"] += Decimal(line["quantity"])
                sums["cost"] += Decimal(line["cost"])
    return found


def near(found: Decimal, expected: Decimal) -> bool:
    return abs(found - expected) <= abs(expected) * SHARES + Decimal("1e-11")


def test_the_emulators_prices_are_those_of_quotes() -> None:
    """Both were written from the same public prices: each figure of each region is equal."""
    table = parse_prices(resources.files("backup").joinpath("prices.toml").read_text(), "built in")
    prices = {(price.region, price.kind): price for price in table.prices}
    assert all_rows().keys() == prices.keys()
    for (region, kind), known in prices.items():
        row = row_of(region, kind)
        assert (row.overhead, row.index, row.minimum_days) == (
            known.overhead,
            known.index,
            known.minimum_days,
        )
        expected = {
            **{name: getattr(known, name) for name in ("storage", "upload", "download", "egress", "copy")},
            "complete": known.upload if known.complete is None else known.complete,
            **{f"{tier}_gb": price.gb for tier, price in known.retrieval.items()},
            **{f"{tier}_requests": price.requests for tier, price in known.retrieval.items()},
        }
        assert row.money == expected, (region, kind)
    assert {str(tier) for tier in Tier} == {"expedited", "standard", "bulk"}
    assert row_of("mars-north-1", "glacier") == row_of("us-east-1", "glacier")


def test_a_vault_is_billed_by_the_month(own: RunningEmulator) -> None:
    """31 days of July are a month, as 31 of August are; deleted on the 46th day, it is billed for 90."""
    glacier = emulator_clients.client(own.glacier_url)
    to_next_month(own)
    glacier.create_vault(vaultName="metered")
    body = pattern(3 * MIB)
    archive = glacier.upload_archive(vaultName="metered", body=body)["archiveId"]
    own.advance(31 * DAY)
    months = sorted({position["month"] for position in own.bill()["bill"] if position["name"] == "metered"})
    july, august = months[0], months[-1]
    assert (july[-2:], august[-2:]) == ("07", "08")
    found = lines(own, "metered", july)
    assert near(found["glacier", "storage"]["quantity"], Decimal(3 * MIB) / GB)
    assert near(found["glacier", "storage"]["cost"], Decimal(3 * MIB) / GB * Decimal("0.00405"))
    assert near(found["glacier", "overhead"]["quantity"], Decimal(32768) / GB)
    assert found["glacier", "upload requests"] == {"quantity": Decimal("0.001"), "cost": Decimal("0.00003")}
    assert ("glacier", "index") not in found
    own.advance(14 * DAY)
    glacier.delete_archive(vaultName="metered", archiveId=archive)
    own.advance(40 * DAY)
    found = lines(own, "metered", august)
    size = Decimal(3 * MIB + 32768) / GB
    assert near(found["glacier", "storage"]["quantity"], Decimal(3 * MIB) / GB * 14 / 31)
    assert near(found["glacier", "early deletion"]["quantity"], size * 45 / 30)
    assert near(found["glacier", "early deletion"]["cost"], size * 45 / 30 * Decimal("0.00405"))
    every = [position for position in own.bill()["bill"] if position["name"] == "metered"]
    assert {position["month"] for position in every} == {july, august}
    later = [position for position in own.bill(august)["bill"] if position["name"] == "metered"]
    assert later == [position for position in every if position["month"] == august]
    with pytest.raises(HTTPError):
        own.bill("2027-13")


def test_uploads_and_retrievals_of_a_vault(own: RunningEmulator) -> None:
    """Begin, parts and end of an upload cost; retrievals by tier, requests and bytes; all else is free."""
    glacier = emulator_clients.client(own.glacier_url)
    glacier.create_vault(vaultName="asked")
    body = pattern(3 * MIB)
    upload = glacier.initiate_multipart_upload(vaultName="asked", partSize=str(MIB))["uploadId"]
    for at in range(0, 3 * MIB, MIB):
        where = f"bytes {at}-{at + MIB - 1}/*"
        glacier.upload_multipart_part(
            vaultName="asked", uploadId=upload, range=where, body=body[at : at + MIB]
        )
    archive = glacier.complete_multipart_upload(
        vaultName="asked", uploadId=upload, archiveSize=str(len(body)), checksum=tree_hash(body)
    )["archiveId"]
    jobs = {}
    for tier in ("Expedited", "Standard", "Bulk"):
        wanted = {"Type": "archive-retrieval", "ArchiveId": archive, "Tier": tier}
        if tier == "Bulk":
            wanted["RetrievalByteRange"] = f"0-{MIB - 1}"
        jobs[tier] = glacier.initiate_job(vaultName="asked", jobParameters=wanted)["jobId"]
    with pytest.raises(glacier.exceptions.ResourceNotFoundException):
        glacier.initiate_job(
            vaultName="asked", jobParameters={"Type": "archive-retrieval", "ArchiveId": "x" * 138}
        )
    own.advance(9 * 3600)
    got = glacier.get_job_output(vaultName="asked", jobId=jobs["Bulk"])["body"].read()
    assert got == body[:MIB]
    glacier.list_vaults()
    found = {item: sums for (_, item), sums in lines(own, "asked").items()}
    quantities = {
        item: sums["quantity"] for item, sums in found.items() if item not in ("storage", "overhead")
    }
    gb = Decimal(MIB) / GB
    assert quantities == {
        "upload requests": Decimal("0.004"),
        "complete requests": Decimal("0.001"),
        "download requests": Decimal("0.001"),
        "egress": gb.quantize(Decimal("1e-12")),
        **{f"{tier} retrieval requests": Decimal("0.001") for tier in ("expedited", "standard", "bulk")},
        **{f"{tier} retrieval": (3 * gb).quantize(Decimal("1e-12")) for tier in ("expedited", "standard")},
        "bulk retrieval": gb.quantize(Decimal("1e-12")),
    }
    assert found["expedited retrieval requests"]["cost"] == Decimal("0.01")
    assert near(found["standard retrieval"]["cost"], 3 * gb * Decimal("0.012"))
    assert found["download requests"]["cost"] == 0


def test_a_bucket_in_the_archive_classes(own: RunningEmulator) -> None:
    """Deep Archive: 32 KiB at its price and 8 KiB at STANDARD's on top, a copy, 180 days at least."""
    s3 = s3_clients.client(own.s3_url)
    first = to_next_month(own)
    bucket = new_bucket(s3)
    s3.put_object(Bucket=bucket, Key="pack", Body=pattern(2 * MIB), StorageClass="DEEP_ARCHIVE")
    kind, month = "s3:DEEP_ARCHIVE", f"{first:%Y-%m}"
    request = {"Days": 9, "GlacierJobParameters": {"Tier": "Standard"}}
    s3.restore_object(Bucket=bucket, Key="pack", RestoreRequest=request)
    own.advance(DAY)
    assert len(s3.get_object(Bucket=bucket, Key="pack")["Body"].read()) == 2 * MIB
    own.advance(30 * DAY)
    found = lines(own, bucket, month)
    assert near(found[kind, "storage"]["cost"], Decimal(2 * MIB) / GB * Decimal("0.0018"))
    assert near(found[kind, "overhead"]["cost"], Decimal(32768) / GB * Decimal("0.0018"))
    assert near(found[kind, "index"]["cost"], Decimal(8192) / GB * Decimal("0.0245"))
    copied = Decimal(2 * MIB) / GB * (Decimal(10) - Decimal("0.5")) / 31  # to midnight, from 12 hours on
    assert near(found[kind, "copy"]["quantity"], copied)
    assert near(found[kind, "copy"]["cost"], copied * Decimal("0.0245"))
    assert found[kind, "complete requests"]["cost"] == Decimal("0.00005"), "PutObject costs as its class"
    assert found[kind, "standard retrieval requests"]["cost"] == Decimal("0.0001")
    assert near(found[kind, "standard retrieval"]["cost"], Decimal(2 * MIB) / GB * Decimal("0.024"))
    assert near(found[kind, "egress"]["cost"], Decimal(2 * MIB) / GB * Decimal("0.09"))
    s3.put_object(Bucket=bucket, Key="pack", Body=b"another", StorageClass="DEEP_ARCHIVE")
    s3.delete_object(Bucket=bucket, Key="pack")
    found = lines(own, bucket)
    early = Decimal(2 * MIB + 32768) / GB * 149 / 30 + Decimal(7 + 32768) / GB * 6
    assert near(found[kind, "early deletion"]["quantity"], early), "replaced is deleted"


def test_parts_and_small_objects_and_transitions(own: RunningEmulator) -> None:
    """Open parts wait at STANDARD's price; small objects are billed as 128 KiB; a lifecycle's moves cost."""
    s3 = s3_clients.client(own.s3_url)
    first = to_next_month(own)
    bucket = new_bucket(s3)
    upload = s3.create_multipart_upload(Bucket=bucket, Key="big", StorageClass="GLACIER")["UploadId"]
    s3.upload_part(Bucket=bucket, Key="big", UploadId=upload, PartNumber=1, Body=pattern(MIB))
    s3.put_object(Bucket=bucket, Key="small", Body=b"1234", StorageClass="GLACIER_IR")
    s3.put_object(Bucket=bucket, Key="moved", Body=pattern(MIB))
    moves = [{"Days": 10, "StorageClass": "GLACIER"}]
    rule = {"ID": "r", "Status": "Enabled", "Filter": {"Prefix": "moved"}, "Transitions": moves}
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})
    own.advance(11 * DAY)
    s3.abort_multipart_upload(Bucket=bucket, Key="big", UploadId=upload)
    own.advance(20 * DAY)
    s3.get_object(Bucket=bucket, Key="small")["Body"].read()
    found = lines(own, bucket, f"{first:%Y-%m}")
    mib = Decimal(MIB) / GB
    assert near(found["s3:STANDARD", "parts"]["quantity"], mib * 11 / 31)
    assert near(found["s3:STANDARD", "storage"]["quantity"], mib * 11 / 31)
    assert near(found["s3:GLACIER", "storage"]["quantity"], mib * 20 / 31)
    assert found["s3:GLACIER", "upload requests"]["cost"] == Decimal("0.0000108"), "begun, and one part"
    assert found["s3:GLACIER", "complete requests"]["cost"] == Decimal("0.00003"), "the transition"
    small = found["s3:GLACIER_IR", "storage"]["quantity"]
    whole = small + found["s3:GLACIER_IR", "minimum size"]["quantity"]
    assert near(whole, Decimal(128 * 1024) / GB)
    later = lines(own, bucket)
    assert later["s3:GLACIER_IR", "standard retrieval"]["quantity"] == (Decimal(4) / GB).quantize(
        Decimal("1e-12")
    )


def test_bills_are_kept_over_a_kill_and_the_vaults_end(own: RunningEmulator) -> None:
    glacier = emulator_clients.client(own.glacier_url)
    glacier.create_vault(vaultName="gone")
    archive = glacier.upload_archive(vaultName="gone", body=b"content")["archiveId"]
    own.advance(100 * DAY)
    before = lines(own, "gone")
    own.kill()
    own.start()
    glacier = emulator_clients.client(own.glacier_url)
    glacier.delete_archive(vaultName="gone", archiveId=archive)
    own.make_inventories()
    glacier.delete_vault(vaultName="gone")
    after = lines(own, "gone")
    assert before.keys() == after.keys()
    assert all(near(after[key]["quantity"], before[key]["quantity"]) for key in before)
    assert ("glacier", "early deletion") not in after, "it was there for a hundred days"
    assert Decimal(own.bill()["total"]) > 0


BEFORE_THE_METER = 5
"""The schema's version that an emulator without a meter, and without versions of objects, left behind."""


def test_what_an_older_emulator_stored_is_billed_from_its_creation(tmp_path: Path) -> None:
    state, born = tmp_path / "state", datetime.now(UTC) - timedelta(days=40)
    state.mkdir()
    with closing(sqlite3.connect(state / "emulator.sqlite")) as old:
        for step in STEPS[:BEFORE_THE_METER]:
            old.executescript(step)
        born_ms = int(born.timestamp() * 1000)
        old.execute(f"PRAGMA user_version = {BEFORE_THE_METER}")
        old.execute(
            "INSERT INTO vaults (id, account_id, region, name, created_ms) VALUES (1, ?, ?, 'old', ?)",
            (ACCOUNT_ID, REGION, born_ms),
        )
        old.execute(
            "INSERT INTO archives (archive_id, vault, description, created_ms, size, tree_hash) "
            "VALUES ('a', 1, '', ?, ?, '')",
            (born_ms, GB),
        )
        old.execute(
            "INSERT INTO buckets (id, name, account_id, region, created_ms) VALUES (1, 'olden', ?, ?, ?)",
            (ACCOUNT_ID, REGION, born_ms),
        )
        old.execute(
            "INSERT INTO objects (id, bucket, key, size, etag, created_ms, class, headers, algorithm, "
            "checksum, checksum_type) "
            "VALUES (7, 1, x'6b', 0, 'e', ?, 'STANDARD', '{}', 'CRC32', '', 'FULL_OBJECT')",
            (born_ms,),
        )
        old.commit()
    with RunningEmulator(state, write_accounts(tmp_path / "accounts.toml")) as emulator:
        stored: Any = lines(emulator, "old")["glacier", "storage"]
        s3 = s3_clients.client(emulator.s3_url)
        found = s3.list_object_versions(Bucket="olden")["Versions"]
        assert [(version["Key"], version["VersionId"], version["IsLatest"]) for version in found] == [
            ("k", "null", True)
        ]
    assert Decimal("1.2") < stored["quantity"] < Decimal("1.5")
