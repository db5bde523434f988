"""Strict reading of HTML: everything that is opened is closed, ids are unique, fields have labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise

VOID = frozenset(
    ["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"]
)
NAMED = frozenset({"input", "select", "textarea"})


@dataclass
class Element:
    """An element with its attributes and its text."""

    tag: str
    attributes: dict[str, str | None]
    text: str = ""


@dataclass
class Document(HTMLParser):
    """What was read; `faults` are sentences."""

    elements: list[Element] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    _open: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        found = Element(tag, dict(attrs))
        if len(found.attributes) != len(attrs):
            self.faults.append(f"<{tag}> has an attribute twice")
        for name in found.attributes:
            if name == "style" or name.startswith("on"):
                self.faults.append(f"<{tag}> has the inline attribute {name}")
        self.elements.append(found)
        if tag not in VOID:
            self._open.append(found)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element of SVG that is closed at once."""
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        """An element ends, which must be the last that began."""
        if not self._open or self._open[-1].tag != tag:
            self.faults.append(f"</{tag}> closes {self._open[-1].tag if self._open else 'nothing'}")
        else:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        """Text belongs to all that is open."""
        for element in self._open:
            element.text += data

    def all(self, tag: str) -> list[Element]:
        """The elements of that name."""
        return [element for element in self.elements if element.tag == tag]

    def with_id(self, name: str) -> Element:
        """The element of that id."""
        return next(element for element in self.elements if element.attributes.get("id") == name)


def read(html: str) -> Document:
    """A page, read; nothing may be wrong with it."""
    found = Document()
    found.feed(html)
    found.close()
    found.faults += [f"<{element.tag}> is not closed" for element in found._open]
    found.faults += list(_faults(found))
    assert not found.faults, "\n".join(found.faults)
    return found


def _faults(found: Document) -> list[str]:
    ids = [element.attributes["id"] for element in found.elements if "id" in element.attributes]
    faults = [f"the id {id_} is there {ids.count(id_)} times" for id_ in set(ids) if ids.count(id_) > 1]
    labelled = {element.attributes.get("for") for element in found.all("label")}
    for element in found.elements:
        seen = element.tag in NAMED and element.attributes.get("type") not in {"hidden", "submit"}
        if seen and element.attributes.get("id") not in labelled and not element.attributes.get("aria-label"):
            faults.append(f"a field without a label: {element.attributes}")
        for name in ("aria-labelledby", "aria-describedby", "for"):
            given = element.attributes.get(name)
            if given and not set(given.split()) <= set(ids):
                faults.append(f"<{element.tag} {name}={given}> names nothing")
    return faults + _page_faults(found)


def _page_faults(found: Document) -> list[str]:
    if not found.all("html"):
        return []
    faults = [] if len(found.all("h1")) == 1 else [f"{len(found.all('h1'))} h1 on the page"]
    levels = [int(element.tag[1]) for element in found.elements if element.tag in {"h1", "h2", "h3", "h4"}]
    if any(after > before + 1 for before, after in pairwise(levels)):
        faults.append(f"a level of headings is left out: {levels}")
    if not all(element.text.strip() for element in found.all("title")):
        faults.append("an empty title")
    return faults
