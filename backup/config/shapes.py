"""Shapes of texts in the config, each with the sentence for a text that breaks it."""

from __future__ import annotations

from msgspec import Meta

NAME = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}"
NAME_SENTENCE = "must be of letters, digits and _.-, 64 at most, and not begin with . or -"


def shape(pattern: str, sentence: str) -> Meta:
    """The shape of texts that match; `sentence` is told of one that does not."""
    return Meta(pattern=rf"^(?:{pattern})\Z", description=sentence)
