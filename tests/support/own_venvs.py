"""Programs that need an environment of their own, made once and kept in pytest's cache."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import venv
from pathlib import Path

import pytest


def own_venv(config: pytest.Config, name: str, *packages: str) -> Path:
    """The `bin` folder of an environment with these packages; the first of several processes makes it."""
    assert config.cache is not None
    folder = Path(config.cache.mkdir(name)) / f"{sys.version_info[0]}.{sys.version_info[1]}"
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            make_venv(folder, *packages)
            (folder / "complete").touch()
    return folder / "bin"


def make_venv(folder: Path, *words: str | Path) -> None:
    """An environment with what these words of `pip install` name.

    It has no pip, and only what is imported is compiled: both would take longer than the installation.
    """
    venv.create(folder, clear=True, symlinks=True)
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python"]
    options = ["--quiet", "--disable-pip-version-check", "--no-compile"]
    subprocess.run([*pip, "install", *options, *words], check=True, stdout=subprocess.DEVNULL, timeout=600)
