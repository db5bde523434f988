"""The memory of a rebuild and of its drill does not grow with the inventory; a million: `measure_rebuild`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.emulated import REPOSITORY

pytestmark = pytest.mark.slow


def measured(folder: Path, entries: int) -> tuple[dict[str, int], dict[str, int]]:
    """A rebuild from a catalog of so many entries, and the comparison of its drill, each in a process."""
    words = [sys.executable, "-m", "tests.rebuilder.measure_rebuild", str(folder), str(entries)]
    subprocess.run(words, cwd=REPOSITORY, check=True)
    rebuilt, compared = (
        json.loads(subprocess.run(words, cwd=REPOSITORY, check=True, capture_output=True).stdout)
        for _ in range(2)
    )
    assert rebuilt["entries"] == compared["entries"] == entries
    return rebuilt, compared


def test_neither_holds_more_of_more_entries(tmp_path: Path) -> None:
    """From so many on the caches of both inventories are full."""
    few, many = measured(tmp_path / "few", 160_000), measured(tmp_path / "many", 320_000)
    grown = [of_many["peak_mib"] - of_few["peak_mib"] for of_few, of_many in zip(few, many, strict=True)]
    assert grown[0] < 60
    assert grown[1] < 12
