"""The AWS helper's `--cert-selector`: choose certificates on tokens by subject, issuer and serial."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote

import msgspec
from cryptography import x509
from msgspec import Struct

from backup.credentials.identity import read_file
from backup.credentials.key_stores.tokens import TokenCertificate
from backup.errors import IdentityError, UsageError

_PAIR = re.compile(r"Key=(x509\w+),Value=(.*?)(?=\s+Key=|$)", re.DOTALL)
_KEYS = ("x509Subject", "x509Issuer", "x509Serial")
_FILE = "file://"


class _Entry(msgspec.Struct, rename="pascal"):
    key: str
    value: str


class Selector(Struct, frozen=True):
    """The conditions on a certificate; None accepts any. Names are RFC 4514 texts, in either order."""

    subject: str | None = None
    issuer: str | None = None
    serial: int | None = None

    def fits(self, certificate: x509.Certificate) -> bool:
        """Whether a certificate fulfils the conditions."""
        return (
            (self.subject is None or _same_name(self.subject, certificate.subject))
            and (self.issuer is None or _same_name(self.issuer, certificate.issuer))
            and self.serial in {None, certificate.serial_number}
        )


def parse_selector(text: str) -> Selector:
    """Parse `Key=x509Subject,Value=CN=host Key=x509Serial,Value=0A`, or the `file://` of a list of Key and
    Value."""
    pairs = _pairs_of_file(text.removeprefix(_FILE)) if text.startswith(_FILE) else _pairs_of_text(text)
    found: dict[str, str] = {}
    for key, value in pairs:
        if key not in _KEYS or key in found or not value:
            raise _mistake(f"it has {key} twice, without a value, or it is none of {', '.join(_KEYS)}")
        found[key] = value
    if not found:
        raise _mistake("it selects nothing")
    return Selector(found.get("x509Subject"), found.get("x509Issuer"), _serial(found))


def _serial(found: Mapping[str, str]) -> int | None:
    text = found.get("x509Serial")
    try:
        return None if text is None else int(text, 16)
    except ValueError as error:
        raise _mistake("x509Serial is a number in hex") from error


def _pairs_of_text(text: str) -> Sequence[tuple[str, str]]:
    pairs = [(match[1], match[2].strip()) for match in _PAIR.finditer(text.strip())]
    if _PAIR.sub("", text).strip():
        raise _mistake("it is no list of Key=…,Value=…")
    return pairs


def _pairs_of_file(path: str) -> Sequence[tuple[str, str]]:
    try:
        entries = msgspec.json.decode(read_file(path, "certificate selector"), type=list[_Entry])
    except ValueError as error:
        raise _mistake(f"{path} is no list of Key and Value ({error})") from error
    return [(entry.key, entry.value) for entry in entries]


def _mistake(why: str) -> UsageError:
    return UsageError(f"--cert-selector: {why}", advice="it looks like Key=x509Subject,Value=CN=HOST")


def _same_name(wanted: str, name: x509.Name) -> bool:
    try:
        asked = x509.Name.from_rfc4514_string(wanted)
    except ValueError:
        return False
    return list(asked) in (list(name), list(name)[::-1])


def choose(found: Iterable[TokenCertificate], selector: Selector, *, latest: bool) -> TokenCertificate:
    """The one certificate that fits; with `latest`, of several the one that expires last."""
    meant = [certificate for certificate in found if selector.fits(certificate.certificate)]
    if not meant:
        raise IdentityError(
            "no certificate on a token fits --cert-selector",
            advice="`nightvault aws-keys read-certificate-data --cert-selector …` lists them",
        )
    if len(meant) > 1 and not latest:
        raise IdentityError(
            f"{len(meant)} certificates on tokens fit --cert-selector",
            advice="select by serial too, or take --use-latest-expiring-certificate",
        )
    return max(meant, key=lambda certificate: certificate.certificate.not_valid_after_utc)


def uri_of(found: TokenCertificate) -> str:
    """The PKCS#11 URI of a certificate on a token, which is that of its key, too."""
    parts = (f"token={quote(found.token, safe='')}", f"serial={quote(found.serial, safe='')}")
    return f"pkcs11:{';'.join(parts)};id={quote(found.id, safe='')}"
