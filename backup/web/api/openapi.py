"""Makes the OpenAPI document from the endpoints and the types of their answers."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import EnumType
from functools import cache
from inspect import cleandoc
from typing import Any, Union, get_args, get_origin, get_type_hints

from msgspec import Struct
from msgspec.structs import fields

from backup import __version__
from backup.web.api.encoding import SHAPES
from backup.web.api.endpoints import ENDPOINTS, Endpoint
from backup.web.pages.entries import Name

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
    """The schemas of types; those of structs are collected by name, as components."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}

    def of(self, kind: Any) -> Schema:
        """Return the schema of a type. `TypeError` for a type without one."""
        kind = getattr(kind, "__supertype__", kind)  # a NewType
        if kind in _PLAIN:
            return dict(_PLAIN[kind])
        if isinstance(kind, EnumType):
            return {"type": "string", "enum": [str(member) for member in list[Any](kind)]}
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
            hints = {name: of for name, (of, _) in SHAPES.get(kind, {}).items()} or get_type_hints(kind)
            names = list(hints) if kind in SHAPES else [field.name for field in fields(kind)]
            self.components[name] = {
                "type": "object",
                "description": cleandoc(kind.__doc__ or "").partition("\n\n")[0],
                "required": names,
                "properties": {field: self.of(hints[field]) for field in names},
                "additionalProperties": False,
            }
        return {"$ref": f"#/components/schemas/{name}"}


PREFIX = "/api/v1"
ACTIONS = {
    "run": "Queue the job's backup.",
    "pause": "Pause the job's schedules until a given time.",
    "resume": "Take a pause back.",
}
_STATUSES = {
    "400": "A parameter is invalid.",
    "401": "A token is needed.",
    "404": "The object does not exist, or no longer.",
    "503": "The inventory or the daemon cannot be asked now.",
}
_IN_PATH = re.compile(r"\{([a-z]+)\}")
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["kind", "message", "advice"],
            "properties": {name: {"type": "string"} for name in ("kind", "message", "advice")},
        }
    },
}


@cache
def openapi() -> dict[str, Any]:
    """Return the OpenAPI document, which is made once; callers must not change it."""
    schemas = Schemas()
    paths = {PREFIX + endpoint.path: {"get": _operation(endpoint, schemas)} for endpoint in ENDPOINTS}
    for verb, description in ACTIONS.items():
        paths[f"{PREFIX}/jobs/{{job}}/{verb}"] = {"post": _action(verb, description)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "nightvault", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": {**schemas.components, "Error": _ERROR},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _operation(endpoint: Endpoint, schemas: Schemas) -> dict[str, Any]:
    query = [
        {
            "name": parameter.name,
            "in": "query",
            "required": parameter.is_required,
            "description": parameter.about,
            "schema": {"type": "array", "items": {"type": "string"}}
            if parameter.is_list
            else {"type": "string"},
        }
        for parameter in endpoint.parameters
    ]
    return {
        "operationId": endpoint.name,
        "summary": endpoint.about,
        "parameters": [*_in_path(endpoint.path), *query],
        "responses": {"200": _answer(schemas.of(endpoint.answer)), **_errors()},
    }


def _action(verb: str, about: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": verb,
        "summary": f"{about} An operator alone, shortly after a login.",
        "parameters": _in_path("{job}"),
        "responses": {"200": _answer({"type": "object"}), "403": _error("Not allowed."), **_errors()},
    }
    if verb == "pause":
        until = {"type": "string", "format": "date-time"}
        form = {"type": "object", "required": ["until"], "properties": {"until": until}}
        content = {"application/x-www-form-urlencoded": {"schema": form}}
        found["requestBody"] = {"required": True, "content": content}
    return found


def _in_path(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _IN_PATH.findall(path)
    ]


def _answer(schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": "The answer.", "content": {"application/json": {"schema": schema}}}


def _error(about: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Error"}
    return {"description": about, "content": {"application/json": {"schema": schema}}}


def _errors() -> dict[str, Any]:
    return {status: _error(description) for status, description in _STATUSES.items()}
