"""`nightvault backup`: one job or several, what it prints, what a dry run names, and stopping."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from backup.cli.support.stopping import stop_on_signals
from backup.errors import SpoolError
from backup.format.line import RecoveryLine
from backup.source import freshness
from tests.support.servers import Server

JOB = '[[job]]\nname = "{name}"\nvault = "{vault}"\nsources = ["{source}"]\n'


def add_job(server: Server, name: str, *, vault: str = "cold") -> Path:
    source = server.folder / name
    source.mkdir()
    (source / "file").write_text(name)
    with server.config.open("a") as file:
        file.write(JOB.format(name=name, vault=vault, source=source))
    return source


def test_what_is_stored_again_after_a_loss(server: Server) -> None:
    server.done("backup")
    with closing(sqlite3.connect(server.state / "inventory.sqlite")) as database, database:
        database.execute("UPDATE archives SET state = 'lost' WHERE kind = 1")
    told = server.done("backup").stdout.splitlines()
    assert any(line.startswith("  again     ") and "unchanged file" in line for line in told)
    assert "  again" not in server.done("backup").stdout


def test_the_report_for_people(server: Server) -> None:
    lines = server.done("backup").stdout.splitlines()
    assert lines[0].startswith("snapshot ")
    assert lines[0].endswith(" of job main in vault cold")
    assert lines[1].startswith("  holds     4 files, 74.2 KiB")
    assert lines[2].startswith("  read      3 files, 74.2 KiB; new 74.")
    assert " in 2 archives" in lines[3]
    assert lines[4].startswith("  took      ")
    assert (
        lines[5] == "  recovery line, to be kept off this server (copy it, or set recovery_file in [state]):"
    )
    assert RecoveryLine.from_text(lines[6]).job == "main"
    assert len(lines) == 7


def test_a_terminal_shows_the_recovery_line_once_a_day(server: Server) -> None:
    """After that its files are named; a pipe has it always, and a terminal where no file could take it."""
    kept = server.state / "recovery-lines.txt"
    assert RecoveryLine.from_text(server.on_terminal("backup")[-1]).job == "main"
    shown = "".join(server.on_terminal("backup"))
    assert shown.endswith(f"  recovery  its line is in {kept}; shown once a day")
    assert RecoveryLine.from_text(server.done("backup").stdout.splitlines()[-1]).number == 3
    kept.unlink()
    kept.mkdir()
    assert RecoveryLine.from_text(server.on_terminal("backup")[-1]).number == 4
    kept.rmdir()
    server.clock.sleep(24 * 3600)
    assert RecoveryLine.from_text(server.on_terminal("backup")[-1]).number == 5


def test_the_report_for_scripts(server: Server) -> None:
    (report,) = server.json("backup")
    assert set(report) == {
        "job", "vault", "run", "snapshot", "outcome", "files", "bytes", "files_read", "bytes_read",
        "bytes_new", "bytes_uploaded", "archives", "entries_added", "entries_removed", "seconds",
        "recipients", "catalog", "warnings", "problems",
        "recovery_line", "older_packs", "files_again", "forgotten", "shrunk",
    }  # fmt: skip
    assert (report["job"], report["vault"], report["outcome"]) == ("main", "cold", "done")
    assert len(report["snapshot"]) == 16
    assert report["recipients"] == [
        recipient["id"] for recipient in server.json("key", "status")["recipients"]
    ]
    assert report["catalog"] in {archive["archive_id"] for archive in server.json("archives")}


def test_progress_goes_to_stderr_or_to_lines_of_json(server: Server) -> None:
    assert "Backing up main: done" in server.done("backup").stderr
    lines = [json.loads(line) for line in server.done("--json", "--verbose", "backup").stdout.splitlines()]
    assert all("progress" in line or "note" in line for line in lines[:-1])
    assert lines[0]["progress"]["title"] == "Backing up main"
    assert lines[-1][0]["job"] == "main"


def test_all_jobs_or_those_that_are_named(server: Server) -> None:
    add_job(server, "second")
    add_job(server, "third")
    assert [report["job"] for report in server.json("backup")] == ["main", "second", "third"]
    assert [report["job"] for report in server.json("backup", "third", "main")] == ["third", "main"]


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_disk_given_up_that_no_job_knows_is_named(server: Server, more: list[str]) -> None:
    for words in (["--disk-gone", "/nowhere"], ["--disk-gone", server.source]):
        told = server.done("backup", *more, *words).stderr
        assert f"warning: {words[0]} {words[1]} changes nothing: no file system is known" in told
        assert "when job main last ran" in told


def test_one_job_that_fails_does_not_keep_the_others_from_running(server: Server, tmp_path: Path) -> None:
    with server.config.open("a") as file:
        file.write(f'[[vault]]\nname = "lost"\nkind = "directory"\npath = "{tmp_path}/not there"\n')
    add_job(server, "lost", vault="lost")
    add_job(server, "third")
    result = server.run("backup", "lost", "third")
    assert result.exit_code == 1
    assert "nightvault: job lost: " in result.stderr
    assert "of job third in vault cold" in result.stdout

    lost, third = server.json("backup", "lost", "third", exit_code=1)
    assert (lost["job"], lost["outcome"], lost["error"]["exit_code"]) == ("lost", "failed", 1)
    assert set(lost["error"]) == {"kind", "message", "advice", "exit_code"}
    assert third["outcome"] == "done"
    alone = server.json("backup", "lost", exit_code=1)
    assert alone["error"]["message"].startswith("job lost: ")


def test_the_worst_exit_code_wins(server: Server) -> None:
    add_job(server, "second")
    gone = server.folder / "second" / "gone"
    with server.config.open("a") as file:
        file.write(f'[[job.source]]\npath = "{gone}"\n')
    main, second = server.json("backup", exit_code=3)
    assert (main["outcome"], second["outcome"]) == ("done", "partial")
    assert second["problems"][0]["path"] == str(gone)
    assert second["problems"][0]["warning"] is False


def test_a_config_without_jobs(server: Server) -> None:
    server.config.write_text(server.config.read_text().partition("[[job]]")[0])
    told = server.fails(2, "backup")
    assert "has no job" in told
    assert "config.example.toml" in told


def test_a_dry_run_names_changes_and_touches_nothing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freshness, "write_back_reach", lambda: 0)  # as if the files were a minute old
    text = server.done("backup", "--dry-run").stdout
    assert text.startswith("job main: 4 files, 74.2 KiB; ")
    assert "0 changed, 0 removed; would read 74.2 KiB" in text
    assert server.json("runs") == server.json("archives") == []

    server.backup()
    (look,) = server.json("backup", "--dry-run", "--list")
    assert (look["new"], look["changed"], look["removed"], look["would_read"]) == (0, 0, 0, 0)
    (server.source / "a.txt").write_text("alpha, again\n")
    (server.source / "deep" / "b.bin").unlink()
    (server.source / "new\n.txt").write_text("1234")
    (look,) = server.json("backup", "--dry-run", "--list")
    named = {(change["what"], change["path"]) for change in look["changes"]}
    assert {
        ("changed", f"{server.source}/a.txt"),
        ("removed", f"{server.source}/deep/b.bin"),
        ("new", f"{server.source}/new\n.txt"),
    } <= named
    assert look["would_read"] == len("alpha, again\n1234")  # directories have no content
    lines = server.done("backup", "--dry-run", "--list").stdout.splitlines()
    assert f"new      {server.source}/new\\x0a.txt" in lines
    assert len(server.json("runs")) == 1
    assert "changes" not in server.json("backup", "--dry-run")[0]


def test_a_dry_run_tells_what_cannot_be_read(server: Server) -> None:
    server.config.write_text(server.config.read_text().replace(f'"{server.source}"]', '"/nope all"]'))
    assert "/nope all" in server.fails(1, "backup", "--dry-run")


def test_many_problems_are_cut_short_for_people(server: Server) -> None:
    for number in range(30):
        (server.source / f"{number}.sock").touch()
    sources = ", ".join(f'"/nope {number}"' for number in range(30))
    server.config.write_text(
        server.config.read_text().replace(f'"{server.source}"]', f'"{server.source}", {sources}]')
    )
    result = server.run("backup")
    assert result.exit_code == 3
    assert result.stderr.count("unreadable: ") + result.stderr.count("vanished: ") == 20
    assert "… and 10 more" in result.stderr
    assert len(server.json("snapshots")[0]["problems"]) == 30


# Signals.


def test_the_first_signal_asks_the_second_ends(capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.is_set()
        assert "once more stops at once" in capfd.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class TestStreams:
    def test_the_words_of_standard_input_go_together(self, server: Server) -> None:
        add_job(server, "other")
        for words in (["--stdin"], ["--name", "x"], ["main", "--stdin", "--name", "../x"]):
            assert server.run("backup", *words).exit_code == 2
        told = server.run("backup", "--stdin", "--name", "x")
        assert told.exit_code == 2
        assert "into which job?" in told.stderr


def test_a_dry_run_lists_what_is_left_out_and_why(server: Server) -> None:
    source = add_job(server, "choosy")
    (source / "film.ISO").write_bytes(b"x")
    patterns = server.folder / "patterns"
    patterns.write_text("# large\n*.iso\n")
    with server.config.open("a") as file:
        file.write(f'iexclude_file = ["{patterns}"]\n')
    (look,) = server.json("backup", "choosy", "--dry-run", "--list")
    left = [change for change in look["changes"] if change["what"] == "left-out"]
    assert [(change["path"], change["reason"], change["why"]) for change in left] == [
        (f"{source}/film.ISO", "pattern", f"*.iso (any case) in {patterns}:2")
    ]
    told = server.done("backup", "choosy", "--dry-run", "--list").stdout
    assert f"left out {source}/film.ISO  (pattern: *.iso (any case) in {patterns}:2)" in told
    patterns.unlink()
    failed = server.run("backup", "choosy")
    assert failed.exit_code == 2
    assert str(patterns) in failed.stderr
    assert server.json("snapshots", "--job", "choosy") == []


def test_a_source_that_is_missing_is_partial_and_all_missing_a_failure(server: Server) -> None:
    source = add_job(server, "half")
    with server.config.open("a") as file:
        file.write(f'[[job.source]]\npath = "{server.folder}/nowhere"\n')
    for words in (("backup", "half"), ("backup", "half", "--dry-run")):
        result = server.run(*words)
        assert result.exit_code == 3
        assert f"unreadable: {server.folder}/nowhere" in result.stderr
    (source / "file").unlink()
    source.rmdir()
    for words in (("backup", "half"), ("backup", "half", "--dry-run")):
        result = server.run(*words)
        assert result.exit_code == 1
        assert "not one of the sources" in result.stderr
    assert len(server.json("snapshots", "--job", "half")) == 1


def test_hooks_of_the_config_run_and_one_that_fails_afterwards_is_exit_3(server: Server) -> None:
    add_job(server, "hooked")
    with server.config.open("a") as file:
        file.write(
            '[job.hooks]\nbefore = ["sh", "-c", "echo config $NIGHTVAULT_CONFIG"]\nafter = [["false"]]\n'
        )
    result = server.run("backup", "hooked")
    assert result.exit_code == 3
    assert f"before: config {server.config}" in result.stderr
    assert "the hook after (false) failed with exit code 1" in result.stderr
    assert len(server.json("snapshots", "--job", "hooked")) == 1


def test_without_a_full_catalog_it_ends_with_3_and_runs_says_why(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not end with 0 while the vault alone could give nothing back."""

    def no_room(*_: object, **__: object) -> None:
        raise SpoolError("no space left")

    server.done("backup")
    with closing(sqlite3.connect(server.state / "inventory.sqlite")) as db, db:  # as a check finds it
        db.execute("UPDATE archives SET state = 'lost' WHERE kind = 2")
    monkeypatch.setattr("backup.catalogs.catalogs.full_records", no_room)
    for _ in range(2):
        told = server.run("backup", "--quiet")
        assert told.exit_code == 3
        assert "warning: job main: no full catalog is stored: if this server were lost now" in told.stderr
        assert server.json("runs")[0]["outcome"] == "partial"
        assert server.done("runs").stdout.count("no full catalog is stored") == 1, "of the newest run alone"
    monkeypatch.undo()
    server.done("backup")
    assert "no full catalog" not in server.done("runs").stdout
