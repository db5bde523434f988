"""The authority's index: its roots, issued certificates, revocations, numbers of CRLs.

`index.jsonl` has a line about the authority, then one for each certificate. The file is replaced as a whole,
under a lock of the directory. `issued/` has a copy of each certificate, which is written first: a certificate
that the index lacks (after a power cut, or in an authority without index) is read from there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from enum import StrEnum

import msgspec
from cryptography import x509
from cryptography.x509.oid import NameOID
from msgspec import Struct
from msgspec.structs import replace

from backup.credentials.certificate import name_text, subject_values
from backup.credentials.identity import load_certificates
from backup.errors import IdentityError, NightvaultError
from backup.files import file_lock, open_small, write_durably

INDEX_FILE = "index.jsonl"
LOCK_FILE = "lock"  # for its owner alone: whoever may open a file may lock it
ISSUED_DIRECTORY = "issued"
FORMAT = 1


class Reason(StrEnum):
    """The reason for a revocation; part of the JSON interface. Source: RFC 5280, 5.3.1."""

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "key-compromise"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessation-of-operation"
    AFFILIATION_CHANGED = "affiliation-changed"
    PRIVILEGE_WITHDRAWN = "privilege-withdrawn"


class CertificateState(StrEnum):
    """The state of an issued certificate; part of the JSON interface."""

    VALID = "valid"
    EXPIRED = "expired"
    REVOKED = "revoked"


class IndexEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An issued certificate; `root` is the key identifier of its root. It and `serial` are in hex."""

    serial: str
    name: str
    subject: str
    root: str
    not_before: datetime
    not_after: datetime
    revoked_at: datetime | None = None
    reason: Reason | None = None

    def state(self, now: datetime) -> CertificateState:
        """Return the certificate's state: valid, expired or revoked."""
        if self.revoked_at is not None:
            return CertificateState.REVOKED
        return CertificateState.EXPIRED if now > self.not_after else CertificateState.VALID


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of the index. The root `signing` signs certificates; `roots` belong in the trust anchor.

    `crl_at` and `crl_until` are the dates of the newest revocation lists.
    """

    format: int = FORMAT
    roots: tuple[int, ...] = (1,)
    signing: int = 1
    crl_number: int = 0
    crl_at: datetime | None = None
    crl_until: datetime | None = None


class Index(Struct, frozen=True):
    """The whole index; `entries` are in order of issue."""

    head: Head
    entries: Sequence[IndexEntry] = ()

    def newest(self, name: str) -> IndexEntry | None:
        """Return the newest certificate with a common name."""
        found = [
            (entry.not_before, place, entry) for place, entry in enumerate(self.entries) if entry.name == name
        ]
        return max(found)[2] if found else None


def certificate_path(directory: str, root: int) -> str:
    """Return the path of a root's certificate."""
    return os.path.join(directory, f"{_stem(root)}.pem")


def key_path(directory: str, root: int) -> str:
    """Return the path of a root's key."""
    return os.path.join(directory, f"{_stem(root)}.key")


def _stem(root: int) -> str:
    return "ca" if root == 1 else f"ca-{root}"


def read_index(directory: str) -> Index:
    """Read the index, and add certificates that only `issued/` has. `IdentityError` if it is damaged."""
    index = _read(os.path.join(directory, INDEX_FILE))
    known = {entry.serial for entry in index.entries}
    missing = [serial for serial in _issued(directory) if serial not in known]
    found = [entry_of(load_copy(directory, serial)) for serial in missing]
    if not found:
        return index
    return replace(index, entries=sorted([*index.entries, *found], key=lambda entry: entry.not_before))


def change_index(directory: str, change: Callable[[Index], Index]) -> Index:
    """Replace the index by the result of `change`, under a lock; return the new index."""
    path = os.path.join(directory, INDEX_FILE)
    try:
        with file_lock(os.path.join(directory, LOCK_FILE), wait=True):
            index = change(read_index(directory))
            lines = [msgspec.json.encode(part) for part in (index.head, *index.entries)]
            write_durably(path, b"\n".join(lines) + b"\n")
    except OSError as error:
        raise NightvaultError(f"the authority's index {path} cannot be written: {error.strerror}") from error
    return index


def record(directory: str, certificates: Iterable[x509.Certificate]) -> None:
    """Add issued certificates to the index."""
    new = {entry.serial: entry for entry in map(entry_of, certificates)}

    def add(index: Index) -> Index:
        known = {entry.serial for entry in index.entries}
        return replace(index, entries=[*index.entries, *(new[key] for key in new.keys() - known)])

    change_index(directory, add)


def entry_of(certificate: x509.Certificate) -> IndexEntry:
    """Return the index entry of a new certificate."""
    names = subject_values(certificate, NameOID.COMMON_NAME)
    identifier = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    return IndexEntry(
        serial=f"{certificate.serial_number:x}",
        name=names[0] if names else "",
        subject=name_text(certificate.subject),
        root=(identifier.key_identifier or b"").hex(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def root_id(certificate: x509.Certificate) -> str:
    """Return a root's key identifier, in hex, as index entries have it."""
    return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest.hex()


def load_copy(directory: str, serial: str) -> x509.Certificate:
    """Load the copy of an issued certificate."""
    return load_certificates(os.path.join(directory, ISSUED_DIRECTORY, f"{serial}.pem"), named_by="--dir")[0]


def _read(path: str) -> Index:
    try:
        with open(path, "rb", opener=open_small) as file:
            head, *lines = file.read().splitlines()
        entries = [msgspec.json.decode(line, type=IndexEntry) for line in lines]
        index = Index(msgspec.json.decode(head, type=Head), entries)
    except FileNotFoundError:
        return Index(Head())
    except (ValueError, msgspec.MsgspecError) as error:
        raise IdentityError(
            f"the authority's index {path} is damaged: {error}",
            advice="bring it back from a copy; without it nobody knows what was revoked",
        ) from error
    except OSError as error:
        raise IdentityError(f"the authority's index {path} cannot be read: {error.strerror}") from error
    if index.head.format != FORMAT:
        raise IdentityError(
            f"a newer nightvault wrote the authority's index {path}", advice="install that version"
        )
    return index


def _issued(directory: str) -> list[str]:
    try:
        names = os.listdir(os.path.join(directory, ISSUED_DIRECTORY))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise IdentityError(f"{error.filename} cannot be read: {error.strerror}") from error
    return [name.removesuffix(".pem") for name in names if name.endswith(".pem")]
