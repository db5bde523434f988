"""Programs that need an environment of their own, made once with pip and kept in pytest's cache."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest


def own_venv(config: pytest.Config, name: str, *packages: str) -> Path:
    """The `bin` folder of an environment with these packages; the first of several processes makes it."""
    assert config.cache is not None
    folder = Path(config.cache.mkdir(name)) / f"{sys.version_info[0]}.{sys.version_info[1]}"
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
            install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
            subprocess.run([str(folder / "bin" / "python"), *install], check=True)
            (folder / "complete").touch()
    return folder / "bin"
