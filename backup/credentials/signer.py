"""AWS's signature version 4 with an X.509 identity: request, identity and time in, signed headers out; pure.

There is no secret to derive a key from: the string to sign is signed by the certificate's own key (AWS:
"The IAM Roles Anywhere authentication signing process"). Its hash is SHA-256 for every key.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from backup.credentials.identity import KeyHolder

METHOD = "POST"
PATH = "/sessions"
SERVICE = "rolesanywhere"


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """A CreateSession before it is signed.

    `host` is the host that is contacted, with its port unless that is the scheme's own. `query` is
    canonical already (sorted, RFC 3986 encoding); we put every parameter into the JSON body, where no two
    encodings can disagree.
    """

    host: str
    region: str
    body: bytes
    query: str = ""


def sign_request(request: SessionRequest, signer: KeyHolder, now: datetime) -> Mapping[str, str]:
    """The headers to send: everything that is signed, and `Authorization`."""
    stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    headers = _headers(request, signer, stamp)
    scope = f"{stamp[:8]}/{request.region}/{SERVICE}/aws4_request"
    text = string_to_sign(
        signer.algorithm, stamp, scope, canonical_request(headers, request.body, request.query)
    )
    signature = signer.sign(text.encode())
    return {**headers, "Authorization": authorization(signer, scope, headers, signature)}


def _headers(request: SessionRequest, signer: KeyHolder, stamp: str) -> Mapping[str, str]:
    headers = {
        "Content-Type": "application/json",
        "Host": request.host,
        "X-Amz-Date": stamp,
        "X-Amz-X509": _base64_der(signer.certificate),
    }
    if signer.chain:
        headers["X-Amz-X509-Chain"] = ",".join(_base64_der(one) for one in signer.chain)
    return headers


def _base64_der(certificate: x509.Certificate) -> str:
    return base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()


def canonical_request(headers: Mapping[str, str], body: bytes, query: str = "") -> str:
    """The request in the one form that both sides hash; every header given is signed."""
    lines = sorted((name.lower(), " ".join(value.split())) for name, value in headers.items())
    block = "".join(f"{name}:{value}\n" for name, value in lines)
    return "\n".join([METHOD, PATH, query, block, _signed_headers(headers), hashlib.sha256(body).hexdigest()])


def _signed_headers(headers: Mapping[str, str]) -> str:
    return ";".join(sorted(name.lower() for name in headers))


def string_to_sign(algorithm: str, stamp: str, scope: str, canonical: str) -> str:
    """What the key signs: label, time, scope and the hash of the canonical request."""
    return "\n".join([algorithm, stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])


def authorization(signer: KeyHolder, scope: str, headers: Mapping[str, str], signature: bytes) -> str:
    """The Authorization header; the credential is the certificate's serial in decimal, however long."""
    return (
        f"{signer.algorithm} Credential={signer.certificate.serial_number}/{scope}, "
        f"SignedHeaders={_signed_headers(headers)}, Signature={signature.hex()}"
    )
