"""S3's XML: written with every character that a key may have, parsed without DTDs and entities."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote
from xml.etree import ElementTree as ET

from backup.emulator.core.s3_errors import S3Error

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
_SPECIAL = re.compile('[<>&"\x00-\x08\x0b-\x1f\x7f\ufffe\uffff]')
_NAMED = {"<": "&lt;", ">": "&gt;", "&": "&amp;", '"': "&quot;"}

Node = tuple[str, "str | int | bool | Iterable[Node] | None"]


def escape(text: str) -> str:
    """Text as XML; control characters become references, as S3 sends them although XML 1.0 has no such."""
    return _SPECIAL.sub(lambda found: _NAMED.get(found[0]) or f"&#x{ord(found[0]):x};", text)


def element(name: str, value: object) -> str:
    """One element: text, a number, a truth value, or an iterable of (name, value); None gives nothing."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return f"<{name}>{'true' if value else 'false'}</{name}>"
    if isinstance(value, str | int):
        return f"<{name}>{escape(str(value))}</{name}>"
    assert isinstance(value, Iterable)  # noqa: S101
    return f"<{name}>{''.join(element(*node) for node in value)}</{name}>"


def document(name: str, nodes: Iterable[Node]) -> bytes:
    """A whole answer in S3's namespace."""
    inner = "".join(element(*node) for node in nodes)
    return f'{DECLARATION}<{name} xmlns="{NAMESPACE}">{inner}</{name}>'.encode()


def encoded(text: str, encoding: str | None) -> str:
    """A key as a listing with `encoding-type=url` writes it."""
    return quote(text, safe="/-_.~*") if encoding == "url" else text


class Element:
    """A parsed element, its names without namespaces."""

    def __init__(self, node: ET.Element) -> None:
        self._node = node
        self.name = _bare(node.tag)

    @property
    def text(self) -> str:
        """The element's text, without outer blanks."""
        return (self._node.text or "").strip()

    @property
    def raw(self) -> str:
        """The element's text including outer blanks, since a key may end in one."""
        return self._node.text or ""

    def children(self, name: str | None = None) -> list[Element]:
        """Its children, or those of one name."""
        return [Element(node) for node in self._node if name is None or _bare(node.tag) == name]

    def child(self, name: str) -> Element | None:
        """Its first child of a name."""
        return next(iter(self.children(name)), None)

    def get(self, name: str) -> str | None:
        """The text of a child; None without it."""
        found = self.child(name)
        return None if found is None else found.text

    def required(self, name: str) -> str:
        """The text of a child; MalformedXML without it."""
        text = self.get(name)
        if not text:
            raise S3Error("MalformedXML")
        return text

    def number(self, name: str, *, low: int = 0, high: int = 2**31 - 1) -> int | None:
        """A whole number; MalformedXML for anything else; None where there is none."""
        text = self.get(name)
        if text is None:
            return None
        if not re.fullmatch(r"[0-9]{1,18}", text) or not low <= int(text) <= high:
            raise S3Error("MalformedXML")
        return int(text)


def _bare(tag: str) -> str:
    return tag.rpartition("}")[2]


def parse(body: bytes, name: str) -> Element:
    """A request's document with this root; MalformedXML for anything else."""
    try:
        text = body.decode()  # what a declaration says of another encoding counts for nothing then
        if "<!" in text or "\0" in text or not text:  # with zeros between, expat takes it for UTF-16
            raise S3Error("MalformedXML")
        root = Element(ET.fromstring(text))  # noqa: S314 (no DTD, so nothing to expand)
    except (ET.ParseError, ValueError, LookupError) as error:
        raise S3Error("MalformedXML") from error
    if root.name != name:
        raise S3Error("MalformedXML")
    return root
