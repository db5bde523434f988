"""Types of text in the config, each with the message for a wrong value; suggestions for misspelled words."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

NAME = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}"
NAME_SENTENCE = "must be of letters, digits and _.-, 64 at most, and not begin with . or -"
_TYPE_WORDS = {"int": "a whole number", "str": "a text", "bool": "true or false", "array": "a list"}


def shape(pattern: str, sentence: str) -> Meta:
    """Return the type of texts that match; `sentence` is the message for one that does not."""
    return Meta(pattern=rf"^(?:{pattern})\Z", description=sentence)


Text = Annotated[str, shape(r"[^\x00]+", "must not be empty, nor hold a NUL")]
Plain = Annotated[str, shape(r"[^\x00]+", "must be a text that is not empty")]
Command = Annotated[tuple[Plain, ...], Meta(min_length=1, description="must name a program")]
_HTTP = r"http://(127\.0\.0\.1|localhost|\[::1\])(:[0-9]+)?"  # plain, so on this machine only
_SERVICE = rf"(https://[^/@\s]+|{_HTTP})(/\S*)?"
Endpoint = Annotated[str, shape(_SERVICE, "must be https://HOST, or http://127.0.0.1 (localhost, [::1])")]


def written_as(key: str) -> str:
    """Return the header of a key's table: `[job.hooks]` for `job[1].hooks`, `[[vault]]` for `vault[1]`."""
    name = re.sub(r"\[\d+\]", "", key)
    return f"[[{name}]]" if key.endswith("]") else f"[{name}]"


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return a similar known word, as the end of a sentence; empty if none is similar."""
    import difflib

    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def check_sources(name: str, value: object) -> None:
    """Refuse values that belong to the other one of `sources` and `[[job.source]]`. `ValueError`."""
    if name == "source" and _is_text(value):
        raise ValueError(f"is a table of its own, [[job.source]]; did you mean sources = {_as_list(value)}?")
    if name == "sources" and isinstance(value, str):
        raise ValueError(f"must be a list, not a text; did you mean {_as_list(value)}?")


def _is_text(value: object) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list) and bool(value) and all(isinstance(text, str) for text in value)
    )


def _as_list(value: object) -> str:
    """One or several texts as a list in TOML."""
    return msgspec.json.encode([value] if isinstance(value, str) else value).decode()


def in_our_words(key: str, message: str, kind: Any, value: object) -> tuple[str, str]:
    """The mistake of msgspec's sentence: without types of Python, a position in a list moved into the key."""
    message, _, place = message.partition(" - at `$")
    key += "".join(f"[{int(index) + 1}]" for index in re.findall(r"\d+", place))
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return key, f"must be one of {', '.join(kind)}{suggestion(str(value), kind)}"
    if "matching regex" in message or "of length" in message:
        return key, next(_descriptions(kind, deepest="[" in place))
    message = re.sub(r" \| `?null`?", "", message)
    message = re.sub(r"`(\w+)`?", lambda word: _TYPE_WORDS.get(word[1], word[1]), message)
    return key, message.replace("Expected", "must be").replace(", got", ", not")


def _descriptions(kind: Any, *, deepest: bool) -> Iterator[str]:
    """The sentences in an annotated type, outermost first, or innermost first with `deepest`."""
    inner = [text for part in typing.get_args(kind) for text in _descriptions(part, deepest=deepest)]
    own = [meta.description for meta in getattr(kind, "__metadata__", ()) if meta.description]
    yield from [*inner, *own] if deepest else [*own, *inner]
