"""What is wrong on any of many pages, told all at once: one test a law, not one a page."""

from __future__ import annotations

from collections.abc import Iterable


def assert_none(findings: Iterable[str], advice: str = "") -> None:
    """Fail with a line for each finding."""
    found = list(findings)
    assert not found, "\n".join([f"{len(found)} found{advice and f'; {advice}'}:", *found])
