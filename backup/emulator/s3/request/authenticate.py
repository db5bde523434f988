"""Authenticate the caller of S3: signature in every form that S3 accepts, time and token.

All times are real time. Source: S3 API Reference (sig-v4-authenticating-requests, sigv4-streaming,
sigv4-query-string-auth, ErrorResponses).
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from urllib.parse import quote_from_bytes, unquote_to_bytes

from msgspec import Struct

from backup.emulator.core.access.accounts import Accounts
from backup.emulator.core.access.callers import Caller, Secret, find_secret
from backup.emulator.core.access.sigv4 import (
    UNRESERVED,
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
    signing_key,
    stamp,
    string_to_sign,
    without_signature,
)
from backup.emulator.core.s3_errors import S3Error
from backup.emulator.core.state.store import Transaction
from backup.emulator.core.wire import Inbound

from .chunked import ChunkDecoder, ChunkKey

SKEW = timedelta(minutes=15)
UNSIGNED = "UNSIGNED-PAYLOAD"
SIGNED_CHUNKS = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
TRAILER = "-TRAILER"
UNSIGNED_CHUNKS = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
STREAMING = (SIGNED_CHUNKS, SIGNED_CHUNKS + TRAILER, UNSIGNED_CHUNKS)
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Claim(Struct, frozen=True):
    """The signature that a request claims: `payload` is its x-amz-content-sha256 or the equivalent."""

    authorization: Authorization
    signed_at: datetime
    lifetime: timedelta | None
    token: str | None
    signed: Inbound
    payload: str

    @property
    def payload_hash(self) -> str | None:
        """The SHA-256 that the body must have, hex; None where the client names none."""
        return self.payload if _SHA256.fullmatch(self.payload) else None


class Admitted(Struct, frozen=True):
    """An authenticated caller, and the form and hash that its body must have."""

    caller: Caller
    claim: Claim
    secret: str

    def decoder(self) -> ChunkDecoder | None:
        """The decoder of an aws-chunked body; None for a plain one."""
        claim = self.claim
        if claim.payload not in STREAMING:
            return None
        if claim.payload == UNSIGNED_CHUNKS:
            return ChunkDecoder(None, has_trailer=True)
        key = ChunkKey(
            signing_key(self.secret, claim.authorization),
            stamp(claim.signed_at),
            claim.authorization.scope,
            claim.authorization.signature,
        )
        return ChunkDecoder(key, has_trailer=claim.payload.endswith(TRAILER))


def authenticate(
    inbound: Inbound, accounts: Accounts, tx: Transaction, *, expired: Collection[str] = ()
) -> Admitted:
    """The caller of an S3 operation; an S3Error with the service's code when anything is wrong."""
    claim = _read_claim(inbound)
    now = datetime.now(UTC)
    secret = _check_secret(claim, find_secret(claim.authorization.key_id, accounts, tx), now, expired)
    _check_time(claim, now)
    _check_signature(claim, secret)
    return Admitted(secret.caller(claim.authorization.region), claim, secret.secret_access_key)


def _read_claim(inbound: Inbound) -> Claim:
    query = dict(query_pairs(inbound.raw_query, form=False))
    header = inbound.header("authorization")
    if is_presigned(query):
        if header is not None:
            raise S3Error(
                "InvalidArgument",
                "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query "
                "string parameter or the Authorization header should be specified",
            )
        return _presigned(inbound, query)
    of_version_2 = "AWSAccessKeyId" in query and "Signature" in query
    if header is None and not of_version_2:
        raise S3Error("AccessDenied")
    if header is None or not header.startswith("AWS4-"):
        raise S3Error(
            "InvalidRequest",
            "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.",
        )
    try:
        authorization = parse_authorization(header)
        _check_form(authorization)
    except MalformedAuthorization as error:
        raise S3Error(
            "AuthorizationHeaderMalformed", f"The authorization header is malformed; {error}"
        ) from error
    try:
        signed_at = request_time(inbound)
    except MalformedAuthorization as error:
        raise S3Error(
            "AccessDenied", "AWS authentication requires a valid Date or x-amz-date header"
        ) from error
    if authorization.date != f"{signed_at:%Y%m%d}":
        raise S3Error(
            "AuthorizationHeaderMalformed",
            f'The authorization header is malformed; Invalid credential date "{authorization.date}". This '
            f'date is not the same as X-Amz-Date: "{signed_at:%Y%m%d}".',
        )
    payload = inbound.header("x-amz-content-sha256")
    if payload is None:
        raise S3Error("InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
    _check_payload(payload)
    _check_signed(inbound, authorization)
    token = inbound.header("x-amz-security-token")
    return Claim(authorization, signed_at, None, token, inbound, payload)


def _presigned(inbound: Inbound, query: dict[str, str]) -> Claim:
    try:
        authorization = parse_presigned(query)
        _check_form(authorization)
        signed_at = request_time(inbound, query["X-Amz-Date"])
        lifetime = timedelta(seconds=lifetime_seconds(query))
    except MalformedAuthorization as error:
        raise S3Error("AuthorizationQueryParametersError", str(error)) from error
    payload = query.get("X-Amz-Content-Sha256") or inbound.header("x-amz-content-sha256") or UNSIGNED
    _check_payload(payload)
    _check_signed(inbound, authorization)
    token = query.get("X-Amz-Security-Token") or inbound.header("x-amz-security-token")
    return Claim(authorization, signed_at, lifetime, token, without_signature(inbound), payload)


def _check_form(authorization: Authorization) -> None:
    if authorization.algorithm != "AWS4-HMAC-SHA256":
        raise MalformedAuthorization(f"unsupported algorithm {authorization.algorithm}.")
    if authorization.service != "s3":
        raise MalformedAuthorization(
            f'incorrect service "{authorization.service}". This endpoint belongs to "s3".'
        )


def _check_payload(payload: str) -> None:
    if payload not in (UNSIGNED, *STREAMING) and not _SHA256.fullmatch(payload):
        raise S3Error(
            "InvalidArgument",
            "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, "
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid "
            "sha256 value.",
            {"ArgumentName": "x-amz-content-sha256", "ArgumentValue": payload},
        )


def _check_signed(inbound: Inbound, authorization: Authorization) -> None:
    """Check that Host and every x-amz- header is signed."""
    present = {name for name, _ in inbound.headers if name.startswith("x-amz-")} | {"host"}
    unsigned = sorted(present - set(authorization.signed_headers) - {"x-amz-content-sha256"})
    if unsigned:
        raise S3Error(
            "AccessDenied",
            "There were headers present in the request which were not signed",
            {"HeadersNotSigned": ", ".join(unsigned)},
        )


def _check_secret(claim: Claim, secret: Secret | None, now: datetime, expired: Collection[str]) -> Secret:
    key_id = claim.authorization.key_id
    if secret is None:
        raise S3Error("InvalidAccessKeyId", None, {"AWSAccessKeyId": key_id})
    if not _same(secret.session_token or "", claim.token or ""):
        raise S3Error("InvalidToken", None, {"Token-0": claim.token or ""})
    over = secret.expires_ms is not None and now.timestamp() * 1000 >= secret.expires_ms
    if over or key_id in expired:
        raise S3Error("ExpiredToken", None, {"Token-0": claim.token or ""})
    return secret


def _check_time(claim: Claim, now: datetime) -> None:
    signed_at, lifetime = claim.signed_at, claim.lifetime
    if lifetime is not None and now > signed_at + lifetime:
        details = {
            "X-Amz-Expires": str(lifetime // timedelta(seconds=1)),
            "Expires": f"{signed_at + lifetime:%Y-%m-%dT%H:%M:%SZ}",
            "ServerTime": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        }
        raise S3Error("AccessDenied", "Request has expired", details)
    if now < signed_at - SKEW or (lifetime is None and now > signed_at + SKEW):
        details = {
            "RequestTime": stamp(signed_at),
            "ServerTime": f"{now:%Y-%m-%dT%H:%M:%SZ}",
            "MaxAllowedSkewMilliseconds": str(SKEW // timedelta(milliseconds=1)),
        }
        raise S3Error("RequestTimeTooSkewed", None, details)


def _check_signature(claim: Claim, secret: Secret) -> None:
    path = quote_from_bytes(unquote_to_bytes(claim.signed.raw_path), safe="/" + UNRESERVED)
    authorization = claim.authorization
    try:
        canonical = canonical_request(claim.signed, authorization.signed_headers, claim.payload, path=path)
    except MalformedAuthorization as error:
        raise S3Error("SignatureDoesNotMatch", details={"AWSAccessKeyId": authorization.key_id}) from error
    text = string_to_sign(authorization, stamp(claim.signed_at), canonical)
    if _same(hmac_signature(secret.secret_access_key, authorization, text), authorization.signature):
        return
    details = {
        "AWSAccessKeyId": authorization.key_id,
        "StringToSign": text,
        "SignatureProvided": authorization.signature,
        "CanonicalRequest": canonical,
    }
    raise S3Error("SignatureDoesNotMatch", None, details)


def check_payload_hash(claim: Claim, computed: str) -> None:
    """Raise 400 if the body is not the one that was signed; `computed` is in hex."""
    wanted = claim.payload_hash
    if wanted is not None and not hmac.compare_digest(wanted, computed):
        details = {"ClientComputedContentSHA256": wanted, "S3ComputedContentSHA256": computed}
        raise S3Error("XAmzContentSHA256Mismatch", None, details)


def _same(left: str, right: str) -> bool:
    return hmac.compare_digest(left.encode("latin-1", "replace"), right.encode("latin-1", "replace"))
