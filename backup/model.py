"""The nouns as frozen values, which every floor may use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, NamedTuple, NewType

from msgspec import Struct

if TYPE_CHECKING:
    import os

JobName = NewType("JobName", str)
VaultName = NewType("VaultName", str)
SnapshotId = NewType("SnapshotId", str)  # 16 hex digits, shown as the first 8
PackId = NewType("PackId", bytes)  # 16 random bytes
InventoryId = NewType("InventoryId", bytes)  # 16 random bytes
ChunkId = NewType("ChunkId", bytes)  # 32 bytes: keyed BLAKE3 of the plaintext
ContentId = NewType("ContentId", bytes)  # 16 bytes: keyed BLAKE3 over chunk ids and lengths
TreeHash = NewType("TreeHash", bytes)  # 32 bytes: Glacier's SHA-256 tree hash
ArchiveId = NewType("ArchiveId", str)  # the vault's
UploadId = NewType("UploadId", str)  # the vault's
RetrievalId = NewType("RetrievalId", str)  # the vault's
ListingId = NewType("ListingId", str)  # the vault's
VaultIdentity = NewType("VaultIdentity", str)  # tells one vault from every other, whatever its name

KIB = 1024
MIB = 1024 * KIB
FURTHEST_NS = 2**63 - 1
"""The last time (ns since 1970) that is kept, in the year 2262: later ones are kept as this."""
Buffer = bytes | memoryview


# Entries.


class EntryKind(IntEnum):
    """The kind of an entry; the numbers are in the format and never change."""

    FILE = 1
    DIRECTORY = 2
    SYMLINK = 3
    FIFO = 4
    CHARACTER_DEVICE = 5
    BLOCK_DEVICE = 6


class Owner(NamedTuple):
    """The owner of an entry, by number and by name (empty when the machine knows no name)."""

    uid: int
    gid: int
    user: str = ""
    group: str = ""


class Extra(Struct, frozen=True):
    """The rare fields of an entry, kept out of the columns so that most rows stay short."""

    target: bytes = b""  # symlink
    device: int = 0  # st_rdev of a device
    link: int = 0  # entries of one hard-link group share a number other than 0
    flags: int = 0  # Linux inode flags
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    holes: bytes = b""  # of a sparse file: offset and length of each, as `format.holes` packs them
    acl_names: tuple[tuple[int, int, str], ...] = ()  # tag, number and name of users and groups in ACLs


class Entry(NamedTuple):
    """One file, directory, symlink or special file as it can be restored; content apart.

    `directory` is the absolute path of the parent, `name` its name in there; both are bytes as the
    system has them. `mtime_ns` counts nanoseconds since 1970, `size` bytes (0 but for files).
    """

    directory: bytes
    name: bytes
    kind: EntryKind
    mode: int
    owner: Owner
    mtime_ns: int
    size: int
    extra: Extra | None = None

    @property
    def path(self) -> bytes:
        """The absolute path."""
        return self.directory.rstrip(b"/") + b"/" + self.name


class Hint(NamedTuple):
    """Evidence by which an unchanged entry is recognised without reading it; losing it is harmless.

    `is_mount`: a directory that is another file system's root.
    """

    inode: int = 0
    ctime_ns: int = 0
    is_mount: bool = False


class ProblemKind(StrEnum):
    """The kind of a problem with an entry; part of the JSON interface."""

    UNREADABLE = "unreadable"
    VANISHED = "vanished"
    CHANGED = "changed-while-read"
    SKIPPED = "skipped"
    NOT_SET = "not-set"
    DAMAGED = "damaged"
    UNKNOWN = "unknown"  # of a later version


class Problem(Struct, frozen=True):
    """A failure to read, restore or set something of an entry: named in the report, never silent."""

    path: bytes
    kind: ProblemKind
    detail: str

    @classmethod
    def of(cls, path: bytes, kind: str, detail: str) -> Problem:
        """A problem from its stored fields; a kind that is not known is put before the detail."""
        if kind in _PROBLEM_KINDS:
            return cls(path, ProblemKind(kind), detail)
        return cls(path, ProblemKind.UNKNOWN, f"{kind}: {detail}")

    @property
    def is_warning(self) -> bool:
        """Whether the entry was saved all the same."""
        return self.kind in {ProblemKind.CHANGED, ProblemKind.SKIPPED}


_PROBLEM_KINDS = frozenset(map(str, ProblemKind))


# Packs.


class PackKind(IntEnum):
    """The kind in a pack's header."""

    DATA = 1
    CATALOG = 2


class Generation(IntEnum):
    """Delta (the changes of one run) or full (everything that a job needs), for a catalog."""

    DELTA = 1
    FULL = 2


class FrameRow(NamedTuple):
    """A frame's location in its pack: bytes `offset` to `offset + sealed_length`.

    `digest` is the 16-byte BLAKE3 of the sealed bytes: it can be checked without any key.
    """

    number: int
    offset: int
    sealed_length: int
    raw_length: int
    flags: int
    digest: bytes


class ChunkRow(NamedTuple):
    """A chunk's location in its pack: `length` bytes at `offset` of the opened frame `frame`."""

    id: bytes
    frame: int
    offset: int
    length: int


class ArchiveLabel(Struct, frozen=True):
    """An archive's label in clear: enough to find catalogs in a listing, and no more.

    `number`, `generation` and `job_id` are set for catalogs alone. A hint: the signed header decides.
    """

    kind: PackKind
    pack_id: PackId
    inventory_id: InventoryId
    number: int = 0
    generation: Generation | None = None
    job_id: bytes | None = None  # 16 random bytes that stand for the job

    def is_catalog_of(self, inventory_id: InventoryId) -> bool:
        """Whether it is a catalog that this inventory wrote."""
        return self.kind is PackKind.CATALOG and self.inventory_id == inventory_id


class FileStamp(NamedTuple):
    """The evidence that a file is the same and was not written to since: inode, size, mtime (ns)."""

    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> FileStamp:
        """The stamp of a file, from its status."""
        return cls(found.st_ino, found.st_size, found.st_mtime_ns)


class Pack(Struct, frozen=True):
    """A finished pack in the spool, as it is recorded before its first byte is sent.

    `leaves` are the SHA-256 of its MiBs, from which the tree hashes of parts follow without reading it again;
    `part_hashes` those of its parts of `part_size`, if they were asked for.
    `stamp` is that of its file once it was synced: while the file has it, it is what was hashed and proven.
    """

    label: ArchiveLabel
    header: bytes
    size: int
    tree_hash: TreeHash
    frames: Sequence[FrameRow]
    chunks: Sequence[ChunkRow]
    leaves: Sequence[bytes]
    stamp: FileStamp | None = None
    part_size: int | None = None
    part_hashes: Sequence[bytes] = ()


# Vaults.


class ByteRange(Struct, frozen=True):
    """Bytes `start` up to, not including, `end`."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """Bytes in it."""
        return self.end - self.start


class Part(Struct, frozen=True):
    """One part of an upload: its offset and length, its number (from 1), and its hashes.

    `tree_hash` is always there once it is sent; `sha256` (plain) and `crc64` (CRC-64/NVME) only for a vault
    that checks them, `tag` (MD5 in hex, a bucket's ETag of a part) only if another process may have sent it.
    """

    offset: int
    length: int
    tree_hash: TreeHash
    sha256: bytes
    number: int
    crc64: int | None = None
    tag: str = ""

    @property
    def extent(self) -> ByteRange:
        """The bytes of the archive that it holds."""
        return ByteRange(self.offset, self.offset + self.length)


class StoredPart(Struct, frozen=True):
    """A part that the vault already has; a hash is None where the vault keeps none of that kind."""

    offset: int
    length: int
    tree_hash: TreeHash | None
    crc64: int | None = None
    tag: str | None = None

    def is_same_as(self, part: Part) -> bool:
        """Whether it is that part, by range and by the first hash that both have: a CRC anybody can forge."""
        if (self.offset, self.length) != (part.offset, part.length):
            return False
        known = (self.tree_hash, part.tree_hash), (self.tag, part.tag or None), (self.crc64, part.crc64)
        return next((there == ours for there, ours in known if None not in {there, ours}), False)


class OpenUpload(Struct, frozen=True):
    """An upload that the vault has begun and not completed."""

    upload_id: UploadId
    label: ArchiveLabel | None  # None: not made by us
    part_size: int | None  # None: the vault does not keep it
    started_at: datetime


class Tier(StrEnum):
    """The speed, and so the price, of a retrieval."""

    EXPEDITED = "expedited"
    STANDARD = "standard"
    BULK = "bulk"


class OnCapacity(StrEnum):
    """The choice when the vault cannot serve a restore's tier: wait, take this other tier, or fail."""

    WAIT = "wait"
    STANDARD = "standard"
    BULK = "bulk"
    FAIL = "fail"


class RetrievalState(StrEnum):
    """The state of a retrieval or a listing in the vault."""

    WAITING = "waiting"
    READY = "ready"
    FAILED = "failed"
    EXPIRED = "expired"


class RetrievalStatus(Struct, frozen=True):
    """A retrieval's or listing's status in the vault; `message` is the vault's own text.

    `until` is when the output may be deleted, where the vault tells.
    """

    state: RetrievalState
    message: str = ""
    until: datetime | None = None


class Fetched(Struct, frozen=True):
    """Bytes of a retrieval; `tree_hash` is the vault's statement of it, None where it gives none."""

    data: bytes | memoryview
    tree_hash: TreeHash | None


class ListedArchive(Struct, frozen=True):
    """One line of a vault's listing."""

    archive_id: ArchiveId
    description: str
    label: ArchiveLabel | None  # None: not ours
    size: int
    tree_hash: TreeHash | None
    created_at: datetime
    version: str = ""  # the vault's word for one of several objects of that id; empty where it has none


class Listing(Struct, frozen=True):
    """A vault's own list of its archives, as it was at `as_of`."""

    as_of: datetime
    archives: Sequence[ListedArchive]


class VaultState(Struct, frozen=True):
    """A vault's status; a field is None if the vault does not say it, or not in the same answer."""

    exists: bool
    location: str  # ARN, URL or path
    archives: int | None = None
    size: int | None = None
    listed_at: datetime | None = None
    at: datetime | None = None  # the time by the vault's own clock; a directory has none
    identities: Sequence[VaultIdentity] | None = None  # as of `Vault.identities`
    region: str | None = None


class Refusal(Struct, frozen=True):
    """A vault's refusal to delete an archive: its reason, and until when the archive is kept, if known."""

    detail: str
    kept_until: datetime | None = None


class ObjectLock(Struct, frozen=True):
    """The lock of an object: its mode as the vault names it, and its end."""

    mode: str
    until: datetime


# Credentials.


@dataclass(frozen=True, slots=True)
class Credentials:
    """AWS keys; `expires_at` is None for keys that do not expire. Never printed."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    expires_at: datetime | None = None
