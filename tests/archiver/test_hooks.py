"""Hooks: in order, under the lock, with what they need and no secret, and ended with all their children."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.catalogs.hooks import Command, Hook, Hooks, passed_on
from backup.errors import HookError, InterruptedRunError, LockedError, NoSourceError, UnreachableError
from backup.inventory.records import runs
from backup.kinds import Outcome
from tests.support.backups import Site
from tests.support.doubles import Fault, FaultyVault


def shell(text: str, timeout: float = 20) -> Command:
    return Command(("/bin/sh", "-c", text), timeout)


def hooked(site: Site, commands: Mapping[Hook, Sequence[Command]]) -> Site:
    environment = {"PATH": os.environ["PATH"], "NIGHTVAULT_JOB": site.job.name}
    site.job = replace(site.job, hooks=Hooks(commands, environment))
    return site


def noting(log: Path, *, also: str = "") -> dict[Hook, list[Command]]:
    """Each hook writes when it ran and how the run stands."""
    line = 'echo "$NIGHTVAULT_HOOK $NIGHTVAULT_OUTCOME" >> ' + str(log)
    return {hook: [shell(f"{line}; {also}")] for hook in Hook}


def last_outcome(site: Site) -> Outcome:
    with site.inventory.reading() as tx:
        return runs.list_runs(tx)[0].outcome


def test_a_run_that_is_done(site: Site, source: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    report = hooked(site, noting(log)).backup()
    assert log.read_text().splitlines() == ["before ", "after done", "finally done"]
    assert report.outcome is Outcome.DONE


def test_what_they_find_in_their_environment(
    site: Site, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very secret")
    report = hooked(site, {Hook.AFTER: [shell(f"env > {tmp_path}/env; pwd >> {tmp_path}/env")]}).backup()
    lines = (tmp_path / "env").read_text().splitlines()
    found = dict(line.split("=", 1) for line in lines if "=" in line)
    assert found["NIGHTVAULT_JOB"] == "job"
    assert found["NIGHTVAULT_SNAPSHOT"] == report.snapshot
    assert found["NIGHTVAULT_RUN"] == str(report.run)
    assert found["NIGHTVAULT_OUTCOME"] == "done"
    assert "very secret" not in "".join(lines)
    assert lines[-1] == "/"


def test_no_key_is_passed_on() -> None:
    given = {"PATH": "/bin", "LC_ALL": "C", "AWS_SESSION_TOKEN": "x", "NIGHTVAULT_X": "x", "PGPASSWORD": "x"}
    assert passed_on(given) == {"PATH": "/bin", "LC_ALL": "C"}


def test_before_that_fails_keeps_the_run_from_reading(site: Site, source: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    commands = noting(log) | {Hook.BEFORE: [shell("echo no space left >&2; exit 5"), shell(f"touch {log}.2")]}
    with pytest.raises(HookError, match=r"before .*failed with exit code 5: no space left"):
        hooked(site, commands).backup()
    assert log.read_text().splitlines() == ["on_failure failed", "finally failed"]
    assert not (tmp_path / "log.2").exists()
    assert site.snapshots() == []
    assert site.progress.notes == ["before: no space left"]
    assert last_outcome(site) is Outcome.FAILED


@pytest.mark.parametrize("hook", [Hook.AFTER, Hook.FINALLY])
def test_a_hook_that_fails_after_the_snapshot_makes_the_run_partial(
    site: Site, source: Path, tmp_path: Path, hook: Hook
) -> None:
    log = tmp_path / "log"
    report = hooked(site, noting(log) | {hook: [shell("exit 1"), shell(f"echo more >> {log}")]}).backup()
    assert report.outcome is Outcome.PARTIAL
    assert [f"the hook {hook} " in warning for warning in report.warnings] == [True]
    assert len(site.snapshots()) == 1
    assert last_outcome(site) is Outcome.PARTIAL
    assert "more" in log.read_text().splitlines()
    assert "on_failure" not in log.read_text()


def test_a_run_that_fails_in_the_middle(site: Site, source: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    site.vault = FaultyVault(site.vault, Fault("begin_upload", UnreachableError("away"), count=1000))
    (source / "file").write_bytes(b"x")
    with pytest.raises(UnreachableError):
        hooked(site, noting(log, also='echo "$NIGHTVAULT_ERROR" >> ' + f"{log}.errors")).backup()
    assert log.read_text().splitlines() == ["before ", "on_failure failed", "finally failed"]
    assert (tmp_path / "log.errors").read_text().splitlines() == ["", "away", "away"]


def test_what_an_error_says_is_never_a_part_of_a_command(site: Site, source: Path, tmp_path: Path) -> None:
    """It may hold what others chose, such as a name or a service's answer. It comes as a variable, and no
    word of a command is looked at."""
    made = tmp_path / "made"
    text = f"'; touch {made}; $(touch {made}) `touch {made}` \"|& {{error}} $NIGHTVAULT_ERROR %s"
    site.vault = FaultyVault(site.vault, Fault("begin_upload", UnreachableError(text), count=1000))
    (source / "file").write_bytes(b"x")
    words = ("$NIGHTVAULT_ERROR", "{error}", "{}", "%s", "$(id)")
    script = r"""printf '%s\0' "$NIGHTVAULT_ERROR" "$@" """ + f"> {tmp_path}/said"
    command = Command(("/bin/sh", "-c", script, "sh", *words), 20)
    with pytest.raises(UnreachableError):
        hooked(site, {Hook.ON_FAILURE: [command]}).backup()
    assert (tmp_path / "said").read_text().split("\0")[:-1] == [text, *words]
    assert not made.exists()


def test_a_run_that_finds_the_lock_taken_runs_none(site: Site, source: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    hooked(site, noting(log))
    with site.inventory.locked("backup"), pytest.raises(LockedError):
        site.backup()
    assert not log.exists()


def test_hooks_run_under_the_lock(site: Site, source: Path, tmp_path: Path) -> None:
    found: list[bool] = []

    def stop() -> bool:
        try:
            with site.inventory.locked("backup"):
                found.append(False)
        except LockedError:
            found.append(True)
        return False

    site.stop = stop
    hooked(site, {Hook.BEFORE: [shell("sleep 0.3")]}).backup()
    assert found
    assert all(found)


def test_before_may_bring_the_sources(site: Site, source: Path, tmp_path: Path) -> None:
    late = tmp_path / "late"
    site = site.with_job(sources=[late])
    with pytest.raises(NoSourceError):
        hooked(site, {}).backup()
    report = hooked(site, {Hook.BEFORE: [shell(f"mkdir {late}; echo x > {late}/file")]}).backup()
    assert report.files == 1
    assert report.problems == ()


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_hook_that_takes_too_long_is_ended_with_its_children(
    site: Site, source: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    slow = shell(f"sleep 60 & echo $! > {tmp_path}/child; wait", timeout=0.5)
    started = time.monotonic()
    with pytest.raises(HookError, match=r"longer than 0\.5 s"):
        hooked(site, noting(log) | {Hook.BEFORE: [slow]}).backup()
    assert time.monotonic() - started < 20
    assert not alive(int((tmp_path / "child").read_text()))
    assert log.read_text().splitlines() == ["on_failure failed", "finally failed"]


def test_one_that_will_not_hear_is_killed(site: Site, source: Path, tmp_path: Path) -> None:
    deaf = shell(f"trap '' TERM; echo $$ > {tmp_path}/pid; while :; do sleep 0.1; done", timeout=0.5)
    with pytest.raises(HookError):
        hooked(site, {Hook.BEFORE: [replace(deaf, grace=0.2)]}).backup()
    assert not alive(int((tmp_path / "pid").read_text()))


def test_a_stop_ends_before_and_finally_still_runs_whole(site: Site, source: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    site.stop = (tmp_path / "started").exists
    commands = noting(log, also="sleep 0.3; echo whole >> " + str(log))
    commands[Hook.BEFORE] = [shell(f"touch {tmp_path}/started; sleep 60")]
    with pytest.raises(InterruptedRunError):
        hooked(site, commands).backup()
    assert log.read_text().splitlines() == [
        "on_failure interrupted", "whole", "finally interrupted", "whole"
    ]  # fmt: skip
    assert last_outcome(site) is Outcome.INTERRUPTED


def test_a_child_that_a_hook_leaves_behind_is_not_waited_for(
    site: Site, source: Path, tmp_path: Path
) -> None:
    started = time.monotonic()
    hooked(site, {Hook.BEFORE: [shell(f"yes & echo $! > {tmp_path}/child")]}).backup()
    os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("word", ["/not/there", "no-such-program-anywhere"])
def test_a_program_that_is_not_there(site: Site, source: Path, word: str) -> None:
    with pytest.raises(HookError, match="cannot be started"):
        hooked(site, {Hook.BEFORE: [Command((word,), 1)]}).backup()


def test_what_they_write_is_noted_line_by_line(site: Site, source: Path) -> None:
    text = "printf 'one\\n\\ntwo'; printf '\\nthree' >&2; head -c 10000 /dev/zero | tr '\\0' x"
    hooked(site, {Hook.BEFORE: [shell(text)]}).backup()
    notes = [note.removeprefix("before: ") for note in site.progress.notes]
    assert notes[:2] == ["one", "two"]
    assert notes[2].startswith("three")
    assert max(len(note) for note in notes) <= 4096
