"""Shell globs with `**`, as regular expressions over names or absolute paths."""

from __future__ import annotations

import re
from collections.abc import Callable

from backup.errors import UsageError

_MAGIC = re.compile(r"[*?\[]")

Matches = Callable[[str], object]


def has_magic(text: str) -> bool:
    """Whether a text is a glob, so can match more than one name."""
    return _MAGIC.search(text) is not None


def plain_stem(path: str) -> str:
    """The directory before the first component with magic: everything the glob can match is below it."""
    magic = _MAGIC.search(path)
    return path if magic is None else path[: magic.start()].rpartition("/")[0] or "/"


def glob_regex(text: str) -> str:
    """The regular expression of a glob: `*` and `?` stay within a component, `**` is any number of them.

    `UsageError` for a character set that means nothing.
    """
    regex, at = "", 0
    while at < len(text):
        if text.startswith("**/", at) and (at == 0 or text[at - 1] == "/"):
            regex, at = regex + "(?:.*/)?", at + 3
        elif text.startswith("**", at):
            regex, at = regex + ".*", at + 2
        elif text[at] == "*":
            regex, at = regex + "[^/]*", at + 1
        elif text[at] == "?":
            regex, at = regex + "[^/]", at + 1
        elif text[at] == "[" and (end := _end_of_set(text, at)) > 0:
            regex, at = regex + _set(text[at + 1 : end]), end + 1
        elif text[at] == "\\" and at + 1 < len(text):
            regex, at = regex + re.escape(text[at + 1]), at + 2
        else:
            regex, at = regex + re.escape(text[at]), at + 1
    try:
        re.compile(regex)
    except re.error as error:
        raise UsageError(f"{text!r} is no pattern: {error.msg}") from error
    return regex


def below_or_at(globs: list[str]) -> Matches:
    """A predicate: an absolute path matches one of the globs, or lies below such a directory."""
    joined = "|".join(f"(?:{glob_regex(one.rstrip('/'))})(?:/.*)?" for one in globs)
    return re.compile(joined, re.DOTALL).fullmatch


def of_name_or_path(text: str, *, ignores_case: bool = False) -> Callable[[bytes, bytes], object]:
    """A predicate: an entry (absolute directory and name, both bytes) matches a glob.

    A glob without a slash is matched with names; one with a slash with absolute paths, from any component on
    unless it begins with a slash.
    """
    flags = re.DOTALL | (re.IGNORECASE if ignores_case else 0)
    text = text.rstrip("/") or "/"
    if "/" not in text:
        of_name = re.compile(glob_regex(text), flags).fullmatch
        return lambda _, name: of_name(name.decode("utf-8", "surrogateescape"))
    anywhere = "" if text.startswith("/") else "/(?:.*/)?"
    of_path = re.compile(anywhere + glob_regex(text), flags).fullmatch
    return lambda directory, name: of_path(
        (directory.rstrip(b"/") + b"/" + name).decode("utf-8", "surrogateescape")
    )


def _end_of_set(text: str, start: int) -> int:
    """Index of the `]` of a set; -1 if there is none, as then `[` means itself."""
    first = start + 1 + text.startswith(("!", "^"), start + 1)
    return text.find("]", first + 1)


def _set(inner: str) -> str:
    negated = inner.startswith(("!", "^"))
    letters = inner[1:] if negated else inner
    escaped = re.sub(r"([\\\[\]^&~|])", r"\\\1", letters)
    return f"(?!/)[{'^' if negated else ''}{escaped}]"
