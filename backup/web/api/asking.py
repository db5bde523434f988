"""Query parameters of API requests."""

from __future__ import annotations

from urllib.parse import parse_qsl

from msgspec import Struct
from starlette.requests import Request

from backup.web.guard.faults import BadParameterError

_MOST = 200


class ApiParameters(Struct, frozen=True):
    """The query parameters of a request, as bytes, since paths may be any bytes."""

    given: dict[str, list[bytes]]

    def text(self, name: str) -> str | None:
        """Return a parameter as text; None if it is missing or empty."""
        found = self.given.get(name)
        if not found or not found[0]:
            return None
        try:
            return found[0].decode()
        except UnicodeDecodeError as error:
            raise BadParameterError(f"{name} is not UTF-8") from error

    def path(self, name: str = "path") -> bytes:
        """Return a parameter as a path; the root directory if it is missing."""
        return self.given.get(name, [b"/"])[0] or b"/"

    def paths(self, name: str = "path") -> list[bytes]:
        """Return a parameter that may be repeated, as paths."""
        return self.given.get(name, [])


def asked(request: Request, allowed: frozenset[str]) -> ApiParameters:
    """Return the query parameters of a request. `BadParameterError` for unknown or too many ones."""
    raw = request.scope["query_string"].decode("latin-1")
    try:
        pairs = parse_qsl(raw, keep_blank_values=True, encoding="latin-1", max_num_fields=_MOST)
    except ValueError as error:
        raise BadParameterError("too many parameters") from error
    given: dict[str, list[bytes]] = {}
    for name, value in pairs:
        if name not in allowed:
            raise BadParameterError("a parameter is not known: /api/v1/openapi.json names all")
        given.setdefault(name, []).append(value.encode("latin-1"))
    return ApiParameters(given)
