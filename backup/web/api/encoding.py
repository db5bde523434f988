"""Encodes frozen values as JSON: times in UTC, money as text, names as safe text and as exact bytes."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import IntEnum, StrEnum
from operator import attrgetter
from typing import Any, get_type_hints

from msgspec import Struct
from msgspec.structs import fields

from backup.app.status.parts import TaskStatus
from backup.inventory.content.snapshots import Snapshot
from backup.web.pages.entries import Name
from backup.web.pages.overview import PricedVault

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
Shape = Mapping[str, tuple[Any, Callable[[Any], object]]]
"""Fields of a document: the type of each, and what gives it."""


def _chosen(kind: type[Struct], names: str) -> Shape:
    hints = get_type_hints(kind)
    return {name: (hints[name], attrgetter(name)) for name in names.split()}


SHAPES: Mapping[type, Shape] = {
    PricedVault: _chosen(
        PricedVault,
        "name kind archives bytes month is_free why checked_at last_read_back unverified_since next_prune",
    ),
    TaskStatus: _chosen(
        TaskStatus,
        "kind name text state run began_at queued_at next_at paused_until waits_for "
        "phase done total seconds_left",
    ),
    Snapshot: {
        **_chosen(Snapshot, "id job number run host started_at finished_at"),
        "sources": (Sequence[Name], lambda snapshot: [Name(path) for path in snapshot.sources]),
        **_chosen(Snapshot, "files bytes"),
        "problems": (int, lambda snapshot: len(snapshot.problems)),
        "is_whole": (bool, attrgetter("is_whole")),
        **_chosen(Snapshot, "forgotten_at tags"),
        "pin_note": (str | None, lambda snapshot: snapshot.pin and snapshot.pin.note),
        "pin_until": (datetime | None, lambda snapshot: snapshot.pin and snapshot.pin.until),
    },
}
"""Values of other parts, which have fields that are no part of the interface, or in another form."""


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
    if shape := SHAPES.get(type(value)):
        return {name: document(part(value)) for name, (_, part) in shape.items()}
    if isinstance(value, Struct):
        return {field.name: document(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): document(part) for key, part in value.items()}
    if isinstance(value, Sequence):
        return [document(part) for part in value]
    if isinstance(value, AbstractSet):
        return [document(part) for part in sorted(value)]
    raise TypeError(f"there is no JSON of a {type(value).__name__}")
