"""Metrics: the format that Prometheus reads, what they say, and how the file is written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from backup.app.status.metrics import escaped_label, metrics_text
from backup.kinds import Outcome
from tests.support.servers import Server, directory_server
from tests.support.statuses import DAY, HOUR, NOW, job, run, scheduled, status, vault

LINE = re.compile(r'nightvault_([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\\n]|\\[\\"n])*",?)+)\})? (-?[0-9.]+)')


def parsed(text: str) -> dict[str, dict[str, float]]:
    """The values by name and labels; each name must be declared once, before its values, as a gauge."""
    found: dict[str, dict[str, float]] = {}
    declared: list[str] = []
    for line in text.removesuffix("\n").split("\n"):
        words = line.split(" ", 3)
        if words[:2] == ["#", "HELP"]:
            declared.append(words[2])
            assert words[3]
        elif words[:2] == ["#", "TYPE"]:
            assert words[2:] == [declared[-1], "gauge"]
        else:
            match = LINE.fullmatch(line)
            assert match, line
            assert declared[-1] == f"nightvault_{match[1]}"
            values = found.setdefault(match[1], {})
            assert match[2] not in values
            values[match[2] or ""] = float(match[3])
    assert len(set(declared)) == len(declared)
    return found


def test_what_they_say() -> None:
    found = parsed(metrics_text(status()))
    main, now = 'job="main",vault="cold"', NOW.timestamp()
    assert found == {
        "last_success_timestamp_seconds": {main: now - 3 * 3600},
        "last_run_timestamp_seconds": {main: now - 3 * 3600},
        "run_result": {main: 0},
        "next_run_timestamp_seconds": {main: now + 21 * 3600},
        "overdue_timestamp_seconds": {main: now + 27 * 3600},
        "overdue": {main: 0},
        "stored_bytes": {'vault="cold"': 200 * 1024**3},
        "archives": {'vault="cold"': 1000},
        "monthly_cost": {'vault="cold",currency="USD"': 0.72},
        "oldest_unverified_timestamp_seconds": {'vault="cold"': now - 100 * 86400},
        "certificate_expiry_timestamp_seconds": {"": now + 80 * 86400},
        "task_last_success_timestamp_seconds": {'task="drill",name="weekly"': now - 2 * 86400},
        "task_overdue_timestamp_seconds": {'task="drill",name="weekly"': now + 7 * 86400},
        "open_restores": {"": 0},
        "concerns": {"": 0},
    }


def test_what_is_not_known_has_no_value() -> None:
    """A zero would be a date in 1970, or free."""
    never = job(last_good=None, last_run=None, next_at=None, overdue_from=None)
    undrilled = scheduled(last_good=None, overdue_from=None)
    made = status(jobs=[never], vaults=[vault(archives=0)], certificate=None, scheduled=[undrilled])
    assert set(parsed(metrics_text(made))) == {"overdue", "open_restores", "concerns"}


@pytest.mark.parametrize(
    ("outcome", "value"), [("done", 0), ("partial", 1), ("failed", 2), ("interrupted", 3)]
)
def test_results(outcome: str, value: int) -> None:
    made = status(jobs=[job(last_run=run(outcome=Outcome(outcome)))])
    assert list(parsed(metrics_text(made))["run_result"].values()) == [value]


@given(st.text())
def test_a_label_is_escaped_so_that_it_comes_back(text: str) -> None:
    """Names are letters and digits; whatever they were, they would end no label and no line."""
    escaped = escaped_label(text)
    assert re.fullmatch(r'(?:[^"\\\n]|\\[\\"n])*', escaped)
    back = re.sub(r"\\(.)", lambda found: {"n": "\n"}.get(found[1], found[1]), escaped)
    assert back == text.encode("utf-8", "replace").decode()
    made = status(jobs=[job(name=text)])
    for line in metrics_text(made).removesuffix("\n").split("\n"):
        assert line.startswith("# ") or LINE.fullmatch(line)


needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs promtool (Debian's prometheus)"
)


def assert_promtool_finds_nothing_wrong(text: str) -> None:
    ended = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout + ended.stderr) == (0, "")


@needs_promtool
def test_promtool_finds_nothing_wrong() -> None:
    two = [job(), job(name="other", last_good=NOW - 9 * DAY, is_overdue=True, overdue_from=NOW - HOUR)]
    assert_promtool_finds_nothing_wrong(metrics_text(replace(status(), jobs=two)))


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """A server that writes metrics."""
    made = directory_server(tmp_path)
    (tmp_path / "metrics").mkdir()
    with made.config.open("a") as config:
        config.write('[monitoring]\nmetrics_file = "metrics/nightvault.prom"\n')
    made.init()
    return made


def test_a_run_writes_them(server: Server, tmp_path: Path) -> None:
    server.backup()
    (path,) = (tmp_path / "metrics").iterdir()
    assert path.name == "nightvault.prom"
    assert path.stat().st_mode & 0o777 == 0o644
    found = parsed(path.read_text())
    began = server.clock.now().timestamp()
    assert found["last_success_timestamp_seconds"] == {'job="main",vault="cold"': began}
    assert found["stored_bytes"]['vault="cold"'] > 0


@needs_promtool
def test_promtool_finds_nothing_wrong_in_what_a_run_wrote(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "metrics" / "nightvault.prom"
    server.run("check", "--inventory")  # nothing is stored yet
    assert_promtool_finds_nothing_wrong(path.read_text())
    server.backup()
    assert_promtool_finds_nothing_wrong(path.read_text())


def test_a_run_that_fails_takes_nothing_away(server: Server, tmp_path: Path) -> None:
    server.backup()
    path = tmp_path / "metrics" / "nightvault.prom"
    before = parsed(path.read_text())
    server.clock.sleep(3600)
    (tmp_path / "vault").rename(tmp_path / "away")
    assert server.run("backup", "main").exit_code not in {0, 3}
    after = parsed(path.read_text())
    for name in ("last_success_timestamp_seconds", "stored_bytes", "overdue_timestamp_seconds"):
        assert after[name] == before[name]
    assert set(after) == set(before)
    main = 'job="main",vault="cold"'
    assert (before["run_result"][main], after["run_result"][main]) == (0, 2)
    assert after["last_run_timestamp_seconds"][main] == before["last_run_timestamp_seconds"][main] + 3600


def test_other_work_writes_them_too(server: Server, tmp_path: Path) -> None:
    server.backup()
    path = tmp_path / "metrics" / "nightvault.prom"
    for words in (["check"], ["prune"], ["compact"], ["tag", "latest", "--add", "x"]):
        path.unlink()
        server.run(*words)
        assert parsed(path.read_text()), words


def test_a_dry_run_writes_none(server: Server, tmp_path: Path) -> None:
    with server.config.open("a") as config:
        config.write('[[drill]]\nname = "weekly"\nvault = "cold"\nsample = "1 file"\n')
    server.backup()
    path = tmp_path / "metrics" / "nightvault.prom"
    path.unlink()
    for words in (["prune"], ["compact"], ["drill", "run"], ["check", "--read-data", "1%"]):
        server.done(*words, "--dry-run")
        assert not path.exists(), words
    server.done("drill", "run")
    assert path.exists()


@pytest.mark.parametrize("obstacle", ["no directory", "fifo", "symlink", "directory"])
def test_a_backup_does_not_fail_for_them(
    server: Server, tmp_path: Path, obstacle: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is followed, waited for or written to that somebody put there."""
    path, other = tmp_path / "metrics" / "nightvault.prom", tmp_path / "other"
    other.write_text("untouched")
    if obstacle == "no directory":
        path.parent.rmdir()
    elif obstacle == "fifo":
        os.mkfifo(path)
    elif obstacle == "symlink":
        path.symlink_to(other)
    else:
        path.mkdir()
    server.backup()
    assert "metrics" in caplog.text
    assert other.read_text() == "untouched"


def test_not_even_a_mistake_of_ours_fails_a_backup(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def mistaken(_status: object) -> str:
        raise ValueError("a mistake")

    monkeypatch.setattr("backup.app.status.metrics.metrics_text", mistaken)
    server.backup()
    assert "unexpected ValueError: a mistake" in caplog.text


def test_status_writes_them_to_a_file_that_is_named(server: Server, tmp_path: Path) -> None:
    server.backup()
    path = tmp_path / "by hand.prom"
    result = server.done("status", "--metrics", path)
    assert result.output == ""
    assert parsed(path.read_text()) == parsed((tmp_path / "metrics" / "nightvault.prom").read_text())
    server.fails(1, "status", "--metrics", tmp_path / "not there" / "x.prom")
