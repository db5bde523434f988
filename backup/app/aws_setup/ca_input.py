"""The authority's certificates and revocation list, read from files and checked before AWS is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from backup.credentials.certificate import name_text
from backup.errors import UsageError

MOST_AUTHORITIES = 2
"""The most certificates that a trust anchor takes (IAM Roles Anywhere, quotas)."""


def authorities_in(files: Mapping[str, str]) -> Sequence[x509.Certificate]:
    """Return the certificates of these PEM files, each once.

    `UsageError` for one that no trust anchor accepts. A file that holds a private key is refused: the files
    are sent to AWS, and written where everybody can read.
    """
    every = [certificate for path, text in files.items() for certificate in _certificates(path, text)]
    found = list(dict.fromkeys(every))
    if len(found) > MOST_AUTHORITIES:
        raise UsageError(
            f"{' and '.join(files)} hold {len(found)} certificates: a trust anchor takes {MOST_AUTHORITIES}",
            advice="name the old and the new authority alone",
        )
    return found


def bundle(authorities: Sequence[x509.Certificate]) -> str:
    """Return the certificates as a trust anchor takes them: PEM alone, without other text of their files."""
    return "".join(authority.public_bytes(Encoding.PEM).decode() for authority in authorities)


def names_in(pem: str) -> Sequence[str]:
    """Return the subjects of a trust anchor's certificates; none if they cannot be read."""
    try:
        return [name_text(known.subject) for known in x509.load_pem_x509_certificates(pem.encode())]
    except ValueError:
        return []


def check_issuer(certificate: x509.Certificate, authorities: Sequence[x509.Certificate]) -> None:
    """`UsageError` if none of the authorities signed this certificate: AWS would refuse it."""
    if any(_signed(certificate, authority) for authority in authorities):
        return
    raise UsageError(
        f"the certificate of {name_text(certificate.subject)} is not signed by any authority of --ca, but by "
        f"{name_text(certificate.issuer)}: AWS would not let it in",
        advice="name the one that signed it; while the authority's root changes that is ca/anchor.pem",
    )


def checked_crl(path: str, text: str, authorities: Sequence[x509.Certificate]) -> str:
    """Read a revocation list in PEM. `UsageError` if it is not one, or is signed by another authority."""
    try:
        crl = x509.load_pem_x509_crl(text.encode())
    except ValueError as error:
        raise UsageError(
            f"{path} is no revocation list in PEM", advice="`nightvault ca crl` signs one"
        ) from error
    if not any(crl.issuer == authority.subject and _is_of(crl, authority) for authority in authorities):
        raise UsageError(
            f"the revocation list {path} is not signed by any authority of --ca",
            advice="crl.pem is of ca.pem, crl-2.pem of ca-2.pem",
        )
    return text


def _certificates(path: str, text: str) -> Iterator[x509.Certificate]:
    if "PRIVATE KEY" in text:
        raise UsageError(
            f"{path} holds a private key", advice="name the authority's certificate: its key goes nowhere"
        )
    try:
        found = x509.load_pem_x509_certificates(text.encode())
        constraints = [
            certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
            for certificate in found
        ]
    except x509.ExtensionNotFound:
        constraints = []
    except ValueError as error:
        raise UsageError(f"{path} is no PEM file with certificates") from error
    if not constraints or not all(constraint.ca for constraint in constraints):
        raise UsageError(
            f"{path} is not the certificate of an authority",
            advice="name the authority's, ca.pem in its directory, not a server's",
        )
    yield from found


def _signed(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _is_of(crl: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    try:
        return crl.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    except (ValueError, TypeError):
        return False
