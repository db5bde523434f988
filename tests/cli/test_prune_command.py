"""`nightvault prune` as a user gives it: condemned, days later deleted; what it says, on 80 columns."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from rich.cells import cell_len

from backup.config import load_config
from backup.inventory.store.database import open_inventory
from tests.support.doubles import ManualClock
from tests.support.forgets import DAY, three_nights
from tests.support.servers import OnTerminal, Server, directory_server, replace
from tests.support.trees import assert_same_tree


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def server(tmp_path: Path, clock: ManualClock) -> Server:
    """Three nights; the first two are forgotten, and a file that only the second had can go."""
    made = directory_server(tmp_path, clock=clock)
    made.init()
    three_nights(made)
    return made


def stored(server: Server) -> dict[str, str]:
    """The archives of the inventory, with their states."""
    return {archive["archive_id"]: archive["state"] for archive in server.json("archives")}


def test_condemned_and_days_later_deleted(server: Server, clock: ManualClock, tmp_path: Path) -> None:
    before = stored(server)
    plan = server.json("prune", "--dry-run")
    assert (plan["plan"], plan["condemned"]["archives"], plan["may_delete"]) == (True, 1, True)
    assert stored(server) == before
    first = server.json("prune")
    assert first["condemned"] == plan["condemned"]
    (group,) = first["condemned_groups"]
    assert (group["why"], group["archives"]) == ("grace", 1)
    assert group["grace_ends"] == group["until"] == (clock.now() + timedelta(days=3)).isoformat()
    (condemned,) = [archive_id for archive_id, state in stored(server).items() if state == "condemned"]
    clock.advance(2 * DAY)
    assert server.json("prune")["deleted"]["archives"] == 0
    clock.advance(2 * DAY)
    would = server.json("prune", "--dry-run")
    assert (would["deleted"]["archives"], len(would["dropped"]["main"])) == (1, 1)
    done = server.json("prune")
    assert done["deleted"]["archives"] == 1
    assert done["dropped"] == would["dropped"], "the plan says which snapshots will be gone for good"
    assert condemned not in stored(server)
    assert not list((tmp_path / "vault").rglob(f"*{condemned}*"))
    assert "there is nothing to do" in server.done("prune").stdout
    assert_same_tree(server.restore(tmp_path / "out"), server.source)
    assert server.done("check").exit_code == server.done("check", "--inventory").exit_code == 0


def test_every_prune_is_a_run(server: Server) -> None:
    server.done("prune", "--dry-run")
    assert "prune" not in [run["kind"] for run in server.json("runs")], "a plan is none"
    server.done("prune")
    of_vault, of_job = server.json("runs")[:2]
    assert (of_vault["kind"], of_vault["job"], of_vault["outcome"]) == ("prune", None, "done")
    assert of_vault["report"]["vault"] == "cold"
    assert (of_job["kind"], of_job["job"]) == ("prune", "main")


def test_the_new_recovery_line_is_kept(server: Server) -> None:
    lines = server.state / "recovery-lines.txt"
    before = lines.read_text()
    report = server.json("prune")
    assert report["recovery_lines"]["main"] in lines.read_text() != before


def test_records_of_old_runs_go_and_what_they_made_stays(
    server: Server, clock: ManualClock, tmp_path: Path
) -> None:
    server.restore(tmp_path / "out")
    for _ in range(7):
        server.done("check")
    clock.advance(401 * DAY)
    server.done("check")
    server.backup()
    clock.advance(DAY)
    before = {run["run"] for run in server.json("runs", "--limit", "100")}
    snapshots = server.json("snapshots")
    would = " ".join(server.run("prune", "--dry-run", runner=OnTerminal()).stdout.split())
    assert "records of 6 runs and 1 restore from before 2026-" in would
    assert "would be removed" in would
    assert {run["run"] for run in server.json("runs", "--limit", "100")} == before
    plan, done = server.json("prune", "--dry-run"), server.json("prune")
    assert plan["old_runs"] == done["old_runs"]
    assert (done["old_runs"]["runs"], done["old_runs"]["restores"]) == (6, 1)
    left = {run["run"] for run in server.json("runs", "--limit", "100")}
    assert len(before - left) == 6
    assert server.json("snapshots") == snapshots
    assert server.json("prune")["old_runs"]["runs"] == 0
    assert server.done("check", "--inventory").exit_code == 0
    assert_same_tree(server.restore(tmp_path / "again"), server.source)


def test_keep_runs_is_that_of_the_config(server: Server, clock: ManualClock) -> None:
    replace(server, "[[vault]]", '[inventory]\nkeep_runs = "90d"\n\n[[vault]]')
    for days in (1, 1, 1, 85):
        server.done("check")
        clock.advance(days * DAY)
    assert server.json("prune")["old_runs"]["runs"] == 0
    clock.advance(30 * DAY)
    assert server.json("prune")["old_runs"]["runs"] == 3, "but for the newest check"


def test_what_it_says_fits_80_columns(server: Server, clock: ManualClock) -> None:
    told: list[str] = []
    for days in (0, 1, 3, 0):
        clock.advance(days * DAY)
        for words in (["prune", "--dry-run"], ["prune"]):
            result = server.run(*words, runner=OnTerminal())
            assert result.exit_code == 0, result.output
            told.append(result.stdout + result.stderr)
    lines = [line for text in told for line in text.splitlines()]
    assert max(cell_len(line.rstrip()) for line in lines) <= 80, lines
    assert "condemned      1 archive" in told[1]
    assert "grace ends" in told[1]
    assert "undelete" in told[1]
    assert "a plan: nothing was done" in told[0]
    assert "deleted        1 archive" in told[5]
    assert "gone for good  1 forgotten snapshot of job main" in told[5]


def test_a_server_that_does_not_delete_says_who_should(server: Server, clock: ManualClock) -> None:
    replace(server, 'kind = "directory"', 'kind = "directory"\ndeletes = "elsewhere"')
    server.done("prune")
    before = set(stored(server))
    clock.advance(10 * DAY)
    result = server.done("prune")
    assert "who may delete" in result.stdout
    assert 'deletes = "elsewhere"' in result.stderr
    assert set(stored(server)) >= before
    assert not server.json("prune")["may_delete"]


def test_grace_is_that_of_the_config(server: Server, clock: ManualClock) -> None:
    replace(server, 'kind = "directory"', 'kind = "directory"\nprune_grace = "2w"')
    server.done("prune")
    clock.advance(13 * DAY)
    assert server.json("prune")["deleted"]["archives"] == 0
    clock.advance(2 * DAY)
    assert server.json("prune")["deleted"]["archives"] == 1


def test_beside_a_backup_or_another_prune(server: Server) -> None:
    config = load_config(str(server.config))
    inventory = open_inventory(config.inventory_url, lock_directory=config.state_dir)
    try:
        with inventory.locked("backup"):
            assert "backup" in server.fails(11, "prune")
            assert "backup" in server.fails(11, "prune", "--dry-run")
    finally:
        inventory.close()
    assert server.json("runs")[0]["kind"] != "prune", "nothing was done"
    assert server.json("prune")["condemned"]["archives"] == 1


def test_an_old_copy_of_the_inventory_stops_it(server: Server, tmp_path: Path) -> None:
    """Another machine with a copy went on: its catalogs are not known here, and nothing is deleted."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in server.state.glob("inventory.sqlite*"):
        (copy / path.name).write_bytes(path.read_bytes())
    (server.source / "later").write_text("later")
    server.backup()
    for path in server.state.glob("inventory.sqlite*"):
        path.unlink()
    for path in copy.iterdir():
        (server.state / path.name).write_bytes(path.read_bytes())
    before = len(list((tmp_path / "vault").rglob("*")))
    said = server.fails(1, "prune")
    assert "rebuild" in said
    assert len(list((tmp_path / "vault").rglob("*"))) == before


WRONG: list[tuple[list[str], str]] = [
    (["--vault", "warm"], "no vault named warm"),
    (["--vault"], "requires an argument"),
    (["--max-fee", "much"], "must be an amount of money"),
    (["--max-fee", "-1"], "must be an amount of money"),
    (["--max-fee", "1e3"], "must be an amount of money"),
    (["--max-fee"], "requires an argument"),
    (["--vault", ""], "no vault named"),
    (["--dry"], "No such option"),
    (["--wait=yes"], "does not take a value"),
    (["--patience", "soon"], "--patience"),
]


@pytest.mark.parametrize(("words", "said"), WRONG)
def test_wrong_words(tmp_path: Path, words: list[str], said: str) -> None:
    server = directory_server(tmp_path)
    server.init()
    assert said in server.fails(2, "prune", *words)


@pytest.mark.parametrize("value", ['"89d"', '"101y"', '"1m"', '"all"', '""', "400", "true"])
def test_wrong_times_to_keep_runs(tmp_path: Path, value: str) -> None:
    server = directory_server(tmp_path)
    replace(server, "[[vault]]", f"[inventory]\nkeep_runs = {value}\n\n[[vault]]")
    assert "inventory.keep_runs: must be a text such as" in server.fails(2, "prune")


SETTINGS: list[tuple[str, str]] = [
    ('prune_grace = "3"', "vault[1].prune_grace: must be a text such as"),
    ("prune_grace = 3", "vault[1].prune_grace: must be a text such as"),
    ('prune_grace = "1m"', "vault[1].prune_grace: must be a text such as"),
    ('prune_grace = "0d"', "vault[1].prune_grace: must be a text such as"),
    ('prune_grace = "400d"', "vault[1].prune_grace: must be a text such as"),
    ('deletes = "there"', "vault[1].deletes: must be here or elsewhere"),
    ("deletes = true", "vault[1].deletes: "),
    ('prune = "sometimes"', 'vault[1].prune: "sometimes" cannot be read'),
    ("prune = 7", "vault[1].prune: "),
]


@pytest.mark.parametrize(("line", "said"), SETTINGS)
def test_wrong_settings(tmp_path: Path, line: str, said: str) -> None:
    server = directory_server(tmp_path)
    replace(server, 'kind = "directory"', f'kind = "directory"\n{line}')
    assert said in server.fails(2, "prune")


def test_one_archive_is_told_of_in_the_singular(server: Server) -> None:
    assert re.search(r"condemned +1 archive, [^:]+: no kept snapshot needs it\n", server.done("prune").stdout)


def test_stats_tell_what_is_dead(server: Server, clock: ManualClock) -> None:
    """What a prune would delete, before it is condemned and until it is gone."""
    plan = server.json("prune", "--dry-run")["condemned"]
    for _ in range(2):
        (vault,) = server.json("stats")["vaults"]
        assert (vault["dead"]["archives"], vault["dead"]["bytes"]) == (plan["archives"], plan["bytes"])
        assert "free now: no kept snapshot needs it" in " ".join(server.done("stats").stdout.split())
        server.done("prune")
    clock.advance(4 * DAY)
    server.done("prune")
    assert server.json("stats")["vaults"][0]["dead"]["archives"] == 0
