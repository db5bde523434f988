"""The files of a directory vault: what is cut short leaves an upload or an archive, never half of one.

    nightvault-vault.json           says that this is the vault, and not the empty place where it gets mounted
    uploads/<id>/upload.json        description, part size, start
    uploads/<id>/data               the parts, each at its offset
    uploads/<id>/data.new           a whole file by a second name, until it is `data`
    uploads/<id>/parts              a line for each part whose bytes are on the disk
    archives/<2 hex>/<id>           an archive: what was `data`, renamed
    archives/<2 hex>/<id>.json      its description, size, tree hash and date, written before it gets its name

An archive has the id of its upload, so that completing twice gives the same answer. Ids are 32 hex digits.
An upload is there if its `data` is, an archive is there if its bytes are: the small files decide nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import msgspec

from backup.errors import (
    ArchiveMissingError,
    ArchiveUnreadableError,
    IntegrityError,
    UploadExpiredError,
    VaultError,
    VaultMissingError,
)
from backup.format.treehash import TreeHasher
from backup.model import MIB, ArchiveId, ByteRange, StoredPart, TreeHash, UploadId
from backup.page_cache import forget
from backup.vault import dirfd
from backup.vault.rate_limit import UNLIMITED, AnyRateLimit, slices

MARKER = "nightvault-vault.json"
LAYOUT = 1

_LINKED = "data.new"  # a file that becomes `data`
_ID = re.compile(r"[0-9a-f]{32}")
_SHELF = re.compile(r"[0-9a-f]{2}")
_PART = re.compile(rb"([0-9]{1,16}) ([0-9]{1,16}) ([0-9a-f]{64})")
_FORGOTTEN = re.compile(rb"([0-9]{1,16}) forgotten")


class Marker(msgspec.Struct, frozen=True):
    """What the marker file says; the id tells one vault from another."""

    layout: int
    id: str
    created_at: datetime


class UploadRecord(msgspec.Struct, frozen=True):
    """What an upload was begun with."""

    description: str
    part_size: int
    started_at: datetime


class ArchiveRecord(msgspec.Struct, frozen=True):
    """What an archive was completed with; the tree hash in hex, empty when nobody knows it any more."""

    description: str
    size: int
    tree_hash: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Root:
    """The open directory of a vault, and its path for messages."""

    fd: int
    path: str


_Record = TypeVar("_Record", Marker, UploadRecord, ArchiveRecord)


def _read_record(name: str, kind: type[_Record], dir_fd: int) -> _Record | None:
    """A small JSON file, None when it cannot be understood."""
    try:
        return msgspec.json.decode(dirfd.read_file(name, dir_fd=dir_fd), type=kind)
    except msgspec.DecodeError:
        return None


def _write_record(name: str, record: msgspec.Struct, dir_fd: int) -> None:
    dirfd.write_file(name, msgspec.json.encode(record), dir_fd=dir_fd)


# The vault.


def write_marker(root: Root, marker: Marker) -> None:
    """Make a directory a vault: the marker comes last; no effect if it is there."""
    if dirfd.file_size(MARKER, dir_fd=root.fd) is None:
        dirfd.make_directory("archives", dir_fd=root.fd)
        dirfd.make_directory("uploads", dir_fd=root.fd)
        _write_record(MARKER, marker, root.fd)


def read_marker(root: Root) -> Marker:
    """The marker. `VaultMissingError` without one, `VaultError` for one that is not ours to understand."""
    try:
        marker = _read_record(MARKER, Marker, root.fd)
    except FileNotFoundError as error:
        raise VaultMissingError(
            f"there is no vault in {root.path}: it has no {MARKER}",
            advice=f"mount the disk that belongs at {root.path}; for a new vault run `nightvault init`",
        ) from error
    if marker is None or marker.layout != LAYOUT:
        raise VaultError(
            f"{root.path}/{MARKER} is damaged, or from another version",
            advice="use the nightvault that made this vault, or a newer one",
        )
    return marker


# Uploads.


def make_upload(root: Root, upload_id: UploadId, record: UploadRecord) -> None:
    """Begin an upload; it gets its name only once all that it needs is there."""
    new = f".new-{upload_id}"
    with dirfd.open_directory("uploads", dir_fd=root.fd) as uploads:
        os.mkdir(new, 0o700, dir_fd=uploads)
        with dirfd.open_directory(new, dir_fd=uploads) as fd:
            for each in ("data", "parts"):
                with dirfd.open_file(each, os.O_WRONLY | os.O_CREAT, dir_fd=fd):
                    pass
            _write_record("upload.json", record, fd)
        os.rename(new, upload_id, src_dir_fd=uploads, dst_dir_fd=uploads)
        os.fsync(uploads)


def upload_ids(root: Root) -> list[UploadId]:
    """The ids that may be uploads."""
    with dirfd.open_directory("uploads", dir_fd=root.fd) as uploads:
        return [UploadId(name) for name in dirfd.names_in(uploads) if _ID.fullmatch(name)]


@contextmanager
def open_upload(root: Root, upload_id: UploadId) -> Iterator[tuple[int, UploadRecord]]:
    """An upload's directory and record; `UploadExpiredError` when there is no such upload."""
    unknown = UploadExpiredError(f"vault {root.path} knows no upload {upload_id}")
    if not _ID.fullmatch(upload_id):
        raise unknown
    try:
        with dirfd.open_directory("uploads", upload_id, dir_fd=root.fd) as fd:
            record = _read_record("upload.json", UploadRecord, fd)
            if record is None or dirfd.file_size("data", dir_fd=fd) is None:
                raise unknown
            yield fd, record
    except FileNotFoundError as error:
        raise unknown from error


def write_part(upload: int, part: StoredPart, body: memoryview, pace: AnyRateLimit = UNLIMITED) -> None:
    """Write a part, sync it, then note it: what `read_parts` names survives a power cut.

    The note itself needs no sync: a lost one costs sending the part again. What an earlier note says of the
    same place is taken back, durably, before its bytes are touched.
    """
    with dirfd.open_file("parts", os.O_RDWR | os.O_APPEND, dir_fd=upload) as notes:
        if b"\n%d " % part.offset in _notes(notes):
            os.write(notes, b"\n%d forgotten\n" % part.offset)
            os.fsync(notes)
        with dirfd.open_file("data", os.O_WRONLY, dir_fd=upload) as data:
            for start, end in slices(body.nbytes, pace):
                dirfd.write_at(data, body.cast("B")[start:end], part.offset + start)
            os.fdatasync(data)
        os.write(notes, _note(part))


def link_file(upload: int, path: str) -> bool:
    """Give a file a second name in an upload, beside its data; False if it cannot be had so."""
    drop_linked(upload)
    try:
        os.link(path, _LINKED, dst_dir_fd=upload, follow_symlinks=False)
    except OSError:
        return False  # another file system, one without links, no such file: who sends parts will know
    if linked_size(upload) is not None:
        return True
    drop_linked(upload)
    return False


def linked_size(upload: int) -> int | None:
    """The bytes of the linked file, None if it is no file."""
    return dirfd.file_size(_LINKED, dir_fd=upload)


def hash_linked(upload: int, parts: Sequence[StoredPart]) -> Iterator[TreeHash]:
    """The tree hash of what the linked file holds in the place of each part."""
    room = memoryview(bytearray(MIB))
    with dirfd.open_file(_LINKED, os.O_RDONLY, dir_fd=upload) as file:
        for part in parts:
            hasher = TreeHasher()
            for start in range(part.offset, part.offset + part.length, MIB):
                piece = room[: part.offset + part.length - start]
                hasher.update(piece[: os.preadv(file, [piece], start)])
            yield hasher.digest()


def adopt_linked(upload: int, parts: Sequence[StoredPart]) -> None:
    """Make the linked file the upload's data, durably, then note its parts."""
    with dirfd.open_file(_LINKED, os.O_RDONLY, dir_fd=upload) as file:
        os.fdatasync(file)  # as it is already, but where links are copies
        forget(file)
    os.rename(_LINKED, "data", src_dir_fd=upload, dst_dir_fd=upload)
    os.fsync(upload)
    with dirfd.open_file("parts", os.O_WRONLY | os.O_APPEND, dir_fd=upload) as notes:
        os.write(notes, b"".join(map(_note, parts)))


def drop_linked(upload: int) -> None:
    """Take the second name back."""
    dirfd.remove(_LINKED, dir_fd=upload)


def _note(part: StoredPart) -> bytes:
    return b"\n%d %d %s\n" % (part.offset, part.length, (part.tree_hash or b"").hex().encode())


def read_parts(upload: int) -> list[StoredPart]:
    """The parts noted, by offset; a line that a power cut tore is as good as none."""
    with dirfd.open_file("parts", os.O_RDONLY, dir_fd=upload) as notes:
        text = _notes(notes)
    parts: dict[int, StoredPart] = {}
    for line in text.split(b"\n"):
        if noted := _PART.fullmatch(line):
            offset, tree_hash = int(noted[1]), TreeHash(bytes.fromhex(noted[3].decode()))
            parts[offset] = StoredPart(offset, int(noted[2]), tree_hash)
        elif forgotten := _FORGOTTEN.fullmatch(line):
            parts.pop(int(forgotten[1]), None)
    return [parts[offset] for offset in sorted(parts)]


def _notes(fd: int) -> bytes:
    return dirfd.read_at(fd, os.fstat(fd).st_size, 0)


def remove_upload(root: Root, upload_id: UploadId) -> None:
    """Remove an upload's files, the data first; no error when it is gone already."""
    if not _ID.fullmatch(upload_id):
        return
    with suppress(FileNotFoundError), dirfd.open_directory("uploads", dir_fd=root.fd) as uploads:
        with dirfd.open_directory(upload_id, dir_fd=uploads) as fd:
            for each in ("data", _LINKED, "parts", "upload.json", "upload.json.new"):
                dirfd.remove(each, dir_fd=fd)
        os.rmdir(upload_id, dir_fd=uploads)
        os.fsync(uploads)


# Archives.


def make_archive(root: Root, upload_id: UploadId, record: ArchiveRecord) -> None:
    """Turn the data of an upload into an archive: the bytes synced, the record in place, then the name."""
    shelf_name = upload_id[:2]
    with (
        dirfd.open_directory("archives", dir_fd=root.fd) as archives,
        dirfd.open_directory("uploads", upload_id, dir_fd=root.fd) as upload,
    ):
        dirfd.make_directory(shelf_name, dir_fd=archives)
        with dirfd.open_directory(shelf_name, dir_fd=archives) as shelf:
            with dirfd.open_file("data", os.O_RDWR, dir_fd=upload) as data:
                os.fsync(data)
            _write_record(f"{upload_id}.json", record, shelf)
            os.rename("data", upload_id, src_dir_fd=upload, dst_dir_fd=shelf)
            os.fsync(shelf)
            os.fsync(upload)


def archive_size(root: Root, archive_id: ArchiveId) -> int | None:
    """How many bytes an archive has, None when there is no such archive."""
    if not _ID.fullmatch(archive_id):
        return None
    try:
        with dirfd.open_directory("archives", archive_id[:2], dir_fd=root.fd) as shelf:
            return dirfd.file_size(archive_id, dir_fd=shelf)
    except FileNotFoundError:
        return None


def read_archive(
    root: Root, archive_id: ArchiveId, extent: ByteRange, pace: AnyRateLimit = UNLIMITED
) -> bytes:
    """Exactly these bytes; `ArchiveMissingError`, `IntegrityError` when the file ends too soon.

    `ArchiveUnreadableError` when the disk cannot read it.
    """
    try:
        with (
            dirfd.failing_as_archive(archive_id, root.path),
            dirfd.open_directory("archives", archive_id[:2], dir_fd=root.fd) as shelf,
            dirfd.open_file(archive_id, os.O_RDONLY, dir_fd=shelf) as archive,
        ):
            pieces = [
                dirfd.read_at(archive, end - start, extent.start + start)
                for start, end in slices(extent.length, pace)
            ]
            if extent.length >= MIB:
                forget(archive, extent.start, extent.length)
    except FileNotFoundError as error:
        raise ArchiveMissingError(f"vault {root.path} has no archive {archive_id}") from error
    data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    if len(data) != extent.length:
        raise IntegrityError(
            f"archive {archive_id} in {root.path} ends before byte {extent.end}: it was cut short",
            advice="check the file system; bring the file back from a copy of this vault if there is one",
        )
    return data


def archive_record(root: Root, archive_id: ArchiveId) -> ArchiveRecord | None:
    """What an archive was completed with, None when that cannot be told."""
    with (
        suppress(FileNotFoundError),
        dirfd.open_directory("archives", archive_id[:2], dir_fd=root.fd) as shelf,
    ):
        return _read_record(f"{archive_id}.json", ArchiveRecord, shelf)
    return None


def all_archives(root: Root) -> Iterator[tuple[ArchiveId, ArchiveRecord]]:
    """Every archive with its record; where that is damaged or wrong, what the file system knows of it."""
    with dirfd.open_directory("archives", dir_fd=root.fd) as archives:
        for each in filter(_SHELF.fullmatch, dirfd.names_in(archives)):
            with dirfd.open_directory(each, dir_fd=archives) as shelf:
                for name in filter(_ID.fullmatch, dirfd.names_in(shelf)):
                    with suppress(FileNotFoundError):  # deleted meanwhile
                        yield ArchiveId(name), _record_or_guess(name, shelf)


def _record_or_guess(name: str, shelf: int) -> ArchiveRecord:
    found = os.stat(name, dir_fd=shelf, follow_symlinks=False)
    record = None
    with suppress(FileNotFoundError, ArchiveUnreadableError), dirfd.failing_as_archive(name, "the vault"):
        record = _read_record(f"{name}.json", ArchiveRecord, shelf)
    if record and record.size == found.st_size:
        return record
    if record:  # cut short or grown: the hash says nothing of these bytes
        return msgspec.structs.replace(record, size=found.st_size, tree_hash="")
    return ArchiveRecord("", found.st_size, "", datetime.fromtimestamp(found.st_mtime, UTC))


def remove_archive(root: Root, archive_id: ArchiveId) -> None:
    """Remove an archive and its record, durably; no error when it is gone already."""
    if not _ID.fullmatch(archive_id):
        return
    with (
        suppress(FileNotFoundError),
        dirfd.open_directory("archives", archive_id[:2], dir_fd=root.fd) as shelf,
    ):
        dirfd.remove(archive_id, dir_fd=shelf)
        dirfd.remove(f"{archive_id}.json", dir_fd=shelf)
        os.fsync(shelf)
