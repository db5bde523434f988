"""Tags and notes of snapshots: what may stand in them, so that they can be shown, typed and matched."""

from __future__ import annotations

import unicodedata
from typing import Final

MOST_TAGS: Final = 64
LONGEST_TAG: Final = 128
LONGEST_NOTE: Final = 200
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def tag_fault(tag: str) -> str:
    """Return the mistake in a tag as text; empty for a good one."""
    if not tag or tag != tag.strip():
        return "it is empty, or begins or ends with a space"
    if len(tag) > LONGEST_TAG:
        return f"it has more than {LONGEST_TAG} characters"
    if "," in tag:
        return "it holds a comma, which separates tags"
    return "" if is_one_line(tag) else "it holds a character that cannot be shown"


def note_fault(note: str) -> str:
    """Return the mistake in a note as text; empty for a good one."""
    if len(note) > LONGEST_NOTE:
        return f"it has more than {LONGEST_NOTE} characters"
    return "" if is_one_line(note) else "it holds a character that cannot be shown"


def is_one_line(text: str) -> bool:
    """Whether a text is safe for one line of a terminal: no control, format or line-end characters."""
    return not any(unicodedata.category(letter) in _HIDDEN for letter in text)
