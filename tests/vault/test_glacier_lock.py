"""What a vault's lock policy says about an archive: as its statements are written, in all their forms."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.model import Refusal
from backup.vault.glacier_lock import refusal_by

STORED = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
UNDATED = Refusal("the vault's lock forbids it")


def denial(action: Any = "glacier:DeleteArchive", **condition: Any) -> dict[str, Any]:
    """A statement that denies it to everybody."""
    return {"Effect": "Deny", "Principal": "*", "Action": action, "Resource": "*", "Condition": condition}


def denial_but(pattern: str) -> dict[str, Any]:
    """A statement that denies every other action."""
    return {"Effect": "Deny", "Principal": "*", "NotAction": pattern, "Resource": "*"}


def younger_than(days: Any, operator: str = "NumericLessThan") -> dict[str, Any]:
    return denial(**{operator: {"glacier:ArchiveAgeInDays": days}})


def told(*statements: Any, now: datetime | None = STORED, stored_at: datetime | None = STORED) -> Any:
    return refusal_by(json.dumps({"Statement": list(statements)}), stored_at, now)


def kept(days: int) -> Refusal:
    detail = f"the vault's lock forbids it until it is {days} days old"
    return Refusal(detail, STORED + timedelta(days=days))


@pytest.mark.parametrize(
    ("statement", "days"),
    [
        (younger_than("365"), 365),
        (younger_than(365), 365),
        (younger_than(["30", "365", "7"]), 365),
        (younger_than("365", "NumericLessThanEquals"), 366),
        (younger_than("365", "numericlessthanifexists"), 365),
        (denial(NumericLessThan={"GLACIER:archiveageindays": "9"}), 9),
        (denial("glacier:Delete*", NumericLessThan={"glacier:ArchiveAgeInDays": "9"}), 9),
        (denial(["a:B", "*"], NumericLessThan={"glacier:ArchiveAgeInDays": "9"}), 9),
    ],
)
def test_an_age_gives_a_date(statement: dict[str, Any], days: int) -> None:
    assert told(statement) == kept(days)
    assert told(statement, stored_at=None) == Refusal(kept(days).detail)


def test_of_several_ages_the_longest_counts() -> None:
    assert told(younger_than("30"), younger_than("365"), younger_than("90"), denial()) == kept(365)


def test_on_its_day_the_lock_has_ended() -> None:
    last = STORED + timedelta(days=30)
    assert told(younger_than("30"), now=last - timedelta(seconds=1)) == kept(30)
    assert told(younger_than("30"), now=last) is None
    assert told(younger_than("30"), younger_than("365"), now=last) == kept(365)
    assert told(younger_than("30"), now=None) == kept(30)


@pytest.mark.parametrize(
    "statement",
    [
        denial(),
        denial(StringLike={"glacier:ResourceTag/LegalHold": ["true", ""]}),
        denial(NumericLessThan={"glacier:ArchiveAgeInDays": "soon"}),
        denial_but("glacier:Describe*"),
    ],
)
def test_other_conditions_give_no_date(statement: dict[str, Any]) -> None:
    assert told(statement) == UNDATED
    assert refusal_by(json.dumps({"Statement": statement}), STORED, STORED) == UNDATED


@pytest.mark.parametrize(
    "statement",
    [
        {**denial(), "Effect": "Allow"},
        denial("glacier:DeleteVault"),
        denial(["glacier:UploadArchive", "glacier:Abort*"]),
        denial_but("glacier:Delete*"),
        "Deny",
    ],
)
def test_what_does_not_forbid_deletions_is_no_refusal(statement: Any) -> None:
    assert told(statement) is None


NAMES = st.sampled_from(["Statement", "Effect", "Action", "Condition", "glacier:ArchiveAgeInDays"])
VALUES = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(NAMES | st.text(), inner),
    max_leaves=8,
)


@given(VALUES)
def test_no_policy_is_too_strange(document: Any) -> None:
    for text in (json.dumps(document), str(document), json.dumps({"Statement": document})):
        refusal_by(text, STORED, STORED)
    told({"Effect": "Deny", "Action": "*", "Condition": document})
    told({"Effect": "Deny", "Action": "*", "Condition": {"NumericLessThan": document}}, stored_at=None)
