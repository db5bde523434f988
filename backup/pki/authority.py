"""The certificate authority itself: create it, open it, sign with it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from msgspec import Struct

from backup.credentials.identity import check_validity, load_certificates
from backup.credentials.identity_paths import MOST_FILE
from backup.errors import IdentityError
from backup.files import read_small
from backup.pki.files import PRIVATE, NewFile, create_files, make_directory
from backup.pki.index import ISSUED_DIRECTORY, certificate_path, key_path, read_index
from backup.pki.keys import KeyType, PrivateKey, generate_key, private_pem, signature_hash
from backup.pki.subjects import Subject

BACKDATED = timedelta(minutes=5)
"""The time by which certificates begin in the past, so that a clock that is slow by as much accepts them."""

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


@dataclass(frozen=True, slots=True)
class Authority:
    """An opened authority with the key of one of its roots; `directory` has a copy of each certificate."""

    directory: str
    certificate: x509.Certificate
    key: PrivateKey = field(repr=False)
    root: int = 1

    @property
    def certificate_path(self) -> str:
        """The path of the root's certificate, which becomes the trust anchor."""
        return certificate_path(self.directory, self.root)

    @property
    def key_path(self) -> str:
        """The path of the root's key."""
        return key_path(self.directory, self.root)


class CertificateContents(Struct, frozen=True):
    """The contents of a certificate to be issued: subject, names, public key, and validity in days."""

    subject: x509.Name
    alternative_names: x509.SubjectAlternativeName | None
    public_key: PublicKey
    days: int


def create_ca(
    directory: str, subject: Subject, *, key_type: KeyType, days: int, passphrase: bytes | None, now: datetime
) -> Authority:
    """Create a self-signed authority in `directory`, which must not hold one yet (`UsageError`).

    Its certificate may sign leaves and revocation lists, but no further authorities, as IAM Roles Anywhere
    requires of a trust anchor (AWS: "Trust model"). With a passphrase the key file is encrypted.
    """
    authority = new_root(directory, 1, subject, key_type=key_type, days=days, now=now)
    make_directory(directory)
    create_files(files_of(authority, passphrase))
    make_directory(os.path.join(directory, ISSUED_DIRECTORY))
    return authority


def new_root(
    directory: str, root: int, subject: Subject, *, key_type: KeyType, days: int, now: datetime
) -> Authority:
    """Return a new root with its self-signed certificate; nothing is written yet."""
    key = generate_key(key_type)
    return Authority(directory, _self_sign(key, subject.name(), days, now), key, root)


def files_of(authority: Authority, passphrase: bytes | None) -> list[NewFile]:
    """Return the files of a root: its key, encrypted if there is a passphrase, and its certificate."""
    return [
        NewFile(authority.key_path, private_pem(authority.key, passphrase), PRIVATE),
        NewFile(authority.certificate_path, authority.certificate.public_bytes(Encoding.PEM)),
    ]


def _self_sign(key: PrivateKey, name: x509.Name, days: int, now: datetime) -> x509.Certificate:
    usage = _key_usage(key_cert_sign=True, crl_sign=True)
    return (
        _builder(name, name, key.public_key(), now)
        .not_valid_after(_whole_seconds(now) + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, signature_hash(key))
    )


def key_is_encrypted(directory: str) -> bool:
    """Whether the key of the signing root is encrypted with a passphrase."""
    return b"ENCRYPTED" in _read_key(directory, read_index(directory).head.signing)


def open_ca(directory: str, passphrase: bytes | None = None) -> Authority:
    """Open the authority in `directory` with the root that signs at present.

    `IdentityError` if it is not there or the passphrase does not open it.
    """
    return open_root(directory, read_index(directory).head.signing, passphrase)


def open_root(directory: str, root: int, passphrase: bytes | None = None) -> Authority:
    """Open the authority with one of its roots."""
    path = key_path(directory, root)
    try:
        key = serialization.load_pem_private_key(_read_key(directory, root), passphrase)
    except TypeError as error:
        what = "is encrypted: its passphrase is needed" if passphrase is None else "is not encrypted"
        raise IdentityError(f"the authority's key {path} {what}", advice="see --passphrase-file") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        what = "holds no private key" if passphrase is None else "is not opened by this passphrase"
        raise IdentityError(f"the authority's key {path} {what}") from error
    certificate = load_certificates(certificate_path(directory, root), named_by="--dir")[0]
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise IdentityError(f"the authority's key {path} is neither RSA nor EC")
    if certificate.public_key() != key.public_key():
        names = (os.path.basename(file) for file in (certificate_path(directory, root), path))
        raise IdentityError(f"{' and '.join(names)} in {directory} do not belong together")
    return Authority(directory, certificate, key, root)


def _read_key(directory: str, root: int) -> bytes:
    path = key_path(directory, root)
    try:
        os.stat(certificate_path(directory, root))
        return read_small(path, MOST_FILE)
    except FileNotFoundError as error:
        raise IdentityError(
            f"there is no certificate authority in {directory}", advice="make one with `nightvault ca create`"
        ) from error
    except OSError as error:
        raise IdentityError(f"the authority's key {path} cannot be read: {error.strerror}") from error


def sign_certificate(authority: Authority, contents: CertificateContents, now: datetime) -> x509.Certificate:
    """Sign a client's certificate; a copy is in `issued/` before it is returned.

    It expires with the authority's own at the latest. `IdentityError` when the authority's has expired.
    """
    check_validity(authority.certificate, now)
    end = min(_whole_seconds(now) + timedelta(days=contents.days), authority.certificate.not_valid_after_utc)
    identifier = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        _builder(contents.subject, authority.certificate.subject, contents.public_key, now)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
        )
    )
    if contents.alternative_names is not None:
        builder = builder.add_extension(contents.alternative_names, critical=False)
    certificate = builder.sign(authority.key, signature_hash(authority.key))
    _keep_copy(authority, certificate)
    return certificate


def _keep_copy(authority: Authority, certificate: x509.Certificate) -> None:
    directory = os.path.join(authority.directory, ISSUED_DIRECTORY)
    make_directory(directory)
    path = os.path.join(directory, f"{certificate.serial_number:x}.pem")
    create_files([NewFile(path, certificate.public_bytes(Encoding.PEM))])


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: PublicKey, now: datetime
) -> x509.CertificateBuilder:
    """A builder with the fields that all certificates share; serials are 20 random bytes (RFC 5280,
    4.1.2.2)."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_whole_seconds(now) - BACKDATED)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _whole_seconds(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)
