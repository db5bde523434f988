"""The OpenAPI document, made from the endpoints and the types of their answers."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from backup import __version__
from backup.web.api.describing import Schemas
from backup.web.api.endpoints import ENDPOINTS, Endpoint

PREFIX = "/api/v1"
ACTIONS = {
    "run": "Queue the job's backup.",
    "pause": "Let the job's schedules rest until a time.",
    "resume": "Take a pause back.",
}
_STATUSES = {
    "400": "A parameter cannot be meant.",
    "401": "A token is needed.",
    "404": "There is no such thing, or not any more.",
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
    """The document; whoever gets it must not change it."""
    schemas = Schemas()
    paths = {PREFIX + one.path: {"get": _operation(one, schemas)} for one in ENDPOINTS}
    for verb, about in ACTIONS.items():
        paths[f"{PREFIX}/jobs/{{job}}/{verb}"] = {"post": _action(verb, about)}
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


def _operation(one: Endpoint, schemas: Schemas) -> dict[str, Any]:
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
        for parameter in one.parameters
    ]
    return {
        "operationId": one.name,
        "summary": one.about,
        "parameters": [*_in_path(one.path), *query],
        "responses": {"200": _answer(schemas.of(one.answer)), **_errors()},
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
    return {status: _error(about) for status, about in _STATUSES.items()}
