"""The records of a catalog: kinds by number, fields by position, which never change their meaning.

A record is a msgpack array: its kind, then its fields. Integers fit 63 bits. New fields only ever follow
the last one, with a default, and a reader ignores those it does not know.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

LAST_KNOWN_KIND = 21  # of those that must be understood
FIRST_OPTIONAL_KIND = 128  # a reader may skip kinds from here on and must refuse unknown ones below

Blob: TypeAlias = bytes
MOST: Final = 2**63 - 1
"""The largest number that a record and a database hold."""
Number: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Sum: TypeAlias = Annotated[int, Meta(ge=0)]
"""Of sizes; made and read as at most `MOST`: holes of sparse files may add up to more."""
Signed: TypeAlias = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Id16: TypeAlias = Annotated[bytes, Meta(min_length=16, max_length=16)]
Key32: TypeAlias = Annotated[bytes, Meta(min_length=32, max_length=32)]
Recipient: TypeAlias = Annotated[bytes, Meta(min_length=1216, max_length=1216)]


class Start(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The identity of the catalog; `parent_number` is 0 for none.

    `predecessor` is the id of the inventory from which this one was rebuilt, `ancestors` are it and those
    before it, nearest first. `job_inventory` made the job, whose id follows from it and `job_nonce`; None
    for jobs of versions before that.
    """

    format: Number
    number: Number
    generation: Number
    job_id: Id16
    job_name: str
    parent_number: Number
    host: str
    program: str
    predecessor: Id16 | None = None
    ancestors: list[Id16] = []
    job_inventory: Id16 | None = None
    job_nonce: Id16 | None = None


class Secrets(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The inventory's own keys, and the public keys of its recipients; in full catalogs only."""

    signer_seed: Key32
    chunk_secret: Key32
    recipients: list[Recipient] = []

    def __repr__(self) -> str:
        return "Secrets(…)"


class VaultRecord(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """A vault that later records refer to by number; `identity` is "" while unknown."""

    number: Number
    name: str
    identity: str = ""


class DomainRecord(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """A dedup domain; `recipients` are 16-byte ids."""

    number: Number
    id: Id16
    vault: Number
    recipients: list[Id16]


class SnapshotRecord(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """A snapshot; times are microseconds since 1970, problems are (path, kind, detail).

    `counts` are files and bytes of each of the sources, `roots` their real paths then; empty: not known.
    Bytes beyond `MOST` are `MOST`.
    """

    id: str
    number: Number
    started_at: Signed
    finished_at: Signed
    host: str
    sources: list[Blob]
    files: Number
    bytes: Sum
    problems: list[tuple[Blob, str, str]]
    counts: list[tuple[Number, Sum]] = []
    roots: list[Blob] = []

    def __post_init__(self) -> None:
        """Hold the sums to what fits, also where an older version wrote more."""
        counts = [(files, min(size, MOST)) for files, size in self.counts]
        msgspec.structs.force_setattr(self, "bytes", min(self.bytes, MOST))
        msgspec.structs.force_setattr(self, "counts", counts)


class OwnerRecord(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """An owner that later records refer to by number."""

    number: Number
    uid: Number
    gid: Number
    user: str
    group: str


class DirectoryRecord(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """A directory that later records refer to by number."""

    number: Number
    path: Blob


class EntryRecord(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """One version of one entry; `chunks` is `pack_u32` of chunk numbers, `extra` is `encode_extra`."""

    number: Number
    directory: Number
    name: Blob
    kind: Number
    mode: Number
    owner: Number
    mtime_ns: Signed
    size: Number
    extra: Blob | None
    content_id: Id16 | None
    chunks: Blob
    added_in: Number
    removed_in: Number | None


ENTRY: Final = 8
"""Entries may also be written as mere tuples of this and the fields of `EntryRecord`: there are very many."""


class ClosedRecord(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """Entries (`pack_u64` of their numbers) that ended with snapshot `removed_in`."""

    entries: Blob
    removed_in: Number


class ArchiveRecord(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """An archive and its pack; `archive_id` is "" while unknown, `stored_at` microseconds since 1970.

    `version` is the vault's own version id where it may have several objects of that id, else "".
    """

    number: Number
    domain: Number
    kind: Number
    pack_id: Id16
    header: Blob
    size: Number
    tree_hash: Key32
    archive_id: str
    stored_at: Signed
    state: str
    version: str = ""


class FramesRecord(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """Frames of an archive; `rows` is `pack_frames`."""

    archive: Number
    rows: Blob


class ChunksRecord(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """Chunks of an archive; `numbers` is `pack_u32`, `rows` is `pack_chunks`, in the same order."""

    archive: Number
    numbers: Blob
    rows: Blob


class DroppedRecord(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """Snapshots that are gone for good, with the entries that only they had."""

    snapshots: list[Number]


class CondemnedRecord(msgspec.Struct, frozen=True, array_like=True, tag=14):
    """Pack ids of archives that will be deleted: nothing may be stored against them any more.

    `at` is microseconds since 1970, 0 while unknown.
    """

    packs: list[Id16]
    at: Signed = 0


class ChainRecord(msgspec.Struct, frozen=True, array_like=True, tag=15):
    """The catalogs that this one builds on: (number, generation, pack id, header hash, archive id).

    `sizes` are the archives' bytes, in the same order: a retrieval needs them besides the id; `versions`
    as of `ArchiveRecord`.
    """

    links: list[tuple[Number, Number, Id16, Key32, str]]
    sizes: list[Number] = []
    versions: list[str] = []


class Fragment(msgspec.Struct, frozen=True, array_like=True, tag=16):
    """A piece of an encoded record that is too large for one frame body; the last one is marked."""

    data: Blob
    is_last: bool


class End(msgspec.Struct, frozen=True, array_like=True, tag=17):
    """The last record: the number of records before it, fragments counted singly.

    `signature` is the signer's over all before it (`content.py`).
    """

    count: Number
    signature: Blob | None = None


class ForgottenRecord(msgspec.Struct, frozen=True, array_like=True, tag=18):
    """Snapshots that are not shown any more and keep no archive; `at` is microseconds since 1970."""

    snapshots: list[Number]
    at: Signed


class TakenBackRecord(msgspec.Struct, frozen=True, array_like=True, tag=19):
    """Forgotten snapshots that are kept again."""

    snapshots: list[Number]


class RetiredRecord(msgspec.Struct, frozen=True, array_like=True, tag=20):
    """Pack ids of archives that are not built upon any more, though still needed."""

    packs: list[Id16]


class TakenUpRecord(msgspec.Struct, frozen=True, array_like=True, tag=21):
    """Pack ids of condemned or retired archives that are built upon again."""

    packs: list[Id16]


class MountsRecord(msgspec.Struct, frozen=True, array_like=True, tag=128):
    """All live entries (`pack_u64` of their numbers) that are mount points; a later one replaces it."""

    entries: Blob


class MarksRecord(msgspec.Struct, frozen=True, array_like=True, tag=129):
    """All tags and the pin of one snapshot; `until` (microseconds since 1970) ends the pin, None never."""

    snapshot: Number
    tags: list[str]
    pinned: bool
    note: str = ""
    until: Signed | None = None


class VerifiedRecord(msgspec.Struct, frozen=True, array_like=True, tag=130):
    """Pieces of an archive (`pack_u64`: begin and end of each) that were read back, or also opened, and good.

    `grade` is 1 for read back, 2 for opened; `at` is microseconds since 1970.
    """

    pack: Id16
    grade: Number
    pieces: Blob
    at: Signed


class ShrunkRecord(msgspec.Struct, frozen=True, array_like=True, tag=131):
    """A snapshot in which sources lost nearly everything; or, if accepted, it and all before it are right.

    `lost` are (source, files, bytes, files before, bytes before).
    """

    snapshot: Number
    lost: list[tuple[Blob, Number, Number, Number, Number]]
    accepted: bool = False


class DumpRecord(msgspec.Struct, frozen=True, array_like=True, tag=132):
    """What is known of the dump of a database that is the content of an entry.

    `back` are the words of the command that loads it. `tables` are the fewest and the most rows that each
    may have: the same number, unless it was written to meanwhile.
    """

    entry: Number
    engine: str
    database: str
    version: str = ""
    charset: str = ""
    back: list[str] = []
    tables: list[tuple[str, Number, Number]] = []


Record: TypeAlias = (
    Start
    | Secrets
    | VaultRecord
    | DomainRecord
    | SnapshotRecord
    | OwnerRecord
    | DirectoryRecord
    | EntryRecord
    | ClosedRecord
    | ArchiveRecord
    | FramesRecord
    | ChunksRecord
    | DroppedRecord
    | CondemnedRecord
    | ChainRecord
    | ForgottenRecord
    | TakenBackRecord
    | RetiredRecord
    | TakenUpRecord
    | MountsRecord
    | MarksRecord
    | VerifiedRecord
    | ShrunkRecord
    | DumpRecord
)


class ExtraRecord(msgspec.Struct, frozen=True, array_like=True):
    """An entry's `Extra`, kept as bytes inside the entry; it has no kind."""

    target: Blob
    device: Number
    link: Number
    flags: Number
    xattrs: list[tuple[Blob, Blob]]
    holes: Blob = b""  # packed u64
    acl_names: list[tuple[Number, Number, str]] = []
