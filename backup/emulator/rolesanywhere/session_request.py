"""Read a CreateSession request: parameters, certificates, and whether the leaf's key signed it.

Source: IAM Roles Anywhere User Guide (authentication, signing process, CreateSession). Pure: request, body
and time in, values or a ServiceError out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from cryptography import x509
from msgspec import Struct

from backup.emulator.core.access.certificates import (
    algorithm_label,
    certificate_from_header,
    chain_from_header,
    check_leaf,
    is_signed_by,
)
from backup.emulator.core.access.sigv4 import (
    Authorization,
    MalformedAuthorization,
    canonical_request,
    parse_authorization,
    query_pairs,
    request_time,
    skew_message,
    string_to_sign,
)
from backup.emulator.core.errors import ServiceError, denied
from backup.emulator.core.wire import Inbound

PAST, FUTURE = timedelta(minutes=15), timedelta(minutes=5)
_TEXTS = ("profileArn", "roleArn", "trustAnchorArn", "roleSessionName")


def invalid_parameter(message: str) -> ServiceError:
    """The error 400 ValidationException."""
    return ServiceError("ValidationException", message)


class SessionParameters(Struct, frozen=True):
    """The parameters of a session; `duration_seconds` None means the profile's."""

    profile_arn: str
    role_arn: str
    trust_anchor_arn: str
    duration_seconds: int | None
    role_session_name: str | None


class SignedSession(Struct, frozen=True):
    """A request whose signature holds: the leaf, what the chain header brought, and the region it was signed
    for.
    """

    leaf: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    region: str
    remarks: tuple[str, ...] = ()


def read_parameters(raw_query: str, body: bytes) -> SessionParameters:
    """Parameters from query and JSON body together; null counts as absent; 400 where the two disagree."""
    given = _body_object(body)
    for name, value in query_pairs(raw_query, form=True):
        if given.get(name) not in (None, value) and str(given[name]) != value:
            raise invalid_parameter(f"{name} is given twice with different values.")
        given[name] = value
    texts = {name: _text(given, name) for name in _TEXTS}
    for name in _TEXTS[:3]:
        if not texts[name]:
            raise invalid_parameter(f"1 validation error detected: {name} must not be null.")
    return SessionParameters(
        texts["profileArn"] or "",
        texts["roleArn"] or "",
        texts["trustAnchorArn"] or "",
        _duration(given.get("durationSeconds")),
        texts["roleSessionName"],
    )


def _body_object(body: bytes) -> dict[str, object]:
    if not body:
        return {}
    try:
        given = json.loads(body)
    except ValueError as error:
        raise invalid_parameter("The request body is not valid JSON.") from error
    if not isinstance(given, dict):
        raise invalid_parameter("The request body must be a JSON object.")
    return given


def _text(given: Mapping[str, object], name: str) -> str | None:
    value = given.get(name)
    if value is not None and not isinstance(value, str):
        raise invalid_parameter(f"{name} must be a string.")
    return value


def _duration(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 900 <= value <= 43200:
        raise invalid_parameter(f"durationSeconds must be between 900 and 43200, not {value}.")
    return value


def verify_request(inbound: Inbound, body: bytes, now: datetime, *, lenient: bool = False) -> SignedSession:
    """Check certificate, form, time and signature of a request; 403 AccessDeniedException otherwise.

    The real service takes requests whose label does not belong to the key, or whose chain is not signed, and
    records it (CreateSession, `additionalEventData`): so does `lenient`, in `remarks`.
    """
    text = inbound.header("x-amz-x509")
    if text is None:
        raise denied("The header X-Amz-X509 is missing.")
    leaf = certificate_from_header(text.strip(), "X-Amz-X509")
    chain_text = inbound.header("x-amz-x509-chain")
    try:
        authorization = parse_authorization(inbound.header("authorization") or "")
        signed_at = request_time(inbound)
        remarks = _label_remarks(inbound, authorization, leaf)
        _check_form([] if lenient else remarks, authorization, signed_at, leaf)
        payload_hash = hashlib.sha256(body).hexdigest()
        canonical = canonical_request(inbound, authorization.signed_headers, payload_hash, form=True)
    except MalformedAuthorization as error:
        raise denied(str(error)) from error
    late = skew_message(signed_at, now, past=PAST, future=FUTURE)
    if late:
        raise denied(late)
    check_leaf(leaf)
    message = string_to_sign(authorization, inbound.header("x-amz-date") or "", canonical)
    if not is_signed_by(leaf.public_key(), _signature(authorization), message.encode()):
        raise denied("Invalid signature")
    chain = chain_from_header(chain_text) if chain_text is not None else []
    return SignedSession(leaf, tuple(chain), authorization.region, remarks)


def _label_remarks(inbound: Inbound, authorization: Authorization, leaf: x509.Certificate) -> tuple[str, ...]:
    """The mistakes in a request's label and chain header, which its signature may hide."""
    remarks = []
    label = algorithm_label(leaf.public_key())
    if authorization.algorithm != label:
        remarks.append(
            f"The algorithm {authorization.algorithm} does not belong to the certificate's key: use {label}."
        )
    chain = inbound.header("x-amz-x509-chain") is not None
    if chain and "x-amz-x509-chain" not in authorization.signed_headers:
        remarks.append("The header x-amz-x509-chain must be signed.")
    return tuple(remarks)


def _signature(authorization: Authorization) -> bytes:
    try:
        return bytes.fromhex(authorization.signature)
    except ValueError as error:
        raise denied("Invalid signature") from error


def _check_form(
    remarks: Sequence[str], authorization: Authorization, signed_at: datetime, leaf: x509.Certificate
) -> None:
    if remarks:
        raise MalformedAuthorization(remarks[0])
    if authorization.key_id != str(leaf.serial_number):
        raise MalformedAuthorization(
            "The credential does not begin with the certificate's serial number in decimal."
        )
    if authorization.service != "rolesanywhere":
        raise MalformedAuthorization(
            f"Credential should be scoped to service rolesanywhere, not {authorization.service}."
        )
    if authorization.date != f"{signed_at:%Y%m%d}":
        raise MalformedAuthorization(
            f"Date in Credential scope, {authorization.date}, does not match the date of the request, "
            f"{signed_at:%Y%m%d}."
        )
    for name in ("host", "x-amz-date", "x-amz-x509"):
        if name not in authorization.signed_headers:
            raise MalformedAuthorization(f"The header {name} must be signed.")
