"""docs/retention.md: each of its examples is what the policy decides, the words for words."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest

from backup.config import PROPOSED, RetentionSettings
from backup.retention.policy import Candidate, Policy, decide

PAGE = (Path(__file__).parents[2] / "docs" / "retention.md").read_text(encoding="utf-8")
BERLIN = ZoneInfo("Europe/Berlin")
_TABLE = r"\| snapshot \| stays \| why \|\n\|---\|---\|---\|\n((?:\|.*\n)+)"
_EXAMPLE = re.compile(rf"```toml\n([^`]*)```\n+{_TABLE}")


def _examples() -> Iterator[tuple[Policy, list[tuple[str, str, str]]]]:
    for toml, rows in _EXAMPLE.findall(PAGE):
        policy = msgspec.convert(tomllib.loads(toml), RetentionSettings).policy
        cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows.splitlines()]
        yield policy, [(date, stays, why) for date, stays, why in cells]


EXAMPLES = list(_examples())


def _snapshots(rows: list[tuple[str, str, str]]) -> list[Candidate]:
    found: list[Candidate] = []
    for number, (written, _, _) in enumerate(rows, 1):
        date, *kinds = written.split(", ")
        at = datetime.fromisoformat(date).replace(tzinfo=BERLIN).astimezone(UTC)
        found.append(Candidate(number, at, "partial" not in kinds, is_pinned="pinned" in kinds))
    return found


@pytest.mark.parametrize("example", range(len(EXAMPLES)))
def test_an_example_is_what_the_policy_decides(example: int) -> None:
    policy, rows = EXAMPLES[example]
    decisions = decide(policy, _snapshots(rows), now=datetime(2026, 6, 1, tzinfo=UTC), zone=BERLIN)
    assert [("yes" if decision.is_kept else "no", "; ".join(decision.reasons)) for decision in decisions] == [
        (stays, why) for _, stays, why in rows
    ]


def test_there_are_examples_of_counts_wrong_dates_and_partial_snapshots() -> None:
    assert len(EXAMPLES) == 5
    whys = " ".join(why for _, rows in EXAMPLES for _, _, why in rows)
    for words in ("that have a backup", "the oldest", "dated in the future", "against the order", "pinned"):
        assert words in whys


def test_the_page_proposes_what_init_proposes() -> None:
    first = re.search(r"```toml\n\[job\.retention\]\n([^`]*)```", PAGE)
    assert first is not None
    assert tomllib.loads(first[1]) == PROPOSED
