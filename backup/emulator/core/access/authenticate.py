"""Authenticate the caller of every service but S3 by a request's signature, time and token.

All times are real time. Source: Glacier Developer Guide (amazon-glacier-signing-requests,
api-error-responses); the texts about time and payload are those of the real service.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from backup.emulator.core.errors import ServiceError, bad_signature
from backup.emulator.core.state.store import Transaction
from backup.emulator.core.wire import Inbound

from .accounts import Accounts
from .callers import Caller, Secret, find_secret
from .sigv4 import (
    Authorization,
    MalformedAuthorization,
    canonical_request,
    hmac_signature,
    is_presigned,
    lifetime_seconds,
    parse_authorization,
    parse_presigned,
    query_pairs,
    request_time,
    skew_message,
    stamp,
    string_to_sign,
    without_signature,
)

SKEW = timedelta(minutes=5)
_HOST = re.compile(r"glacier(?:-fips)?\.([a-z0-9-]+)\.(?:amazonaws\.com(?:\.cn)?|api\.aws)(?::\d+)?")
_REGION = re.compile(r"[a-z]{2,}(-[a-z]+)+-\d{1,2}")


class _Claim(Struct, frozen=True):
    """The signature that a request claims, not verified yet.

    `signed` is the request as it was signed, `needed` are headers that must be signed, `lifetime` is how long
    the signature is valid.
    """

    authorization: Authorization
    signed_at: datetime
    lifetime: timedelta
    token: str | None
    signed: Inbound
    needed: tuple[str, ...]


def authenticate(
    inbound: Inbound,
    payload_hash: str,
    must_sign: tuple[str, ...],
    accounts: Accounts,
    tx: Transaction,
    *,
    service: str = "glacier",
    expired: Collection[str] = (),
) -> Caller:
    """The caller of an operation; a ServiceError with the service's code when anything is wrong.

    `payload_hash` is that of the body, or for a streamed upload the one the client claims; `must_sign` are
    headers that this operation wants signed beside host, date and token; `expired` are keys that a planned
    fault let expire.
    """
    try:
        claim = _read_claim(inbound)
        authorization, signed_at = claim.authorization, claim.signed_at
        _check_form(inbound, claim, must_sign, service)
        canonical = canonical_request(claim.signed, authorization.signed_headers, payload_hash)
    except MalformedAuthorization as error:
        raise bad_signature(str(error)) from error
    now = datetime.now(UTC)
    secret = _check_secret(claim, find_secret(authorization.key_id, accounts, tx), now, expired)
    late = skew_message(signed_at, now, past=claim.lifetime, future=SKEW)
    if late:
        raise bad_signature(late)
    _check_signature(authorization, stamp(signed_at), canonical, secret)
    return secret.caller(authorization.region)


def _read_claim(inbound: Inbound) -> _Claim:
    """The claim in the header or in the query; both at once are refused."""
    header = inbound.header("authorization")
    query = dict(query_pairs(inbound.raw_query, form=False))
    if not is_presigned(query):
        if header is None:
            raise ServiceError("MissingAuthenticationTokenException", "Missing Authentication Token")
        token = inbound.header("x-amz-security-token")
        date = "x-amz-date" if inbound.header("x-amz-date") else "date"
        needed = ("host", date) if token is None else ("host", date, "x-amz-security-token")
        return _Claim(parse_authorization(header), request_time(inbound), SKEW, token, inbound, needed)
    if header is not None:
        raise MalformedAuthorization("Only one way of authentication may be used: the header or the query.")
    authorization = parse_presigned(query)
    lifetime = timedelta(seconds=lifetime_seconds(query))
    signed_at = request_time(inbound, query["X-Amz-Date"])
    token = query.get("X-Amz-Security-Token") or inbound.header("x-amz-security-token")
    return _Claim(authorization, signed_at, lifetime, token, without_signature(inbound), ("host",))


def _check_form(inbound: Inbound, claim: _Claim, must_sign: tuple[str, ...], service: str) -> None:
    authorization, signed_at = claim.authorization, claim.signed_at
    if authorization.algorithm != "AWS4-HMAC-SHA256":
        raise MalformedAuthorization(f"Unsupported signature algorithm {authorization.algorithm}.")
    if authorization.service != service:
        raise MalformedAuthorization(
            f"Credential should be scoped to service {service}, not {authorization.service}."
        )
    if authorization.date != f"{signed_at:%Y%m%d}":
        raise MalformedAuthorization(
            f"Date in Credential scope, {authorization.date}, does not match the date of the request, "
            f"{signed_at:%Y%m%d}."
        )
    _check_region(inbound, authorization.region)
    for name in (*claim.needed, *must_sign):
        if name not in authorization.signed_headers:
            raise MalformedAuthorization(f"The header {name} must be signed.")


def _check_region(inbound: Inbound, region: str) -> None:
    found = _HOST.fullmatch(inbound.header("host") or "")
    if not _REGION.fullmatch(region) or (found is not None and found[1] != region):
        raise MalformedAuthorization(f"Credential should be scoped to a valid region, not {region}.")


def _check_secret(claim: _Claim, secret: Secret | None, now: datetime, expired: Collection[str]) -> Secret:
    if secret is None or not _same(secret.session_token or "", claim.token or ""):
        raise ServiceError(
            "UnrecognizedClientException", "The security token included in the request is invalid."
        )
    over = secret.expires_ms is not None and now.timestamp() * 1000 >= secret.expires_ms
    if over or claim.authorization.key_id in expired:
        raise ServiceError("ExpiredTokenException", "The security token included in the request is expired")
    return secret


def _same(left: str, right: str) -> bool:
    return hmac.compare_digest(left.encode("latin-1", "replace"), right.encode("latin-1", "replace"))


def _check_signature(authorization: Authorization, signed_at: str, canonical: str, secret: Secret) -> None:
    text = string_to_sign(authorization, signed_at, canonical)
    if not _same(hmac_signature(secret.secret_access_key, authorization, text), authorization.signature):
        raise bad_signature(
            "The request signature we calculated does not match the signature you provided. Check your AWS "
            "Secret "
            "Access Key and signing method. Consult the service documentation for details.\n\nThe "
            "Canonical String "
            f"for this request should have been\n'{canonical}'\n\nThe String-to-Sign should have "
            f"been\n'{text}'\n"
        )
