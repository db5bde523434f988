"""Each page from believable values: well-formed, labelled, nothing inline; foreign names stay text."""

from __future__ import annotations

import re
from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backup.web.pages.static import TYPES, contents
from backup.wording import escape
from tests.web.markup import Document, read
from tests.web.shown_pages import all_pages, html_of, strangers

HOSTILE = "<script>alert(1)</script>\"'><b onclick=x>&lt;\u202egnp.exe"
NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n\t ")
    | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF, categories=["Cs"]),
    min_size=1,
    max_size=30,
)
PAGES = {**all_pages(), **strangers()}


@cache
def read_all(name: str) -> dict[str, Document]:
    """All pages with that name in them."""
    found = {key: read(html_of(page)) for key, page in all_pages(name).items()}
    return found | {key: read(html_of(page, known=False)) for key, page in strangers(name).items()}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_well_formed_and_labelled(name: str) -> None:
    known = name not in strangers()
    page = read(html_of(PAGES[name], known=known))
    assert page.all("html")[0].attributes["lang"] == "en"
    assert page.with_id("main").tag == "main"
    assert page.all("a")[0].attributes["href"] == "#main"
    assert all(element.attributes.get("scope") for element in page.all("th"))
    assert all(element.attributes.get("datetime") for element in page.all("time"))
    current = [
        element.attributes["href"]
        for element in page.all("a")
        if element.attributes.get("aria-current") == "page"
    ]
    assert len(current) >= bool(PAGES[name].here)


@pytest.mark.parametrize("name", PAGES)
def test_a_foreign_name_is_text_and_nothing_else(name: str) -> None:
    plain, hostile = read_all("www")[name], read_all(HOSTILE)[name]
    assert [element.tag for element in hostile.elements] == [element.tag for element in plain.elements]
    assert [sorted(element.attributes) for element in hostile.elements] == [
        sorted(element.attributes) for element in plain.elements
    ]


@given(NAMES)
@example("\udcff\udc80")
@example("javascript:alert(1)//")
@example("{{ 7 * 7 }}{% raw %}%(name)s%s")
@settings(max_examples=6)
def test_no_name_changes_what_a_page_is_made_of(name: str) -> None:
    plain, foreign = read_all("www"), read_all(name)
    for key, page in foreign.items():
        assert [element.tag for element in page.elements] == [
            element.tag for element in plain[key].elements
        ], key
        addresses = [
            element.attributes.get(kind) or ""
            for element in page.elements
            for kind in ("href", "src", "action")
        ]
        assert all(re.match(r"(/(?!/)[\x21-\x7e]*|#[a-z]+)?$", address) for address in addresses), key
        shown = " ".join(element.text for element in page.elements)
        assert not any(letter in shown for letter in "\u202e\u2066\u200b\x1b\udcff"), key


def test_a_hostile_name_is_shown_as_it_is_called() -> None:
    assert escape(HOSTILE) in read_all(HOSTILE)["browse"].with_id("main").text


def test_stale_data_say_so_and_offer_nothing_to_start() -> None:
    fresh, stale = (html_of(PAGES["schedule"], stale=away) for away in (False, True))
    assert "The daemon does not answer" not in fresh
    assert "The daemon does not answer" in stale
    assert 'datetime="2026-11-26T10:40:00+00:00"' in stale
    assert actions(fresh) == {"/logout", "/schedule/run", "/schedule/pause", "/schedule/resume"}
    assert actions(stale) == {"/logout"}


def actions(html: str) -> set[str | None]:
    """Where the forms of a page lead that change something."""
    return {
        element.attributes["action"]
        for element in read(html).all("form")
        if element.attributes.get("method") == "post"
    }


def test_reassurance_comes_first() -> None:
    well, bad = (read(html_of(PAGES[name])) for name in ("overview", "overview-bad"))
    assert [element.text for element in well.all("h1")] == ["All is well"]
    assert [element.text for element in bad.all("h1")] == ["Not all is well"]
    assert "3 of 4 jobs have a good backup in time." in bad.with_id("main").text
    assert "Each of the 4 jobs has a good backup in time." in well.with_id("main").text
    headings = [element.text for element in bad.all("h2")]
    assert headings.index("What to look at") < headings.index("Jobs")
    assert "nightvault backup db" in [element.text for element in bad.all("code")]


def test_the_script_is_small_and_each_file_is_sent() -> None:
    assert len(contents("page.js")) < 10_000
    assert all(contents(name) for name in TYPES)
    assert b"@import" not in contents("page.css")
    assert not re.search(rb"url\(|https?:", contents("page.css"))


def test_the_script_refers_to_what_templates_have() -> None:
    everything = "".join(html_of(page) for page in PAGES.values())
    for name in set(re.findall(r"\[data-([a-z-]+)", contents("page.js").decode())):
        assert f"data-{name}" in everything, name
