"""Addresses of pages, made and read in one place; paths are bytes, percent-encoded one by one."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl, quote_from_bytes, urlencode


def link(where: str, /, **query: object) -> str:
    """An address with its query; what is None or empty is left out."""
    given = [(key.rstrip("_"), _sent(value)) for key, value in query.items() if value not in (None, "", b"")]
    return f"{where}?{'&'.join(f'{key}={value}' for key, value in given)}" if given else where


def _sent(value: object) -> str:
    if isinstance(value, bytes):
        return quote_from_bytes(value)
    return urlencode({"": str(value)}, errors="surrogateescape")[1:]


def query_of(raw: bytes) -> Mapping[str, bytes]:
    """A query as bytes by name, the first of each; what is no UTF-8 stays as it came."""
    pairs = parse_qsl(raw.decode("latin-1"), keep_blank_values=True, encoding="latin-1", max_num_fields=50)
    found: dict[str, bytes] = {}
    for key, value in pairs:
        found.setdefault(key, value.encode("latin-1"))
    return found
