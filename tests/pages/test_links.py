"""Every link of every page leads somewhere, every file of this repository that a page names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(prose_of(page)):
        path, _, anchor = target.partition("#")
        if "://" in target:
            assert target.startswith("https://"), target
            continue
        place = page.parent / path if path else page
        assert place.exists(), f"{name_of(page)} links to {target}, and there is no such file"
        if anchor and place.suffix == ".md":
            assert anchor in anchors_of(place), f"{name_of(page)} links to {target}: there is no such heading"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_headings_that_are_quoted_are_there(page: Path) -> None:
    """`[s3.md](s3.md), "Heading"`: a part of another page, by its heading."""
    for target, heading in _QUOTED.findall(" ".join(prose_of(page).split())):
        place = page.parent / target
        found = re.findall(r"^#+ (.*)$", prose_of(place), re.MULTILINE)
        assert heading in found, f"{name_of(page)} sends to {target}, {heading!r}: there is no such heading"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_are_named_are_there(page: Path) -> None:
    for path, test in _CODE.findall(page.read_text()):
        place = REPOSITORY / path
        assert place.exists() or path in MADE or "NAME" in path, f"{name_of(page)} names {path}"
        if test:
            assert re.search(rf"(?:def|class) {test}\b", place.read_text()), f"{path} has no {test}"


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=name_of)
def test_each_page_can_be_found(page: Path) -> None:
    site, index = (REPOSITORY / "mkdocs.yml").read_text(), (DOCS / "index.md").read_text()
    assert f" {page.name}\n" in site, f"give {page.name} its place in the `nav` of mkdocs.yml"
    if page.name != "index.md":
        assert f"({page.name}" in index, f"list {page.name} in docs/index.md"


def test_the_site_has_each_page_of_commands() -> None:
    site = (REPOSITORY / "mkdocs.yml").read_text()
    for page in (DOCS / "commands").iterdir():
        assert f" commands/{page.name}\n" in site, f"give commands/{page.name} its place in mkdocs.yml"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_blocks_are_closed(page: Path) -> None:
    blocks_of(page)
