"""forget: what stays and what goes, in words that cannot be misread; --undo takes it back."""

from __future__ import annotations

import json
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.vault.directory import DirectoryVault
from tests.support.doubles import ManualClock
from tests.support.servers import Server, directory_server

NIGHTS = 5
POLICY = "\n[job.retention]\nkeep_last = 2\n"


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """Five nights of a job without a policy, each with a file of its own."""
    made = directory_server(tmp_path)
    made.init()
    for night in range(NIGHTS):
        (made.source / f"night {night}").write_bytes(bytes([night]) * 70_000)
        made.backup()
        assert isinstance(made.clock, ManualClock)
        made.clock.advance(timedelta(days=1))
    return made


def with_policy(server: Server, policy: str = POLICY) -> None:
    server.config.write_text(server.config.read_text() + policy)


def ids(server: Server, *words: str) -> list[str]:
    return [snapshot["id"] for snapshot in server.json("snapshots", *words)]


def test_by_policy(server: Server) -> None:
    with_policy(server)
    every = ids(server)
    dry = server.json("forget", "--dry-run")
    assert dry["dry_run"]
    assert ids(server) == every
    found = server.json("forget")
    (job,) = found["jobs"]
    assert [decision["snapshot"] for decision in job["forgotten"]] == every[:3]
    assert [decision["reasons"] for decision in job["kept"]] == [["one of the last 2 snapshots"]] * 2
    assert {key: job[key] for key in ("kept", "forgotten")} == {
        key: dry["jobs"][0][key] for key in ("kept", "forgotten")
    }
    assert ids(server) == every[3:]
    assert ids(server, "--forgotten") == every[:3]
    run = server.json("runs", "--limit", "1")[0]
    assert (run["kind"], run["outcome"], run["report"]["forgotten"]) == ("forget", "done", every[:3])
    assert job["run"] == run["run"]
    again = server.json("forget")["jobs"][0]
    assert (again["forgotten"], again["run"]) == ([], None)


def test_on_a_terminal(server: Server) -> None:
    with_policy(server, POLICY + "keep_weekly = 1\nkeep_within = '1d'\n")
    lines = server.on_terminal("forget")
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    assert "job main in vault cold: keeps all within 1 day, the last 2 snapshots, 1 weekly" in text
    assert "snapshots that stay: 2, that go: 3" in text
    assert "older than the last 2 snapshots" in text
    assert "nothing was deleted; `nightvault forget --undo SNAPSHOT` takes one back" in text


def test_the_new_state_is_in_the_recovery_line(server: Server) -> None:
    found = server.json("forget", "--keep-last", "1")["jobs"][0]
    assert found["recovery_line"] in (server.state / "recovery-lines.txt").read_text()


def test_a_policy_for_one_time(server: Server) -> None:
    assert "has no policy" in server.fails(2, "forget", "main")
    assert "no job has a policy" in server.fails(2, "forget")
    assert len(server.json("forget", "main", "--keep-last", "4", "--dry-run")["jobs"][0]["forgotten"]) == 1
    assert len(server.json("forget", "--keep-within", "1d", "--dry-run")["jobs"][0]["kept"]) == 1
    assert len(server.json("forget", "--keep-daily", "all", "--dry-run")["jobs"][0]["kept"]) == NIGHTS
    assert "must be a number" in server.fails(2, "forget", "--keep-last", "-1")
    assert "y, m, w, d" in server.fails(2, "forget", "--keep-within", "soon")
    assert "keep nothing" in server.fails(2, "forget", "--keep-last", "0")
    assert "no rule of this policy" in server.fails(2, "forget", "--keep-tag", "gold")


def test_by_name(server: Server, tmp_path: Path) -> None:
    every = ids(server)
    found = server.json("forget", every[0][:10], every[2])
    assert [decision["snapshot"] for decision in found["jobs"][0]["forgotten"]] == [every[0], every[2]]
    assert ids(server) == [every[1], *every[3:]]
    assert "forgotten already" in server.fails(2, "forget", every[0])
    assert "is no job, and no snapshot's id begins with it" in server.fails(2, "forget", "0badc0ffee")
    assert "which of the two" in server.fails(2, "forget", "main", every[1])
    assert "which of the two" in server.fails(2, "forget", every[1], "--keep-last", "1")
    for command in ("ls", "diff latest", "restore --target out", "dump"):
        told = server.fails(2, *command.split(), f"{every[0][:8]}")
        assert f"forget --undo {every[0][:8]}" in told


def test_the_last_whole_snapshot_is_refused(server: Server) -> None:
    every = ids(server)
    told = server.fails(2, "forget", *every)
    assert "nothing was forgotten" in told
    assert f"{every[-1][:8]} of job main: it is the job's last whole snapshot" in told
    assert ids(server) == every


def test_latest_is_of_those_that_stay(server: Server) -> None:
    every = ids(server)
    server.done("forget", every[-1])
    server.done("ls", "latest:/")
    shown = server.done("ls", f"latest:{server.source}").stdout
    assert "night 3" in shown
    assert "night 4" not in shown
    told = server.run("find", "night 4").stderr
    assert "nothing is called 'night 4'" in told
    assert "forgotten snapshots have it" in told


def test_what_it_frees(server: Server) -> None:
    (server.source / "night 2").unlink()
    server.backup()
    found = server.json("forget", "--keep-last", "1", "--dry-run")["frees"]
    size = [archive["size"] for archive in server.json("archives") if archive["kind"] == "data"][2]
    assert found == [
        {
            "vault": "cold",
            "archives": 1,
            "bytes": size,
            "bytes_free_now": size,
            "free_from": found[0]["free_from"],
        }
    ]
    assert server.json("forget", "--keep-last", "4")["frees"][0]["archives"] == 0
    text = server.done("forget", "--keep-last", "1").stdout
    assert "nothing else needs 1 archive of" in text
    assert "they can be deleted at no extra cost now" in text


def test_undo(server: Server, tmp_path: Path) -> None:
    every = ids(server)
    server.done("forget", "--keep-last", "1")
    assert "which snapshots?" in server.fails(2, "forget", "--undo")
    assert "not both" in server.fails(2, "forget", "--undo", "main", "--all")
    assert "name a snapshot by its id" in server.fails(2, "forget", "latest")
    assert "is not forgotten" in server.fails(2, "forget", "--undo", every[-1])
    assert server.json("forget", "--undo", "--dry-run", every[0])["taken_back"] == [every[0]]
    assert ids(server) == every[-1:]
    server.done("forget", "--undo", every[0])
    assert ids(server) == [every[0], every[-1]]
    server.done("restore", every[0], "--target", tmp_path / "out", "--key", server.key_file)
    assert server.json("forget", "--undo", "main")["taken_back"] == every[1:4]
    assert server.json("forget", "--undo", "--all")["taken_back"] == []
    assert ids(server) == every


def test_simulate(server: Server) -> None:
    with_policy(server)
    drawing = server.folder / "picture.svg"
    found = server.json("forget", "--simulate", "daily at 02:30", "--years", "1", "--svg", drawing)
    assert (found["nights"], len(found["kept"]), found["looks"][-1]["kept"]) == (365, 2, 2)
    assert drawing.read_text().startswith("<svg")
    lines = server.on_terminal("forget", "main", "--keep-monthly", "3", "--simulate", "daily at 02:30")
    assert max(map(len, lines)) <= 80
    assert lines[-1] == "3 of 1096 are kept"
    assert len(ids(server)) == NIGHTS
    assert "belongs to --simulate" in server.fails(2, "forget", "--svg", drawing)
    assert "cannot be read" in server.fails(2, "forget", "--simulate", "sometimes")
    assert "cannot write" in server.fails(
        1, "forget", "--simulate", "every 1d", "--svg", server.folder / "no" / "such.svg"
    )


def test_a_job_that_the_config_has_no_more(server: Server) -> None:
    server.config.write_text(server.config.read_text().replace('name = "main"', 'name = "other"'))
    every = ids(server)
    assert "has no policy" in server.fails(2, "forget", "main")
    server.done("forget", "main", "--keep-last", "2")
    assert ids(server) == every[3:]
    server.done("forget", "--undo", every[0])


def test_a_name_that_is_both(tmp_path: Path) -> None:
    made = directory_server(tmp_path)
    made.init()
    first = made.backup()["snapshot"]
    second = made.backup()["snapshot"]
    assert first != second
    name = first[:6]
    made.config.write_text(made.config.read_text().replace('name = "main"', f'name = "{name}"'))
    for _ in range(2):
        made.done("backup", name)
    assert "is a job, and the id of snapshot" in made.fails(2, "forget", name)
    assert made.json("forget", "--job", name, "--keep-last", "1")["jobs"][0]["job"] == name
    assert made.json("forget", first[:9])["jobs"][0]["forgotten"][0]["snapshot"] == first


def test_what_was_deleted_since_cannot_come_back(server: Server) -> None:
    (server.source / "night 1").unlink()
    server.backup()
    every = ids(server)
    server.done("forget", "main", "--keep-last", "1")
    second = [archive["archive_id"] for archive in server.json("archives") if archive["kind"] == "data"][1]
    with sqlite3.connect(server.state / "inventory.sqlite") as db:
        db.execute("UPDATE archives SET state = 'deleted' WHERE archive_id = ?", [second])
    db.close()
    told = server.fails(2, "forget", "--undo", every[0], every[1])
    assert f"were deleted, or will be, since it was forgotten: {every[1][:8]} of job main" in told
    assert ids(server) == every[-1:]
    found = server.json("forget", "--undo", "--all", exit_code=3)
    assert found["taken_back"] == [every[0]]
    assert found["cannot_come_back"] == every[1:5]
    assert ids(server) == [every[0], every[-1]]


def test_a_vault_that_is_away_does_not_keep_the_others(tmp_path: Path) -> None:
    made = directory_server(tmp_path)
    text = made.config.read_text()
    vault = f'[[vault]]\nname = "near"\nkind = "directory"\npath = "{tmp_path / "near"}"\n'
    job = f'[[job]]\nname = "other"\nvault = "near"\nsources = ["{made.source}"]\n'
    made.config.write_text(text + vault + job)
    made.init()
    made.done("backup")
    made.done("backup")
    (tmp_path / "vault").rename(tmp_path / "unplugged")
    found = made.json("forget", "--keep-last", "1", exit_code=1)
    first, second = found["jobs"]
    assert (first["job"], first["run"], first["error"]["kind"]) == ("main", None, "vault-missing")
    assert (second["job"], len(second["forgotten"])) == ("other", 1)
    assert second["run"] is not None
    assert [len(ids(made, "--job", name)) for name in ("main", "other")] == [2, 1]
    (tmp_path / "unplugged").rename(tmp_path / "vault")
    made.done("forget", "--keep-last", "1")
    assert [len(ids(made, "--job", name)) for name in ("main", "other")] == [1, 1]


def test_nothing_moves_a_terminal_that_came_into_tags_and_notes(server: Server) -> None:
    hostile = "a\x1b[2Jb\u202ec"
    with sqlite3.connect(server.state / "inventory.sqlite") as db:
        db.execute("UPDATE snapshots SET tags = ?, pin_note = ?", [json.dumps([hostile]), hostile])
    db.close()
    for words in (["snapshots"], ["forget", "main", "--keep-last", "1"], ["tag", "latest", "--add", "x"]):
        result = server.done(*words)
        assert "\x1b" not in result.output
        assert "\u202e" not in result.output
    assert "a\\x1b[2Jb\\u202ec" in server.done("snapshots").stdout


@pytest.mark.parametrize("apart", [timedelta(minutes=6), timedelta(days=-400)], ids=["behind", "ahead"])
def test_with_a_wrong_clock_nothing_is_forgotten(
    server: Server, monkeypatch: pytest.MonkeyPatch, apart: timedelta
) -> None:
    """As on vaults that tell their time."""
    with_policy(server)
    before = ids(server)
    tell = DirectoryVault.state
    monkeypatch.setattr(
        DirectoryVault, "state", lambda vault: replace(tell(vault), at=server.clock.now() + apart)
    )
    told = server.fails(1, "forget")
    assert "this machine's clock says" in told
    assert "nothing was forgotten" in told
    assert ids(server) == before
    apart = timedelta(minutes=4)
    server.done("forget")
    assert len(ids(server)) == 2
