"""`make test` runs two suites, the emulator's and then all others, whatever becomes of the first."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.no_cover

REPOSITORY = Path(__file__).parent.parent
PYTHON = """#!/bin/sh
echo "$*" >>"$0.asked"
case "$*" in *--ignore=tests/emulator) exit {others} ;; *" tests/emulator") exit {emulator} ;; esac
exit 99
"""
"""In place of an environment's Python: it notes what it is asked, and ends as a suite would."""


def make(
    venv: Path, target: str, *, emulator: int = 0, others: int = 0, args: str = ""
) -> tuple[str, list[str]]:
    """What `make` says on stderr, and what it asked pytest."""
    python = venv / "bin" / "python"
    python.parent.mkdir()
    python.write_text(PYTHON.format(emulator=emulator, others=others))
    python.chmod(0o755)
    (venv / ".made-from-pins").touch()
    outer = {"MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "MAKELEVEL", "PYTEST_ARGS"}
    environment = {name: value for name, value in os.environ.items() if name not in outer}
    command = ["make", target, f"VENV={venv}", f"PYTEST_ARGS={args}"]
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env={**environment, "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) == (done.stderr == ""), done.stderr
    return done.stderr.strip(), Path(f"{python}.asked").read_text().splitlines()


@pytest.mark.parametrize("target", ["test", "quick-test"])
@pytest.mark.parametrize(
    ("emulator", "others", "code"),
    [
        (0, 0, 0),
        (1, 0, 1),
        (0, 1, 1),
        (1, 1, 1),
        (1, 2, 2),
        (3, 1, 3),
        (5, 0, 0),
        (0, 5, 0),
        (5, 5, 5),
        (1, 5, 1),
    ],
)
def test_both_are_run_and_the_worse_counts(
    tmp_path: Path, target: str, emulator: int, others: int, code: int
) -> None:
    """`.ci/run` reads the number: of tests that failed (1) it asks again, of all else it does not."""
    said, asked = make(tmp_path, target, emulator=emulator, others=others, args="-o cache_dir=x")
    assert said.endswith(f"{target}] Error {code}") if code else not said
    assert len(asked) == 2
    assert all("-o cache_dir=x" in words for words in asked)
    marked = {words.split("-m ")[2].split(" -o")[0] for words in asked}
    assert marked == {"not real" if target == "test" else "not slow"}


def test_coverage_is_judged_of_both_together(tmp_path: Path) -> None:
    _, (emulator, others) = make(tmp_path, "coverage")
    assert "--cov --" in emulator
    assert "--cov-report= --cov-fail-under=0 tests/emulator" in emulator
    assert "--cov-append --ignore=tests/emulator" in others
    assert "--cov-report" not in others


def test_the_emulators_alone(tmp_path: Path) -> None:
    said, asked = make(tmp_path, "test-emulator", emulator=1)
    assert said.endswith("test-emulator] Error 1")
    assert [words.rpartition(" ")[2] for words in asked] == ["tests/emulator"]
