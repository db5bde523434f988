"""The metadata service by its rules: tokens that end, hosts that are refused, keys that outlast an outage."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta

import pytest

from backup.credentials.serving.imds import KEYS_PATH, MOST_TOKENS, TOKEN_HEADER, TOKEN_PATH, TTL_HEADER, Imds
from backup.credentials.serving.local_requests import Reply
from tests.credentials.local_source import HERE, Source
from tests.support.doubles import ManualClock


@pytest.fixture
def source(clock: ManualClock) -> Source:
    return Source(clock)


@pytest.fixture
def imds(clock: ManualClock, source: Source) -> Imds:
    return Imds(source, "Writer", clock)


@pytest.fixture
def get(imds: Imds) -> Callable[..., Reply]:
    token = imds.answer("PUT", TOKEN_PATH, HERE).body
    return lambda path, **more: imds.answer("GET", path, {**HERE, TOKEN_HEADER: token, **more})


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_doubled_slash_is_one(imds: Imds, get: Callable[..., Reply], slash: str) -> None:
    """An endpoint that ends in a slash, as the AWS CLI needs it, gives others two."""
    assert imds.answer("PUT", f"{slash}{TOKEN_PATH}", HERE).status == 200
    assert get(f"{slash}{KEYS_PATH}").body == "Writer"


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_whole_conversation(get: Callable[..., Reply], slash: str) -> None:
    assert get(f"{KEYS_PATH}{slash}").body == "Writer"
    keys = json.loads(get(f"{KEYS_PATH}/Writer{slash}").body)
    assert (keys["Code"], keys["AccessKeyId"], keys["Token"]) == ("Success", "ASIAX", "the-token")
    assert keys["Type"] == "AWS-HMAC"
    assert keys["Expiration"].endswith("Z")


def test_tokens_are_long_and_end(imds: Imds, clock: ManualClock) -> None:
    reply = imds.answer("PUT", TOKEN_PATH, {**HERE, TTL_HEADER: "60"})
    assert (reply.status, len(reply.body), reply.headers[TTL_HEADER]) == (200, 100, "60")
    headers = {**HERE, TOKEN_HEADER: reply.body}
    clock.advance(timedelta(seconds=59))
    assert imds.answer("GET", KEYS_PATH, headers).status == 200
    clock.advance(timedelta(seconds=1))
    assert imds.answer("GET", KEYS_PATH, headers) == Reply(401, "invalid token provided")
    assert imds.answer("GET", KEYS_PATH, HERE) == Reply(401, "no token provided")


def test_a_token_of_a_clock_that_was_ahead_is_none(imds: Imds, clock: ManualClock) -> None:
    """Keys do not live on for as long as the clock was ahead."""
    clock.advance(timedelta(days=400))
    token = imds.answer("PUT", TOKEN_PATH, {**HERE, TTL_HEADER: "60"}).body
    assert imds.answer("GET", KEYS_PATH, {**HERE, TOKEN_HEADER: token}).status == 200
    clock.advance(timedelta(days=-400))
    assert imds.answer("GET", KEYS_PATH, {**HERE, TOKEN_HEADER: token}).status == 401


@pytest.mark.parametrize("ttl", ["0", "21601", "-1", "x", "", "1e3", "²"])
def test_lives_that_no_token_has(imds: Imds, ttl: str) -> None:
    assert imds.answer("PUT", TOKEN_PATH, {**HERE, TTL_HEADER: ttl}) == Reply(400, "invalid token TTL")


def test_of_too_many_tokens_the_soonest_to_end_goes(imds: Imds) -> None:
    soon = imds.answer("PUT", TOKEN_PATH, {**HERE, TTL_HEADER: "10"}).body
    late = [imds.answer("PUT", TOKEN_PATH, HERE).body for _ in range(MOST_TOKENS)]
    states = [imds.answer("GET", KEYS_PATH, {**HERE, TOKEN_HEADER: token}).status for token in (soon, *late)]
    assert states == [401, *[200] * MOST_TOKENS]


@pytest.mark.parametrize("host", ["", "evil.example", "evil.example:9911", "169.254.169.254", "[fe80::1]:80"])
def test_other_hosts_are_refused(imds: Imds, host: str) -> None:
    assert imds.answer("PUT", TOKEN_PATH, {"host": host}).status == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.9.9.9:9911", "[::1]:9911"])
def test_this_machine_by_any_name(imds: Imds, host: str) -> None:
    assert imds.answer("PUT", TOKEN_PATH, {"host": host}).status == 200


@pytest.mark.parametrize(
    ("method", "path", "more", "status"),
    [
        ("PUT", TOKEN_PATH, {"x-forwarded-for": "10.0.0.1"}, 400),
        ("GET", KEYS_PATH, {"x-forwarded-for": "10.0.0.1"}, 400),
        ("GET", TOKEN_PATH, {}, 405),
        ("POST", KEYS_PATH, {}, 405),
        ("GET", "/", {}, 404),
        ("GET", f"{KEYS_PATH}/Other", {}, 404),
        ("GET", f"{KEYS_PATH}/Writer/more", {}, 404),
        ("GET", "/latest/meta-data/../meta-data/iam/security-credentials", {}, 404),
    ],
)
def test_what_is_not_answered(imds: Imds, method: str, path: str, more: dict[str, str], status: int) -> None:
    assert imds.answer(method, path, {**HERE, **more}).status == status


def test_a_failure_is_500_and_never_an_empty_success(
    get: Callable[..., Reply], source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    source.fails = True
    assert get(f"{KEYS_PATH}/Writer").status == 500
    assert "no keys to hand out: no" in caplog.text
    source.fails = False
    reply = get(f"{KEYS_PATH}/Writer")
    assert reply.status == 200
    assert "the-secret" not in repr(reply)
