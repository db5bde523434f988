"""docs/setup-aws.svg is what `setup aws` says today, on 80 columns."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.pages.recorded_session import PICTURE, WIDTH, recorded, svg

pytestmark = pytest.mark.slow


def test_the_picture_is_of_today(tmp_path: Path) -> None:
    """If it is not: `python -m tests.pages.recorded_session`."""
    session = recorded(tmp_path)
    lines = [line for _, said in session for line in said.splitlines()]
    assert max(map(cell_len, lines)) <= WIDTH, lines
    assert svg(session) == PICTURE.read_text(encoding="utf-8")
