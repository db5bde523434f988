"""Replaces the authority's root; for a time, the old and the new root are both in the trust anchor.

Three steps, each recorded in the index. 1. A new root is made, and both belong in the trust anchor. 2. Once
AWS has both, the new root signs. 3. Once no server has a certificate of the old root, that leaves the anchor.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from msgspec import Struct
from msgspec.structs import replace

from backup.credentials.certificate import subject_values
from backup.credentials.identity import load_certificates
from backup.errors import UsageError
from backup.pki.authority import files_of, new_root, open_root
from backup.pki.files import NewFile, replace_files
from backup.pki.index import (
    CertificateState,
    Head,
    Index,
    IndexEntry,
    certificate_path,
    change_index,
    read_index,
    root_id,
)
from backup.pki.keys import KeyType
from backup.pki.subjects import LONGEST_NAME, Subject

ANCHOR_FILE = "anchor.pem"


class RootStage(StrEnum):
    """The stage of a change of the root; part of the JSON interface."""

    SETTLED = "settled"  # one root
    ADDED = "added"  # both belong in the trust anchor, the old one signs
    SWITCHED = "switched"  # the new one signs, the old one is in the anchor for its certificates


class Roots(Struct, frozen=True):
    """The roots of the trust anchor, oldest first.

    `waiting` are the certificates that must be renewed first: valid, a server's newest, and of the old root.
    """

    stage: RootStage
    numbers: Sequence[int]
    certificates: Sequence[x509.Certificate]
    signing: int
    waiting: Sequence[IndexEntry]
    anchor: str


def read_roots(directory: str, now: datetime) -> Roots:
    """Read the present roots from the authority's index."""
    return _roots(directory, read_index(directory), now)


def add_root(
    directory: str,
    passphrase: bytes | None,
    *,
    name: str | None,
    days: int | None,
    key_type: KeyType,
    now: datetime,
) -> Roots:
    """Make a new root beside the present one, unless there is one, and write both to the anchor's file.

    The new root has the old root's organization and unit, by default its validity, and always another name:
    revocation lists are matched by the names of roots.
    """
    head = read_index(directory).head
    if len(head.roots) == 1:
        old, number = open_root(directory, head.signing, passphrase), head.signing + 1
        subject = _subject_after(old.certificate, name)
        life = old.certificate.not_valid_after_utc - old.certificate.not_valid_before_utc
        lives = days or max(life // timedelta(days=1), 1)
        made = new_root(directory, number, subject, key_type=key_type, days=lives, now=now)
        replace_files(files_of(made, passphrase))  # what a cut left there was never used
        _change_head(directory, roots=(head.signing, number))
    return write_anchor(directory, now)


def switch_root(directory: str, now: datetime) -> Roots:
    """Make the new root the one that signs."""
    head = read_index(directory).head
    if len(head.roots) == 1:
        raise UsageError("there is no new root", advice="make one first: `nightvault ca renew-root`")
    _change_head(directory, signing=head.roots[-1])
    return write_anchor(directory, now)


def finish_root(directory: str, now: datetime, *, force: bool) -> Roots:
    """Remove the old root from the anchor's file.

    `UsageError` while a server's newest certificate is of the old root, unless forced.
    """
    roots = read_roots(directory, now)
    if roots.stage is RootStage.ADDED:
        raise UsageError("the old root signs still", advice="first: `nightvault ca renew-root --switch`")
    if roots.stage is RootStage.SWITCHED:
        if roots.waiting and not force:
            names = ", ".join(entry.name for entry in roots.waiting[:5])
            more = f" and {len(roots.waiting) - 5} more" if len(roots.waiting) > 5 else ""
            raise UsageError(
                f"certificates of the old root are in use: {names}{more}",
                advice="wait until they are renewed; --force cuts them off",
            )
        _change_head(directory, roots=(roots.signing,))
    return write_anchor(directory, now)


def write_anchor(directory: str, now: datetime) -> Roots:
    """Write the file with the certificates that belong in the trust anchor."""
    roots = read_roots(directory, now)
    data = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in roots.certificates)
    replace_files([NewFile(roots.anchor, data)])
    return roots


def _roots(directory: str, index: Index, now: datetime) -> Roots:
    head = index.head
    certificates = [
        load_certificates(certificate_path(directory, number), named_by="--dir")[0] for number in head.roots
    ]
    stage = RootStage.SETTLED
    if len(head.roots) > 1:
        stage = RootStage.SWITCHED if head.signing == head.roots[-1] else RootStage.ADDED
    anchor = os.path.join(directory, ANCHOR_FILE)
    waiting = _waiting(index, root_id(certificates[0]), now) if stage is not RootStage.SETTLED else []
    return Roots(stage, head.roots, certificates, head.signing, waiting, anchor)


def _waiting(index: Index, old: str, now: datetime) -> Sequence[IndexEntry]:
    """The newest certificates of servers as far as they are valid, and of the old root."""
    newest = {entry.name: entry for entry in sorted(index.entries, key=lambda entry: entry.not_before)}
    return [
        entry for entry in newest.values() if entry.root == old and entry.state(now) is CertificateState.VALID
    ]


def _change_head(directory: str, **changes: object) -> None:
    def change(index: Index) -> Index:
        head: Head = msgspec.structs.replace(index.head, **changes)
        return replace(index, head=head)

    change_index(directory, change)


def _subject_after(old: x509.Certificate, name: str | None) -> Subject:
    """The old root's subject with another name: `Backup CA` becomes `Backup CA 2`, that becomes … 3."""
    (present, *_) = [*subject_values(old, NameOID.COMMON_NAME), "CA"]
    if name == present:
        raise UsageError(f"the old root is named {name!r}, too", advice="give the new one another name")
    numbered = re.fullmatch(r"(.*?) (\d{1,6})", present)
    stem, count = (numbered[1], int(numbered[2]) + 1) if numbered else (present, 2)
    own = f"{stem[: LONGEST_NAME - len(str(count)) - 1]} {count}"
    organization, unit = (
        next(iter(subject_values(old, oid)), None)
        for oid in (NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME)
    )
    return Subject(name or own, organization, unit)
