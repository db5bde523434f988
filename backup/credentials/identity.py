"""Load this machine's identity from its stores, and detect what is wrong with it before anything is sent."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from backup.credentials.certificate import CertificateFacts, certificate_facts, name_text
from backup.credentials.chain import MOST_CHAIN_CERTIFICATES
from backup.credentials.identity_paths import IdentityFiles, shown_place, with_handed_over
from backup.credentials.key_stores.keyfiles import (
    KeyFile,
    is_pkcs12,
    load_certificates,
    load_private_key,
    passphrase_of,
    read_file,
    read_passphrase,
    read_pkcs12,
    read_private_key,
)
from backup.credentials.key_stores.tpm import TSS2_PEM, TpmKey, is_tpm_handle, parse_handle, tcti_of
from backup.credentials.keys import PrivateKey, SigningKey, SoftwareKey, algorithm_label
from backup.credentials.pkcs11_uri import is_pkcs11, parse_pkcs11_uri
from backup.errors import IdentityError

__all__ = [
    "Identity",
    "IdentityFiles",
    "KeyHolder",
    "check_validity",
    "describe_identity",
    "expiry_warning",
    "load_certificates",
    "load_identity",
    "load_private_key",
    "own_certificate",
    "permissions_warning",
    "read_file",
    "read_passphrase",
    "shown_place",
]

EXPIRES_SOON = timedelta(days=14)


class KeyHolder(Protocol):
    """The holder of a certificate's private key, which may never leave its store; it signs for the
    certificate."""

    @property
    def certificate(self) -> x509.Certificate:
        """The machine's own certificate."""
        ...

    @property
    def chain(self) -> Sequence[x509.Certificate]:
        """The certificates between the machine's own and the trust anchor, at most five."""
        ...

    @property
    def algorithm(self) -> str:
        """The label of the signature algorithm, by the type of the key."""
        ...

    def sign(self, data: bytes) -> bytes:
        """Sign `data` (not its hash): PKCS#1 v1.5 or DER-encoded ECDSA with SHA-256, or pure ML-DSA."""
        ...


@dataclass(frozen=True, slots=True)
class Identity:
    """A `KeyHolder` of certificate, chain, and a key in some store."""

    certificate: x509.Certificate
    chain: Sequence[x509.Certificate]
    key: SigningKey = field(repr=False)

    @property
    def algorithm(self) -> str:
        """The label of the signature algorithm, by the type of the key alone."""
        return algorithm_label(self.certificate)

    def sign(self, data: bytes) -> bytes:
        """Sign `data` by that algorithm."""
        return self.key.sign(data)


def load_identity(files: IdentityFiles) -> Identity:
    """The identity: key, chain, and of the certificates in the files the one that fits the key.

    Every other certificate of the files goes into the chain, so a "full chain" file loses nothing and its
    order does not matter. A key in a token or TPM shows whether it fits when it signs, still before anything
    is sent. Raises `IdentityError`. Whether the certificate is valid now: `check_validity`.
    """
    files = with_handed_over(files, os.environ)
    identity = _load(files) or _load(files)  # a rotation may be half done: look a second time
    if identity is None:
        raise IdentityError(
            f"the private key {shown_place(files.private_key)} does not fit the certificate "
            f"{shown_place(files.certificate)}",
            advice="both must come from the same `nightvault ca issue`, or from the request that was signed",
        )
    algorithm_label(identity.certificate)
    return identity


def _load(files: IdentityFiles) -> Identity | None:
    key = _key_file(files)
    certificates, token_id = _certificates(files)
    if key is not None:
        mine = next(
            (certificate for certificate in certificates if _fits(certificate, key.private_key)), None
        )
        return None if mine is None else Identity(mine, _chain(files, certificates, mine), key)
    mine = certificates[0]
    return Identity(mine, _chain(files, certificates, mine), _key_elsewhere(files, mine, token_id))


def _certificates(files: IdentityFiles) -> tuple[Sequence[x509.Certificate], bytes | None]:
    """The certificates in a file, or on a token with its own first; and the CKA_ID on a token."""
    if is_pkcs11(files.certificate):
        return _on_token(files)
    data = read_file(files.certificate, "certificate")
    if is_pkcs12(data):
        return _of_pkcs12(data, files.certificate, files).certificates, None
    return load_certificates(files.certificate), None


def _of_pkcs12(data: bytes, path: str, files: IdentityFiles) -> KeyFile:
    found = read_pkcs12(data, path, passphrase_of(files))
    if not found.certificates:
        raise IdentityError(f"{path} holds no certificate", advice="export it with its certificate")
    return found


def _on_token(files: IdentityFiles) -> tuple[Sequence[x509.Certificate], bytes | None]:
    from backup.credentials.key_stores.tokens import TokenAccess, find_certificates, issuers_on_token

    uri = parse_pkcs11_uri(files.certificate)
    access = TokenAccess(files.pkcs11_module, passphrase_of(files))
    found = find_certificates(uri, access)
    if len(found) != 1:
        raise IdentityError(
            f"the token {uri.token_name} has {len(found) or 'no'} certificates that match the pkcs11: URI",
            advice="name one of them: object= or id=; `nightvault read-certificate-data` lists them",
        )
    return [found[0].certificate, *issuers_on_token(found[0], uri, access)], found[0].id


def _key_file(files: IdentityFiles) -> SoftwareKey | None:
    """The key if it is in a file; None if it is on a token or in a TPM."""
    place = files.private_key
    if is_pkcs11(place) or is_tpm_handle(place):
        return None
    data = read_file(place, "private key")
    if TSS2_PEM in data:
        return None
    if not is_pkcs12(data):
        return SoftwareKey(read_private_key(data, place, passphrase_of(files)), "PEM file")
    key = read_pkcs12(data, place, passphrase_of(files)).key
    if key is None:
        raise IdentityError(f"{place} holds no private key", advice="export it with its key")
    return SoftwareKey(key, "PKCS#12 file")


def _key_elsewhere(files: IdentityFiles, mine: x509.Certificate, token_id: bytes | None) -> SigningKey:
    place = files.private_key
    if is_tpm_handle(place):
        return TpmKey(mine, parse_handle(place), None, passphrase_of(files), tcti_of(os.environ))
    if not is_pkcs11(place):
        pem = read_file(place, "private key")
        return TpmKey(mine, None, pem, passphrase_of(files), tcti_of(os.environ))
    from backup.credentials.key_stores.tokens import TokenAccess, TokenKey

    uri = parse_pkcs11_uri(place)
    access = TokenAccess(files.pkcs11_module, passphrase_of(files), files.reuse_pin)
    return TokenKey(uri, mine, access, token_id)


def _chain(
    files: IdentityFiles, certificates: Sequence[x509.Certificate], mine: x509.Certificate
) -> Sequence[x509.Certificate]:
    if files.intermediates is not None:
        certificates = [*certificates, *load_certificates(files.intermediates)]
    chain = tuple(dict.fromkeys(certificate for certificate in certificates if certificate != mine))
    if len(chain) > MOST_CHAIN_CERTIFICATES:
        raise IdentityError(
            f"{len(chain)} certificates come with {shown_place(files.certificate)}, "
            f"AWS takes {MOST_CHAIN_CERTIFICATES}",
            advice="keep only those between the certificate and the trust anchor",
        )
    return chain


def _fits(certificate: x509.Certificate, key: PrivateKey) -> bool:
    try:
        return bool(certificate.public_key() == key.public_key())
    except (ValueError, UnsupportedAlgorithm):  # a certificate of a kind that we cannot have the key of
        return False


def own_certificate(files: IdentityFiles) -> x509.Certificate:
    """The certificate alone: the first of its file; the key is not touched. `IdentityError`."""
    return _certificates(files)[0][0]


def own_chain(files: IdentityFiles) -> Sequence[x509.Certificate]:
    """The certificate, then those above it that come with it; the key is not touched. `IdentityError`."""
    certificates, _ = _certificates(files)
    return [certificates[0], *_chain(files, certificates, certificates[0])]


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


def expiry_warning(certificate: x509.Certificate, now: datetime, days: int | None = None) -> str | None:
    """A warning if the certificate expires within so many days; None if later, or if it has expired already.

    Without `days`: within 14 days, and the last fifth of its life.
    """
    end = certificate.not_valid_after_utc
    left, life = end - now, end - certificate.not_valid_before_utc
    within = min(EXPIRES_SOON, life / 5) if days is None else timedelta(days=days)
    if not timedelta() <= left <= within:
        return None
    count = f"{left.days} days" if left.days != 1 else "1 day"
    return (
        f"the certificate of {name_text(certificate.subject)} expires in {count}, on {end:%Y-%m-%d %H:%M} UTC"
    )


def permissions_warning(path: str) -> str | None:
    """A warning if others than owner and group may read the key file, or others than the owner may change
    it."""
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except OSError:
        return None  # loading it will say so better, or it is no file
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        return f"the private key {path} is open to others (mode {mode:04o}): run `chmod 600 {path}`"
    return None


def describe_identity(identity: KeyHolder, now: datetime) -> CertificateFacts:
    """The facts of the identity's certificate, for display."""
    return certificate_facts(identity.certificate, identity.chain, now)
