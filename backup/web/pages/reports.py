"""A run's report in words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from backup.wording import duration, size

_TOLD_ELSEWHERE = frozenset({"problems", "error", "outcome", "job", "vault", "unusual", "run", "kind"})


def report_rows(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """A report as names and values in words, without what the page tells elsewhere and what is empty."""
    for name, value in report.items():
        if name not in _TOLD_ELSEWHERE and value not in (None, "", [], {}):
            yield name.replace("_", " "), _in_words(name, value)


def _in_words(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float) and name.startswith("bytes"):
        return size(int(value))
    if isinstance(value, int | float) and name.endswith("seconds"):
        return duration(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return "\n".join(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)
