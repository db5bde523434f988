"""Entries of snapshots, and their places: values that several pages show."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum

from msgspec import Struct

from backup.app.money.prices import known_table
from backup.app.money.stats import terms_of
from backup.config import Config
from backup.format.catalog import decode_extra
from backup.format.rows import unpack_u32
from backup.inventory.content.entry_versions import Version
from backup.inventory.content.snapshots import Snapshot
from backup.inventory.pages.snapshot_pages import snapshots_of_prefix
from backup.inventory.questions import browsing
from backup.inventory.questions.browsing import HeldChunk, Output
from backup.inventory.records.runs import JobRow, find_job
from backup.inventory.store.connections import Transaction
from backup.inventory.store.times import micros, moment
from backup.model import EntryKind, Extra, JobName, Owner, PackKind, VaultName
from backup.web.guard.faults import BadParameterError, NotThereError
from backup.web.pages.parameters import job_of, snapshot_of
from backup.wording import shown_path

COLD = {"glacier", "s3:GLACIER", "s3:DEEP_ARCHIVE"}
"""Classes whose archives must be made readable first."""
MOST_CHUNKS = 10_000
MOST_BYTES = 4 * MOST_CHUNKS
Ready = dict[tuple[int, int], int]
"""Until when frames, by archive and number, are readable that a vault has made so."""


class Kind(StrEnum):
    """The kind of an entry."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    FIFO = "fifo"
    CHARACTER_DEVICE = "character-device"
    BLOCK_DEVICE = "block-device"


class Name(Struct, frozen=True):
    """A name or an absolute path in a snapshot, whose bytes may be anything.

    `text` is safe to show on one line: characters that are unprintable or reorder text are escaped.
    `raw` are the exact bytes, for an address (percent-encoded byte by byte), a form or JSON (docs/json.md).
    """

    raw: bytes

    @property
    def text(self) -> str:
        """The name as it is shown."""
        return shown_path(self.raw)


class Step(Struct, frozen=True):
    """A step of a path (breadcrumb): `name` is shown, `path` is its link."""

    name: Name
    path: Name


class EntryLine(Struct, frozen=True):
    """An entry of a directory. `mode` is as `ls` shows it, such as drwxr-xr-x.

    `owner` and `group` are names, or numbers as text if the name is unknown. `target` is a symlink's.
    `has_content`: it has bytes in archives.
    """

    name: Name
    path: Name
    kind: Kind
    mode: str
    owner: str
    group: str
    size: int
    mtime: datetime
    target: Name | None
    has_content: bool
    link: int  # entries of one hard-link group have the same number, 0 for none


class Place(Struct, frozen=True):
    """Bytes in a vault and storage class; `needs_thaw`: they must be retrieved before they can be read.

    `thawed_until`: all of them are readable until then, without a new retrieval; None if some are not.
    """

    vault: VaultName
    storage_class: str
    archives: int
    bytes: int
    needs_thaw: bool
    thawed_until: datetime | None


_KINDS = {
    EntryKind.FILE: (Kind.FILE, stat.S_IFREG),
    EntryKind.DIRECTORY: (Kind.DIRECTORY, stat.S_IFDIR),
    EntryKind.SYMLINK: (Kind.SYMLINK, stat.S_IFLNK),
    EntryKind.FIFO: (Kind.FIFO, stat.S_IFIFO),
    EntryKind.CHARACTER_DEVICE: (Kind.CHARACTER_DEVICE, stat.S_IFCHR),
    EntryKind.BLOCK_DEVICE: (Kind.BLOCK_DEVICE, stat.S_IFBLK),
}


def the_job(tx: Transaction, name: str) -> JobRow:
    """Return the job of that name. `NotThereError`."""
    found = find_job(tx, JobName(job_of(name)))
    if found is None:
        raise NotThereError("there is no such job")
    return found


def the_snapshot(tx: Transaction, words: str) -> Snapshot:
    """Return the snapshot with an id or its first digits, also a forgotten one. `NotThereError`."""
    found = snapshots_of_prefix(tx, snapshot_of(words))
    if not found:
        raise NotThereError("there is no such snapshot any more")
    if len(found) > 1:
        raise BadParameterError("several snapshots begin with these digits: give more")
    return found[0]


def kind_of(number: int) -> Kind:
    """Return the kind of an entry from its number."""
    return _KINDS[EntryKind(number)][0]


def mtime_of(nanoseconds: int) -> datetime:
    """Return a file's modification time, in UTC."""
    return moment(nanoseconds // 1000).astimezone(UTC)


def entry_line(version: Version, owners: Mapping[int, Owner]) -> EntryLine:
    """Return an entry as a line of a list."""
    kind, kind_bits = _KINDS[EntryKind(version.kind)]
    owner = owners.get(version.owner, Owner(0, 0, "?", "?"))
    extra = decode_extra(version.extra) or Extra()
    return EntryLine(
        name=Name(version.name),
        path=Name(version.path),
        kind=kind,
        mode=stat.filemode(version.mode | kind_bits),
        owner=owner.user or str(owner.uid),
        group=owner.group or str(owner.gid),
        size=version.size,
        mtime=mtime_of(version.mtime_ns),
        target=Name(extra.target) if kind is Kind.SYMLINK else None,
        has_content=version.content_id is not None,
        link=extra.link,
    )


def steps_of(path: bytes) -> list[Step]:
    """Return the steps of a path, from the root to the path itself."""
    found = [Step(Name(b"/"), Name(b"/"))]
    here = b""
    for name in filter(None, path.split(b"/")):
        here += b"/" + name
        found.append(Step(Name(name), Name(here)))
    return found


def places_of(tx: Transaction, config: Config, now: datetime, lists: Iterable[bytes]) -> list[Place]:
    """Return the places of the chunks in these lists; only the first 10,000 chunks count."""
    held = browsing.held_chunks(tx, numbers_in(lists))
    return summed(config, held, readable(tx, now, held))


def numbers_in(lists: Iterable[bytes]) -> list[int]:
    """Return the chunk numbers in packed lists, without duplicates, sorted; at most 10,000."""
    found: dict[int, None] = {}
    for packed in lists:
        room = MOST_CHUNKS - len(found)
        if room <= 0:
            break
        found.update(dict.fromkeys(unpack_u32(packed[: 4 * room])))
    return sorted(found)


def summed(config: Config, chunks: Sequence[HeldChunk], ready: Ready) -> list[Place]:
    """Return the chunks summed up by vault and storage class; `ready` is the result of `readable`."""
    grouped: dict[tuple[str, str], list[HeldChunk]] = {}
    for chunk in chunks:
        grouped.setdefault((chunk.vault, class_of(config, chunk.vault, chunk.kind)), []).append(chunk)
    return [_place(vault, name, chunks_of, ready) for (vault, name), chunks_of in sorted(grouped.items())]


def class_of(config: Config, vault: str, kind: int) -> str:
    """Return the storage class of a vault's packs of a kind; "unknown" if the vault is not in the config."""
    settings = next((candidate for candidate in config.vaults if candidate.name == vault), None)
    if settings is None:
        return "unknown"
    return terms_of(config, known_table(config), settings).classes[PackKind(kind)]


def _place(vault: str, name: str, chunks: Sequence[HeldChunk], ready: Ready) -> Place:
    is_cold = name in COLD
    until = [ready.get((chunk.archive, chunk.frame)) for chunk in chunks] if is_cold else []
    known = [timestamp for timestamp in until if timestamp is not None]
    return Place(
        vault=VaultName(vault),
        storage_class=name,
        archives=len({chunk.archive for chunk in chunks}),
        bytes=sum(chunk.bytes for chunk in chunks),
        needs_thaw=is_cold,
        thawed_until=moment(min(known)) if known and len(known) == len(until) else None,
    )


def readable(tx: Transaction, now: datetime, chunks: Sequence[HeldChunk]) -> Ready:
    """Return until when each frame is readable, of those that the vault has made readable."""
    if not chunks:
        return {}
    found: dict[int, list[Output]] = {}
    for output in browsing.outputs(tx, sorted({chunk.archive for chunk in chunks}), micros(now)):
        found.setdefault(output.archive, []).append(output)
    ready: Ready = {}
    for held in chunks:
        if held.offset is None or held.length is None or (held.archive, held.frame) in ready:
            continue
        end = held.offset + held.length
        outputs = found.get(held.archive, ())
        ends = [output.until for output in outputs if output.start <= held.offset and end <= output.end]
        if ends:
            ready[held.archive, held.frame] = max(ends)
    return ready
