"""Revocation: marks certificates in the index, and signs revocation lists (CRLs) for AWS.

A list is signed for each root that belongs in the trust anchor. List numbers increase; an expired certificate
stays in one more list (RFC 5280, 3.3).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from msgspec import Struct
from msgspec.structs import replace

from backup.errors import IdentityError, UsageError
from backup.files import open_small
from backup.pki.authority import BACKDATED, Authority
from backup.pki.files import NewFile, replace_files
from backup.pki.index import (
    CertificateState,
    Head,
    Index,
    IndexEntry,
    Reason,
    change_index,
    read_index,
    root_id,
)
from backup.pki.keys import signature_hash

LARGEST_CRL = 300_000
"""The most bytes of a list that AWS takes (IAM Roles Anywhere, quotas)."""

_SERIAL = re.compile(r"[0-9a-f]{6,40}")
_FLAGS = {
    Reason.KEY_COMPROMISE: x509.ReasonFlags.key_compromise,
    Reason.SUPERSEDED: x509.ReasonFlags.superseded,
    Reason.CESSATION_OF_OPERATION: x509.ReasonFlags.cessation_of_operation,
    Reason.AFFILIATION_CHANGED: x509.ReasonFlags.affiliation_changed,
    Reason.PRIVILEGE_WITHDRAWN: x509.ReasonFlags.privilege_withdrawn,
}


class WrittenCrl(Struct, frozen=True):
    """A signed revocation list: its root, its path, the number of its certificates, its size in bytes."""

    root: int
    path: str
    certificates: int
    size: int


def revoke(directory: str, which: str, *, every: bool, reason: Reason, now: datetime) -> Sequence[IndexEntry]:
    """Revoke the certificate with a serial, a prefix of one (six digits), or a server's name in `which`.

    With `every`, all valid certificates of a server are revoked; without, there must be exactly one. A
    certificate that is revoked already keeps its date and reason. Returns the index entries.
    """
    chosen = {entry.serial for entry in _chosen(read_index(directory), which, every=every, now=now)}

    def mark(index: Index) -> Index:
        return replace(index, entries=[_mark(entry, chosen, reason, now) for entry in index.entries])

    return [entry for entry in change_index(directory, mark).entries if entry.serial in chosen]


def _mark(entry: IndexEntry, chosen: set[str], reason: Reason, now: datetime) -> IndexEntry:
    if entry.serial not in chosen or entry.revoked_at is not None:
        return entry
    return msgspec.structs.replace(entry, revoked_at=now.replace(microsecond=0), reason=reason)


def shown_serial(entry: IndexEntry) -> str:
    """Return a serial as certificates show it: an even number of hex digits."""
    return entry.serial.zfill(len(entry.serial) + len(entry.serial) % 2)


def _begins_with(entry: IndexEntry, digits: str) -> bool:
    """Whether a serial begins with these digits, with or without zeros before it."""
    return shown_serial(entry).startswith(digits) or entry.serial.startswith(digits.lstrip("0") or "-")


def _chosen(index: Index, which: str, *, every: bool, now: datetime) -> Sequence[IndexEntry]:
    named = [
        entry for entry in index.entries if entry.name == which and entry.state(now) is CertificateState.VALID
    ]
    if named and (every or len(named) == 1):
        return named
    if named:
        raise UsageError(
            f"{which} has {len(named)} valid certificates: "
            f"{', '.join(shown_serial(entry)[:12] for entry in named)}",
            advice="name one by its serial, or revoke them all: --all",
        )
    digits = which.lower().removeprefix("0x").replace(":", "")
    found = [entry for entry in index.entries if _SERIAL.fullmatch(digits) and _begins_with(entry, digits)]
    if len(found) == 1:
        return found
    what = f"{len(found)} certificates begin with" if found else "no valid certificate has"
    raise UsageError(
        f"{what} the name or serial {which!r}", advice="`nightvault ca list` shows names and serials"
    )


def sign_crls(authorities: Sequence[Authority], *, days: int, now: datetime) -> Sequence[WrittenCrl]:
    """Sign and write a new list for each root; all have the same new number.

    The number is in the index before a list with it is anywhere, so that it is never used twice.
    """
    directory = authorities[0].directory
    for authority in authorities:
        _check_index_is_newest(read_index(directory), crl_path(directory, authority.root), now)
    before = read_index(directory).head.crl_at
    until = now.replace(microsecond=0) + timedelta(days=days)

    def count(index: Index) -> Index:
        head = index.head
        changes: dict[str, object] = {"crl_number": head.crl_number + 1, "crl_at": now, "crl_until": until}
        return replace(index, head=msgspec.structs.replace(head, **changes))

    index = change_index(directory, count)
    return [_write_crl(authority, index, before, until, now) for authority in authorities]


def _check_index_is_newest(index: Index, path: str, now: datetime) -> None:
    """`IdentityError` if the last list knows more than the index: a new one would let revoked servers in."""
    try:
        with open(path, "rb", opener=open_small) as file:
            last = x509.load_pem_x509_crl(file.read())
        number = last.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except (OSError, ValueError, x509.ExtensionNotFound):
        return  # there is none, or nobody can use it
    revoked = {
        int(entry.serial, 16)
        for entry in index.entries
        if entry.revoked_at is not None or entry.not_after < now
    }
    if number > index.head.crl_number or not revoked.issuperset(entry.serial_number for entry in last):
        raise IdentityError(
            f"the authority's index is older than {path} (number {number}): certificates that are revoked "
            "there would be let in again",
            advice="bring index.jsonl back from a copy, or revoke them again and move that list away",
        )


def _write_crl(
    authority: Authority, index: Index, before: datetime | None, until: datetime, now: datetime
) -> WrittenCrl:
    named = [entry for entry in index.entries if _belongs(entry, authority, before, now)]
    crl = _sign(authority, named, index.head, until, now)
    path = crl_path(authority.directory, authority.root)
    data = crl.public_bytes(Encoding.PEM)
    replace_files([NewFile(path, data)])
    return WrittenCrl(authority.root, path, len(named), len(data))


def _belongs(entry: IndexEntry, authority: Authority, before: datetime | None, now: datetime) -> bool:
    """Whether a list names it: revoked, and not expired yet when the last list was signed."""
    if entry.revoked_at is None or entry.root != root_id(authority.certificate):
        return False
    return before is None or entry.not_after >= min(before, now)  # the last one's clock may have been ahead


def _sign(
    authority: Authority, entries: Sequence[IndexEntry], head: Head, until: datetime, now: datetime
) -> x509.CertificateRevocationList:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(now.replace(microsecond=0) - BACKDATED)
        .next_update(until)
        .add_extension(x509.CRLNumber(head.crl_number), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            ),
            critical=False,
        )
    )
    for entry in entries:
        builder = builder.add_revoked_certificate(_revoked(entry, now))
    return builder.sign(authority.key, signature_hash(authority.key))


def _revoked(entry: IndexEntry, now: datetime) -> x509.RevokedCertificate:
    builder = x509.RevokedCertificateBuilder().serial_number(int(entry.serial, 16))
    builder = builder.revocation_date(entry.revoked_at or now)
    flag = _FLAGS.get(entry.reason or Reason.UNSPECIFIED)
    if flag is not None:  # a reason that is not specified is left out (RFC 5280, 5.3.1)
        builder = builder.add_extension(x509.CRLReason(flag), critical=False)
    return builder.build()


def crl_path(directory: str, root: int) -> str:
    """Return the path of a root's revocation list."""
    return os.path.join(directory, "crl.pem" if root == 1 else f"crl-{root}.pem")
