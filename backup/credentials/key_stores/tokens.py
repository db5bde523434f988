"""Keys and certificates on PKCS#11 tokens: smart cards, security keys, HSMs, SoftHSM.

A session lasts for one operation, so a token that was pulled out and put back in is found again. The library
(python-pkcs11, the extra `pkcs11`) is loaded when a `pkcs11:` URI is used.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from msgspec import Struct, field

from backup.credentials.key_stores.keyfiles import NO_PASSPHRASE, Passphrase, fully_parsed, read_passphrase
from backup.credentials.keys import has_signed
from backup.credentials.pkcs11_uri import Pkcs11Uri
from backup.errors import IdentityError
from backup.installed import how_to_add

DEFAULT_MODULE = "p11-kit-proxy.so"

_LOCK = threading.RLock()
"""A lock around all operations, since a PKCS#11 login applies to the whole process."""


class TokenAccess(Struct, frozen=True):
    """Access to tokens: the PKCS#11 module's library, and the secret to use if the URI has no PIN.

    `reuse_pin` sends the user's PIN again for keys that require one before every signature.
    """

    module: str | None = None
    passphrase: Passphrase = NO_PASSPHRASE
    reuse_pin: bool = True


class TokenCertificate(Struct, frozen=True):
    """A certificate on a token, with the label and id of its key there."""

    certificate: x509.Certificate
    id: bytes
    label: str
    token: str
    serial: str


def find_certificates(uri: Pkcs11Uri, access: TokenAccess) -> Sequence[TokenCertificate]:
    """The certificates that match a URI, perhaps none. `IdentityError` without such a token."""
    found = [
        certificate for token in _tokens(uri, access) for certificate in _certificates(token, uri, access)
    ]
    return [certificate for certificate in found if _named(uri, certificate.label, certificate.id)]


def issuers_on_token(
    own: TokenCertificate, uri: Pkcs11Uri, access: TokenAccess
) -> Sequence[x509.Certificate]:
    """The certificates on the same token that lead from `own` towards its root, in order, without a root."""
    everything = [
        certificate.certificate
        for certificate in find_certificates(replace(uri, object=None, id=None), access)
    ]
    chain: list[x509.Certificate] = []
    current = own.certificate
    while above := next(
        (certificate for certificate in everything if _has_issued(certificate, current)), None
    ):
        if above in chain or above.subject == above.issuer:
            break
        chain.append(above)
        current = above
    return chain


def _has_issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return issuer != certificate


class TokenKey(Struct, frozen=True):
    """A `SigningKey` on a token, which it never leaves."""

    uri: Pkcs11Uri
    certificate: x509.Certificate
    access: TokenAccess
    key_id: bytes | None = field(default=None)  # the certificate's CKA_ID, for a URI that names no object

    @property
    def store(self) -> str:
        """The token's name."""
        return f"PKCS#11 token {self.uri.token_name}"

    def sign(self, data: bytes) -> bytes:
        """Sign with that key, of those that match the URI, which belongs to the certificate."""
        tokens = _tokens(self.uri, self.access)
        if len(tokens) > 1:
            raise IdentityError(
                f"{len(tokens)} tokens match the private key's pkcs11: URI",
                advice="name one of them: token=, serial= or slot-id=",
            )
        pin = _pin(self.uri, self.access)
        with (
            _session(tokens[0], pin, self.uri.token_name) as session,
            _translated_errors(self.uri.token_name),
        ):
            keys = [
                key for key in session.get_objects({_attribute("CLASS"): _private_key()}) if self._meant(key)
            ]
            for key in keys:
                signature = self._sign_with(key, data, pin)
                if has_signed(self.certificate, signature, data):
                    return signature
        if not keys:
            raise IdentityError(
                f"the token {self.uri.token_name} has no private key of that name",
                advice="check object= and id= of the pkcs11: URI, and that the PIN opens it",
            )
        raise IdentityError(
            f"the private key on the token {self.uri.token_name} does not fit the certificate",
            advice="name the key that the certificate was made for: object= or id= of the pkcs11: URI",
        )

    def _meant(self, key: Any) -> bool:
        if self.uri.object is None and self.uri.id is None:
            return self.key_id is None or key[_attribute("ID")] == self.key_id
        return _named(self.uri, key[_attribute("LABEL")], key[_attribute("ID")])

    def _sign_with(self, key: Any, data: bytes, pin: str | None) -> bytes:
        from pkcs11 import Mechanism

        public = self.certificate.public_key()
        again = {"pin": self._second_pin(pin)} if _wants_pin_each_time(key) else {}
        if isinstance(public, rsa.RSAPublicKey):
            return bytes(key.sign(data, mechanism=Mechanism.SHA256_RSA_PKCS, **again))
        if isinstance(public, ec.EllipticCurvePublicKey):
            raw = bytes(key.sign(hashlib.sha256(data).digest(), mechanism=Mechanism.ECDSA, **again))
            half = len(raw) // 2
            return encode_dss_signature(int.from_bytes(raw[:half]), int.from_bytes(raw[half:]))
        raise IdentityError("only RSA and EC keys on tokens can be used", advice="ML-DSA keys must be files")

    def _second_pin(self, pin: str | None) -> str | None:
        if self.access.reuse_pin:
            return pin
        if self.access.passphrase.ask is None:
            raise IdentityError(
                f"the key on the token {self.uri.token_name} needs a PIN for every signature",
                advice="let it have the token's own PIN: --reuse-pin",
            )
        return self.access.passphrase.ask(f"PIN of the key on {self.uri.token_name}").decode()


def _named(uri: Pkcs11Uri, label: str, key_id: bytes) -> bool:
    return uri.object in {None, label} and uri.id in {None, key_id}


def _wants_pin_each_time(key: Any) -> bool:
    from pkcs11.exceptions import PKCS11Error

    try:
        return bool(key[_attribute("ALWAYS_AUTHENTICATE")])
    except PKCS11Error:  # the token does not know the attribute
        return False


def _pin(uri: Pkcs11Uri, access: TokenAccess) -> str | None:
    if uri.pin is not None:
        return uri.pin
    if uri.pin_source is not None:
        raw: bytes | None = read_passphrase(uri.pin_source)
    else:
        raw = access.passphrase.wanted(f"PIN of the token {uri.token_name}")
    try:
        return None if raw is None else raw.decode()
    except UnicodeDecodeError:
        raise IdentityError(f"the PIN of the token {uri.token_name} is not UTF-8") from None


def _tokens(uri: Pkcs11Uri, access: TokenAccess) -> Sequence[Any]:
    """The tokens that match a URI, at least one; otherwise `IdentityError`."""
    found = [slot.get_token() for slot in _slots(uri, access) if _slot_fits(slot, uri)]
    meant = [token for token in found if _token_fits(token, uri)]
    if not meant:
        raise IdentityError(
            f"no token matches the pkcs11: URI ({uri.token_name}); {len(found)} are present",
            advice="`pkcs11-tool --list-token-slots` lists them",
        )
    return meant


def _slots(uri: Pkcs11Uri, access: TokenAccess) -> Sequence[Any]:
    try:
        import pkcs11
    except ImportError as error:
        raise IdentityError(
            "keys on tokens need the library python-pkcs11", advice=how_to_add("pkcs11")
        ) from error
    module = access.module or uri.module_path or DEFAULT_MODULE
    with _LOCK:
        try:
            return list(pkcs11.lib(module).get_slots(token_present=True))
        except (RuntimeError, OSError) as error:  # every error of the library is a RuntimeError
            raise IdentityError(
                f"the PKCS#11 module {module} cannot be loaded ({str(error) or type(error).__name__})",
                advice="name the one of your token: pkcs11_module in [identity], or --pkcs11-lib",
            ) from error


def _slot_fits(slot: Any, uri: Pkcs11Uri) -> bool:
    return (
        uri.slot_id in {None, slot.slot_id}
        and uri.slot_description in {None, slot.slot_description}
        and uri.slot_manufacturer in {None, slot.manufacturer_id}
    )


def _token_fits(token: Any, uri: Pkcs11Uri) -> bool:
    from pkcs11 import TokenFlag

    return (
        uri.token in {None, token.label}
        and uri.serial in {None, _serial(token)}
        and uri.manufacturer in {None, token.manufacturer_id}
        and uri.model in {None, token.model}
        and TokenFlag.TOKEN_INITIALIZED in token.flags
    )


def _serial(token: Any) -> str:
    serial = token.serial
    return serial.decode(errors="replace").strip() if isinstance(serial, bytes) else str(serial)


def _certificates(token: Any, uri: Pkcs11Uri, access: TokenAccess) -> Sequence[TokenCertificate]:
    """The token's certificates; the PIN is used only if none is visible without it."""
    seen = _read_certificates(token, None, uri.token_name)
    if not seen and (uri.pin or uri.pin_source or access.passphrase.given):
        seen = _read_certificates(token, _pin(uri, access), uri.token_name)
    return seen


def _read_certificates(token: Any, pin: str | None, where: str) -> Sequence[TokenCertificate]:
    from pkcs11 import ObjectClass

    with _session(token, pin, where) as session, _translated_errors(where):
        objects = list(session.get_objects({_attribute("CLASS"): ObjectClass.CERTIFICATE}))
        read = [_read_certificate(certificate, token) for certificate in objects]
    return [certificate for certificate in read if certificate is not None]


def _read_certificate(found: Any, token: Any) -> TokenCertificate | None:
    """The X.509 certificate in an object; None if it cannot be parsed as one."""
    try:
        certificate = fully_parsed(x509.load_der_x509_certificate(bytes(found[_attribute("VALUE")])))
    except (ValueError, x509.InvalidVersion):
        return None
    key_id, label = found[_attribute("ID")], found[_attribute("LABEL")]
    return TokenCertificate(certificate, bytes(key_id), str(label), str(token.label), _serial(token))


def _attribute(name: str) -> Any:
    from pkcs11 import Attribute

    return Attribute[name]


def _private_key() -> Any:
    from pkcs11 import ObjectClass

    return ObjectClass.PRIVATE_KEY


@contextmanager
def _session(token: Any, pin: str | None, where: str) -> Iterator[Any]:
    with _LOCK:
        with _translated_errors(where):
            session = token.open(user_pin=pin) if pin is not None else token.open()
        try:
            yield session
        finally:
            session.close()


@contextmanager
def _translated_errors(where: str) -> Iterator[None]:
    """Turn the library's errors, which have no text of their own, into ours; none ever holds the PIN."""
    from pkcs11 import exceptions as known

    try:
        yield
    except (known.PinIncorrect, known.PinInvalid, known.PinLenRange) as error:
        raise IdentityError(
            f"the PIN does not open the token {where}", advice="each wrong try counts: check it first"
        ) from error
    except known.PinLocked as error:
        raise IdentityError(f"the PIN of the token {where} is locked") from error
    except known.UserNotLoggedIn as error:
        raise IdentityError(
            f"the token {where} needs a PIN", advice="give it as pin-source= in the URI or as passphrase_file"
        ) from error
    except known.PKCS11Error as error:
        name = str(error) or type(error).__name__
        raise IdentityError(f"the token {where} refuses: {name}", advice="is it still there?") from error
