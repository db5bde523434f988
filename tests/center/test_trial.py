"""`nightvault center try`: all of it on this machine, as an ordinary user, and nothing of it stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.centers import needs_postgresql
from tests.support.servers import SCRIPT

pytestmark = [pytest.mark.real, pytest.mark.slow, needs_postgresql]

AS_USER = ("unshare", "--user", "--map-user=1", "--map-group=1") if os.geteuid() == 0 else ()
"""What stands before a command: a user namespace, in which root is somebody else."""


@pytest.fixture(autouse=True)
def user() -> None:
    if AS_USER and subprocess.run([*AS_USER, "true"], capture_output=True, check=False).returncode:
        pytest.skip("root may not become another user here")


@contextmanager
def trial(folder: Path, *words: str, before: Sequence[str] = AS_USER) -> Iterator[subprocess.Popen[str]]:
    command = [*before, SCRIPT, "--json", "center", "try", "--dir", str(folder), "--servers", "1", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, stdin=subprocess.DEVNULL, **pipes) as process:  # type: ignore[call-overload]
        try:
            yield process
        finally:
            process.kill()


def database_of(folder: Path) -> int:
    """The process of a trial's PostgreSQL."""
    return int((folder / "data" / "postmaster.pid").read_text().split()[0])


def is_there(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def until_it_runs(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if "it runs until Ctrl-C" in line:
            return said
    raise AssertionError(said)


def test_it_runs_until_it_is_ended_and_leaves_nothing(tmp_path: Path) -> None:
    with trial(tmp_path / "t") as process:
        said = until_it_runs(process)
        database = database_of(tmp_path / "t")
        assert is_there(database)
        listed = [line for line in said.splitlines() if line.startswith("web1 ")]
        assert len(listed) == 1, said
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(out) == {"servers": ["web1"]}
    assert not is_there(database)
    assert list(tmp_path.iterdir()) == []


def test_one_that_is_killed_is_cleared_away_by_the_next(tmp_path: Path) -> None:
    with trial(tmp_path / "t") as process:
        until_it_runs(process)
        database = database_of(tmp_path / "t")
        process.kill()
    until = time.monotonic() + 30
    while is_there(database):
        assert time.monotonic() < until, "its PostgreSQL outlives it"
        time.sleep(0.05)
    assert (tmp_path / "t" / "data").exists()
    with trial(tmp_path / "t", "--once") as process:
        out, said = process.communicate(timeout=120)
    assert (process.returncode, json.loads(out)) == (0, {"servers": ["web1"]}), said
    assert list(tmp_path.iterdir()) == []


def test_it_refuses_root_a_folder_of_others_and_a_long_name(tmp_path: Path) -> None:
    if AS_USER:
        with trial(tmp_path / "t", before=()) as process:
            assert "is for an ordinary user" in process.communicate()[1]
            assert process.returncode == 2
    (tmp_path / "mine" / "data").mkdir(parents=True)
    (tmp_path / "mine" / "precious").touch()
    (tmp_path / "mine" / "data" / "postmaster.pid").write_text(str(os.getpid()))  # somebody's own database
    for folder, word in (
        (tmp_path / "mine", "was not made by a demo"),
        (tmp_path / ("l" * 100), "too long"),
    ):
        with trial(folder) as process:
            assert word in process.communicate()[1]
            assert process.returncode == 2
    assert (tmp_path / "mine" / "precious").exists()
    with trial(tmp_path / "t", "--programs", str(tmp_path)) as process:
        assert "no PostgreSQL in" in process.communicate()[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]


def test_what_fails_within_is_said_and_cleared_away(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("initdb", "postgres", "pg_ctl", "pg_isready"):
        script = f"#!/bin/sh\necho {name} cannot >&2\nexit {int(name == 'postgres')}\n"
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    (programs / "pg_isready").write_text("#!/bin/sh\nexit 1\n")
    with trial(tmp_path / "t", "--programs", str(programs)) as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "postgres cannot" in said
    assert not (tmp_path / "t").exists()
