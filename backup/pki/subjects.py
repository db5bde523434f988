"""Certificate subjects whose names can become AWS session tags."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from cryptography import x509
from cryptography.x509.oid import NameOID
from msgspec import Struct

from backup.credentials.certificate import TAG_VALUE
from backup.errors import UsageError

LONGEST_NAME = 64
"""The maximum length of a CN, O or OU (RFC 5280, upper bounds); we count bytes, as the library does."""


_WRITTEN_TOGETHER = frozenset(
    {"LATIN", "CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "IDEOGRAPHIC", "HANGUL", "BOPOMOFO"}
)
"""Alphabets of one writing, none of whose letters looks like one of another."""


class Subject(Struct, frozen=True):
    """A certificate's subject: attributes that a trust policy may test; `dns` are alternative names."""

    common_name: str
    organization: str | None = None
    unit: str | None = None
    dns: Sequence[str] = ()

    def name(self) -> x509.Name:
        """Return the X.509 name. `UsageError` if a part of it cannot become a session tag."""
        parts = [
            (NameOID.ORGANIZATION_NAME, "organization", self.organization),
            (NameOID.ORGANIZATIONAL_UNIT_NAME, "unit", self.unit),
            (NameOID.COMMON_NAME, "name", self.common_name),
        ]
        check_common_name(self.common_name)
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
    if not text.strip() or len(text.encode(errors="surrogatepass")) > LONGEST_NAME:
        raise UsageError(f"the {what} {text!r} must have 1 to {LONGEST_NAME} bytes")
    if not TAG_VALUE.fullmatch(text):
        raise UsageError(
            f"the {what} {text!r} has characters that AWS refuses",
            advice=f"use letters, digits, blanks and _ . :{'' if what == 'name' else ' /'} = + - @",
        )
    return text


def check_common_name(text: str) -> str:
    """Return `text` if it can be a common name, else raise `UsageError`.

    Policies put it into ARNs (`…/${aws:PrincipalTag/x509Subject/CN}/*`), so it must be one step of a path and
    no pattern: the server `a/b` would own a part of the server `a`. `*`, `?`, `$` and control characters are
    refused by `check_part` already, as no session tag may have them.
    """
    check_part("name", text)
    why = ""
    if "/" in text:
        why = "has a slash: it would share in the keys of the server before the slash"
    elif not text.strip("."):
        why = "is of dots alone: it would name another directory"
    elif text != text.strip():
        why = "begins or ends with a blank"
    elif unicodedata.normalize("NFKC", text) != text:
        why = "has letters in two parts, or in another width or form: two names would look the same"
    elif len(scripts := _scripts(text)) > 1 and not scripts <= _WRITTEN_TOGETHER:
        told = " and ".join(sorted(script.capitalize() for script in scripts))
        why = f"has letters of {told} together: two names would look the same"
    if why:
        raise UsageError(f"the name {text!r} {why}", advice="choose another, such as the host's own name")
    return text


def _scripts(text: str) -> set[str]:
    """The alphabets of a text's letters, as Unicode names them."""
    return {unicodedata.name(letter, "?").partition(" ")[0] for letter in text if letter.isalpha()}


def file_stem(common_name: str) -> str:
    """Return a safe file name derived from a common name."""
    stem = "".join(letter if letter.isalnum() or letter in "._-@+" else "_" for letter in common_name)
    return stem.lstrip(".") or "identity"
