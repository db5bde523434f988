"""The fields of each class of settings, found once a process: a config is read for each command of a test.

Each reading would evaluate the annotations of all of them anew: four fifths of its time.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

_find = msgspec.structs.fields
_found = cache(_find)


def quicken() -> None:
    """Look each of them up once from now on."""
    setattr(msgspec.structs, "fields", _fields)  # noqa: B010  a function of another type


def _fields(of: Any) -> Any:
    return _found(of if isinstance(of, type) else type(of))
