"""OpenAPI schemas of the types that `encoding` makes JSON of."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import EnumType
from inspect import cleandoc
from typing import Any, Union, get_args, get_origin, get_type_hints

from msgspec import Struct
from msgspec.structs import fields

from backup.web.views.values.names import Name

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_BYTES: Schema = {
    "type": "object",
    "required": ["path"],
    "properties": {"path": _TEXT, "path_b64": {"type": "string", "format": "byte"}},
    "additionalProperties": False,
}
_NAME: Schema = {
    "type": "object",
    "required": ["text", "path"],
    "properties": {"text": _TEXT, **_BYTES["properties"]},
    "additionalProperties": False,
}
_PLAIN: Mapping[Any, Schema] = {
    str: _TEXT,
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": ["number", "null"]},
    datetime: {"type": "string", "format": "date-time"},
    date: {"type": "string", "format": "date"},
    timedelta: {"type": "number"},
    Decimal: {"type": "string", "format": "decimal"},
    bytes: _BYTES,
    Name: _NAME,
    Any: {},
    type(None): {"type": "null"},
}


class Schemas:
    """The schemas of types; those of values with fields are kept by name, as components."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}

    def of(self, kind: Any) -> Schema:
        """The schema of a type. `TypeError` for one that has none."""
        kind = getattr(kind, "__supertype__", kind)  # a NewType
        if kind in _PLAIN:
            return dict(_PLAIN[kind])
        if isinstance(kind, EnumType):
            return {"type": "string", "enum": [str(one) for one in list[Any](kind)]}
        if isinstance(kind, type) and issubclass(kind, Struct):
            return self._component(kind)
        return self._generic(get_origin(kind), get_args(kind), kind)

    def _generic(self, origin: Any, parts: tuple[Any, ...], kind: Any) -> Schema:
        if origin in {types.UnionType, Union}:
            return {"anyOf": [self.of(part) for part in parts]}
        if origin is tuple and Ellipsis not in parts:
            return {
                "type": "array",
                "prefixItems": [self.of(part) for part in parts],
                "minItems": len(parts),
                "maxItems": len(parts),
            }
        if isinstance(origin, type) and issubclass(origin, Mapping):
            return {"type": "object", "additionalProperties": self.of(parts[1])}
        if isinstance(origin, type) and issubclass(origin, Sequence | AbstractSet):
            return {"type": "array", "items": self.of(parts[0])}
        raise TypeError(f"there is no schema of {kind}")

    def _component(self, kind: type) -> Schema:
        """A reference to the schema of a value with fields, which is made once."""
        name = kind.__name__
        if name not in self.components:
            self.components[name] = {}  # one that holds itself finds it
            hints = get_type_hints(kind)
            names = [field.name for field in fields(kind)]
            self.components[name] = {
                "type": "object",
                "description": cleandoc(kind.__doc__ or "").partition("\n\n")[0],
                "required": names,
                "properties": {one: self.of(hints[one]) for one in names},
                "additionalProperties": False,
            }
        return {"$ref": f"#/components/schemas/{name}"}
