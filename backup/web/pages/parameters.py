"""The parameters in a URL, and checks of them; `BadParameterError` says what is wrong.

The size of every parameter is limited, so that no request makes a huge SQL statement.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from enum import StrEnum
from typing import TypeVar
from urllib.parse import parse_qsl, unquote_to_bytes

from starlette.requests import Request

from backup.web.guard.faults import BadParameterError

_E = TypeVar("_E", bound=StrEnum)
_SNAPSHOT = re.compile(r"[0-9a-f]{6,16}")
_NUMBER = re.compile(r"[0-9]{1,15}")
_LONGEST_PATH = 4096
_LONGEST_NAME = 255
_LONGEST_CURSOR = 8192
_MOST_FIELDS, _MOST_PICKED = 600, 500
MOST_PATHS = 100
MOST_WORDS = 200


class Parameters:
    """The query parameters of a request. Paths are bytes; fields `pick` of a form are paths, encoded twice.

    `BadParameterError` if there are too many, or one that is not in `allowed`, if that is given.
    """

    def __init__(
        self, request: Request, *, allowed: frozenset[str] | None = None, most: int = _MOST_FIELDS
    ) -> None:
        try:
            pairs = parse_qsl(
                request.scope["query_string"].decode("latin-1"),
                keep_blank_values=True,
                encoding="latin-1",
                max_num_fields=most,
            )
        except ValueError as error:
            raise BadParameterError("the address asks for too much", advice="choose fewer entries") from error
        if allowed is not None and not allowed.issuperset(key for key, _ in pairs):
            raise BadParameterError("a parameter is not known: /api/v1/openapi.json names all")
        self._pairs = [(key, value.encode("latin-1")) for key, value in pairs]

    def path(self, name: str) -> bytes | None:
        """Return the first parameter of that name as bytes; None if it is missing or empty."""
        return next((value for key, value in self._pairs if key == name and value), None)

    def text(self, name: str) -> str | None:
        """Return the first parameter of that name as text. `BadParameterError` if it is no UTF-8."""
        found = self.path(name)
        try:
            return None if found is None else found.decode()
        except UnicodeDecodeError as error:
            raise BadParameterError(f"{name} is not text in UTF-8") from error

    def paths(self) -> list[bytes]:
        """Return the paths chosen by parameters `path` and `pick`. `BadParameterError` for too many."""
        found = [value for key, value in self._pairs if key == "path" and value]
        found += [unquote_to_bytes(value) for key, value in self._pairs if key == "pick" and value]
        if len(found) > _MOST_PICKED:
            raise BadParameterError(
                f"more than {_MOST_PICKED} paths are chosen", advice="choose their folder"
            )
        return list(dict.fromkeys(found))


def snapshot_of(text: str) -> str:
    """Return a snapshot's id, or at least its first six hex digits, once checked."""
    if not _SNAPSHOT.fullmatch(text):
        raise BadParameterError("a snapshot is named by 6 to 16 hex digits")
    return text


def job_of(text: str) -> str:
    """Return a job's name, once checked."""
    if not text or len(text) > 200 or not text.isprintable():
        raise BadParameterError("this is no name of a job")
    return text


def number_of(text: str | int | None, what: str) -> int | None:
    """Return a whole number of at least 0; None for an empty parameter. `what` names it in errors."""
    if text is None or text == "":
        return None
    if isinstance(text, int) and 0 <= text < 10**15:
        return text
    if isinstance(text, int) or not _NUMBER.fullmatch(text):
        raise BadParameterError(f"{what} must be a whole number")
    return int(text)


def choice_of(text: str | None, kinds: type[_E], what: str) -> _E | None:
    """Return a member of an enum; None for an empty parameter. `what` names it in errors."""
    if not text:
        return None
    try:
        return kinds(text)
    except ValueError as error:
        raise BadParameterError(f"{what} must be one of {', '.join(kinds)}") from error


def path_of(path: bytes) -> bytes:
    """Return an absolute path without "..", and without a slash at its end."""
    steps = path.strip(b"/").split(b"/")
    is_long = len(path) > _LONGEST_PATH or any(len(step) > _LONGEST_NAME for step in steps)
    if not path.startswith(b"/") or b"\0" in path or is_long:
        raise BadParameterError("a path must be absolute, and not longer than a path can be")
    if any(step in {b".", b".."} for step in steps) or (b"" in steps and len(steps) > 1):
        raise BadParameterError("a path must not have empty steps, nor . and ..")
    return b"/" + path.strip(b"/")


def paths_of(paths: Sequence[bytes]) -> list[bytes]:
    """Return the paths without duplicates, and without those below another of them."""
    if not paths:
        raise BadParameterError("choose at least one path")
    if len(paths) > MOST_PATHS:
        raise BadParameterError(f"at most {MOST_PATHS} paths at a time")
    found: list[bytes] = []
    for path in sorted(set(map(path_of, paths))):
        if not any(path.startswith(above.rstrip(b"/") + b"/") for above in found):
            found.append(path)
    return found


def words_of(text: str) -> str:
    """Return the words of a search, once checked."""
    words = text.strip()
    if len(words.encode("utf-8", "surrogatepass")) > MOST_WORDS or "\0" in words:
        raise BadParameterError(f"search for at most {MOST_WORDS} bytes")
    return words


def cursor(*parts: bytes | int) -> str:
    """Return a cursor: the position after which the next page begins, as text for a URL."""
    texts = [
        str(part).encode() if isinstance(part, int) else base64.urlsafe_b64encode(part) for part in parts
    ]
    return b".".join(texts).decode().replace("=", "")


def cursor_of(text: str | None, shape: str) -> tuple[bytes | int, ...] | None:
    """Return the parts of a cursor, None without one; `shape` has a letter for each: n number, b bytes."""
    if not text:
        return None
    parts = text.split(".")
    if len(text) > _LONGEST_CURSOR or len(parts) != len(shape) or not text.isascii():
        raise BadParameterError("`after` must be what an earlier page gave as next_after")
    return tuple(_part(part, kind) for part, kind in zip(parts, shape, strict=True))


def _part(text: str, kind: str) -> bytes | int:
    try:
        if kind == "n":
            return int(text if _NUMBER.fullmatch(text) else "")
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error) as error:
        raise BadParameterError("`after` must be what an earlier page gave as next_after") from error
