"""Keys as text come back whatever hands did to them, and a wrong character is noticed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.format.text import TextError, from_token, from_typeable, to_token, to_typeable

SEEDS = st.binary(min_size=32, max_size=32)
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@given(SEEDS)
def test_typeable_text_comes_back(seed: bytes) -> None:
    text = to_typeable("NVK1", seed)
    assert text.isascii()
    assert [len(group) for group in text.split("-")] == [4] * 15
    assert from_typeable("NVK1", text, 32) == seed


@given(SEEDS, st.randoms())
def test_how_it_is_typed_does_not_matter(seed: bytes, random) -> None:  # type: ignore[no-untyped-def]
    changed = ""
    for character in to_typeable("NVK1", seed):
        likes = {"0": "0Oo", "1": "1IiLl", "-": ["", " ", "-", "\n", "\u2013", " - "]}
        typed = random.choice(likes.get(character, [character, character.lower()]))
        changed += typed + random.choice(["", "", "", " ", "\t"])
    assert from_typeable("NVK1", changed, 32) == seed


@given(SEEDS, st.integers(0, 55), st.sampled_from(ALPHABET))
def test_a_wrong_character_is_noticed(seed: bytes, place: int, character: str) -> None:
    text = to_typeable("NVK1", seed).replace("-", "")
    at = 4 + place
    if text[at] != character:
        # 24 bits of checksum: no single wrong character was found to pass, one in 16 million would.
        with pytest.raises(TextError, match="checksum"):
            from_typeable("NVK1", text[:at] + character + text[at + 1 :], 32)


@given(SEEDS, st.integers(0, 54))
def test_two_swapped_characters_are_noticed(seed: bytes, place: int) -> None:
    text = to_typeable("NVK1", seed).replace("-", "")
    at = 4 + place
    swapped = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    if swapped != text:
        with pytest.raises(TextError, match="checksum"):
            from_typeable("NVK1", swapped, 32)


@given(st.text(max_size=80))
def test_other_text_is_refused_in_our_words(text: str) -> None:
    for read in (from_typeable, from_token):
        with pytest.raises(TextError):
            read("NVK1", text, 32)
        with pytest.raises(TextError):
            read("NVK1", "NVK1" + text, 32)


def test_it_says_where_a_character_is_wrong() -> None:
    text = to_typeable("NVK1", bytes(32)).split("-")
    text[3] = "00U0"
    with pytest.raises(TextError, match="'U' in group 3"):
        from_typeable("NVK1", "-".join(text), 32)


@given(st.binary(max_size=64))
def test_a_token_comes_back(data: bytes) -> None:
    text = to_token("nvr1", data)
    assert text == text.lower()
    assert from_token("nvr1", f"  {text[:9]}\n {text[9:].upper()} ", len(data)) == data


def test_a_token_with_foreign_characters_is_refused() -> None:
    text = to_token("nvr1", bytes(32))
    for character in "018-é":
        with pytest.raises(TextError, match="not base32"):
            from_token("nvr1", text[:9] + character + text[10:], 32)


@given(st.binary(min_size=30, max_size=40))
def test_each_token_has_one_spelling(data: bytes) -> None:
    text = to_token("nvr1", data)
    for last in "abcdefghijklmnopqrstuvwxyz234567":
        if last != text[-1]:
            with pytest.raises(TextError):
                from_token("nvr1", text[:-1] + last, len(data))
