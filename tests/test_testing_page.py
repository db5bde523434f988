"""docs/testing.md names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
NAMED = re.compile(r"`(?P<file>tests/[\w/]+\.py)?(?:::(?P<test>test_\w+))?`")


def test_every_test_that_the_page_names_is_there() -> None:
    page = (REPOSITORY / "docs" / "testing.md").read_text()
    rows = [line for line in page.splitlines() if re.match(r"\| \d+ \|", line)]
    assert len(rows) == 24
    for row in rows:
        file = None
        for found in NAMED.finditer(row):
            if found["file"]:
                file = REPOSITORY / found["file"]
                assert file.is_file(), found["file"]
            if found["test"]:
                assert file is not None
                assert f"def {found['test']}(" in file.read_text(), found["test"]
