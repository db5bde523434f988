"""Patterns as in `.gitignore`, as if the file that holds them lay in `/`, matched once for each entry.

pathspec parses the patterns; we join the results into two regular expressions, one for names and one for
paths, so that an entry that no pattern matches costs next to nothing. Only an entry that one of them matches
is matched pattern by pattern, from the last: the last match decides.

Shell globs with `**` (`glob_regex`) choose from what is saved already: names or absolute paths.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from msgspec import Struct

from backup.errors import ConfigError, UsageError

_ANYWHERE = "^(?:.+/)?"  # how pathspec begins a pattern that any directory may hold
_ITSELF_OR_BELOW = r"(?:(?P<ps_d>/)|$)"  # how it ends: paths below a match are never asked for
_BELOW = r"(?P<ps_d>/)"
_MOST_BYTES = 16 << 20  # of a file of patterns: a larger one is a mistake
_MAGIC = re.compile(r"[*?\[]")

Matches = Callable[[str], object]
_Search = Callable[[str], object]


class Pattern(Struct, frozen=True):
    """A line as it was written, and its origin: a key of the config or FILE:LINE."""

    text: str
    origin: str = "exclude"
    ignores_case: bool = False


class _PatternRule(NamedTuple):
    pattern: Pattern
    leaves_out: bool  # False: it includes again (!)
    of_names: bool  # matched with the name alone, else with the whole path
    matches: _Search


class Patterns:
    """Patterns in the order in which they count. `ConfigError` names an invalid one."""

    def __init__(self, patterns: Iterable[Pattern]) -> None:
        regexes = [(pattern, *_regex_of(pattern)) for pattern in patterns]
        self._rules: Sequence[_PatternRule] = [
            _PatternRule(pattern, leaves_out, of_names, re.compile(regex, re.DOTALL).match)
            for pattern, leaves_out, of_names, regex in regexes
            if regex
        ]
        self._name = _any_of(regex for _, out, of_names, regex in regexes if out and of_names and regex)
        self._path = _any_of(regex for _, out, of_names, regex in regexes if out and not of_names and regex)
        self._directory = (b"", "")  # the last one that was asked about, as bytes and as text

    def __bool__(self) -> bool:
        """Whether anything can be excluded."""
        return self._name is not None or self._path is not None

    def leaving_out(self, directory: bytes, name: bytes, *, is_directory: bool) -> Pattern | None:
        """The pattern that excludes this entry of an absolute directory; None if it stays."""
        text = name.decode("utf-8", "surrogateescape")
        if is_directory:
            text += "/"
        if self._name is not None and self._name(text):
            return self._decide(self._below(directory) + text, text)
        if self._path is None:
            return None
        path = self._below(directory) + text
        return self._decide(path, text) if self._path(path) else None

    def _decide(self, path: str, name: str) -> Pattern | None:
        for rule in reversed(self._rules):
            if rule.matches(name if rule.of_names else path):
                return rule.pattern if rule.leaves_out else None
        return None

    def _below(self, directory: bytes) -> str:
        known, text = self._directory
        if known != directory:
            text = (directory.rstrip(b"/") + b"/").decode("utf-8", "surrogateescape")[1:]
            self._directory = (directory, text)
        return text


def read_patterns(path: str, *, ignores_case: bool = False) -> list[Pattern]:
    """The patterns of a file, a line each. `ConfigError` names an invalid one, and nothing runs."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        with open(os.open(path, flags), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ConfigError(f"the file of patterns {path} is no regular file")
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"the file of patterns {path} cannot be read: {error.strerror}",
            advice="without it, what it leaves out would be backed up: bring it back, or change the job",
        ) from error
    if len(data) > _MOST_BYTES:
        raise ConfigError(f"the file of patterns {path} is larger than {_MOST_BYTES >> 20} MiB")
    lines = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape").split("\n")
    return [
        Pattern(line.removesuffix("\r"), f"{path}:{number}", ignores_case)
        for number, line in enumerate(lines, 1)
    ]


def _regex_of(pattern: Pattern) -> tuple[bool, bool, str | None]:
    """Whether the pattern excludes, whether the name suffices, and its expression (None for a comment)."""
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

    try:
        read = GitIgnoreSpecPattern(_spelled_out(pattern.text))
    except re.error as error:
        raise ConfigError(f"{pattern.origin}: {pattern.text!r} is no pattern: {error.msg}") from error
    except ValueError as error:
        raise ConfigError(f"{pattern.origin}: {error}") from error
    if read.include is None or read.regex is None:
        return False, False, None
    regex = read.regex.pattern
    if regex.endswith(_ITSELF_OR_BELOW):
        regex = regex.removesuffix(_ITSELF_OR_BELOW) + r"/?\Z"
    elif regex.endswith(_BELOW):
        regex = (regex.removesuffix(_BELOW) or rf"{_ANYWHERE}[^/]+") + r"/\Z"
    elif regex.endswith("/"):
        regex += "."  # a/** is all that lies in a, not a itself
    if not regex.startswith("^"):
        regex = "^.*" + regex  # pathspec searches; from the start is faster
    of_names = regex.startswith(_ANYWHERE) and "/" not in _inner(regex)
    if of_names:
        regex = "^" + regex.removeprefix(_ANYWHERE)
    return bool(read.include), of_names, f"(?i:{regex})" if pattern.ignores_case else regex


def _spelled_out(text: str) -> str:
    """The pattern with `a/**/` (every directory in a, not a) as `a/**/*/`: pathspec reads it as `a/`."""
    bare = text.rstrip(" ")
    return f"{bare}*/" if bare.endswith("/**/") else text


def _inner(regex: str) -> str:
    """The expression without the slashes that every one has."""
    regex = regex.removeprefix(_ANYWHERE).removesuffix(r"/?\Z").removesuffix(r"/\Z")
    return regex.replace("[^/]", "")


def _any_of(regexes: Iterable[str]) -> _Search | None:
    joined = "|".join(f"(?:{regex})" for regex in regexes)
    return re.compile(joined, re.DOTALL).match if joined else None


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
    joined = "|".join(f"(?:{glob_regex(glob.rstrip('/'))})(?:/.*)?" for glob in globs)
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
