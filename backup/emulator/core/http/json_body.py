"""Parse a request body that must be one JSON object; pure."""

from __future__ import annotations

import json
from collections.abc import Mapping

from backup.emulator.core.errors import ServiceError, missing


def json_object(body: bytes) -> dict[str, object]:
    """The object in a body; SerializationException for anything else."""
    try:
        raw = json.loads(body)
        json.dumps(raw, ensure_ascii=False).encode()  # lone surrogates are no text that could be stored
    except (ValueError, RecursionError) as error:
        raise ServiceError("SerializationException", "The request body is not valid JSON.") from error
    if not isinstance(raw, dict):
        raise ServiceError("SerializationException", "The request body must be a JSON object.")
    return raw


def text(raw: Mapping[str, object], key: str) -> str | None:
    """A string field, or None where it is absent or null."""
    value = raw.get(key)
    if value is not None and not isinstance(value, str):
        raise ServiceError("SerializationException", f"{key} must be a string.")
    return value


def required_text(raw: Mapping[str, object], key: str) -> str:
    """A string field that must be there and not be empty."""
    value = text(raw, key)
    if not value:
        raise missing(f"Required parameter missing: {key}")
    return value


def strings(raw: Mapping[str, object], key: str) -> list[str]:
    """A list of strings that must be there and not be empty."""
    value = raw.get(key)
    if not value:
        raise missing(f"Required parameter missing: {key}")
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise ServiceError("SerializationException", f"{key} must be a list of strings.")
    return value
