"""Load this machine's identity from files, and find what is wrong with it before anything is sent."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from backup.credentials.certificate import CertificateFacts, certificate_facts, name_text
from backup.errors import IdentityError

MOST_CHAIN_CERTIFICATES = 5
"""So many certificates may stand in the chain header (AWS: "Authentication")."""

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class Signer(Protocol):
    """Something that proves who this machine is: a certificate, and a key that may never leave its store."""

    @property
    def certificate(self) -> x509.Certificate:
        """The machine's own certificate."""
        ...

    @property
    def chain(self) -> Sequence[x509.Certificate]:
        """The certificates between it and the trust anchor, without itself; at most five."""
        ...

    @property
    def algorithm(self) -> str:
        """The label of the signature, by the kind of key."""
        ...

    def sign(self, data: bytes) -> bytes:
        """Sign `data` (not its hash): PKCS#1 v1.5 or DER-encoded ECDSA, always with SHA-256."""
        ...


@dataclass(frozen=True, slots=True)
class IdentityFiles:
    """Where the identity lies, as the config has it."""

    certificate: str
    private_key: str
    intermediates: str | None = None
    passphrase_file: str | None = None


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """A `Signer` whose key was read from a file."""

    certificate: x509.Certificate
    chain: Sequence[x509.Certificate]
    private_key: PrivateKey = field(repr=False)

    @property
    def algorithm(self) -> str:
        """By the kind of key alone: the certificate's own signature has no say in it."""
        return (
            "AWS4-X509-RSA-SHA256"
            if isinstance(self.private_key, rsa.RSAPrivateKey)
            else "AWS4-X509-ECDSA-SHA256"
        )

    def sign(self, data: bytes) -> bytes:
        """Sign `data` as the label says."""
        if isinstance(self.private_key, rsa.RSAPrivateKey):
            return self.private_key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        return self.private_key.sign(data, ec.ECDSA(hashes.SHA256()))


def load_identity(files: IdentityFiles) -> FileIdentity:
    """Read certificate, chain and key (PEM); the certificate is the one that fits the key.

    Every other certificate of the two files goes into the chain, so a "full chain" file loses nothing and
    its order does not matter. Raises `IdentityError`. Whether the certificate is valid now:
    `check_validity`.
    """
    identity = _load(files) or _load(files)  # a rotation may be half done: look a second time
    if identity is None:
        raise IdentityError(
            f"the private key {files.private_key} does not fit the certificate {files.certificate}",
            advice="both must come from the same `nightvault ca issue`, or from the request that was signed",
        )
    return identity


def _load(files: IdentityFiles) -> FileIdentity | None:
    key = load_private_key(files.private_key, files.passphrase_file)
    certificates = load_certificates(files.certificate)
    mine = next((one for one in certificates if _fits(one, key)), None)
    if mine is None:
        return None
    if files.intermediates is not None:
        certificates = [*certificates, *load_certificates(files.intermediates)]
    chain = tuple(dict.fromkeys(one for one in certificates if one != mine))
    if len(chain) > MOST_CHAIN_CERTIFICATES:
        raise IdentityError(
            f"{len(chain)} certificates come with {files.certificate}, AWS takes {MOST_CHAIN_CERTIFICATES}",
            advice="keep only those between the certificate and the trust anchor",
        )
    return FileIdentity(certificate=mine, chain=chain, private_key=key)


def _fits(certificate: x509.Certificate, key: PrivateKey) -> bool:
    return certificate.public_key() == key.public_key()


def load_certificates(path: str) -> Sequence[x509.Certificate]:
    """The certificates of a PEM file, in its order; at least one, else `IdentityError`."""
    data = _read(path, "certificate")
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise IdentityError(
            f"{path} holds no certificate that can be read",
            advice="it must be PEM: lines between BEGIN CERTIFICATE and END CERTIFICATE",
        ) from error


def load_private_key(path: str, passphrase_file: str | None = None) -> PrivateKey:
    """The RSA or EC key of a PEM file (PKCS#8, PKCS#1 or SEC1; encrypted if a passphrase file is given).

    RSA keys are taken without the 38 ms of consistency checks: they guard against keys made by strangers,
    and this is our own file. Raises `IdentityError`, which never quotes what it read.
    """
    data = _read(path, "private key")
    passphrase = None if passphrase_file is None else read_passphrase(passphrase_file)
    try:
        key = serialization.load_pem_private_key(data, passphrase, unsafe_skip_rsa_key_validation=True)
    except TypeError as error:
        raise _passphrase_error(path, passphrase_file) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _unreadable_key(path, encrypted=b"ENCRYPTED" in data and passphrase is not None) from error
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise IdentityError(
            f"{path} is neither an RSA nor an EC key", advice="make one with `nightvault identity csr`"
        )
    return key


def _passphrase_error(path: str, passphrase_file: str | None) -> IdentityError:
    if passphrase_file is None:
        return IdentityError(
            f"the private key {path} is encrypted",
            advice="put its passphrase into a file and name it passphrase_file",
        )
    return IdentityError(
        f"the private key {path} is not encrypted, although there is a passphrase file {passphrase_file}",
        advice="encrypt the key, or take passphrase_file out of the config",
    )


def _unreadable_key(path: str, *, encrypted: bool) -> IdentityError:
    if encrypted:
        return IdentityError(
            f"the passphrase does not open the private key {path}", advice="check the passphrase file"
        )
    return IdentityError(
        f"{path} holds no private key that can be read",
        advice="it must be a PEM file: PKCS#8, PKCS#1 or SEC1",
    )


def read_passphrase(path: str) -> bytes:
    """The first line of a passphrase file, which must not be empty."""
    passphrase = _read(path, "passphrase file").split(b"\n", 1)[0].rstrip(b"\r")
    if not passphrase:
        raise IdentityError(f"the passphrase file {path} is empty")
    return passphrase


def _read(path: str, what: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError as error:
        raise IdentityError(
            f"the {what} {path} is missing", advice="check [identity] in the config"
        ) from error
    except OSError as error:
        raise IdentityError(f"the {what} {path} cannot be read: {error.strerror}") from error


def check_validity(certificate: x509.Certificate, now: datetime) -> None:
    """Raise `IdentityError` if the certificate is not valid at `now`."""
    name = name_text(certificate.subject)
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now > end:
        raise IdentityError(
            f"the certificate of {name} expired on {end:%Y-%m-%d %H:%M} UTC",
            advice="issue a new one: nightvault ca issue, or nightvault identity csr and nightvault ca sign",
        )
    if now < start:
        raise IdentityError(
            f"the certificate of {name} is not valid before {start:%Y-%m-%d %H:%M} UTC",
            advice=f"here it is {now:%Y-%m-%d %H:%M} UTC: check this machine's clock",
        )


def permissions_warning(path: str) -> str | None:
    """A sentence if more people than its owner and group may read the key file, or others may change it."""
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except OSError:
        return None  # loading it will say so better
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        return f"the private key {path} is open to others (mode {mode:04o}): run `chmod 600 {path}`"
    return None


def describe_identity(identity: Signer, now: datetime) -> CertificateFacts:
    """What a person wants to know of an identity."""
    return certificate_facts(identity.certificate, identity.chain, now)
