"""The container's service by its rules: one path, one token, and nobody from elsewhere."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from backup.credentials.serving.container import CREDENTIALS_PATH, ContainerKeys
from tests.credentials.local_source import HERE, Source
from tests.support.doubles import ManualClock

ROLE = "arn:aws:iam::123456789012:role/path/Writer"
TOKEN = "the-token-of-the-file"
ALLOWED = {**HERE, "authorization": TOKEN}


@pytest.fixture
def source(clock: ManualClock) -> Source:
    return Source(clock)


@pytest.fixture
def keys(clock: ManualClock, source: Source) -> ContainerKeys:
    return ContainerKeys(source, ROLE, clock, TOKEN)


@pytest.mark.parametrize("path", [CREDENTIALS_PATH, f"/{CREDENTIALS_PATH}/", f"{CREDENTIALS_PATH}?x=y"])
def test_the_keys_in_the_form_that_sdks_read(keys: ContainerKeys, clock: ManualClock, path: str) -> None:
    """The form that restic's library reads."""
    reply = keys.answer("GET", path, ALLOWED)
    assert reply.status == 200
    assert json.loads(reply.body) == {
        "RoleArn": ROLE,
        "AccessKeyId": "ASIAX",
        "SecretAccessKey": "the-secret",
        "Token": "the-token",
        "Expiration": (clock.now() + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    assert "the-secret" not in repr(reply)


@pytest.mark.parametrize("given", [None, "", "x", TOKEN[:-1], f"{TOKEN}x", f"Bearer {TOKEN}", "t\xf6ken"])
def test_without_the_token_there_is_nothing(keys: ContainerKeys, given: str | None) -> None:
    reply = keys.answer("GET", CREDENTIALS_PATH, HERE if given is None else {**HERE, "authorization": given})
    assert (reply.status, "ASIAX" in reply.body) == (401, False)


@pytest.mark.parametrize(
    ("method", "path", "more", "status"),
    [
        ("GET", CREDENTIALS_PATH, {"host": "evil.example"}, 403),
        ("GET", CREDENTIALS_PATH, {"host": "169.254.170.2"}, 403),
        ("GET", CREDENTIALS_PATH, {"x-forwarded-for": "10.0.0.1"}, 400),
        ("PUT", CREDENTIALS_PATH, {}, 405),
        ("GET", "/", {}, 404),
        ("PUT", "/latest/api/token", {}, 404),
        ("GET", "/latest/meta-data/iam/security-credentials", {}, 404),
    ],
)
def test_what_is_not_answered(
    keys: ContainerKeys, method: str, path: str, more: dict[str, str], status: int
) -> None:
    """Who cannot read the file gets nothing by the metadata service's way either."""
    assert keys.answer(method, path, {**ALLOWED, **more}).status == status


def test_a_failure_is_500(keys: ContainerKeys, source: Source, caplog: pytest.LogCaptureFixture) -> None:
    source.fails = True
    assert keys.answer("GET", CREDENTIALS_PATH, ALLOWED).status == 500
    assert "no keys to hand out: no" in caplog.text
