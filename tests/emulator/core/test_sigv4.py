"""The verifier's SigV4, held against both examples of the Developer Guide and rules for odd requests."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import pytest

from backup.emulator.core.access.sigv4 import (
    EMPTY_SHA256,
    Authorization,
    MalformedAuthorization,
    canonical_query,
    canonical_request,
    hmac_signature,
    parse_authorization,
    request_time,
    skew_message,
    string_to_sign,
)
from backup.emulator.core.wire import Inbound

GUIDE_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
GOOD = (
    "AWS4-HMAC-SHA256 Credential=AK/20260102/eu-west-1/glacier/aws4_request, SignedHeaders=host, Signature=ab"
)
NOON = datetime(2012, 1, 1, 12, tzinfo=UTC)
FIVE = timedelta(minutes=5)


def _sign(method: str, path: str, headers: dict[str, str], payload_hash: str) -> tuple[str, str]:
    signed = tuple(sorted(headers))
    date = headers["x-amz-date"]
    authorization = Authorization("AWS4-HMAC-SHA256", "AK", date[:8], "us-east-1", "glacier", signed, "")
    inbound = Inbound(method, path, "", tuple(headers.items()))
    canonical = canonical_request(inbound, signed, payload_hash)
    text = string_to_sign(authorization, date, canonical)
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    return digest, hmac_signature(GUIDE_SECRET, authorization, text)


def test_create_vault_example_of_the_guide() -> None:
    headers = {
        "host": "glacier.us-east-1.amazonaws.com",
        "x-amz-date": "20120525T002453Z",
        "x-amz-glacier-version": "2012-06-01",
    }
    digest, signature = _sign("PUT", "/-/vaults/examplevault", headers, EMPTY_SHA256)
    assert digest.startswith("5f1da1a2")
    assert digest.endswith("6743")
    assert signature == "3ce5b2f2fffac9262b4da9256f8d086b4aaf42eba5f111c21681a65a127b7c2a"


def test_streaming_example_of_the_guide() -> None:
    payload_hash = hashlib.sha256(b"Welcome to Amazon Glacier.").hexdigest()
    headers = {
        "host": "glacier.us-east-1.amazonaws.com",
        "x-amz-content-sha256": payload_hash,
        "x-amz-date": "20120507T000000Z",
        "x-amz-glacier-version": "2012-06-01",
    }
    _, signature = _sign("POST", "/-/vaults/examplevault/archives", headers, payload_hash)
    assert signature == "b092397439375d59119072764a1e9a144677c43d9906fd98a5742c57a2855de6"


def test_authorization_is_taken_apart() -> None:
    found = parse_authorization(GOOD)
    assert (found.key_id, found.region, found.service) == ("AK", "eu-west-1", "glacier")
    assert found.scope == "20260102/eu-west-1/glacier/aws4_request"
    assert found.signed_headers == ("host",)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Bearer abc",
        GOOD.replace("aws4_request", "aws4"),
        GOOD.replace("AK/", ""),
        GOOD.replace("SignedHeaders=host", "SignedHeaders=Host"),
        GOOD.replace("SignedHeaders=host", "SignedHeaders=x-amz-date;host"),
        GOOD.replace("SignedHeaders=host", "SignedHeaders=host;host"),
        GOOD.replace("Signature=ab", "Signature=XY"),
        GOOD.replace(", Signature=ab", ""),
    ],
)
def test_other_authorizations_are_refused(text: str) -> None:
    with pytest.raises(MalformedAuthorization):
        parse_authorization(text)


def test_inner_blanks_collapse_and_repeated_headers_join() -> None:
    inbound = Inbound("GET", "/a b", "", (("x-a", "  one   two "), ("x-a", "three")))
    lines = canonical_request(inbound, ("x-a",), "hash").split("\n")
    assert lines == ["GET", "/a%20b", "", "x-a:one two,three", "", "x-a", "hash"]


def test_a_signed_header_that_is_not_there_is_refused() -> None:
    with pytest.raises(MalformedAuthorization, match="x-gone"):
        canonical_request(Inbound("GET", "/", "", ()), ("x-gone",), "")


def test_path_is_encoded_once_more() -> None:
    lines = canonical_request(Inbound("GET", "/-/vaults/a%20b", "", ()), (), "").split("\n")
    assert lines[1] == "/-/vaults/a%2520b"


def test_query_is_decoded_sorted_and_encoded_anew() -> None:
    assert canonical_query("b=2&a=%7e+x&flag", form=True) == "a=~%20x&b=2&flag="
    assert canonical_query("a=1+2&a=%2F", form=False) == "a=%2F&a=1%2B2"


def test_time_comes_from_either_header() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert request_time(Inbound("GET", "/", "", (("x-amz-date", "20260102T030405Z"),))) == moment
    assert request_time(Inbound("GET", "/", "", (("date", "Fri, 02 Jan 2026 03:04:05 GMT"),))) == moment
    with pytest.raises(MalformedAuthorization):
        request_time(Inbound("GET", "/", "", (("x-amz-date", "2026-01-02"),)))
    with pytest.raises(MalformedAuthorization):
        request_time(Inbound("GET", "/", "", ()))


@pytest.mark.parametrize("seconds", [-300, -1, 0, 300])
def test_five_minutes_are_allowed(seconds: int) -> None:
    assert skew_message(NOON + timedelta(seconds=seconds), NOON, past=FIVE, future=FIVE) is None


def test_skew_texts_name_both_times() -> None:
    late, early = NOON - timedelta(seconds=301), NOON + timedelta(seconds=301)
    assert skew_message(late, NOON, past=FIVE, future=FIVE) == (
        "Signature expired: 20120101T115459Z is now earlier than 20120101T115500Z (20120101T120000Z - 5 min.)"
    )
    assert skew_message(early, NOON, past=FIVE, future=FIVE) == (
        "Signature not yet current: 20120101T120501Z is still later than 20120101T120500Z "
        "(20120101T120000Z + 5 min.)"
    )
