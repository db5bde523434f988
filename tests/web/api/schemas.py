"""A reader of the few words of JSON Schema that our document uses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
    "object": dict,
    "array": list,
}
_KNOWN = {
    "type", "enum", "anyOf", "$ref", "items", "prefixItems", "minItems", "maxItems", "required", "properties",
    "additionalProperties", "format", "description",
}  # fmt: skip


def violations(
    value: Any, schema: dict[str, Any], components: dict[str, Any], at: str = "$"
) -> Iterator[str]:
    """Where a value is not as the schema says."""
    assert set(schema) <= _KNOWN, schema
    if "$ref" in schema:
        yield from violations(value, components[schema["$ref"].rpartition("/")[2]], components, at)
        return
    if "anyOf" in schema:
        if all(list(violations(value, alternative, components, at)) for alternative in schema["anyOf"]):
            yield f"{at}: {value!r} is none of {schema['anyOf']}"
        return
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is_of(value, kind) for kind in kinds):
        yield f"{at}: {value!r} is no {kinds}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at}: {value!r} is not in {schema['enum']}"
    if schema.get("format") == "date-time" and not _is_utc(value):
        yield f"{at}: {value!r} is no time in UTC"
    if isinstance(value, list):
        yield from _of_list(value, schema, components, at)
    if isinstance(value, dict):
        yield from _of_object(value, schema, components, at)


def _is_of(value: Any, kind: str) -> bool:
    return isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def _is_utc(value: str) -> bool:
    if not re.fullmatch(r"[0-9]{4}-[0-9-]{5}T[0-9:]{8}(\.[0-9]+)?Z", value):
        return False
    return datetime.fromisoformat(value).tzinfo is not None


def _of_list(value: list[Any], schema: dict[str, Any], components: dict[str, Any], at: str) -> Iterator[str]:
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        yield f"{at}: {len(value)} items"
    firsts = schema.get("prefixItems", [])
    for place, element in enumerate(value):
        wanted = firsts[place] if place < len(firsts) else schema.get("items", {})
        yield from violations(element, wanted, components, f"{at}[{place}]")


def _of_object(
    value: dict[str, Any], schema: dict[str, Any], components: dict[str, Any], at: str
) -> Iterator[str]:
    known, more = schema.get("properties", {}), schema.get("additionalProperties", True)
    for name in schema.get("required", []):
        if name not in value:
            yield f"{at}: lacks {name}"
    for name, part in value.items():
        if name in known:
            yield from violations(part, known[name], components, f"{at}.{name}")
        elif more is False:
            yield f"{at}: has {name}"
        elif isinstance(more, dict):
            yield from violations(part, more, components, f"{at}.{name}")
