"""Parse PKCS#11 URIs (RFC 7512), which name a token, an object and a PIN; pure.

pkcs11:token=nightvault;object=web1;type=private?pin-source=/etc/nightvault/pin
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from backup.errors import IdentityError

SCHEME = "pkcs11:"

_PATH = frozenset(
    {
        "token", "manufacturer", "serial", "model", "library-manufacturer", "library-version",
        "library-description", "object", "type", "id", "slot-manufacturer", "slot-description", "slot-id",
    }
)  # fmt: skip
_QUERY = frozenset({"pin-source", "pin-value", "module-name", "module-path"})
_TYPES = frozenset({"public", "private", "cert", "secret-key", "data"})
_ESCAPES = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PATH_VALUE = re.compile(r"[A-Za-z0-9\-._~%:\[\]@!$'()*+,=&]*")
_QUERY_VALUE = re.compile(r"[A-Za-z0-9\-._~%:\[\]@!$'()*+,=/?|]*")
_NUMBER = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Pkcs11Uri:
    """The attributes of a URI, percent-decoded, None if absent; the `repr` leaves `pin` out."""

    token: str | None = None
    manufacturer: str | None = None
    serial: str | None = None
    model: str | None = None
    slot_id: int | None = None
    slot_description: str | None = None
    slot_manufacturer: str | None = None
    object: str | None = None
    id: bytes | None = None
    type: str | None = None
    pin: str | None = field(default=None, repr=False)
    pin_source: str | None = None
    module_path: str | None = None

    @property
    def token_name(self) -> str:
        """The attributes that name the token, for messages."""
        named = (self.token, self.serial, self.slot_description)
        slot = None if self.slot_id is None else f"slot {self.slot_id}"
        return next((text for text in (*named, slot) if text), "any token")


def is_pkcs11(text: str) -> bool:
    """Whether the text is meant as a PKCS#11 URI and not as a path."""
    return text.startswith(SCHEME)


def parse_pkcs11_uri(text: str) -> Pkcs11Uri:
    """Parse a URI; `IdentityError` says what is wrong without quoting a PIN.

    Vendor attributes (`x-…`) and those of the library are ignored; unknown ones are a mistake, since without
    them the URI might match a token that was not meant.
    """
    if not is_pkcs11(text):
        raise _mistake("it does not begin with pkcs11:")
    path, _, query = text.removeprefix(SCHEME).partition("?")
    found = {**_attributes(path, ";", _PATH, _PATH_VALUE), **_attributes(query, "&", _QUERY, _QUERY_VALUE)}
    if "pin-value" in found and "pin-source" in found:
        raise _mistake("pin-value and pin-source exclude each other")
    kind = _text(found, "type")
    if kind is not None and kind not in _TYPES:
        raise _mistake(f"type is one of {', '.join(sorted(_TYPES))}")
    return Pkcs11Uri(
        token=_text(found, "token"),
        manufacturer=_text(found, "manufacturer"),
        serial=_text(found, "serial"),
        model=_text(found, "model"),
        slot_id=_slot(found),
        slot_description=_text(found, "slot-description"),
        slot_manufacturer=_text(found, "slot-manufacturer"),
        object=_text(found, "object"),
        id=found.get("id"),
        type=kind,
        pin=_text(found, "pin-value"),
        pin_source=_path(_text(found, "pin-source")),
        module_path=_text(found, "module-path"),
    )


def _attributes(
    text: str, separator: str, known: frozenset[str], value_pattern: re.Pattern[str]
) -> Mapping[str, bytes]:
    from urllib.parse import unquote_to_bytes

    found: dict[str, bytes] = {}
    for part in text.split(separator) if text else []:
        name, equals, value = part.partition("=")
        if not equals:
            raise _mistake("each attribute is NAME=VALUE")
        if name in found:
            raise _mistake(f"{name} is given twice")
        if name not in known:
            if re.fullmatch(r"[A-Za-z0-9\-_]+", name) and name.startswith("x-"):
                continue
            raise _mistake("it has an attribute that RFC 7512 does not know there")
        if _ESCAPES.search(value) or not value_pattern.fullmatch(value):
            raise _mistake(f"{name} has a character that must be written as %XX")
        found[name] = unquote_to_bytes(value)
    return found


def _text(found: Mapping[str, bytes], name: str) -> str | None:
    value = found.get(name)
    with suppress(UnicodeDecodeError):  # which would quote it, so ours is raised outside
        return None if value is None else value.decode()
    raise _mistake(f"{name} is not UTF-8")


def _slot(found: Mapping[str, bytes]) -> int | None:
    text = _text(found, "slot-id")
    if text is not None and not _NUMBER.fullmatch(text):
        raise _mistake("slot-id is a number")
    return None if text is None else int(text)


def _path(source: str | None) -> str | None:
    """The path of a pin-source: `file:/…` or a bare path, by RFC 7512; a command (`|…`) is never run."""
    if source is None:
        return None
    path = source.removeprefix("file://").removeprefix("file:")
    if not path.startswith("/"):
        raise _mistake("pin-source is an absolute path")
    return path


def _mistake(why: str) -> IdentityError:
    return IdentityError(
        f"a pkcs11: URI cannot be understood: {why}",
        advice="it looks like pkcs11:token=NAME;object=LABEL?pin-source=/PATH (RFC 7512)",
    )
