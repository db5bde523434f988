"""Processes of tests: programs that are to be killed, and workers that run another code than theirs."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from backup.workers.process import Process
from tests.support.emulated import REPOSITORY


def start_instead(code: str) -> Callable[..., Process]:
    """In place of `workers.process.start`: the process has the same handles, and runs this code."""

    def start(_module: str, *handles: int) -> Process:
        return Process([sys.executable, "-I", "-c", code], handles)

    return start


def start_ready(module: str, *arguments: object) -> subprocess.Popen[str]:
    """A module of the tests, run as a program up to the moment at which it says "ready"."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.fixture
def heeding_hangups() -> Iterator[None]:
    """Programs that are started meanwhile heed SIGHUP, also in a suite that ignores it."""
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
