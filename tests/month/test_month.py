"""A month of three vaults says what it said when it was recorded: commands, log lines, letters, metrics."""

from __future__ import annotations

import difflib

import pytest

from tests.month.stories import RECORDED, STORIES, sections
from tests.month.world import months


@pytest.mark.slow
@pytest.mark.usefixtures("heeding_hangups")
@pytest.mark.parametrize("name", STORIES)
def test_month(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with months(monkeypatch) as month:
        STORIES[name](month)
        told = month.text()
    lines = sections(RECORDED.read_text())[name].splitlines()
    changed = list(difflib.unified_diff(lines, told.splitlines(), "recorded", "now", lineterm="", n=6))
    assert not changed, "\n".join(
        ["it says something else now; if that is meant: python -m tests.month.record", *changed]
    )
