"""The subject of a certificate as session tags, source identity and default session name.

Source: IAM Roles Anywhere User Guide, trust model (default attribute mapping, source identity). Values
outside the pattern of session tags are a denial, as users report, although the guide speaks of ignoring them.
"""

from __future__ import annotations

import unicodedata

from cryptography import x509
from cryptography.x509.oid import NameOID
from msgspec import Struct

TAG_VALUE_LIMIT = 256
_NAMES = {
    NameOID.COMMON_NAME: "CN",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    NameOID.ORGANIZATION_NAME: "O",
    NameOID.COUNTRY_NAME: "C",
    NameOID.STATE_OR_PROVINCE_NAME: "ST",
    NameOID.LOCALITY_NAME: "L",
    NameOID.DOMAIN_COMPONENT: "DC",
    NameOID.USER_ID: "UID",
    NameOID.SERIAL_NUMBER: "SERIALNUMBER",
    NameOID.TITLE: "T",
    NameOID.SURNAME: "SN",
    NameOID.GIVEN_NAME: "GN",
    NameOID.EMAIL_ADDRESS: "E",
}


class Subject(Struct, frozen=True):
    """The mapped subject: `tags` by key (`x509Subject/CN`); `unmappable` are the keys whose values no session
    tag may have."""

    tags: dict[str, str]
    unmappable: tuple[str, ...]
    source_identity: str
    session_name: str


def read_subject(
    leaf: x509.Certificate,
    rules: tuple[tuple[str, str], ...] | None = None,
    *,
    ignores_unmappable: bool = False,
) -> Subject:
    """The subject of a leaf, mapped by a profile's rules, each (field, specifier); None means the default
    rules.

    A rule that names one attribute which the certificate lacks fails, as users report.
    """
    found = {
        **_name_tags("x509Subject", leaf.subject),
        **_name_tags("x509Issuer", leaf.issuer),
        **_san_tags(leaf),
    }
    lacking: tuple[str, ...] = ()
    if rules is not None:
        lacking = tuple(
            f"{where}/{what}" for where, what in rules if "*" not in what and f"{where}/{what}" not in found
        )
        found = {key: value for key, value in found.items() if any(_names(rule, key) for rule in rules)}
    unmappable = (*lacking, *(key for key, value in found.items() if not _is_tag_value(value)))
    if ignores_unmappable:
        found = {key: value for key, value in found.items() if key not in unmappable}
        unmappable = ()
    serial = format(leaf.serial_number, "x")
    return Subject(found, unmappable, _source_identity(leaf, serial), _even(serial))


def _names(rule: tuple[str, str], key: str) -> bool:
    """Whether a rule maps the attribute of a tag; `*` and `Name/*` match all of their kind."""
    where, what = rule
    return key.startswith(f"{where}/{what[:-1]}") if what.endswith("*") else key == f"{where}/{what}"


def mapping_failure(unmappable: tuple[str, ...]) -> str:
    """The service's message on attributes that cannot become tags."""
    shown = []
    for title, prefix in (("Issuer", "x509Issuer/"), ("Subject", "x509Subject/"), ("SAN", "x509SAN/")):
        keys = [key.removeprefix(prefix) for key in unmappable if key.startswith(prefix)]
        shown.append(f"{title}: [ {', '.join(keys)} ]")
    return "Some attributes failed to be mapped into session tags. " + "; ".join(shown)


def _name_tags(prefix: str, name: x509.Name) -> dict[str, str]:
    """The tags of a name; several values of one type are joined with `/` in the certificate's order."""
    values: dict[str, list[str]] = {}
    for attribute in name:
        key = f"{prefix}/{_NAMES.get(attribute.oid, attribute.oid.dotted_string)}"
        value = attribute.value
        values.setdefault(key, []).append(value if isinstance(value, str) else value.hex())
    return {key: "/".join(parts) for key, parts in values.items()}


def _san_tags(leaf: x509.Certificate) -> dict[str, str]:
    """The tags of the alternative names: the first DNS name, the first URI and the first directory name."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return {}
    tags = {}
    dns, uris = (
        names.get_values_for_type(x509.DNSName),
        names.get_values_for_type(x509.UniformResourceIdentifier),
    )
    if dns:
        tags["x509SAN/DNS"] = dns[0]
    if uris:
        tags["x509SAN/URI"] = uris[0]
    directory = names.get_values_for_type(x509.DirectoryName)
    return {**tags, **(_name_tags("x509SAN/Name", directory[0]) if directory else {})}


def _is_tag_value(value: str) -> bool:
    return len(value) <= TAG_VALUE_LIMIT and all(
        character in "_.:/=+-@" or unicodedata.category(character)[0] in "LZN" for character in value
    )


def _source_identity(leaf: x509.Certificate, serial: str) -> str:
    names = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    name = str(names[0].value) if names else ""
    if name and len(name) <= 61:
        return f"CN={name}"
    return name if 62 <= len(name) <= 64 else f"ID={_even(serial)}"


def _even(serial: str) -> str:
    return serial if len(serial) % 2 == 0 else "0" + serial
