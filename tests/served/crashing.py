"""A program that crashes where core files are written, and what it leaves of its memory."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.servers import SCRIPT


def crashing(folder: Path) -> Sequence[str]:
    """The program as it begins with no limit of core files, which go to that folder, empty so far.

    Skips the test where the system puts them elsewhere.
    """
    folder.mkdir()
    limitless = f"ulimit -c unlimited && cd '{folder}' &&"
    subprocess.run(["sh", "-c", f"{limitless} kill -SEGV $$"], check=False)
    cores = list(folder.iterdir())
    if not cores:
        pytest.skip("core files are written elsewhere, or may not be")
    for core in cores:
        core.unlink()
    return "sh", "-c", f'{limitless} exec "$0" "$@"', SCRIPT


def assert_no_core(process: subprocess.Popen[str], folder: Path) -> None:
    """Let a process that was begun by `crashing` crash: it leaves no core file."""
    process.send_signal(signal.SIGSEGV)
    assert process.wait(20) == -signal.SIGSEGV
    assert list(folder.iterdir()) == []
