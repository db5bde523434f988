"""The log: text, JSON lines, entries of the journal; what they are about; nothing secret, nothing forged."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.app.base.priority import Priority, in_thread
from backup.cli.support.error_stream import drain
from backup.cli.support.logs import JournalHandler, JsonLine, TextLine, is_journal, log_to_stderr
from backup.config import LogForm
from backup.format.keys import RecoveryKey
from backup.log_context import about, names_here, run_began
from tests.support.command_line import run

SCRIPT = str(Path(sys.executable).parent / "nightvault")
LINE = re.compile(r"2026-11-24 \d\d:00:00[+-]\d{4} WARNING ")


def record(text: str, level: int = logging.WARNING) -> logging.LogRecord:
    made = logging.LogRecord("backup.daemon", level, "", 0, "%s", (text,), None)
    made.created = datetime(2026, 11, 24, tzinfo=UTC).timestamp()
    return made


@pytest.fixture
def loggers(monkeypatch: pytest.MonkeyPatch) -> logging.Logger:
    root, ours = logging.getLogger(), logging.getLogger("backup")
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    monkeypatch.setattr(ours, "level", ours.level)
    return root


@contextmanager
def journal(directory: Path) -> Iterator[tuple[str, socket.socket]]:
    """A socket that receives entries as journald does."""
    path = str(directory / "journal.socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        receiver.settimeout(10)
        yield path, receiver


def fields_of(entry: bytes) -> dict[str, str]:
    """The fields of an entry, by the protocol's own words: a name, then `=` or a length before the value."""
    found = {}
    while entry:
        line, _, rest = entry.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if equals:
            found[name.decode()], entry = value.decode(), rest
            continue
        size = int.from_bytes(rest[:8], "little")
        found[name.decode()] = rest[8 : 8 + size].decode()
        assert rest[8 + size : 9 + size] == b"\n"
        entry = rest[9 + size :]
    return found


@pytest.mark.parametrize(
    ("quiet", "verbose", "level"),
    [(True, False, logging.WARNING), (False, False, logging.INFO), (False, True, logging.DEBUG)],
)
def test_levels(quiet: bool, verbose: bool, level: int, loggers: logging.Logger) -> None:
    log_to_stderr(quiet=quiet, verbose=verbose, environ={})
    assert isinstance(loggers.handlers[0].formatter, TextLine)
    assert logging.getLogger("backup").getEffectiveLevel() == level
    assert loggers.level == logging.WARNING
    log_to_stderr(LogForm.JSON, quiet=quiet, verbose=verbose, environ={})
    assert isinstance(loggers.handlers[0].formatter, JsonLine)
    assert len(loggers.handlers) == 1


def test_the_three_forms_say_what_a_line_is_about(tmp_path: Path) -> None:
    with about(job="main", vault="cold"), journal(tmp_path) as (path, receiver):
        run_began(12)
        text, line = TextLine().format(record("away")), json.loads(JsonLine().format(record("away")))
        handler = JournalHandler(path)
        handler.emit(record("away\nsince noon"))
        entry = fields_of(receiver.recv(65_536))
        handler.close()
    assert LINE.sub("", text) == "run 12: away"
    assert line == {
        "time": "2026-11-24T00:00:00Z", "level": "warning", "message": "away",
        "job": "main", "vault": "cold", "run": 12,
    }  # fmt: skip
    assert entry == {  # no time: the journal has its own
        "MESSAGE": "run 12: away\nsince noon", "PRIORITY": "4", "SYSLOG_IDENTIFIER": "nightvault",
        "LOGGER": "backup.daemon",
        "NIGHTVAULT_JOB": "main", "NIGHTVAULT_VAULT": "cold", "NIGHTVAULT_RUN": "12",
    }  # fmt: skip


def test_without_a_journal_the_level_is_told_as_systemd_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    handler = JournalHandler(str(tmp_path / "none"))
    handler.emit(record("it\nfailed", logging.ERROR))
    assert drain(10)
    assert written.getvalue() == "<3>it\n<3>  failed\n"


def test_nobody_waits_for_a_journal_that_takes_nothing(tmp_path: Path) -> None:
    with journal(tmp_path) as (path, receiver):
        handler = JournalHandler(path)
        for number in range(1000):  # far more than a socket holds
            handler.emit(record(f"line {number}"))
        assert not drain(0.1)
        for number in range(1000):
            assert fields_of(receiver.recv(65_536))["MESSAGE"] == f"line {number}"
        assert drain(10)


def test_only_the_stream_that_systemd_made_counts_as_the_journal() -> None:
    reading, writing = os.pipe()
    made = os.fstat(writing)
    ours = f"{made.st_dev}:{made.st_ino}"
    assert is_journal({"JOURNAL_STREAM": ours}, writing)
    assert not is_journal({"JOURNAL_STREAM": "8:1"}, writing)
    assert not is_journal({}, writing)
    os.close(reading)
    os.close(writing)
    assert not is_journal({"JOURNAL_STREAM": ours}, writing)


def names_in_a_thread() -> Mapping[str, str]:
    found: list[Mapping[str, str]] = []
    thread = threading.Thread(target=lambda: found.append(names_here()))
    thread.start()
    thread.join()
    return found[0]


def test_threads_of_a_run_are_of_the_only_work_that_is_under_way() -> None:
    assert names_here() == names_in_a_thread() == {}
    with about(job="main"):
        with about(vault="cold"):
            run_began(3)
            assert names_in_a_thread() == names_here() == {"job": "main", "vault": "cold", "run": "3"}
        assert names_here() == {"job": "main"}
        assert in_thread(Priority(nice=19), names_here) == {"job": "main"}
    run_began(4)  # nothing is under way
    assert names_here() == {}


def test_of_two_at_a_time_no_thread_is_taken_for_the_wrong_one() -> None:
    begun, may_end = threading.Event(), threading.Event()

    def other() -> None:
        with about(restore="0011223344556677"):
            begun.set()
            may_end.wait(10)

    thread = threading.Thread(target=other)
    thread.start()
    assert begun.wait(10)
    with about(job="main"):
        assert names_here() == {"job": "main"}
        assert names_in_a_thread() == {}
    may_end.set()
    thread.join()


KEY = RecoveryKey(bytes(range(32))).to_text()


@given(st.text(), st.text(st.characters(exclude_categories=["L", "N", "Cs"]), min_size=1))
def test_no_line_can_be_forged_and_none_holds_a_key(text: str, around: str) -> None:
    made = record(f"{text}{around}{KEY}{around}")
    lines = TextLine().format(made).split("\n")
    assert LINE.match(lines[0])
    assert all(line.startswith("  ") for line in lines[1:])
    as_json = JsonLine().format(made)
    assert "\n" not in as_json
    moving = {"Cc", "Cf", "Zl", "Zp"}
    assert not any(
        unicodedata.category(character) in moving for line in lines for character in line if character != "\t"
    )
    assert KEY not in "".join(lines) + json.loads(as_json)["message"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_text("content")
    path = tmp_path / "config.toml"
    path.write_text(
        '[state]\ndir = "state"\n[monitoring]\nlog = "json"\n'
        '[[vault]]\nname = "disk"\nkind = "directory"\npath = "vault"\n'
        f'[[job]]\nname = "main"\nvault = "disk"\nsources = ["{tmp_path}/source", "{tmp_path}/gone"]\n'
    )
    path.chmod(0o600)
    made = run("--config", path, "init", "--non-interactive", "--key-file", tmp_path / "recovery.key")
    assert made.exit_code == 0, made.output
    return path


def documents(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_remarks_of_commands_are_lines_of_the_log_where_json_is_configured(
    config: Path, loggers: logging.Logger
) -> None:
    result = run("--config", config, "backup")
    assert result.exit_code == 3
    lines = documents(result.stderr)
    (gone,) = [line for line in lines if "/gone" in line["message"]]
    assert (gone["level"], gone["job"], gone["vault"], gone["run"]) == ("warning", "main", "disk", 1)
    result = run("--config", config, "backup", "other")
    (failed,) = documents(result.stderr)
    assert failed["level"] == "error"
    assert failed["message"].startswith("nightvault: ")


def test_a_failure_goes_to_the_journal_by_its_level(tmp_path: Path) -> None:
    """As a unit runs it: here no journal answers, so the level is before the line, as systemd reads it."""
    words = [SCRIPT, "--config", str(tmp_path / "none.toml"), "backup"]
    reading, writing = os.pipe()
    made = os.fstat(writing)
    environ = {**os.environ, "JOURNAL_STREAM": f"{made.st_dev}:{made.st_ino}"}
    code = subprocess.run(words, stderr=writing, env=environ, check=False).returncode
    os.close(writing)
    with open(reading) as file:
        said = file.read()
    assert code == 2
    if not Path("/run/systemd/journal/socket").exists():
        assert said.startswith("<3>nightvault: ")
        assert all(line.startswith("<3>") for line in said.splitlines())
    with suppress(KeyError):
        del environ["JOURNAL_STREAM"]
    plain = subprocess.run(words, stderr=subprocess.PIPE, env=environ, check=False, text=True).stderr
    assert plain.startswith("nightvault: ")
