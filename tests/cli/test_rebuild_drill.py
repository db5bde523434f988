"""`rebuild --dry-run` as a user gives it: whether this server could be rebuilt from its vault alone."""

from __future__ import annotations

import random
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.support import campaigns
from tests.support.servers import HurryingClock, Server, directory_server, running_cloud

KILLS = campaigns.share("NIGHTVAULT_TEST_KILLS", 4)
WORDS = ("rebuild", "--dry-run", "--key")


@pytest.fixture
def server(tmp_path: Path) -> Server:
    made = directory_server(tmp_path)
    made.init()
    made.backup()
    return made


def test_the_server_goes_on_as_it_was(server: Server) -> None:
    lines = server.done(*WORDS, server.key_file).stdout.splitlines()
    assert lines[0] == "job main: 1 snapshot, as of catalog 1"
    assert lines[1].startswith("the rebuilt inventory equals the one in use: ")
    assert lines[-1] == "it would cost nothing: the vault is a directory"
    assert all(len(line) <= 80 for line in lines)
    assert not (server.state / "rebuild-drill").exists()
    assert server.backup()["bytes_new"] == 0
    run = server.json("runs")[1]
    assert (run["kind"], run["outcome"], run["report"]["vault"]) == ("rebuild-drill", "done", "cold")
    assert run["report"]["same"] is True


def test_a_difference_is_1_and_a_failed_run(server: Server) -> None:
    with closing(sqlite3.connect(server.state / "inventory.sqlite")) as database, database:
        database.execute("UPDATE entries SET mtime_ns = 5 WHERE name = ?", (b"a.txt",))
    document = server.json(*WORDS, server.key_file, exit_code=1)
    (found,) = document["differences"]
    assert (found["table"], found["kind"], found["count"]) == ("entries", "mtime_ns", 1)
    assert f"{server.source}/a.txt: 5 here, " in found["examples"][0]
    shown = server.run(*WORDS, server.key_file)
    assert shown.exit_code == 1
    assert "difference: entries, mtime_ns: 1\n" in shown.stdout
    assert server.json("runs")[0]["outcome"] == "failed"
    assert "a rebuilt inventory would differ" in server.run("status").stdout


def test_what_the_vault_lacks_is_3_where_the_inventory_knows_it(server: Server) -> None:
    archives = [path for path in (server.folder / "vault" / "archives").rglob("*") if path.is_file()]
    data = max((path for path in archives if path.suffix != ".json"), key=lambda path: path.stat().st_size)
    data.unlink()
    data.with_suffix(".json").unlink(missing_ok=True)
    server.run("check")
    result = server.run(*WORDS, server.key_file)
    assert (result.exit_code, "withheld: " in result.stderr) == (3, True)
    assert server.json("runs")[0]["outcome"] == "partial"


def test_a_wrong_key_and_wrong_words_leave_no_run(server: Server, tmp_path: Path) -> None:
    server.done("key", "generate", "--out", tmp_path / "other.key")
    server.fails(12, *WORDS, tmp_path / "other.key")
    for more in ("--set-aside", "--deep"):
        assert "--dry-run goes with neither" in server.fails(2, *WORDS, server.key_file, more)
    assert [run["kind"] for run in server.json("runs")] == ["backup"]
    shutil.rmtree(server.state)
    server.fails(10, *WORDS, server.key_file)


def test_of_a_line_and_of_one_job(server: Server) -> None:
    line = server.backup()["recovery_line"]
    document = server.json(*WORDS, server.key_file, "--from", line, "--job", "main")
    assert (document["same"], document["rebuilt"]["listed_at"]) == (True, None)


@pytest.mark.parametrize("kind", ["glacier", "s3"])
def test_in_aws_it_says_what_a_real_one_costs(tmp_path: Path, kind: str) -> None:
    with running_cloud(tmp_path) as cloud:
        clock = HurryingClock(cloud.emulator)
        server = cloud.server(tmp_path / "web1", vault=f"drilled-{kind}", clock=clock, kind=kind)
        server.init()
        server.backup()
        cloud.emulator.make_inventories()
        if kind == "glacier":
            assert server.json(*WORDS, server.key_file, exit_code=17)["waits_for"] == "the vault's own list"
            assert "the drill waits for " in server.waits(*WORDS, server.key_file).stdout
        document = server.json(*WORDS, server.key_file, "--wait")
        assert document["same"] is True
        tiers = {quote["tier"]: quote for quote in document["quotes"]}
        assert set(tiers) == ({"expedited", "standard", "bulk"} if kind == "glacier" else {"standard"})
        assert all(tier["cost"]["total"] is not None for tier in tiers.values())
        assert tiers["standard"]["hours"] == ([3, 5] if kind == "glacier" else [0, 0])
        shown = server.done(*WORDS, server.key_file, "--wait").stdout
        assert "a real rebuild reads the vault's list and 1 catalog" in shown
        assert "USD by the price table" in shown
        assert ("the list takes 3 to 5 hours, then" in shown) == (kind == "glacier")


def test_killed_at_any_moment_it_leaves_nothing_after_the_next(server: Server) -> None:
    """As `kill -9` does; the server's files are as before, but for what the next drill removes."""
    chance, killed = random.Random(20261126), 0
    before = {path.name for path in server.state.iterdir()}
    began = time.monotonic()
    with server.process(*WORDS, server.key_file) as process:
        assert process.wait(60) == 0
    usual = time.monotonic() - began
    for _ in range(KILLS):
        with server.process(*WORDS, server.key_file) as process:
            time.sleep(chance.uniform(usual * 0.4, usual))
            process.kill()
            killed += process.wait(60) == -9
    assert killed, "none was killed in time"
    document = server.json(*WORDS, server.key_file)
    assert document["same"] is True
    assert {path.name for path in server.state.iterdir()} - before <= {"rebuild-drill.lock"}
    assert server.backup()["bytes_new"] == 0
