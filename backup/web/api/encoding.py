"""Encodes frozen values as JSON: times in UTC, money as text, names as safe text and as exact bytes."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import IntEnum, StrEnum

from msgspec import Struct
from msgspec.structs import fields

from backup.web.views.values.names import Name

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


def json_of(value: object) -> bytes:
    """Return a value as JSON in ASCII, which every client can read."""
    return json.dumps(document(value), separators=(",", ":"), allow_nan=False).encode("ascii")


def document(value: object) -> Json:
    """Return a value as types that JSON has: dicts, lists, text, numbers."""
    if isinstance(value, StrEnum):
        return str(value)
    if isinstance(value, IntEnum):
        return value.name.lower()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return _plain(value) if isinstance(value, Decimal | date | timedelta | bytes | Name) else _whole(value)


def _plain(value: Decimal | date | timedelta | bytes | Name) -> Json:
    """A value that JSON has no kind for."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Name):
        return {"text": value.text, **_bytes(value.raw)}
    return dict(_bytes(value))


def _bytes(raw: bytes) -> dict[str, Json]:
    """A path as elsewhere in our JSON: `path`, and `path_b64` where that is not all."""
    try:
        return {"path": raw.decode()}
    except UnicodeDecodeError:
        return {"path": raw.decode("utf-8", "replace"), "path_b64": base64.b64encode(raw).decode()}


def _whole(value: object) -> Json:
    """A value with parts."""
    if isinstance(value, Struct):
        return {field.name: document(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): document(part) for key, part in value.items()}
    if isinstance(value, Sequence):
        return [document(part) for part in value]
    if isinstance(value, AbstractSet):
        return [document(part) for part in sorted(value)]
    raise TypeError(f"there is no JSON of a {type(value).__name__}")
