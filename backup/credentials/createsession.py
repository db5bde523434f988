"""One CreateSession over HTTP: sign, send once, turn the answer into credentials or an error of ours."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Annotated

import msgspec
import urllib3
from urllib3.exceptions import HTTPError, SSLError

from backup.credentials.denials import AwsRefusal, denial
from backup.credentials.identity import KeyHolder
from backup.credentials.options import RolesAnywhereOptions
from backup.credentials.signer import PATH, SessionRequest, sign_request
from backup.errors import NightvaultError, ThrottledError, UnreachableError
from backup.model import Credentials

MOST_ANSWER = 1 << 20
"""The maximum number of bytes that are read of an answer; a real one has a few thousand."""

log = logging.getLogger(__name__)

_LONG = re.compile(r"[A-Za-z0-9+/=_\-]{16,}")
"""Texts long enough to be a key or token in an answer that cannot be parsed; few words of a page are as
long."""

_OBJECT = re.compile(r"^(<[^>]*>|HTTPS?Connection(Pool)?\([^)]*\)): ")


class _Keys(msgspec.Struct, rename="camel"):
    access_key_id: Annotated[str, msgspec.Meta(min_length=16, max_length=128)]
    secret_access_key: Annotated[str, msgspec.Meta(min_length=1)]
    session_token: Annotated[str, msgspec.Meta(min_length=1)]
    expiration: Annotated[datetime, msgspec.Meta(tz=True)]

    def __repr__(self) -> str:
        return "_Keys(…)"


class _Set(msgspec.Struct):
    credentials: _Keys


class _SessionAnswer(msgspec.Struct, rename="camel"):
    credential_set: Annotated[list[_Set], msgspec.Meta(min_length=1)]


class _Complaint(msgspec.Struct):
    message: str | None = None
    capital_message: str | None = msgspec.field(default=None, name="Message")
    code: str | None = None
    type: str | None = msgspec.field(default=None, name="__type")


def create_session(
    options: RolesAnywhereOptions, holder: KeyHolder, *, http: urllib3.PoolManager, now: datetime
) -> Credentials:
    """Request credentials once, signed at `now`.

    Raises `DeniedError` when AWS refuses, `ThrottledError` when it throttles, and `UnreachableError` without
    an answer, after a failure of the server, or for an answer that is not CreateSession's.
    """
    body = _body(options)
    request = SessionRequest(host=options.host, region=options.signing_region, body=body)
    signed = sign_request(request, holder, now)
    log.debug("POST %s%s %s signed as %s", options.base_url, PATH, body.decode(), signed["Authorization"])
    status, headers, data = _send(options, body, signed, http)
    log.debug("status %d, %d bytes, request %s", status, len(data), headers.get("x-amzn-requestid"))
    if 200 <= status < 300:
        return _credentials(data, options, now)
    raise _failure(status, headers, data, options, now)


def _body(options: RolesAnywhereOptions) -> bytes:
    fields: dict[str, str | int] = {
        "durationSeconds": options.session_duration,
        "profileArn": options.profile_arn,
        "roleArn": options.role_arn,
        "trustAnchorArn": options.trust_anchor_arn,
    }
    if options.role_session_name is not None:
        fields["roleSessionName"] = options.role_session_name
    return msgspec.json.encode(fields)


def _send(
    options: RolesAnywhereOptions, body: bytes, headers: Mapping[str, str], http: urllib3.PoolManager
) -> tuple[int, Mapping[str, str], bytes]:
    try:
        response = http.request(
            "POST",
            options.base_url + PATH,
            body=body,
            headers=dict(headers),
            timeout=urllib3.Timeout(connect=options.connect_timeout, read=options.read_timeout),
            retries=False,
            redirect=False,
            preload_content=False,
        )
        try:
            data = response.read(MOST_ANSWER)
        finally:
            response.close()  # the next request comes only in about an hour
    except SSLError as error:
        raise UnreachableError(
            f"{options.host} does not prove that it is IAM Roles Anywhere: {error}",
            advice="its TLS certificate is not one that this machine trusts: is something intercepting TLS?",
        ) from error
    except HTTPError as error:
        raise UnreachableError(
            f"{options.host} cannot be reached: {_reason(error)}",
            advice="check the network, DNS and firewall",
        ) from error
    return response.status, response.headers, data


def _reason(error: HTTPError) -> str:
    """The text of an urllib3 error without the object that precedes it."""
    return _OBJECT.sub("", str(error)) or type(error).__name__


def _credentials(data: bytes, options: RolesAnywhereOptions, now: datetime) -> Credentials:
    try:
        keys = msgspec.json.decode(_text(data), type=_SessionAnswer).credential_set[0].credentials
    except msgspec.DecodeError as error:  # its text names the field and never quotes the value
        raise UnreachableError(
            f"{options.host} did not answer as CreateSession does: {error}",
            advice="check roles_anywhere.endpoint",
        ) from error
    if keys.expiration <= now:
        raise UnreachableError(
            f"{options.host} gave credentials that expired at {keys.expiration:%Y-%m-%d %H:%M:%S %Z}",
            advice=f"here it is {now:%Y-%m-%d %H:%M:%S} UTC: check this machine's clock",
        )
    return Credentials(
        access_key_id=keys.access_key_id,
        secret_access_key=keys.secret_access_key,
        session_token=keys.session_token,
        expires_at=keys.expiration,
    )


def _text(data: bytes) -> str:
    """The text of an answer; `msgspec.DecodeError`, which does not chain an error that holds the bytes."""
    with suppress(UnicodeDecodeError):
        return data.decode()
    raise msgspec.DecodeError("it is not UTF-8")


def _failure(
    status: int, headers: Mapping[str, str], data: bytes, options: RolesAnywhereOptions, now: datetime
) -> NightvaultError:
    refusal = _refusal(status, headers, data, now)
    if status == 429 or "throttl" in refusal.code.lower() or refusal.code == "TooManyRequestsException":
        return ThrottledError(f"{options.host} asks us to slow down ({refusal.code})")
    if status == 407:
        return UnreachableError(
            "the proxy requires a valid user and password",
            advice="as in http://USER:PASSWORD@HOST:PORT",
        )
    if status >= 500 or status == 408:
        return UnreachableError(
            f"{options.host} failed with status {status} ({refusal.code}: {refusal.text})"
        )
    if status < 400:
        return UnreachableError(
            f"{options.host} answered with status {status}, which CreateSession never does",
            advice="check roles_anywhere.endpoint; is there a proxy in between?",
        )
    return denial(refusal, options)


def _refusal(status: int, headers: Mapping[str, str], data: bytes, now: datetime) -> AwsRefusal:
    """AWS's code and text, from the header (up to its colon) or the body; a proxy's page is shortened."""
    try:
        complaint = msgspec.json.decode(_text(data), type=_Complaint)
        text = complaint.message or complaint.capital_message or ""
    except msgspec.DecodeError:
        complaint = _Complaint()
        text = _LONG.sub("…", " ".join(data[:200].decode("utf-8", "replace").split()))
    code = headers.get("x-amzn-errortype") or complaint.code or complaint.type or "no code"
    return AwsRefusal(
        status, code.partition(":")[0].rpartition("#")[2], text, _clock_ahead(headers.get("date"), now)
    )


def _clock_ahead(date: str | None, now: datetime) -> timedelta | None:
    try:
        return now - parsedate_to_datetime(date or "")
    except (ValueError, TypeError):  # no date, no such date, or one without a zone
        return None
