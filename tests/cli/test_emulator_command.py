"""`nightvault emulator` as a process, and words to it while it runs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.emulated import REPOSITORY, write_accounts

COMMAND = (sys.executable, "-c", "from backup.cli import main; main()")


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *words], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def running(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    accounts = write_accounts(tmp_path / "accounts.toml")
    words = ["emulator", "--state", str(tmp_path / "state"), "--accounts", str(accounts)]
    with subprocess.Popen(
        [*COMMAND, *words, "--set", "tag_limit=10"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


def test_words_to_a_running_emulator(running: subprocess.Popen[str]) -> None:
    assert running.stdout is not None
    admin = json.loads(running.stdout.readline())["admin"]
    advanced = _run("--json", "emulator", "advance", "3600", "--admin", admin)
    assert "now" in json.loads(advanced.stdout)
    for words, seconds in (("4h", 14_400), ("1d12h", 129_600), ("30m", 1800), ("0.5h", 1800), ("90", 90)):
        said = _run("emulator", "advance", words, "--admin", admin).stdout
        assert f"moved on by {seconds} s" in said, "durations"
    for wrong in ("4 hours", "h", "-4h", "4h!", "nan", "1e999"):
        refused = _run("emulator", "advance", "--admin", admin, "--", wrong)
        assert refused.returncode == 2, wrong
        assert "write 4h, 30m, 2d, 1d12h, or seconds" in refused.stderr
    listed = _run("--json", "emulator", "inventory", "--admin", admin)
    assert json.loads(listed.stdout) == {"inventories": []}
    planned = _run(
        "--json", "emulator", "fault", '[{"operation": "*", "probability": 0.5}]', "--admin", admin
    )
    assert json.loads(planned.stdout)["faults"][0]["operation"] == "*"
    refused = _run("emulator", "fault", '[{"operation": "Nothing"}]', "--admin", admin)
    assert refused.returncode == 2
    assert "no operation" in refused.stderr
    running.send_signal(signal.SIGTERM)
    assert running.wait(10) == 0
    assert running.stderr is not None
    assert f"export AWS_ENDPOINT_URL_GLACIER={admin}" in running.stderr.read()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--set", "tag_limits=10"), "There is no setting 'tag_limits'."),
        (("--faults", "/nowhere/f.toml"), "Cannot use the faults in /nowhere/f.toml"),
    ],
)
def test_failures_to_start(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    accounts = write_accounts(tmp_path / "accounts.toml")
    ended = _run("emulator", "--state", str(tmp_path / "state"), "--accounts", str(accounts), *words)
    assert ended.returncode == 1
    assert said in ended.stderr


def test_what_names_the_running_one_is_told() -> None:
    ended = _run("emulator", "advance", "1h")
    assert ended.returncode == 2
    assert "NIGHTVAULT_EMULATOR_ADMIN" in ended.stderr


@pytest.mark.parametrize("words", [["demo"], ["emulator", "--state", "state", "--accounts", "accounts.toml"]])
def test_without_its_libraries_it_says_how_to_add_them(words: list[str], tmp_path: Path) -> None:
    without = (
        f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); sys.modules['uvicorn'] = None; {COMMAND[-1]}"
    )
    done = subprocess.run(
        [sys.executable, "-c", without, *words],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "the emulator's libraries are not installed" in done.stderr
    assert "-py3-none-any.whl[emulator]" in done.stderr
    assert list(tmp_path.iterdir()) == []
