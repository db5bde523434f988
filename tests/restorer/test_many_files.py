"""Many files from the emulator, scaled down; `measure_restore` is the whole of it, run by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.restorer.measure_restore import measure

pytestmark = pytest.mark.slow


def test_many_files_in_bounded_memory(tmp_path: Path) -> None:
    told = measure(tmp_path, files=3000, size=200_000, data=1000)
    restored = told["restore"]
    assert (restored["outcome"], restored["files"], restored["bytes"]) == ("done", 3000, 600_000_000)
    assert restored["fetched"] < 4_000_000
    assert restored["peak_mib"] < 250
