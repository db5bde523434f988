"""Signature Version 4 with an X.509 identity: request, identity and time in, signed headers out; pure.

There is no secret to derive a key from: the string to sign is signed with the certificate's own key (AWS:
"The IAM Roles Anywhere authentication signing process"). Its hash is SHA-256 for every key.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from msgspec import Struct

from backup.credentials.identity import KeyHolder

METHOD = "POST"
PATH = "/sessions"
SERVICE = "rolesanywhere"


class SessionRequest(Struct, frozen=True):
    """A CreateSession before it is signed.

    `host` is the host that is contacted, with its port unless that is the scheme's own. `query` is
    canonical already (sorted, RFC 3986 encoding); we put every parameter into the JSON body, where no two
    encodings can disagree.
    """

    host: str
    region: str
    body: bytes
    query: str = ""


def sign_request(request: SessionRequest, holder: KeyHolder, now: datetime) -> Mapping[str, str]:
    """The headers to send: all that are signed, and `Authorization`."""
    stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    headers = _headers(request, holder, stamp)
    scope = f"{stamp[:8]}/{request.region}/{SERVICE}/aws4_request"
    text = string_to_sign(
        holder.algorithm, stamp, scope, canonical_request(headers, request.body, request.query)
    )
    signature = holder.sign(text.encode())
    return {**headers, "Authorization": authorization(holder, scope, headers, signature)}


def _headers(request: SessionRequest, holder: KeyHolder, stamp: str) -> Mapping[str, str]:
    headers = {
        "Content-Type": "application/json",
        "Host": request.host,
        "X-Amz-Date": stamp,
        "X-Amz-X509": _base64_der(holder.certificate),
    }
    if holder.chain:
        headers["X-Amz-X509-Chain"] = ",".join(_base64_der(certificate) for certificate in holder.chain)
    return headers


def _base64_der(certificate: x509.Certificate) -> str:
    return base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()


def canonical_request(headers: Mapping[str, str], body: bytes, query: str = "") -> str:
    """The canonical form of the request, which both sides hash; every given header is signed."""
    lines = sorted((name.lower(), " ".join(value.split())) for name, value in headers.items())
    block = "".join(f"{name}:{value}\n" for name, value in lines)
    return "\n".join([METHOD, PATH, query, block, _signed_headers(headers), hashlib.sha256(body).hexdigest()])


def _signed_headers(headers: Mapping[str, str]) -> str:
    return ";".join(sorted(name.lower() for name in headers))


def string_to_sign(algorithm: str, stamp: str, scope: str, canonical: str) -> str:
    """The bytes that the key signs: label, time, scope and the hash of the canonical request."""
    return "\n".join([algorithm, stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])


def authorization(holder: KeyHolder, scope: str, headers: Mapping[str, str], signature: bytes) -> str:
    """The Authorization header; the credential is the certificate's serial in decimal, however long."""
    return (
        f"{holder.algorithm} Credential={holder.certificate.serial_number}/{scope}, "
        f"SignedHeaders={_signed_headers(headers)}, Signature={signature.hex()}"
    )
