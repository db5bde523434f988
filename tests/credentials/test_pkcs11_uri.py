"""PKCS#11 URIs: RFC 7512's own examples, each mistake, and no PIN in any text."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.credentials.pkcs11_uri import Pkcs11Uri, parse_pkcs11_uri
from backup.errors import IdentityError

FULL = (
    "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=Snake%20Oil,%20Inc.;model=1.0;"
    "object=my-certificate;type=cert;id=%69%95%3E%5C%F4%BD%EC%91;serial=?pin-source=file:/etc/token_pin"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pkcs11:", Pkcs11Uri()),
        ("pkcs11:object=my-pubkey;type=public", Pkcs11Uri(object="my-pubkey", type="public")),
        (
            "pkcs11:object=my-key;type=private?pin-source=file:/etc/token",
            Pkcs11Uri(object="my-key", type="private", pin_source="/etc/token"),
        ),
        (
            FULL,
            Pkcs11Uri(
                token="The Software PKCS#11 Softtoken",
                manufacturer="Snake Oil, Inc.",
                model="1.0",
                object="my-certificate",
                type="cert",
                id=b"\x69\x95\x3e\x5c\xf4\xbd\xec\x91",
                serial="",
                pin_source="/etc/token_pin",
            ),
        ),
        (
            "pkcs11:object=my-sign-key;type=private?module-path=/mnt/lib.so&pin-value=a%26b",
            Pkcs11Uri(object="my-sign-key", type="private", module_path="/mnt/lib.so", pin="a&b"),
        ),
        ("pkcs11:slot-id=3;slot-description=S;x-vendor=v?x-q=1", Pkcs11Uri(slot_id=3, slot_description="S")),
        ("pkcs11:token=a?pin-source=file:///run/pin", Pkcs11Uri(token="a", pin_source="/run/pin")),
    ],
)  # fmt: skip
def test_the_examples_of_the_rfc(text: str, expected: Pkcs11Uri) -> None:
    assert parse_pkcs11_uri(text) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("/etc/key.pem", "does not begin with pkcs11:"),
        ("pkcs11:token", "NAME=VALUE"),
        ("pkcs11:token=a;token=b", "token is given twice"),
        ("pkcs11:tokn=a", "RFC 7512 does not know"),
        ("pkcs11:token=a;pin-value=1234", "RFC 7512 does not know"),
        ("pkcs11:token=a b", "token has a character"),
        ("pkcs11:token=%zz", "token has a character"),
        ("pkcs11:token=%ff", "token is not UTF-8"),
        ("pkcs11:type=key", "type is one of"),
        ("pkcs11:slot-id=x", "slot-id is a number"),
        ("pkcs11:?pin-value=1&pin-source=/a", "exclude each other"),
        ("pkcs11:?pin-source=|cat", "absolute path"),
    ],
)
def test_each_mistake_has_its_sentence(text: str, why: str) -> None:
    with pytest.raises(IdentityError, match=why) as caught:
        parse_pkcs11_uri(text)
    assert "1234" not in str(caught.value)


@given(token=st.text(min_size=1), pin=st.text(min_size=1), key_id=st.binary(min_size=1))
def test_whatever_is_quoted_comes_back(token: str, pin: str, key_id: bytes) -> None:
    text = f"pkcs11:token={quote_text(token)};id={quote(key_id, safe='')}?pin-value={quote_text(pin)}"
    assert parse_pkcs11_uri(text) == Pkcs11Uri(token=token, id=key_id, pin=pin)


def quote_text(text: str) -> str:
    return quote(text.encode("utf-8"), safe="")


@given(st.text())
def test_any_text_is_understood_or_refused_in_our_words(text: str) -> None:
    with suppress(IdentityError):
        assert parse_pkcs11_uri(f"pkcs11:{text}").token_name


def test_no_pin_in_a_text_form() -> None:
    assert "1234" not in repr(parse_pkcs11_uri("pkcs11:token=t?pin-value=1234"))
