"""`nightvault check` as a user gives it."""

from __future__ import annotations

import shutil
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest

from backup.app.money.prices import builtin_prices
from backup.checker.report import GRAVE, UNREAD, Affected, CheckFinding, CheckReport
from backup.cli.maintenance.check_output import next_steps
from backup.cli.trying.demonstration.local_aws import REGION
from backup.inventory.store.states import StepStage
from backup.model import VaultName
from tests.support.doubles import ManualClock
from tests.support.servers import HurryingClock, Server, directory_server, running_cloud
from tests.support.trees import assert_same_tree


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def server(tmp_path: Path, clock: ManualClock) -> Server:
    made = directory_server(tmp_path, clock=clock)
    made.init()
    made.backup()
    clock.advance(timedelta(days=1))
    return made


def lose_one(server: Server, kind: str = "data") -> str:
    """Remove an archive from the vault's directory."""
    lost = next(archive["archive_id"] for archive in server.json("archives") if archive["kind"] == kind)
    for path in (server.folder / "vault").rglob(f"*{lost}*"):
        path.unlink()
    return str(lost)


def test_it_is_still_there(server: Server) -> None:
    said = server.done("check").stdout
    assert "2 of 2 archives as stored" in said
    assert "nothing is missing or damaged" in said
    document = server.json("check")
    assert (document["state"], document["outcome"], document["findings"]) == ("done", "done", [])
    assert [run["kind"] for run in server.json("runs")] == ["check", "check", "backup"]


def test_an_archive_is_gone(server: Server, tmp_path: Path) -> None:
    lost = lose_one(server)
    result = server.run("check")
    assert result.exit_code == 1
    assert f"missing: {lost[:8]}" in result.stderr
    assert f"affected: {server.source}/a.txt" in result.stderr
    assert "3 versions of files" in result.stderr
    document = server.json("check", exit_code=1)
    assert [finding["kind"] for finding in document["findings"]] == ["lost"]
    assert document["affected"]["live_files"] == 3
    assert server.json("runs")[0]["outcome"] == "failed"
    server.backup()
    server.clock.sleep(86400)
    assert server.json("check")["affected"]["files"] == 0
    assert_same_tree(server.restore(tmp_path / "out"), server.source)


def test_a_cold_vault_takes_its_hours(tmp_path: Path) -> None:
    with running_cloud(tmp_path) as cloud:
        server = cloud.server(tmp_path / "web1", vault="nightly", clock=HurryingClock(cloud.emulator))
        server.init()
        server.backup()
        waiting = server.json("check", exit_code=17)
        assert (waiting["state"], waiting["waits_for"]) == (
            "waiting",
            "the vault to make its first list, which takes up to a day",
        )
        cloud.emulator.advance(2 * 3600)
        cloud.emulator.make_inventories()
        assert server.json("check", exit_code=17)["waits_for"] == "the vault's own list"
        assert "in some hours" in server.waits("check").stdout
        cloud.emulator.advance(5 * 3600)
        document = server.json("check")
        assert (document["state"], document["outcome"]) == ("done", "done")
        assert document["compared"]["shown"] == 2
        again = server.json("check")
        assert again["compared"]["as_of"] == document["compared"]["as_of"], "no newer one can be had yet"
        assert [run["kind"] for run in server.json("runs")] == ["check", "check", "backup"]
        (server.source / "second").write_text("night")
        server.backup()
        assert server.json("check")["compared"]["newer"] == 2


def test_the_inventory_and_its_laws(server: Server) -> None:
    assert "nothing is missing or damaged" in server.done("check", "--inventory").stdout
    with sqlite3.connect(server.state / "inventory.sqlite") as database:
        database.execute("UPDATE entries SET owner = 99")
    database.close()
    result = server.run("check", "--inventory")
    assert result.exit_code == 1
    assert "law: owners: each entry's owner is known: not so " in result.stderr


def test_reading_back(server: Server, tmp_path: Path) -> None:
    said = server.done("check", "--read-data", "100%")
    assert "no recovery key was given" in said.stdout
    assert "never read  nothing: checks have read all 192.0 KiB\n" in said.stdout
    document = server.json("check", "--read-data", "100%", "--key", server.key_file)
    assert document["read"]["opened_frames"] == document["read"]["frames"] > 0
    proven = server.json("status", exit_code=1)["proven"]
    assert proven["opened"] == proven["bytes"], "by the key that was given"
    assert server.json("runs")[0]["report"]["read"]["whole_archives"] == 2
    assert "would read" in server.done("check", "--read-data", "1%", "--dry-run").stdout
    assert len(server.json("runs")) == 3
    other = tmp_path / "other.key"
    server.done("key", "generate", "--out", other)
    assert "opens none of the archives" in server.fails(12, "check", "--read-data", "1%", "--key", other)
    for words in (["0%"], ["101%"], ["some"], ["0"], ["1%", "--inventory"]):
        server.fails(2, "check", "--read-data", *words)
    server.fails(2, "check", "--key", server.key_file)


def test_a_damaged_archive(server: Server) -> None:
    bad = next(archive["archive_id"] for archive in server.json("archives") if archive["kind"] == "data")
    (path,) = [file for file in (server.folder / "vault").rglob(f"*{bad}*") if file.suffix != ".json"]
    data = bytearray(path.read_bytes())
    data[3000] ^= 255
    path.write_bytes(data)
    result = server.run("check", "--read-data", "100%")
    assert result.exit_code == 1
    assert f"damaged: {bad[:8]}" in result.stderr
    assert [archive["state"] for archive in server.json("archives") if archive["archive_id"] == bad] == [
        "damaged"
    ]
    assert result.stderr.splitlines()[-1] == (
        "next: `nightvault backup`: it stores again what is still on this machine"
    )
    shutil.rmtree(server.source)
    server.source.mkdir()
    (server.source / "another").write_text("x")
    server.run("backup")
    told = server.run("check").stderr
    assert "next: find out what deleted or changed it: what only older snapshots had is gone" in told
    assert "next: `nightvault backup`" not in told


@pytest.mark.parametrize("kind", sorted(GRAVE | UNREAD))
def test_each_kind_of_finding_says_what_follows(kind: str) -> None:
    report = CheckReport(StepStage.DONE, VaultName("cold"), findings=(CheckFinding(kind, "id", "why"),))
    (step,) = next_steps(report)
    assert "nightvault " in step or "the same command" in step or "what the finding advises" in step


def test_findings_that_want_nothing_say_nothing() -> None:
    for kind in ("found-again", "confirmed", "adopted", "orphan", "duplicate", "other-inventory", "foreign"):
        report = CheckReport(StepStage.DONE, VaultName("cold"), findings=(CheckFinding(kind, "id", "why"),))
        assert list(next_steps(report)) == []


def test_what_another_vault_lacks_is_no_work_for_a_backup() -> None:
    findings = tuple(CheckFinding(kind, "id", "why") for kind in ("other-vault", "missing"))
    report = CheckReport(StepStage.DONE, VaultName("cold"), findings=findings, affected=Affected(3, 9, 3))
    (step,) = next_steps(report)
    assert step.startswith("put the right disk or bucket in place")


def test_reading_a_cold_vault(tmp_path: Path) -> None:
    with running_cloud(tmp_path) as cloud:
        server = cloud.server(tmp_path / "web1", vault="nightly", clock=HurryingClock(cloud.emulator))
        server.init()
        server.backup()
        words = ("check", "--read-data", "100%")
        quotes = server.json(*words, "--dry-run")["quotes"]
        assert {quote["tier"] for quote in quotes} == {"expedited", "standard", "bulk"}
        prices = tmp_path / "prices.toml"
        prices.write_text(builtin_prices().replace("us-east-1", REGION))
        with server.config.open("a") as config:
            config.write(f'\n[prices]\nfile = "{prices}"\n')
        assert "this check would cost" in server.fails(16, *words, "--max-cost", "0.000001")
        assert [run["kind"] for run in server.json("runs")] == ["backup"]
        waiting = server.json(*words, "--max-cost", "1", exit_code=17)
        assert (waiting["state"], waiting["waits_for"]) == ("waiting", "2 of 2 retrievals")
        assert "the same command again" in server.waits(*words).stdout
        cloud.emulator.advance(5 * 3600)
        document = server.json(*words, "--key", server.key_file)
        assert (document["state"], document["outcome"], document["run"]) == ("done", "done", waiting["run"])
        assert document["read"]["archives"] == document["read"]["whole_archives"] == 2
        server.done("check", "--read-data", "64KiB", "--wait")
        server.json("check", "--read-data", "1%", exit_code=17)
        assert "going on" not in server.run("check", "--read-data", "1%", "--anew").stderr
        assert [run["outcome"] for run in server.json("runs")][:2] == ["running", "interrupted"]
