"""Letters: nothing of what they hold can leave its place, in text or HTML; and they come back from JSON."""

from __future__ import annotations

import json
import unicodedata
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from backup.notify.letter import Letter, as_html, as_text

texts = st.text() | st.sampled_from(
    ["</style><script>", "\x1b[2J", "\u202eevil", "a\nb", "&amp;", "'\"><img src=x>"]
)
letters = st.builds(
    Letter,
    title=texts,
    host=texts,
    facts=st.lists(st.tuples(texts, texts), max_size=3),
    problems=st.lists(texts, max_size=3),
    more_problems=st.integers(0, 9),
    remarks=st.lists(texts, max_size=2),
    advice=texts,
    command=texts,
)
TAGS = {
    *("html", "head", "meta", "title", "style", "body", "h1", "table", "tr", "td"),
    *("ul", "li", "code", "p"),
}


class Tags(HTMLParser):
    """The tags and texts of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]


@given(letters, st.sampled_from(["failed", "warning", "nosuch"]))
def test_a_page_has_our_tags_alone_and_loads_nothing(letter: Letter, kind: str) -> None:
    page = as_html(letter, kind)
    found = Tags()
    found.feed(page)
    assert set(found.tags) <= TAGS
    assert set(found.attributes) <= {"lang", "charset", "name", "content", "class", "role"}
    plain = Tags()
    plain.feed(as_html(Letter("t", "h", [("a", "b")] * len(letter.facts), [], 0), kind))
    assert found.tags.count("tr") == plain.tags.count("tr")


@given(letters)
def test_text_has_no_letter_that_moves_or_hides(letter: Letter) -> None:
    text = as_text(letter)
    bad = {
        character
        for character in text
        if character != "\n" and unicodedata.category(character) in {"Cc", "Cf", "Zl", "Zp", "Cs"}
    }
    assert not bad
    assert text.encode()


@given(letters)
def test_it_comes_back_from_json(letter: Letter) -> None:
    stored = json.loads(json.dumps(letter.document()))
    assert as_text(Letter.of(stored)) == as_text(letter)
    assert as_html(Letter.of(stored), "failed") == as_html(letter, "failed")
