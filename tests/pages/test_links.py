"""Every link of every page leads somewhere, every file of this repository that a page names is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tests.pages.findings import assert_none
from tests.pages.page import blocks_of
from tests.support.emulated import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = sorted([*REPOSITORY.glob("*.md"), *DOCS.rglob("*.md")])
MADE = {"backup/migrations", "backup/systemd"}
"""What only the wheel has."""
_LINK = re.compile(r"(?<!`)\[[^\]\n]*\]\(([^)\s]+)\)")
_QUOTED = re.compile(r"""\]\((?!https:)([^)\s#]+\.md)\), "([A-Z][^"]+)\"""")
_CODE = re.compile(
    r"`((?:backup|tests|deploy|docs|migrations|changelog\.d|\.ci|\.github)/[\w./@-]*)(?:::(\w+))?`"
)


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def prose_of(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^( *)```.*?^\1```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as Markdown's tables of contents make them."""
    found = set()
    for heading in re.findall(r"^#+ (.*)$", prose_of(page), re.MULTILINE):
        text = re.sub(r"[^\w\s-]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)).strip().lower()
        found.add(re.sub(r"[-\s]+", "-", text))
    return found


def astray(page: Path) -> Iterator[str]:
    """Each link of a page that leads nowhere."""
    for target in _LINK.findall(prose_of(page)):
        path, _, anchor = target.partition("#")
        if "://" in target:
            if not target.startswith("https://"):
                yield f"{name_of(page)} links to {target}, which is no https"
            continue
        place = page.parent / path if path else page
        if not place.exists():
            yield f"{name_of(page)} links to {target}, and there is no such file"
        elif anchor and place.suffix == ".md" and anchor not in anchors_of(place):
            yield f"{name_of(page)} links to {target}: there is no such heading"


def test_links_lead_somewhere() -> None:
    assert_none(line for page in PAGES for line in astray(page))


def test_headings_that_are_quoted_are_there() -> None:
    """`[s3.md](s3.md), "Heading"`: a part of another page, by its heading."""
    assert_none(
        f"{name_of(page)} sends to {target}, {heading!r}: there is no such heading"
        for page in PAGES
        for target, heading in _QUOTED.findall(" ".join(prose_of(page).split()))
        if heading not in re.findall(r"^#+ (.*)$", prose_of(page.parent / target), re.MULTILINE)
    )


def not_there(page: Path) -> Iterator[str]:
    """Each file, and each test of one, that a page names and that is not there."""
    for path, test in _CODE.findall(page.read_text()):
        place = REPOSITORY / path
        if not (place.exists() or path in MADE or "NAME" in path):
            yield f"{name_of(page)} names {path}"
        elif test and not re.search(rf"(?:def|class) {test}\b", place.read_text()):
            yield f"{name_of(page)}: {path} has no {test}"


def test_files_that_are_named_are_there() -> None:
    assert_none(line for page in PAGES for line in not_there(page))


def test_each_page_can_be_found() -> None:
    site, index = (REPOSITORY / "mkdocs.yml").read_text(), (DOCS / "index.md").read_text()
    names = sorted(page.name for page in DOCS.glob("*.md"))
    lost = [f"give {name} its place in the `nav` of mkdocs.yml" for name in names if f" {name}\n" not in site]
    listed = [name for name in names if name != "index.md"]
    lost += [f"list {name} in docs/index.md" for name in listed if f"({name}" not in index]
    assert_none(lost)


def test_the_site_has_each_page_of_commands() -> None:
    site = (REPOSITORY / "mkdocs.yml").read_text()
    assert_none(
        f"give commands/{page.name} its place in mkdocs.yml"
        for page in (DOCS / "commands").iterdir()
        if f" commands/{page.name}\n" not in site
    )


def test_blocks_are_closed() -> None:
    assert_none(line for page in PAGES for line in never_closed(page))


def never_closed(page: Path) -> Iterator[str]:
    """The block of a page that has no end."""
    try:
        blocks_of(page)
    except AssertionError as error:
        yield f"{name_of(page)}: {error}"
