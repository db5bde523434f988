"""New private keys for certificates, their PEM form, and requests for a certificate, the first or another."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from backup.errors import IdentityError, UsageError

IssuedKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
"""The kinds of key that we make and sign requests with."""


def private_pem(key: IssuedKey, passphrase: bytes | None = None) -> bytes:
    """The key as PKCS#8 in PEM; with a passphrase encrypted by PBES2 (AES-256), as openssl and AWS's client
    read."""
    if passphrase == b"":
        raise UsageError("a passphrase must not be empty")
    how = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)


def signature_hash(key: IssuedKey) -> hashes.SHA256 | hashes.SHA384:
    """The hash for signatures by this key: as strong as its curve, SHA-256 for RSA."""
    strong = isinstance(key, ec.EllipticCurvePrivateKey) and key.key_size > 256
    return hashes.SHA384() if strong else hashes.SHA256()


def key_like(certificate: x509.Certificate) -> IssuedKey:
    """A new key of the same type as the certificate's; `IdentityError` for a type that is not supported."""
    public = certificate.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        return rsa.generate_private_key(65537, max(public.key_size, 2048))
    if isinstance(public, ec.EllipticCurvePublicKey):
        return ec.generate_private_key(public.curve)
    raise IdentityError(
        "the certificate's key is neither RSA nor EC: no request for such a key can be made here",
        advice='keep the key: key = "same", and name its request in [identity.renew]',
    )


def renewal_request(certificate: x509.Certificate, key: IssuedKey) -> bytes:
    """A request (PEM) for another certificate with the same subject and names, for `key`."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(certificate.subject)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        pass
    else:
        builder = builder.add_extension(names, critical=False)
    return builder.sign(key, signature_hash(key)).public_bytes(serialization.Encoding.PEM)


def first_request(name: str, key: IssuedKey) -> bytes:
    """A request (PEM) for a first certificate of that common name, for `key`. `UsageError`."""
    try:
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    except ValueError as error:
        raise UsageError(f"{name!r} is no name of a certificate: {error}") from error
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return builder.sign(key, signature_hash(key)).public_bytes(serialization.Encoding.PEM)
