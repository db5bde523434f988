"""Mounts of a server's tree, in a process of their own; tests with one are skipped where FUSE is missing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.servers import SCRIPT, Server


def require_fuse() -> None:
    """Skip the test where nothing can be mounted."""
    if shutil.which("fusermount3") is None:
        pytest.skip("fuse3 is not installed")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("there is no /dev/fuse here")


def is_mounted(folder: Path) -> bool:
    """Whether anything is mounted there, alive or not."""
    return any(line.split()[1] == str(folder) for line in Path("/proc/mounts").read_text().splitlines())


def await_state(folder: Path, *, mounted: bool, seconds: float = 20) -> bool:
    """Wait until it is mounted, or no more; whether that came."""
    until = time.monotonic() + seconds
    while is_mounted(folder) is not mounted and time.monotonic() < until:
        time.sleep(0.01)
    return is_mounted(folder) is mounted


@contextmanager
def mounted(
    server: Server, folder: Path, *words: object, program: Sequence[str] = (SCRIPT,)
) -> Iterator[subprocess.Popen[str]]:
    """The server's tree at a folder, which is made."""
    require_fuse()
    folder.mkdir(exist_ok=True)
    with server.process("mount", folder, "--key", server.key_file, *words, program=program) as process:
        try:
            is_there = await_state(folder, mounted=True)
            assert is_there, process.communicate(timeout=5)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)
            if not await_state(folder, mounted=False, seconds=5):
                subprocess.run(["fusermount3", "-u", "-z", folder], check=False)
