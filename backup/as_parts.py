"""Values as dicts and lists, all the way down."""

from __future__ import annotations

import dataclasses
from typing import Any

from msgspec import Struct


def parts_of(value: Any) -> Any:
    """Structs and dataclasses as dicts of their fields, tuples as lists, however deep; all else as it is."""
    if isinstance(value, Struct):
        return {name: parts_of(getattr(value, name)) for name in value.__struct_fields__}
    if dataclasses.is_dataclass(value):
        return {field.name: parts_of(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: parts_of(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [parts_of(part) for part in value]
    return value
