"""The files of a directory vault. Every change is atomic: a crash leaves a whole upload or a whole archive.

    nightvault-vault.json           marks the vault, as opposed to an empty mount point: `marker.py`
    uploads/<id>/upload.json        description, part size, start
    uploads/<id>/data               the parts, each at its offset
    uploads/<id>/data.new           a hard link to a whole file, until it is renamed to `data`
    uploads/<id>/parts              a line for each part whose bytes are on the disk
    archives/<2 hex>/<id>           an archive: the renamed `data`
    archives/<2 hex>/<id>.json      its description, size, tree hash and date, written before the rename

An archive has the id of its upload, so completing twice gives the same answer. Ids are 32 hex digits. An
upload exists if its `data` does, an archive exists if its bytes do: the small files do not decide that.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import groupby
from typing import Annotated, TypeVar

import msgspec
from msgspec import Struct

from backup.errors import (
    ArchiveMissingError,
    ArchiveUnreadableError,
    IntegrityError,
    UploadExpiredError,
)
from backup.files import sync_directory
from backup.format.treehash import TreeHasher
from backup.model import MIB, ArchiveId, ByteRange, FileStamp, StoredPart, TreeHash, UploadId
from backup.page_cache import forget
from backup.safe_paths import held_folder
from backup.vault import dirfd
from backup.vault.rate_limit import UNLIMITED, AnyRateLimit, slices

_LARGEST_NOTES = 16 * MIB  # of 10,000 parts about one
_LINKED = "data.new"  # a file that becomes `data`
_ID = re.compile(r"[0-9a-f]{32}")
_SHELF = re.compile(r"[0-9a-f]{2}")
_PART = re.compile(rb"([0-9]{1,16}) ([0-9]{1,16}) ([0-9a-f]{64})")
_FORGOTTEN = re.compile(rb"([0-9]{1,16}) forgotten")


class UploadRecord(msgspec.Struct, frozen=True):
    """The parameters with which an upload was begun."""

    description: str
    part_size: int
    started_at: Annotated[datetime, msgspec.Meta(tz=True)]


class ArchiveRecord(msgspec.Struct, frozen=True):
    """The values with which an archive was completed; the tree hash is in hex, empty if no longer known."""

    description: str
    size: int
    tree_hash: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    created_at: Annotated[datetime, msgspec.Meta(tz=True)]


class Root(Struct, frozen=True):
    """The open directory of a vault, and its path for messages."""

    fd: int
    path: str


_Record = TypeVar("_Record", UploadRecord, ArchiveRecord)


def _read_record(name: str, kind: type[_Record], dir_fd: int) -> _Record | None:
    """The record in a small JSON file; None when it cannot be parsed."""
    try:
        return msgspec.json.decode(dirfd.read_file(name, dir_fd=dir_fd), type=kind)
    except msgspec.DecodeError:
        return None


def _write_record(name: str, record: msgspec.Struct, dir_fd: int) -> None:
    dirfd.write_file(name, msgspec.json.encode(record), dir_fd=dir_fd)


# Uploads.


def make_upload(root: Root, upload_id: UploadId, record: UploadRecord) -> None:
    """Begin an upload: its directory is prepared under a temporary name and then renamed."""
    new = f".new-{upload_id}"
    with dirfd.open_directory("uploads", dir_fd=root.fd) as uploads:
        os.mkdir(new, 0o700, dir_fd=uploads)
        with dirfd.open_directory(new, dir_fd=uploads) as fd:
            for name in ("data", "parts"):
                with dirfd.open_file(name, os.O_WRONLY | os.O_CREAT, dir_fd=fd):
                    pass
            _write_record("upload.json", record, fd)
        os.rename(new, upload_id, src_dir_fd=uploads, dst_dir_fd=uploads)
        sync_directory(uploads)


def upload_ids(root: Root) -> list[UploadId]:
    """The names in `uploads/` that have the form of an id."""
    with dirfd.open_directory("uploads", dir_fd=root.fd) as uploads:
        return [UploadId(name) for name in dirfd.names_in(uploads) if _ID.fullmatch(name)]


@contextmanager
def open_upload(root: Root, upload_id: UploadId) -> Iterator[tuple[int, UploadRecord]]:
    """The directory and record of an upload; `UploadExpiredError` when there is none of that id."""
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


def write_part(upload: int, part: StoredPart, body: memoryview, limit: AnyRateLimit = UNLIMITED) -> None:
    """Write a part, sync it, then note it in `parts`: every part that `read_parts` lists survives a power
    cut.

    The note itself needs no sync: losing it costs only sending the part again. An earlier note on the same
    offset is revoked, durably, before its bytes are overwritten.
    """
    with dirfd.open_file("parts", os.O_RDWR | os.O_APPEND, dir_fd=upload) as notes:
        if b"\n%d " % part.offset in _notes(notes):
            os.write(notes, b"\n%d forgotten\n" % part.offset)
            os.fsync(notes)
        with dirfd.open_file("data", os.O_WRONLY, dir_fd=upload) as data:
            for start, end in slices(body.nbytes, limit):
                dirfd.write_at(data, body.cast("B")[start:end], part.offset + start)
            os.fdatasync(data)
        os.write(notes, _note(part))


def link_file(upload: int, path: str) -> bool:
    """Hard-link a file into an upload, beside its data; False if that is not possible."""
    drop_linked(upload)
    try:
        with held_folder(path) as (folder, name):
            os.link(name, _LINKED, src_dir_fd=folder, dst_dir_fd=upload, follow_symlinks=False)
    except OSError:
        return False  # another file system, one without links, no such file: sending parts will report it
    if linked_size(upload) is not None:
        return True
    drop_linked(upload)
    return False


def linked_size(upload: int) -> int | None:
    """The size of the linked file; None if it is no regular file."""
    return dirfd.file_size(_LINKED, dir_fd=upload)


def linked_stamp(upload: int) -> FileStamp:
    """The stamp of the linked file."""
    return FileStamp.of(os.stat(_LINKED, dir_fd=upload, follow_symlinks=False))


def hash_linked(upload: int, parts: Sequence[StoredPart]) -> Iterator[TreeHash]:
    """The tree hash of the linked file's bytes at the offset of each part."""
    room = memoryview(bytearray(MIB))
    with dirfd.open_file(_LINKED, os.O_RDONLY, dir_fd=upload) as file:
        for part in parts:
            hasher = TreeHasher()
            for start in range(part.offset, part.offset + part.length, MIB):
                piece = room[: part.offset + part.length - start]
                hasher.update(piece[: os.preadv(file, [piece], start)])
            yield hasher.digest()


def adopt_linked(upload: int, parts: Sequence[StoredPart]) -> None:
    """Rename the linked file to the upload's data, durably, then note its parts."""
    with dirfd.open_file(_LINKED, os.O_RDONLY, dir_fd=upload) as file:
        os.fdatasync(file)  # the spool synced it already, but some file systems make a copy for a link
        forget(file)
    os.rename(_LINKED, "data", src_dir_fd=upload, dst_dir_fd=upload)
    sync_directory(upload)
    with dirfd.open_file("parts", os.O_WRONLY | os.O_APPEND, dir_fd=upload) as notes:
        os.write(notes, b"".join(map(_note, parts)))


def drop_linked(upload: int) -> None:
    """Remove the hard link again."""
    dirfd.remove(_LINKED, dir_fd=upload)


def _note(part: StoredPart) -> bytes:
    return b"\n%d %d %s\n" % (part.offset, part.length, (part.tree_hash or b"").hex().encode())


def read_parts(upload: int) -> list[StoredPart]:
    """The noted parts, by offset; a line that a power cut left incomplete is ignored."""
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
    return dirfd.read_at(fd, min(os.fstat(fd).st_size, _LARGEST_NOTES), 0)


def remove_upload(root: Root, upload_id: UploadId) -> None:
    """Remove an upload's files, the data first; no error when it does not exist."""
    if not _ID.fullmatch(upload_id):
        return
    with suppress(FileNotFoundError), dirfd.open_directory("uploads", dir_fd=root.fd) as uploads:
        with dirfd.open_directory(upload_id, dir_fd=uploads) as fd:
            for entry in ("data", _LINKED, "parts", "upload.json", "upload.json.new"):
                dirfd.remove(entry, dir_fd=fd)
        os.rmdir(upload_id, dir_fd=uploads)
        sync_directory(uploads)


# Archives.


def make_archive(root: Root, upload_id: UploadId, record: ArchiveRecord) -> None:
    """Turn the data of an upload into an archive: sync the bytes, write the record, then rename."""
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
            sync_directory(shelf)
            sync_directory(upload)


def archive_size(root: Root, archive_id: ArchiveId) -> int | None:
    """The size of an archive; None when there is no such archive."""
    if not _ID.fullmatch(archive_id):
        return None
    try:
        with dirfd.open_directory("archives", archive_id[:2], dir_fd=root.fd) as shelf:
            return dirfd.file_size(archive_id, dir_fd=shelf)
    except FileNotFoundError:
        return None


def read_archive(
    root: Root, archive_id: ArchiveId, extent: ByteRange, limit: AnyRateLimit = UNLIMITED
) -> bytes:
    """Exactly these bytes of an archive. `ArchiveMissingError`; `IntegrityError` when the file ends too soon.

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
                for start, end in slices(extent.length, limit)
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
    """The record of an archive; None when it is missing or cannot be parsed."""
    with (
        suppress(FileNotFoundError),
        dirfd.open_directory("archives", archive_id[:2], dir_fd=root.fd) as shelf,
    ):
        return _read_record(f"{archive_id}.json", ArchiveRecord, shelf)
    return None


def holds_archives(root: Root) -> bool:
    """Whether there is any archive, whatever else of the vault is there."""
    with suppress(FileNotFoundError):
        return next(all_archives(root), None) is not None
    return False


def all_archives(root: Root) -> Iterator[tuple[ArchiveId, ArchiveRecord]]:
    """Every archive with its record; for a damaged or wrong record, one made from the file's size and
    date."""
    with dirfd.open_directory("archives", dir_fd=root.fd) as archives:
        for shelf_name in filter(_SHELF.fullmatch, dirfd.names_in(archives)):
            with dirfd.open_directory(shelf_name, dir_fd=archives) as shelf:
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


def remove_archives(root: Root, archive_ids: Iterable[ArchiveId]) -> list[ArchiveId]:
    """Remove archives and their records, durably, and return those that the file system protects (EPERM).

    No error for an archive that does not exist. Each directory is synced once, since that takes longest.
    """
    kept: list[ArchiveId] = []
    ours = sorted(filter(_ID.fullmatch, archive_ids))
    for shelf_name, ids in groupby(ours, key=lambda archive_id: archive_id[:2]):
        with (
            suppress(FileNotFoundError),
            dirfd.open_directory("archives", shelf_name, dir_fd=root.fd) as shelf,
        ):
            kept += [archive_id for archive_id in ids if not _remove_archive(shelf, archive_id)]
            sync_directory(shelf)
    return kept


def _remove_archive(shelf: int, archive_id: ArchiveId) -> bool:
    """Remove an archive, then its record; False if the file system protects the archive."""
    try:
        dirfd.remove(archive_id, dir_fd=shelf)
    except PermissionError as error:
        if error.errno != errno.EPERM:  # EACCES: this user may not delete here at all
            raise
        return False
    with suppress(PermissionError):  # a record alone is no archive
        dirfd.remove(f"{archive_id}.json", dir_fd=shelf)
    return True
