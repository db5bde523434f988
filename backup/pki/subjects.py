"""Certificate subjects whose names can become AWS session tags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.x509.oid import NameOID

from backup.credentials.certificate import TAG_VALUE
from backup.errors import UsageError

LONGEST_NAME = 64
"""The maximum number of characters of a CN, O or OU (RFC 5280, upper bounds)."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Common name and other attributes that a trust policy may test; `dns` are alternative names."""

    common_name: str
    organization: str | None = None
    unit: str | None = None
    dns: Sequence[str] = ()

    def name(self) -> x509.Name:
        """The X.509 name; `UsageError` if a part of it could not become a session tag."""
        parts = [
            (NameOID.ORGANIZATION_NAME, "organization", self.organization),
            (NameOID.ORGANIZATIONAL_UNIT_NAME, "unit", self.unit),
            (NameOID.COMMON_NAME, "name", self.common_name),
        ]
        return x509.Name(
            [x509.NameAttribute(oid, check_part(what, text)) for oid, what, text in parts if text is not None]
        )

    def alternative_names(self) -> x509.SubjectAlternativeName | None:
        """The extension with the `dns` names, None without any; `UsageError` for a name that is not ASCII."""
        if not self.dns:
            return None
        try:
            return x509.SubjectAlternativeName([x509.DNSName(name) for name in self.dns])
        except ValueError as error:
            raise UsageError(
                f"{', '.join(self.dns)} is not a DNS name", advice="write other alphabets in their xn-- form"
            ) from error


def check_part(what: str, text: str) -> str:
    """Return `text` if it can be part of a subject, else raise `UsageError`.

    Sources: AWS, "Trust model"; the pattern of STS for session tags.
    """
    if not text.strip() or len(text) > LONGEST_NAME:
        raise UsageError(f"the {what} {text!r} must have 1 to {LONGEST_NAME} characters")
    if not TAG_VALUE.fullmatch(text):
        raise UsageError(
            f"the {what} {text!r} has characters that AWS refuses",
            advice="use letters, digits, blanks and _ . : / = + - @",
        )
    return text


def file_stem(common_name: str) -> str:
    """A safe file name derived from a common name."""
    stem = "".join(letter if letter.isalnum() or letter in "._-@+" else "_" for letter in common_name)
    return stem.lstrip(".") or "identity"
