"""Values as dicts and lists, all the way down."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from msgspec.structs import asdict


def parts_of(value: Any) -> Any:
    """A `Struct` as a dict of its fields, tuples as lists, also those within others; all else as it is."""
    if isinstance(value, Struct):
        return {name: parts_of(part) for name, part in asdict(value).items()}
    if isinstance(value, dict):
        return {key: parts_of(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [parts_of(part) for part in value]
    return value
