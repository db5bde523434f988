"""Loop devices, where root and the kernel have them: real block devices for tests."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def loop_device(image: Path) -> Iterator[str]:
    """The image as a block device; skips the test, with the reason, where there can be none."""
    if os.geteuid():
        pytest.skip("only root makes loop devices")
    if shutil.which("losetup") is None:
        pytest.skip("losetup is not installed")
    made = subprocess.run(
        ["losetup", "--find", "--show", str(image)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"no loop device: {made.stderr.strip()}")
    device = made.stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
