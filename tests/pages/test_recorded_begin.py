"""docs/pictures/begin.svg is what `begin` asks today, on 80 columns."""

from __future__ import annotations

from tests.pages.recorded_begin import PICTURE, picture, recorded


def test_the_picture_is_of_today() -> None:
    """If it is not: `python -m tests.pages.recorded_begin`."""
    assert max(len(line) for part in recorded() for line in part.splitlines()) <= 80
    assert picture() == PICTURE.read_text(encoding="utf-8")
