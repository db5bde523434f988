"""`stats`: figures recomputed from the vault's files and the price table; what people see, on 80 columns."""

from __future__ import annotations

import json
import os
import random
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from backup.source import freshness
from tests.support.doubles import ManualClock
from tests.support.servers import Cloud, Server, directory_server, running_cloud

NIGHTS = 8
ODD = 7
"""The night on which hundreds of files change."""

PRICES = """\
date = 2026-11-01
currency = "EUR"
sources = ["a test"]
[[price]]
region = "eu-central-1"
kind = "glacier"
storage = 4000
overhead = 32768
minimum_days = 90
upload = 36
download = 0
egress = 0.1
copy = 0
[price.retrieval]
standard = { gb = 1000, requests = 500, hours = [3, 5] }
"""


@pytest.fixture(autouse=True, scope="module")
def minute_old() -> Iterator[None]:
    """As if the files of each night were a minute old: else those of the night before are read again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(freshness, "write_back_reach", lambda: 0)
        yield


@dataclass
class Lived:
    """A server after some nights: the reports of its backups, and of each night of `main`."""

    server: Server
    reports: list[dict[str, Any]]
    nights: list[dict[str, Any]]


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Lived:
    """Two jobs into a directory vault, with a file that both have: `main` each night, `extra` twice.

    Quiet nights after the second are rows that are like the second's: its run, on another day.
    """
    folder = tmp_path_factory.mktemp("lived")
    clock = ManualClock(datetime(2026, 10, 28, 1, 30, tzinfo=UTC))
    server = directory_server(folder, clock=clock)
    rng = random.Random(3)
    extra = folder / "extra"
    extra.mkdir()
    shared = rng.randbytes(300_000)
    (server.source / "shared").write_bytes(shared)
    (extra / "shared").write_bytes(shared)
    (extra / "own").write_bytes(rng.randbytes(100_000))
    with server.config.open("a") as config:
        config.write(f'[[job]]\nname = "extra"\nvault = "cold"\nsources = ["{extra}"]\n')
    server.init()
    reports: list[dict[str, Any]] = []
    nights: list[dict[str, Any]] = []
    for night in range(NIGHTS):
        if 1 < night < ODD:
            repeat_run(server, nights[1]["run"], night - 1)
            nights.append(nights[1])
        else:
            for number in range(400 if night == ODD else 5):
                (server.source / f"file {number}").write_bytes(rng.randbytes(2000))
            nights.append(server.backup())
            reports.append(nights[-1])
        if night < 2:
            reports.append(server.json("backup", "extra")[0])
        clock.advance(timedelta(days=1))
    return Lived(server, reports, nights)


def repeat_run(server: Server, run: int, days: int) -> None:
    """Another row of a run that uploaded as much, so many days later."""
    with closing(sqlite3.connect(server.state / "inventory.sqlite")) as inventory, inventory:
        inventory.execute(
            "INSERT INTO runs (kind, job, outcome, started_at, finished_at, report)"
            " SELECT kind, job, outcome, started_at + ?, finished_at + ?, report FROM runs WHERE number = ?",
            (days * 86_400_000_000, days * 86_400_000_000, run),
        )


def archives_in(vault: Path) -> list[dict[str, Any]]:
    """The archives of a directory vault, by their own files: size, description, date."""
    found = []
    for about in vault.glob("archives/*/*.json"):
        size = about.with_suffix("").stat().st_size
        found.append({**json.loads(about.read_text()), "on_disk": size})
    return found


def test_archives_and_bytes_are_what_lies_in_the_vault(lived: Lived) -> None:
    there = archives_in(lived.server.folder / "vault")
    assert len(there) == sum(report["archives"] for report in lived.reports) > len(lived.reports)
    document = lived.server.json("stats")
    (vault,) = document["vaults"]
    assert (vault["vault"], vault["kind"], vault["jobs"]) == ("cold", "directory", ["extra", "main"])
    assert (vault["archives"], vault["bytes"]) == (len(there), sum(archive["on_disk"] for archive in there))
    data = [archive["on_disk"] for archive in there if " data " in archive["description"]]
    assert vault["data"] == {"archives": len(data), "bytes": sum(data)}
    assert vault["catalogs"]["archives"] == len(there) - len(data)
    by_job = {job["job"]: job["bytes"] for job in document["jobs"]}
    assert sum(by_job.values()) == vault["bytes"]
    uploaded = dict.fromkeys(("extra", "main"), 0)
    for report in lived.reports:
        uploaded[report["job"]] += report["bytes_uploaded"]
    assert by_job == uploaded
    months = {month["month"] for month in document["months"]}
    assert months == {"2026-10", "2026-11"}
    assert sum(month["bytes"] for month in document["months"]) == vault["bytes"]
    october = [archive["on_disk"] for archive in there if archive["created_at"].startswith("2026-10")]
    assert sum(month["bytes"] for month in document["months"] if month["month"] == "2026-10") == sum(october)


def test_what_the_bytes_stand_for(lived: Lived) -> None:
    """The newest snapshots, all of them as full copies, and what is left of that after deduplication."""
    (vault,) = lived.server.json("stats")["vaults"]
    newest = {report["job"]: report for report in lived.reports}
    assert vault["newest_bytes"] == sum(report["bytes"] for report in newest.values())
    assert vault["newest_files"] == sum(report["files"] for report in newest.values())
    assert vault["snapshots"] == len(lived.reports)
    assert vault["snapshot_bytes"] == sum(report["bytes"] for report in lived.reports)
    assert vault["chunk_bytes"] == sum(report["bytes_new"] for report in lived.reports)
    assert vault["deduplication"] == pytest.approx(vault["version_bytes"] / vault["chunk_bytes"], abs=1e-4)
    assert vault["deduplication"] > 1.1, "a file of 300,000 bytes is in both jobs"
    assert vault["compression"] == pytest.approx(vault["chunk_bytes"] / vault["sealed_bytes"], abs=1e-4)
    extra, main = lived.server.json("stats")["jobs"]
    assert extra["deduplication"] == pytest.approx(4, abs=0.1), "it stored a fourth of what it has"
    assert [share["job"] for share in main["shared"]] == ["extra"]
    assert extra["shared"] == []


def test_nights_are_those_of_the_reports_and_the_odd_one_is_marked(lived: Lived) -> None:
    nights = lived.server.json("stats", "--job", "main")["nights"]
    assert [night["bytes_uploaded"] for night in nights] == [
        night["bytes_uploaded"] for night in lived.nights
    ]
    assert [night["files_read"] for night in nights] == [night["files_read"] for night in lived.nights]
    assert [night["backups"] for night in nights] == [1] * NIGHTS
    days = [datetime(2026, 10, 28, 1, 30, tzinfo=UTC) + timedelta(days=n) for n in range(NIGHTS)]
    assert [night["night"] for night in nights] == [f"{day.astimezone():%Y-%m-%d}" for day in days]
    assert [place for place, night in enumerate(nights) if night["unusual"]] == [ODD]
    assert nights[ODD]["unusual"] == [{"what": "files_read", "direction": "more", "usual": 5}]


def test_the_pace_is_that_of_the_nights_after_the_first(lived: Lived) -> None:
    """The odd night uploaded little, so it counts; `extra` had one night after its first."""
    (vault,) = lived.server.json("stats")["vaults"]
    first: set[str] = set()
    later = []
    for report in lived.reports:
        if report["job"] in first:
            later.append(report)
        first.add(report["job"])
    expected = sum(report["bytes_uploaded"] for report in later) * 365 / NIGHTS
    assert vault["pace"]["bytes"] == pytest.approx(expected, rel=1e-4)


def test_a_directory_costs_nothing_and_keeps_nobody_from_deleting(lived: Lived) -> None:
    document = lived.server.json("stats")
    (vault,) = document["vaults"]
    costs = (vault["month"], vault["month_in_a_year"], vault["requests"]["total"], vault["minimum"]["early"])
    assert costs == ("0.000000",) * 4
    assert vault["minimum"]["last"] is None
    text = lived.server.done("stats").stdout
    assert "nothing: the vault is a directory" in text
    assert document["currency"] not in text


def test_only_of_a_job_or_a_vault(lived: Lived) -> None:
    server = lived.server
    everything = server.json("stats")
    of_extra = server.json("stats", "--job", "extra")
    assert [job["job"] for job in of_extra["jobs"]] == ["extra"]
    assert of_extra["jobs"][0] == everything["jobs"][0]
    assert of_extra["vaults"][0]["bytes"] == everything["jobs"][0]["bytes"]
    assert {row["job"] for key in ("months", "nights") for row in of_extra[key]} == {"extra"}
    assert server.json("stats", "--vault", "cold") == everything
    assert server.json("stats", "--by", "age") == everything
    assert "no vault named warm" in server.fails(2, "stats", "--vault", "warm")
    assert "no job named mian" in server.fails(2, "stats", "--job", "mian")


SCREENS: list[list[str]] = [[], ["--by", "job"], ["--by", "month"], ["--by", "age"], ["--job", "main"]]


@pytest.mark.parametrize("words", SCREENS)
@pytest.mark.parametrize("is_terminal", [True, False])
def test_80_columns(lived: Lived, words: list[str], is_terminal: bool) -> None:
    """On a terminal, and where it is piped into a file, without any escape sequence."""
    said = ["stats", *words]
    text = "\n".join(lived.server.on_terminal(*said)) if is_terminal else lived.server.done(*said).stdout
    assert "█" in text
    assert "\x1b" not in text
    assert "--wide" not in text
    assert max(cell_len(line.rstrip()) for line in text.splitlines()) <= 80, text


def test_what_the_screen_tells(lived: Lived) -> None:
    lines = lived.server.done("stats").stdout.splitlines()
    assert lines[0].split() == ["vault", "cold", "directory,", "2", "jobs"]
    (odd,) = (line for line in lines if "unusual" in line)
    assert odd.rstrip().endswith("unusual: mostly 5 files (main)")
    (longest,) = (line for line in lines if "█" * 12 in line and line.startswith("2026-"))
    assert longest == odd, "hundreds of files took the most"
    months = lived.server.done("stats", "--by", "month").stdout.splitlines()
    assert [line.split()[0] for line in months[:3]] == ["month", "2026-10", "2026-11"]


def test_a_row_of_json_has_every_key_of_the_page(lived: Lived) -> None:
    """docs/json.md names each key of the document, and no other."""
    page = (Path(__file__).parents[2] / "docs" / "json.md").read_text()
    (row,) = (line for line in page.splitlines() if line.startswith("| `stats` |"))
    named = set(re.findall("`([a-z_]+)`", row))
    document = lived.server.json("stats")
    assert keys_of(document) <= named, keys_of(document) - named


def keys_of(document: Any) -> set[str]:
    if isinstance(document, list):
        return {key for part in document for key in keys_of(part)}
    if isinstance(document, dict):
        return set(document) | {key for part in document.values() for key in keys_of(part)}
    return set()


def test_where_nothing_is_stored_yet(tmp_path: Path) -> None:
    server = directory_server(tmp_path)
    server.fails(10, "stats")
    server.init()
    assert server.done("stats").stdout == "nothing is stored yet\n"
    document = server.json("stats")
    assert [document[key] for key in ("vaults", "jobs", "months", "nights")] == [[]] * 4


def test_after_a_rebuild_the_catalogs_tell_whose_archives_they_are(tmp_path: Path) -> None:
    """Runs are gone, so there is no pace yet; bytes by job are there, and all of it counts."""
    server = directory_server(tmp_path)
    server.init()
    server.backup()
    before = server.json("stats")
    server.done("rebuild", "--set-aside", "--key", server.key_file, "--wait")
    after = server.json("stats")
    assert [(job["job"], job["data"]) for job in after["jobs"]] == [("main", before["jobs"][0]["data"])]
    for key in (
        "chunk_bytes",
        "sealed_bytes",
        "snapshots",
        "snapshot_bytes",
        "newest_bytes",
        "version_bytes",
    ):
        assert after["vaults"][0][key] == before["vaults"][0][key] > 0, key
    assert 0 < after["vaults"][0]["catalogs"]["archives"] <= before["vaults"][0]["catalogs"]["archives"]
    assert after["vaults"][0]["pace"] is None
    assert after["nights"] == []


# Money: a Glacier vault on the emulator, which counts for itself.


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running_cloud(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture(scope="module")
def billed(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> tuple[Server, dict[str, int]]:
    """A server with prices of its own, and the requests that the vault saw of a backup and a check."""
    folder = tmp_path_factory.mktemp("billed")
    server = cloud.server(folder, vault="billed")
    (server.source / "large").write_bytes(os.urandom(6_500_000))
    (folder / "mine.toml").write_text(PRICES)
    with server.config.open("a") as config:
        config.write(f'\n[prices]\nfile = "{folder / "mine.toml"}"\n')
    server.init()
    names = ["InitiateMultipartUpload", "UploadMultipartPart", "CompleteMultipartUpload", "InitiateJob"]
    cloud.emulator.set_faults(
        [{"operation": name, "count": 10_000, "stall_seconds": 0.0001} for name in names]
    )
    server.backup()
    server.waits("check", "--read-data", "100%")
    counted = {fault["operation"]: fault["met"] for fault in cloud.emulator.faults()}
    cloud.emulator.set_faults([])
    return server, counted


def test_requests_are_those_that_the_vault_saw(billed: tuple[Server, dict[str, int]]) -> None:
    server, counted = billed
    (vault,) = server.json("stats")["vaults"]
    sent = counted["InitiateMultipartUpload"] + counted["UploadMultipartPart"]
    requests = vault["requests"]
    assert requests["uploads"] == sent + counted["CompleteMultipartUpload"]
    assert requests["archives"] == counted["CompleteMultipartUpload"]
    assert Decimal(requests["upload_cost"]) == Decimal(36) * requests["uploads"] / 1000
    assert requests["retrievals"] == counted["InitiateJob"] > 1
    expected = Decimal(500) * requests["retrievals"] / 1000 + Decimal(1000) * requests["retrieved"] / 2**30
    assert Decimal(requests["retrieval_cost"]) == pytest.approx(expected, abs=Decimal("0.000001"))
    total = Decimal(requests["upload_cost"]) + Decimal(requests["retrieval_cost"])
    assert Decimal(requests["total"]) == pytest.approx(total, abs=Decimal("0.000002"))


def test_a_month_is_billed_by_the_vaults_own_size(
    billed: tuple[Server, dict[str, int]], cloud: Cloud
) -> None:
    """The vault's SizeInBytes has AWS's overhead of 32 KiB an archive in it."""
    server, _ = billed
    cloud.emulator.make_inventories()
    (theirs,) = server.json("vaults")
    (vault,) = server.json("stats")["vaults"]
    (glacier,) = vault["classes"]
    assert theirs["vault_archives"] == glacier["archives"]
    assert theirs["vault_bytes"] == glacier["bytes"] + glacier["overhead"]
    month = Decimal(4000) * theirs["vault_bytes"] / 2**30
    assert Decimal(vault["month"]) == pytest.approx(month, abs=Decimal("0.000001"))
    early = Decimal(vault["minimum"]["early"])
    assert early == pytest.approx(3 * month, abs=Decimal("0.00001")), "90 days, all of it of today"
    day = datetime.now(UTC).date() + timedelta(days=91)
    assert vault["minimum"]["last"] in {day.isoformat(), (day - timedelta(days=1)).isoformat()}


def test_money_on_the_screen(billed: tuple[Server, dict[str, int]]) -> None:
    server, _ = billed
    document = server.json("stats")
    assert (document["currency"], document["prices"]["date"]) == ("EUR", "2026-11-01")
    text = server.done("stats").stdout
    cents = Decimal(document["vaults"][0]["month"]).quantize(Decimal("0.01"), rounding="ROUND_CEILING")
    assert f"{cents} EUR now" in text
    assert "not over yet for" in text
    assert "these are AWS's prices, and vault cold is at http://127.0.0.1:" in text
    assert "* as in" not in text


def test_a_figure_of_another_region_is_marked_and_named(billed: tuple[Server, dict[str, int]]) -> None:
    server, _ = billed
    config = server.config.read_text()
    server.config.write_text(config.partition("[prices]")[0])
    try:
        text = server.done("stats").stdout
        (one,) = server.json("stats")["vaults"][0]["classes"]
    finally:
        server.config.write_text(config)
    assert "0.01* USD" in text
    assert "* taken from us-east-1, not verified for eu-central-1, kind glacier: upload" in text
    assert {"figure": "upload", "as_in": "us-east-1"} in one["unverified"]


def test_a_vault_that_the_config_has_no_more_has_no_price(billed: tuple[Server, dict[str, int]]) -> None:
    server, _ = billed
    config = server.config.read_text()
    server.config.write_text(config.replace('"cold"', '"warm"'))
    try:
        (vault,) = server.json("stats", "--vault", "cold")["vaults"]
        text = server.done("stats").stdout
    finally:
        server.config.write_text(config)
    assert (vault["kind"], vault["month"], vault["requests"]["total"]) == ("unknown", None, None)
    assert vault["bytes"] > 6_500_000
    assert "no known price" in text
