"""The recovery key on paper, and parts of it typed back."""

from __future__ import annotations

import re
from datetime import date
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from backup.app.beginning.sheet import ASKED, asked_groups, groups_of, sheet, wrong_groups
from backup.format.keys import RecoveryKey

KEY = RecoveryKey.from_seed(bytes(range(32)))


@given(seed=st.binary(min_size=32, max_size=32))
def test_the_key_can_be_typed_from_the_sheet(seed: bytes) -> None:
    key = RecoveryKey.from_seed(seed)
    text = sheet(key, host="web1", vault="the directory /mnt/backups", day=date(2026, 12, 1))
    groups = re.findall(r"\b\d+: ([0-9A-Z]{4})\b", text)
    assert RecoveryKey.from_text("NVK1 " + " ".join(groups)).seed == seed
    assert max(map(len, text.splitlines())) <= 80
    assert text.isascii()


@given(number=st.integers())
def test_some_groups_are_asked_for_and_right_only_as_they_are(number: int) -> None:
    asked = asked_groups(Random(number))
    assert len(set(asked)) == ASKED
    assert set(asked) <= set(range(1, 15))
    right = [groups_of(KEY)[place - 1] for place in asked]
    assert wrong_groups(KEY, asked, " ".join(right)) == []
    assert wrong_groups(KEY, asked, "-".join(right).lower().replace("0", "o").replace("1", "l")) == []
    assert wrong_groups(KEY, asked, " ".join(reversed(right))) != []
    assert wrong_groups(KEY, asked, " ".join(right[:-1])) is None
    changed = [*right[:-1], "ZZZZ" if right[-1] != "ZZZZ" else "YYYY"]
    assert wrong_groups(KEY, asked, " ".join(changed)) == [asked[-1]]
