"""Makes and parses the URLs of pages; paths are bytes, percent-encoded byte by byte."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote_from_bytes, unquote_to_bytes, urlencode

from backup.web.views.errors import BadParameterError

_MOST_FIELDS, _MOST_PICKED = 600, 500


def link(where: str, /, **query: object) -> str:
    """Return a URL with a query; parameters that are None or empty are left out."""
    given = [(key, _sent(value)) for key, value in query.items() if value not in (None, "", b"")]
    return f"{where}?{'&'.join(f'{key}={value}' for key, value in given)}" if given else where


def _sent(value: object) -> str:
    if isinstance(value, bytes):
        return quote_from_bytes(value)
    return urlencode({"": str(value)}, errors="surrogateescape")[1:]


def quoted(path: bytes) -> str:
    """Return a path as the value of a form field, which can only be text."""
    return quote_from_bytes(path)


def parent(path: bytes) -> bytes:
    """Return the parent directory of a path."""
    return path.rstrip(b"/").rpartition(b"/")[0] or b"/"


class PageParameters:
    """The query parameters of a page. Paths are bytes; fields `pick` of a form are paths, encoded twice."""

    def __init__(self, query: bytes) -> None:
        try:
            pairs = parse_qsl(
                query.decode("latin-1"),
                keep_blank_values=True,
                encoding="latin-1",
                max_num_fields=_MOST_FIELDS,
            )
        except ValueError as error:
            raise BadParameterError("the address asks for too much", advice="choose fewer entries") from error
        self._pairs = [(key, value.encode("latin-1")) for key, value in pairs]

    def path(self, name: str) -> bytes | None:
        """Return the first parameter of that name as bytes; None if it is missing or empty."""
        return next((value for key, value in self._pairs if key == name and value), None)

    def text(self, name: str) -> str | None:
        """Return the first parameter of that name as text. `BadParameterError` if it is no UTF-8."""
        found = self.path(name)
        try:
            return None if found is None else found.decode()
        except UnicodeDecodeError as error:
            raise BadParameterError(f"{name} is not text in UTF-8") from error

    def number(self, name: str) -> int | None:
        """Return the first parameter of that name as a number. `BadParameterError` if it is none."""
        found = self.text(name)
        if found is None:
            return None
        if not (found.isascii() and found.isdigit() and len(found) <= 15):
            raise BadParameterError(f"{name} is not a number")
        return int(found)

    def paths(self) -> list[bytes]:
        """Return the paths chosen by parameters `path` and `pick`. `BadParameterError` for too many."""
        found = [value for key, value in self._pairs if key == "path" and value]
        found += [unquote_to_bytes(value) for key, value in self._pairs if key == "pick" and value]
        if len(found) > _MOST_PICKED:
            raise BadParameterError(
                f"more than {_MOST_PICKED} paths are chosen", advice="choose their folder"
            )
        return list(dict.fromkeys(found))
