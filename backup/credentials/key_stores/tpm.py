"""Keys in a TPM 2.0: persistent handles (`handle:0x81000001`), and the TSS2 PEM files of tpm2-openssl.

The TPM is opened for one signature at a time. The library (tpm2-pytss, the extra `tpm`) is loaded when such a
key is first used.
"""

from __future__ import annotations

import os
import re
import stat
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from backup.credentials.key_stores.keyfiles import NO_PASSPHRASE, Passphrase
from backup.credentials.keys import has_signed
from backup.errors import IdentityError
from backup.installed import how_to_add

HANDLE = "handle:"
TSS2_PEM = b"-----BEGIN TSS2 PRIVATE KEY-----"

_PERSISTENT = re.compile(r"0x81[0-9A-Fa-f]{6}")
_LOCK = threading.Lock()


def is_tpm_handle(text: str) -> bool:
    """Whether the text names a private key by its handle in the TPM."""
    return text.startswith(HANDLE)


def parse_handle(text: str) -> int:
    """The number of `handle:0x81……`; `IdentityError` for anything else."""
    number = text.removeprefix(HANDLE)
    if not _PERSISTENT.fullmatch(number):
        raise IdentityError(
            f"{text!r} is no persistent handle of a TPM", advice="it looks like handle:0x81000001"
        )
    return int(number, 16)


def tcti_of(environment: Mapping[str, str]) -> str | None:
    """The TCTI, tpm2-tss's address of the TPM; None leaves the choice to the library (/dev/tpmrm0, …).

    `TPM2TOOLS_TCTI` is used unchanged; `TPM_DEVICE` names a device or a UNIX socket, as in AWS's Go helper.
    """
    if whole := environment.get("TPM2TOOLS_TCTI"):
        return whole
    device = environment.get("TPM_DEVICE")
    if not device:
        return None
    try:
        socket = stat.S_ISSOCK(os.stat(device).st_mode)
    except OSError as error:
        raise IdentityError(f"TPM_DEVICE {device} cannot be used: {error.strerror}") from error
    return f"swtpm:path={device}" if socket else f"device:{device}"


@dataclass(frozen=True, slots=True)
class TpmKey:
    """A `SigningKey` in a TPM: at a handle, or wrapped in the PEM file that only this TPM can load."""

    certificate: x509.Certificate
    handle: int | None = None
    pem: bytes | None = field(default=None, repr=False)
    passphrase: Passphrase = NO_PASSPHRASE
    tcti: str | None = None

    @property
    def store(self) -> str:
        """The handle, if it has one."""
        return "TPM" if self.handle is None else f"TPM {self.handle:#x}"

    def sign(self, data: bytes) -> bytes:
        """Sign with the TPM, and verify that it used the certificate's key."""
        with _LOCK, _opened(self.tcti) as tpm:
            signature = self._sign_in(tpm, data)
        if not has_signed(self.certificate, signature, data):
            raise IdentityError(
                f"the key in the {self.store} does not fit the certificate",
                advice="the certificate must come from a request that this key signed",
            )
        return signature

    def _sign_in(self, tpm: Any, data: bytes) -> bytes:
        from tpm2_pytss.cryptography import tpm_ecc_private_key, tpm_rsa_private_key

        public = self.certificate.public_key()
        with self._loaded(tpm) as key:
            if isinstance(public, rsa.RSAPublicKey):
                signed = tpm_rsa_private_key(tpm, key).sign(data, padding.PKCS1v15(), hashes.SHA256())
            elif isinstance(public, ec.EllipticCurvePublicKey):
                signed = tpm_ecc_private_key(tpm, key).sign(data, ec.ECDSA(hashes.SHA256()))
            else:
                raise IdentityError("only RSA and EC keys in a TPM can be used")
        return bytes(signed)

    @contextmanager
    def _loaded(self, tpm: Any) -> Iterator[Any]:
        """The key's handle in this session; a key loaded for it is flushed afterwards."""
        if self.handle is not None:
            key = tpm.tr_from_tpmpublic(self.handle)
            tpm.tr_set_auth(key, self.passphrase.given or b"")
            yield key
            return
        wrapped = _unwrapped(self.pem or b"")
        given = None if wrapped.empty_auth else self.passphrase.wanted("password of the TPM key")
        if given is None and not wrapped.empty_auth:
            raise IdentityError(
                "the TPM key has a password", advice="name the file with it as passphrase_file"
            )
        key = wrapped.load(tpm, given)
        try:
            yield key
        finally:
            tpm.flush_context(key)


def _unwrapped(pem: bytes) -> Any:
    from tpm2_pytss.tsskey import TSSPrivKey

    try:
        return TSSPrivKey.from_pem(pem)
    except Exception as error:  # the library promises no kind
        raise IdentityError(
            "the TSS2 private key file cannot be read",
            advice="make it with `openssl genpkey -provider tpm2 …` (tpm2-openssl)",
        ) from error


@contextmanager
def _opened(tcti: str | None) -> Iterator[Any]:
    """A connection to the TPM, within which the library's errors are turned into ours."""
    try:
        from tpm2_pytss import ESAPI, TSS2_Exception
    except ImportError as error:
        raise IdentityError(
            "keys in a TPM need the library tpm2-pytss",
            advice=f"{how_to_add('tpm')}; it needs libtss2-dev, pkg-config and gcc",
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about passwords and empty ones
            with ESAPI(tcti) as tpm:
                yield tpm
    except TSS2_Exception as error:
        raise _refusal(error) from error
    except (RuntimeError, ValueError) as error:
        raise IdentityError(f"the TPM's key cannot be used: {error}") from error


def _refusal(error: Exception) -> IdentityError:
    text = str(error)
    if "authorization" in text.lower() or "auth fail" in text.lower() or "lockout" in text.lower():
        return IdentityError(
            "the password does not open the TPM's key", advice="each wrong try counts: check it first"
        )
    return IdentityError(
        f"the TPM refuses: {text}",
        advice="is there a TPM (/dev/tpmrm0), may this user use it (group tss), does the key exist?",
    )
