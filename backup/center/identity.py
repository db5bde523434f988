"""Whose a request is: by its certificate, a path to a known authority, and a signature over all of it."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec import Struct

from backup.credentials.certificate import name_text, subject_values
from backup.credentials.chain import MOST_CHAIN_CERTIFICATES, chain_problem
from backup.errors import DeniedError
from backup.format.host_report import CERTIFICATE, CHAIN, SIGNATURE, signed_text

_LONGEST = 24 * 1024


class HostIdentity(Struct, frozen=True):
    """A host, as its certificate says: `host_id` is made of trust anchor and subject, and stays."""

    host_id: str
    name: str
    subject: str
    anchor: str
    ends: datetime

    def columns(self) -> dict[str, object]:
        """Return its facts, as columns of `hosts`."""
        return {
            "host_id": self.host_id,
            "name": self.name,
            "subject": self.subject,
            "anchor": self.anchor,
            "certificate_ends": self.ends,
        }


class Trust(Struct, frozen=True):
    """What the center believes: authorities of hosts, their lists of revoked certificates, its own names."""

    authorities: Sequence[x509.Certificate]
    revocations: Sequence[x509.CertificateRevocationList]
    names: frozenset[str]

    def identity_of(self, headers: Mapping[str, str], body: bytes, now: datetime, path: str) -> HostIdentity:
        """The host that has signed this request to that path. `DeniedError` says why it is nobody's."""
        host = headers.get("host", "").lower()
        if host not in self.names:
            raise DeniedError("this center has another name: a proxy must hand on the Host of the request")
        certificate, *chain = _certificates(headers)
        authority = self._authority(certificate, chain, now)
        _check_signature(certificate, headers.get(SIGNATURE.lower(), ""), signed_text(host, body, path))
        subject = certificate.subject.public_bytes()
        anchor = authority.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        names = subject_values(certificate, x509.NameOID.COMMON_NAME)
        if not names:
            raise DeniedError("the certificate has no common name")
        return HostIdentity(
            host_id=hashlib.sha256(hashlib.sha256(anchor).digest() + subject).hexdigest()[:32],
            name=names[0],
            subject=name_text(certificate.subject),
            anchor=hashlib.sha256(anchor).hexdigest(),
            ends=certificate.not_valid_after_utc,
        )

    def _authority(
        self, certificate: x509.Certificate, chain: Sequence[x509.Certificate], now: datetime
    ) -> x509.Certificate:
        why: str | None = "no authority is known"
        for authority in self.authorities:
            why = chain_problem(certificate, chain, [authority], now)
            if why is None:
                self._refuse_revoked([certificate, *chain])
                return authority
        raise DeniedError(f"the certificate leads to no authority of this center: {why}")

    def _refuse_revoked(self, certificates: Sequence[x509.Certificate]) -> None:
        for certificate in certificates:
            for revoked in self.revocations:
                is_of_it = revoked.issuer == certificate.issuer
                if is_of_it and revoked.get_revoked_certificate_by_serial_number(certificate.serial_number):
                    raise DeniedError("the certificate is revoked")


def checked_revocations(
    lists: Sequence[x509.CertificateRevocationList], authorities: Sequence[x509.Certificate]
) -> Sequence[x509.CertificateRevocationList]:
    """Return the lists, each of which an authority has signed. `DeniedError` for another one."""
    for revoked in lists:
        signers = [authority for authority in authorities if authority.subject == revoked.issuer]
        if not any(_has_signed(authority, revoked) for authority in signers):
            raise DeniedError(
                f"a list of revoked certificates by {name_text(revoked.issuer)}, who did not sign it"
            )
    return lists


def _has_signed(authority: x509.Certificate, revoked: x509.CertificateRevocationList) -> bool:
    try:
        return revoked.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return False


def _certificates(headers: Mapping[str, str]) -> Sequence[x509.Certificate]:
    """The host's certificate, and those above it that it has sent."""
    texts = [headers.get(CERTIFICATE.lower(), "")]
    if above := headers.get(CHAIN.lower()):
        texts += above.split(",", MOST_CHAIN_CERTIFICATES)
    if sum(map(len, texts)) > _LONGEST or len(texts) > MOST_CHAIN_CERTIFICATES + 1:
        raise DeniedError("more certificates than are read")
    try:
        return [x509.load_der_x509_certificate(base64.b64decode(text, validate=True)) for text in texts]
    except (ValueError, UnsupportedAlgorithm) as error:
        raise DeniedError("no certificate that can be read") from error


def _check_signature(certificate: x509.Certificate, coded: str, text: bytes) -> None:
    try:
        key, signature = certificate.public_key(), base64.b64decode(coded, validate=True)
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, text, padding.PKCS1v15(), SHA256())
            return
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, text, ec.ECDSA(SHA256()))
            return
    except (InvalidSignature, ValueError, UnsupportedAlgorithm) as error:
        raise DeniedError("the signature is not that of the certificate's key over this request") from error
    raise DeniedError("a key of a kind whose signatures this center cannot check: it takes RSA and EC")


def is_same(one: bytes, other: bytes) -> bool:
    """Whether two digests are equal, in constant time."""
    return hmac.compare_digest(one, other)
