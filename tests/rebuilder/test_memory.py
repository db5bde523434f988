"""A rebuild's memory does not grow with the inventory; the million is measured by `measure_rebuild`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.emulated import REPOSITORY

pytestmark = pytest.mark.slow


def measured(folder: Path, entries: int) -> dict[str, int]:
    """Make a catalog of so many entries and rebuild from it, each in a process of its own."""
    words = [sys.executable, "-m", "tests.rebuilder.measure_rebuild", str(folder), str(entries)]
    subprocess.run(words, cwd=REPOSITORY, check=True)
    done = subprocess.run(words, cwd=REPOSITORY, check=True, capture_output=True)
    found: dict[str, int] = json.loads(done.stdout)
    return found


def test_memory_is_flat(tmp_path: Path) -> None:
    few, many = measured(tmp_path / "few", 40_000), measured(tmp_path / "many", 120_000)
    assert (few["entries"], many["entries"]) == (40_000, 120_000)
    assert many["peak_mib"] - few["peak_mib"] < 60
