"""Shapes of texts in the config, each with the sentence for a text that breaks it; words like a wrong one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from msgspec import Meta

NAME = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}"
NAME_SENTENCE = "must be of letters, digits and _.-, 64 at most, and not begin with . or -"


def shape(pattern: str, sentence: str) -> Meta:
    """The shape of texts that match; `sentence` is told of one that does not."""
    return Meta(pattern=rf"^(?:{pattern})\Z", description=sentence)


def suggestion(word: str, known: Iterable[str]) -> str:
    """A similar known word, as the end of a sentence; empty if none is similar."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
