"""Read certificates and private keys from PEM and PKCS#12 files; errors never quote file contents."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, mldsa, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from msgspec import Struct

from backup.credentials.identity_paths import MOST_FILE, Asker, IdentityFiles
from backup.credentials.key_stores.mldsa_keys import read_both_form
from backup.credentials.keys import PrivateKey
from backup.errors import IdentityError
from backup.files import open_small

_FIRST_KEY = re.compile(
    rb"-----BEGIN (?P<kind>[A-Z0-9 ]*PRIVATE KEY)-----.*?-----END (?P=kind)-----", re.DOTALL
)
_PKCS12 = b"\x30"  # DER's sequence; PEM is text

KEY_CLASSES = (
    rsa.RSAPrivateKey,
    ec.EllipticCurvePrivateKey,
    mldsa.MLDSA44PrivateKey,
    mldsa.MLDSA65PrivateKey,
    mldsa.MLDSA87PrivateKey,
)

IDENTITY = "[identity]"
"""Where the config names the files of the identity."""
_ISSUED = frozenset({"certificate", "private key"})


class Passphrase(Struct, frozen=True):
    """The passphrase of a key, as text or as a file; without either, `ask` is called."""

    file: str | None = None
    value: bytes | None = None
    ask: Asker | None = None

    def __repr__(self) -> str:
        return f"Passphrase(file={self.file!r})"

    @property
    def given(self) -> bytes | None:
        """The passphrase given as text, or read now from its file; None if neither is set."""
        return read_passphrase(self.file) if self.file is not None else self.value

    def wanted(self, question: str) -> bytes | None:
        """The passphrase that was given, or the user's answer to `ask`."""
        given = self.given
        return self.ask(question) if given is None and self.ask is not None else given


NO_PASSPHRASE = Passphrase()


def passphrase_of(files: IdentityFiles) -> Passphrase:
    """The passphrase (or PIN) of an identity's private key."""
    return Passphrase(files.passphrase_file, files.passphrase, files.ask)


class KeyFile(Struct, frozen=True):
    """The contents of a PKCS#12 file; `key` is None if it holds only certificates."""

    key: PrivateKey | None
    certificates: Sequence[x509.Certificate]


def load_certificates(path: str, *, named_by: str = IDENTITY) -> Sequence[x509.Certificate]:
    """The certificates of a PEM file, in its order; at least one, else `IdentityError`."""
    data = read_file(path, "certificate", named_by=named_by)
    try:
        return [fully_parsed(certificate) for certificate in x509.load_pem_x509_certificates(data)]
    except (ValueError, x509.InvalidVersion) as error:
        raise IdentityError(
            f"{path} holds no certificate that can be read",
            advice="it must be PEM: lines between BEGIN CERTIFICATE and END CERTIFICATE",
        ) from error


def fully_parsed(certificate: x509.Certificate) -> x509.Certificate:
    """The certificate, after parsing all of its parts, which is otherwise done on first use; `ValueError`."""
    with suppress(UnsupportedAlgorithm):  # an authority may have a key that we never use
        certificate.public_key()
    try:
        parts = (certificate.subject, certificate.issuer, certificate.extensions, certificate.version)
    except (x509.DuplicateExtension, x509.UnsupportedGeneralNameType, x509.InvalidVersion) as error:
        raise ValueError("a part of the certificate cannot be read") from error
    if not parts or certificate.not_valid_before_utc > certificate.not_valid_after_utc:
        raise ValueError("the certificate ends before it begins")
    return certificate


def load_private_key(path: str, passphrase_file: str | None = None) -> PrivateKey:
    """The RSA, EC or ML-DSA key of a PEM file, the first in it."""
    return read_private_key(read_file(path, "private key"), path, Passphrase(passphrase_file))


def read_private_key(data: bytes, path: str, passphrase: Passphrase) -> PrivateKey:
    """The private key in a PEM file's bytes: PKCS#8, PKCS#1 or SEC1, encrypted or not.

    RSA keys are accepted without the 38 ms of consistency checks: these protect against keys made by others,
    and this is our own file. Raises `IdentityError`, which never quotes file contents.
    """
    block = _FIRST_KEY.search(data)
    pem = block[0] if block else data
    encrypted = b"ENCRYPTED" in pem
    secret = passphrase.wanted(f"passphrase of {path}") if encrypted else passphrase.given
    try:
        key = serialization.load_pem_private_key(pem + b"\n", secret, unsafe_skip_rsa_key_validation=True)
    except TypeError as error:
        raise _passphrase_error(path, passphrase) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        both = read_both_form(pem)
        if both is not None:
            return both
        raise _unreadable_key(path, encrypted=encrypted and secret is not None) from error
    return _of_our_kinds(key, path)


def _of_our_kinds(key: object, path: str) -> PrivateKey:
    if not isinstance(key, KEY_CLASSES):
        raise IdentityError(
            f"{path} is neither an RSA nor an EC nor an ML-DSA key",
            advice="make one with `nightvault identity csr`",
        )
    return key


def _passphrase_error(path: str, passphrase: Passphrase) -> IdentityError:
    if passphrase.file is None and passphrase.value is None:
        return IdentityError(
            f"the private key {path} is encrypted",
            advice="put its passphrase into a file and name it passphrase_file",
        )
    beside = "" if passphrase.file is None else f" {passphrase.file}"
    return IdentityError(
        f"the private key {path} is not encrypted, although there is a passphrase file{beside}"
        if passphrase.file
        else f"the private key {path} is not encrypted, although a passphrase is given",
        advice="encrypt the key, or take passphrase_file out of the config",
    )


def _unreadable_key(path: str, *, encrypted: bool) -> IdentityError:
    if encrypted:
        return IdentityError(
            f"the passphrase does not open the private key {path}", advice="check the passphrase file"
        )
    return IdentityError(
        f"{path} holds no private key that can be read",
        advice="it must be a PEM file (PKCS#8, PKCS#1 or SEC1; ML-DSA with its seed) or PKCS#12",
    )


def is_pkcs12(data: bytes) -> bool:
    """Whether a file's bytes can be PKCS#12."""
    return data.startswith(_PKCS12)


def read_pkcs12(data: bytes, path: str, passphrase: Passphrase) -> KeyFile:
    """The key and certificates in a PKCS#12 file; without a passphrase, the empty one is tried first."""
    secret = passphrase.given
    loaded = _open_pkcs12(data, secret)
    if loaded is None and secret is None and passphrase.ask is not None:
        secret = passphrase.ask(f"passphrase of {path}")
        loaded = _open_pkcs12(data, secret)
    if loaded is None:
        known = "the passphrase does not open it" if secret is not None else "it has a passphrase"
        raise IdentityError(
            f"{path} cannot be read as PKCS#12: {known}, or it is damaged",
            advice="name the file with its passphrase as passphrase_file, or check it",
        )
    others = [certificate.certificate for certificate in loaded.additional_certs]
    own = [loaded.cert.certificate] if loaded.cert is not None else []
    try:
        certificates = [fully_parsed(certificate) for certificate in (*own, *others)]
    except ValueError as error:
        raise IdentityError(f"{path} holds a certificate that cannot be read") from error
    return KeyFile(None if loaded.key is None else _of_our_kinds(loaded.key, path), certificates)


def _open_pkcs12(data: bytes, secret: bytes | None) -> pkcs12.PKCS12KeyAndCertificates | None:
    for attempt in (None, b"") if secret is None else (secret,):
        try:
            return pkcs12.load_pkcs12(data, attempt)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            continue
    return None


def read_passphrase(path: str, *, named_by: str = IDENTITY) -> bytes:
    """The first line of a passphrase file, which must not be empty."""
    passphrase = read_file(path, "passphrase file", named_by=named_by).split(b"\n", 1)[0].rstrip(b"\r")
    if not passphrase:
        raise IdentityError(f"the passphrase file {path} is empty")
    return passphrase


def read_file(path: str, what: str, *, named_by: str = IDENTITY) -> bytes:
    """The bytes of a small file; `IdentityError` names `what` the file should be, and where it is named."""
    try:
        with open(path, "rb", opener=open_small) as file:
            data = file.read(MOST_FILE + 1)
    except FileNotFoundError as error:
        advice = f"check the path in {named_by}"
        if named_by == IDENTITY and what in _ISSUED:
            advice += (
                "; if it is lost, issue a new certificate (docs/certificates.md), or use AWS keys: without "
                "[identity] and [roles_anywhere]"
            )
        raise IdentityError(f"the {what} {path} is missing", advice=advice) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no such name can be"
        raise IdentityError(f"the {what} {path!s} cannot be read: {reason}") from error
    if len(data) > MOST_FILE:
        raise IdentityError(f"{os.fspath(path)} has more than {MOST_FILE} bytes: this is no {what}")
    return data
