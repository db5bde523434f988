"""One exchange: only a complete answer is taken, and every refusal says what to check."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from backup.credentials.createsession import _Keys
from backup.credentials.denials import AwsRefusal, denial
from backup.credentials.identity import Identity
from backup.credentials.options import RolesAnywhereOptions
from backup.errors import DeniedError, ExitCode, NightvaultError, UnreachableError
from tests.support.identities import ANCHOR, NOW, PROFILE, ROLE, identity_in
from tests.support.scratch_server import SECRET, TOKEN, Answer, ask, keys_until, no

OPTIONS = RolesAnywhereOptions(ANCHOR, PROFILE, ROLE, session_duration=7200)


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return identity_in(str(tmp_path_factory.mktemp("identity")))


def refused(answer: Answer, signer: Identity) -> NightvaultError:
    with pytest.raises(NightvaultError) as caught:
        ask(answer, signer)
    return caught.value


@pytest.mark.parametrize("status", [200, 201])
def test_any_success_is_taken(signer: Identity, status: int) -> None:
    good = keys_until(NOW + timedelta(hours=1))
    assert ask(Answer(status, good.body), signer).expires_at == NOW + timedelta(hours=1)


def test_offsets_and_fractions_of_an_expiration_are_understood(signer: Identity) -> None:
    body = keys_until(NOW).body.replace(b"2026-03-01T02:00:00Z", b"2026-03-01T05:30:00.5+02:30")
    assert ask(Answer(201, body), signer).expires_at == NOW + timedelta(hours=1, milliseconds=500)


def with_keys(**changes: object) -> bytes:
    """A good answer with other keys; None takes one away."""
    document: dict[str, Any] = json.loads(keys_until(NOW + timedelta(hours=1)).body)
    keys = {**document["credentialSet"][0]["credentials"], **changes}
    document["credentialSet"][0]["credentials"] = {
        name: value for name, value in keys.items() if value is not None
    }
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>welcome to the hotel</html>",
        b"[]",
        b'{"credentialSet": []}',
        with_keys(sessionToken=None),
        with_keys(secretAccessKey=""),
        with_keys(secretAccessKey=7),
        with_keys(accessKeyId="short"),
        with_keys(expiration="2026-03-01T03:00:00"),
        with_keys(expiration=SECRET),
    ],
)
def test_an_incomplete_answer_gives_no_keys(signer: Identity, body: bytes) -> None:
    error = refused(Answer(201, body), signer)
    assert isinstance(error, UnreachableError)
    assert "did not answer as CreateSession does" in str(error)
    assert SECRET not in f"{error!r} {error.__cause__!r}"


def test_keys_that_are_dead_already_are_not_taken(signer: Identity) -> None:
    error = refused(keys_until(NOW - timedelta(seconds=1)), signer)
    assert "gave credentials that expired at 2026-03-01 01:59:59" in str(error)
    assert "clock" in error.advice


MESSAGES = [
    ("Invalid signature", "could not verify the signature", "proxy"),
    ("Untrusted signing certificate", "does not lead to the trust anchor", "intermediates"),
    ("Untrusted Signing Certificate", "does not lead to the trust anchor", "CA that issued"),
    ("Untrusted certificate. Insufficient certificate", "does not take this kind", "digitalSignature"),
    (
        "Not authorized to set roleSessionName.",
        "does not let us choose the session's name",
        "role_session_name",
    ),
    (f"Unable to assume role for {ROLE}.", "does not let this certificate in", "aws policy --only trust"),
    (
        f"Unable to assume role for {ROLE}. Some attributes failed to be mapped into session tags. [DNS/2]",
        "cannot turn the certificate's subject into session tags",
        "another subject",
    ),
    (
        "Unable to assume role. The requested DurationSeconds exceeds the MaxSessionDuration of this role.",
        "does not allow sessions of 7200 s",
        "session_duration",
    ),
    ("Requested Role isn't one of those listed in the Profile.", "is not in the profile", "role_arn"),
    ("Certificate expired", "has expired", "identity show"),
    ("Certificate revoked", "has been revoked", "ca issue"),
    ("Trust anchor is disabled", "is disabled", "console"),
    ("Something new", "AWS refused to give credentials", "aws policy"),
]


@pytest.mark.parametrize(("message", "what", "advice"), MESSAGES)
def test_denials_say_what_to_check(message: str, what: str, advice: str) -> None:
    error = denial(AwsRefusal(403, "AccessDeniedException", message), OPTIONS)
    assert what in str(error)
    assert f"(AccessDeniedException: {message})" in str(error)
    assert advice in error.advice
    assert error.exit_code is ExitCode.DENIED
    assert not error.retryable


def test_an_unknown_resource_names_both_arns() -> None:
    text = str(denial(AwsRefusal(404, "ResourceNotFoundException", ""), OPTIONS))
    assert ANCHOR in text
    assert PROFILE in text
    assert "(ResourceNotFoundException (status 404))" in text


@pytest.mark.parametrize(
    ("ahead", "words"),
    [
        (61, "is 61 s ahead of the server's"),
        (-3600, "is 3600 s behind the server's"),
        (60, "could not"),
        (-60, "could not"),
    ],
)
def test_a_wrong_clock_is_named_first(signer: Identity, ahead: int, words: str) -> None:
    date = format_datetime(NOW - timedelta(seconds=ahead), usegmt=True)
    error = refused(no("Invalid signature", Date=date), signer)
    assert isinstance(error, DeniedError)
    assert words in f"{error} {error.advice}"
    assert ("clock" in error.advice) is (abs(ahead) > 60)


@pytest.mark.parametrize("date", ["yesterday", "", "Sun, 01 Mar 2026 02:00:00 -0000"])
def test_a_date_that_says_nothing_is_passed_over(signer: Identity, date: str) -> None:
    assert "proxy" in refused(no("Invalid signature", Date=date), signer).advice


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            Answer(403, b'{"Message": "Invalid signature", "code": "AccessDeniedException"}'),
            "AccessDeniedException: Inv",
        ),
        (
            Answer(403, b'{"__type": "com.amazon#AccessDeniedException", "message": "m"}'),
            "(AccessDeniedException: m)",
        ),
        (
            Answer(403, b"<html>\n  Blocked by  the proxy</html>"),
            "(no code: <html> Blocked by the proxy</html>)",
        ),
        (Answer(403, b'{"message": null}'), "(no code (status 403))"),
        (Answer(403, b"\xff" * 500), "no code"),
    ],
)
def test_code_and_text_are_found_wherever_they_stand(signer: Identity, answer: Answer, words: str) -> None:
    assert words in str(refused(answer, signer))


def test_redirects_are_not_followed(signer: Identity) -> None:
    error = refused(Answer(307, headers={"Location": "http://127.0.0.1:1/"}), signer)
    assert "status 307" in str(error)
    assert "proxy" in error.advice


def test_the_parsed_answer_shows_nothing(tmp_path: os.PathLike[str]) -> None:
    keys = _Keys("ASIASCRATCH000000001", SECRET, TOKEN, NOW)
    assert SECRET not in repr(keys)
    assert TOKEN not in f"{keys}"
