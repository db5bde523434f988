"""The page's catalogue of texts, and values that are put into texts."""

from __future__ import annotations

import re

import pytest

from backup.web.texts import Texts
from tests.web import catalogue


def test_the_catalogue_is_what_templates_and_code_say() -> None:
    assert catalogue.POT.read_text() == catalogue.written(), "run `make texts`"


def test_a_place_of_a_text_has_a_name_and_no_other_percent_sign_stands_alone() -> None:
    texts = [text for _, _, text in [*catalogue.of_templates(), *catalogue.of_code()]]
    for text in texts:
        for string in [text] if isinstance(text, str) else text:
            assert re.sub(r"%\([a-z_]+\)s|%%", "", string).count("%") == 0, string


def test_what_fills_a_text_is_neither_markup_nor_reorders_it() -> None:
    said = Texts("en").say("%(name)s is late", name="<b>\u202ereven</b>&")
    assert said == "&lt;b&gt;\\u202ereven&lt;/b&gt;&amp; is late"


def test_numbers_choose_their_text() -> None:
    texts = Texts("en")
    assert texts.count("%(n)s night", "%(n)s nights", 1) == "1 night"
    assert texts.count("%(n)s night", "%(n)s nights", 1200) == "1,200 nights"


def test_raw_bytes_never_become_text() -> None:
    with pytest.raises(TypeError, match="path"):
        Texts("en").say("%(name)s", name=b"/etc")


def test_a_language_that_nobody_translated_is_english() -> None:
    assert Texts("tlh").say("just now") == "just now"
    assert Texts("tlh").language == "en"
