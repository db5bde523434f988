"""The question and the answer of PROPFIND (RFC 4918, 9.1): properties of entries, as XML."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from email.utils import formatdate
from typing import Any, Final, NamedTuple
from urllib.parse import quote_from_bytes
from xml.etree import ElementTree as ET
from xml.sax.saxutils import quoteattr

_DAV: Final = "{DAV:}"
_EXECUTABLE: Final = "{http://apache.org/dav/props/}executable"
_AT_ONCE: Final = 200  # entries in one piece of an answer
_HEAD: Final = '<?xml version="1.0" encoding="utf-8"?>\n<D:multistatus xmlns:D="DAV:">\n'
_TAIL: Final = "</D:multistatus>\n"


class Resource(NamedTuple):
    """An entry as WebDAV has it: a collection, or a file with `size`; `tag` changes with its content."""

    path: bytes
    is_collection: bool
    size: int
    mtime_ns: int
    is_executable: bool
    tag: str

    @property
    def address(self) -> str:
        """Its path as a link has it."""
        path = self.path.rstrip(b"/") + b"/" if self.is_collection else self.path
        return quote_from_bytes(path, safe=b"/")

    @property
    def modified(self) -> str:
        """When it was changed, as HTTP has it; what is older than 1970 seems to be of that year."""
        return formatdate(max(self.mtime_ns, 0) // 1_000_000_000, usegmt=True)


class PropertiesAsked(NamedTuple):
    """The properties that are asked for: `names` of them, or, without names, all; or their names alone."""

    names: Sequence[str]
    values: bool = True


def wanted_of(body: bytes) -> PropertiesAsked:
    """The properties that a body asks for; an empty one asks for all. `ValueError` if it is no PROPFIND."""
    if not body.strip():
        return PropertiesAsked(())
    try:
        # No entities: whoever declares one is refused with its document type.
        root = ET.fromstring(body, ET.XMLParser(target=_NoDoctype()))  # noqa: S314
    except (ET.ParseError, LookupError) as error:
        raise ValueError(str(error)) from error
    if root.tag != f"{_DAV}propfind":
        raise ValueError("it asks for no properties")
    for kind in root:
        if kind.tag == f"{_DAV}prop":
            return PropertiesAsked(
                tuple(dict.fromkeys(wish.tag for wish in kind)) or (f"{_DAV}resourcetype",)
            )
        if kind.tag in {f"{_DAV}allprop", f"{_DAV}propname"}:
            return PropertiesAsked((), values=kind.tag == f"{_DAV}allprop")
    raise ValueError("it asks for no properties")


class _NoDoctype(ET.TreeBuilder):
    def doctype(self, *_: Any) -> None:
        """Refuse a document type."""
        raise ValueError("a document type")


def multistatus(resources: Iterable[Resource], wanted: PropertiesAsked) -> Iterator[str]:
    """The answer, in pieces."""
    piece = [_HEAD]
    for resource in resources:
        piece.append(_response(resource, wanted))
        if len(piece) >= _AT_ONCE:
            yield "".join(piece)
            piece.clear()
    yield "".join([*piece, _TAIL])


def _response(resource: Resource, wanted: PropertiesAsked) -> str:
    names = wanted.names or tuple(_PROPERTIES)
    found, missing = [], []
    for name in names:
        value = _PROPERTIES[name](resource) if name in _PROPERTIES else None
        if value is not None:
            found.append(_element(name, value if wanted.values else ""))
        elif wanted.names:
            missing.append(_element(name, ""))
    stats = _stat(found, "200 OK") if found or not missing else ""
    if missing:
        stats += _stat(missing, "404 Not Found")
    return f"<D:response><D:href>{resource.address}</D:href>{stats}</D:response>\n"


def _stat(elements: Sequence[str], status: str) -> str:
    return (
        f"<D:propstat><D:prop>{''.join(elements)}</D:prop><D:status>HTTP/1.1 {status}</D:status></D:propstat>"
    )


def _element(name: str, value: str) -> str:
    """A property; the values of ours have nothing to be escaped."""
    space, _, local = name[1:].partition("}") if name.startswith("{") else ("", "", name)
    if space == "DAV:":
        return f"<D:{local}>{value}</D:{local}>"
    if not space:
        return f"<{local}>{value}</{local}>"
    return f"<p:{local} xmlns:p={quoteattr(space)}>{value}</p:{local}>"


_PROPERTIES: Final[Mapping[str, Callable[[Resource], str | None]]] = {
    f"{_DAV}resourcetype": lambda at: "<D:collection/>" if at.is_collection else "",
    f"{_DAV}getlastmodified": lambda at: at.modified,
    f"{_DAV}getcontentlength": lambda at: None if at.is_collection else str(at.size),
    f"{_DAV}getetag": lambda at: None if at.is_collection or not at.tag else f'"{at.tag}"',
    f"{_DAV}getcontenttype": lambda at: None if at.is_collection else "application/octet-stream",
    _EXECUTABLE: lambda at: None if at.is_collection else "T" if at.is_executable else "F",
}
