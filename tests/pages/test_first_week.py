"""The first week: five pages at most that docs/index.md and README lead to, and that can be read at once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tests.pages.findings import assert_none
from tests.support.emulated import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES, WORDS = 5, 8_000
EXPLAINED = (
    "vault",
    "snapshot",
    "inventory",
    "catalog",
    "archive",
    "recovery key",
    "recovery line",
    "signer",
    "enrolled",
    "drill",
    "spool",
)
"""Words of ours: each stands in *italics* where a page uses it first, beside what it means."""
AVOIDED = (
    *("keeper", "floor", "tip", "grade", "frame", "condemned", "retired", "unconfirmed", "gone for good"),
    *("heir", "recipient", "pack", "chunk secret", "vouch"),
)
"""Words that the pages of reference explain; the first week does without."""


def first_week() -> list[Path]:
    """The pages that the index lists under its first heading."""
    index = (DOCS / "index.md").read_text()
    part = re.search(r"^## First week$(.*?)^## ", index, re.DOTALL | re.MULTILINE)
    assert part, "docs/index.md has no heading `First week`"
    assert part.start() == index.index("\n## ") + 1, "the first week is the first thing that the index has"
    return [DOCS / name for name in re.findall(r"\]\(([a-z-]+\.md)\)", part[1])]


def prose(page: Path) -> str:
    """What a page says in words: without code, commands and the targets of links."""
    text = re.sub(r"^( *)```.*?^\1```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"`[^`\n]*`", "", text)
    return " ".join(re.sub(r"\]\([^)]*\)", "]", text).split())


def test_the_first_week_is_short() -> None:
    pages = first_week()
    assert 2 < len(pages) <= PAGES
    words = {page.name: len(page.read_text().split()) for page in pages}
    assert sum(words.values()) <= WORDS, f"move exceptions to pages of reference: {words}"


def test_readme_leads_to_it() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    places = [readme.rfind(f"(docs/{page.name})") for page in first_week()]
    assert -1 not in places
    assert places == sorted(places), "in the same order"


def unexplained(page: Path) -> Iterator[str]:
    """The words of ours that a page uses before it says what they mean."""
    text = prose(page)
    for word in EXPLAINED:
        first = re.search(rf"(\*?)\b{word}s?\b(\*?)", text, re.IGNORECASE)
        if first:
            around = text[max(0, first.start() - 50) : first.end() + 50]
            if not all(first.groups()):
                yield f"{page.name} explains `{word}` too late, or not at all: …{around}…"


def test_words_are_explained_where_they_are_used_first() -> None:
    assert_none(line for page in first_week() for line in unexplained(page))


def test_words_of_reference_are_avoided() -> None:
    assert_none(
        f"{page.name} uses `{word}`, which only pages of reference explain"
        for page in first_week()
        for word in AVOIDED
        if re.search(rf"\b{word}(?:s|d|es|ed)?\b", prose(page), re.IGNORECASE)
    )
