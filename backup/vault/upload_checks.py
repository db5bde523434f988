"""The checks of a directory vault before it takes a part, a file or a whole upload."""

from __future__ import annotations

from collections.abc import Sequence

from backup.errors import IntegrityError, VaultError
from backup.format import treehash
from backup.format.treehash import MOST_PARTS
from backup.model import ArchiveId, Part, StoredPart, UploadId
from backup.vault import layout
from backup.vault.layout import ArchiveRecord, UploadRecord


def check_linked(upload: int, upload_id: UploadId, parts: Sequence[StoredPart]) -> None:
    """Raise `IntegrityError` unless each of these parts is in the linked file."""
    for part, tree_hash in zip(parts, layout.hash_linked(upload, parts), strict=True):
        if tree_hash != part.tree_hash:
            raise changed(upload_id, part.offset)


def check_linked_size(upload: int, upload_id: UploadId, parts: Sequence[StoredPart]) -> None:
    """Raise `IntegrityError` unless the linked file is as long as these parts together."""
    size = sum(part.length for part in parts)
    if layout.linked_size(upload) != size:
        raise IntegrityError(
            f"the file for upload {upload_id} has not the {size} bytes that were recorded",
            advice="memory or disk of this machine may be failing; the upload was not accepted",
        )


def changed(upload_id: UploadId, offset: int) -> IntegrityError:
    """The error for a part whose bytes differ from its recorded hash."""
    return IntegrityError(
        f"the part at {offset} of upload {upload_id} has other bytes than were recorded",
        advice="its bytes changed in spool or memory: check this machine's disk and memory",
    )


def check_place(part: Part, length: int, part_size: int) -> None:
    """Raise `VaultError` unless the part's offset and length fit parts of that size."""
    if length != part.length or not 1 <= length <= part_size or part.offset % part_size:
        raise VaultError(f"{length} bytes at {part.offset} do not fit into parts of {part_size} bytes")
    if not 0 <= part.offset // part_size < MOST_PARTS:
        raise VaultError(f"a part at {part.offset} is beyond {MOST_PARTS} parts of {part_size} bytes")


def check_whole(
    upload_id: UploadId, parts: Sequence[StoredPart], begun: UploadRecord, record: ArchiveRecord
) -> None:
    """Raise `IntegrityError` unless the parts are contiguous, `size` bytes long and have the tree hash
    together."""
    end = 0
    for part in parts:
        if part.offset != end or part.offset % begun.part_size:
            raise IntegrityError(f"upload {upload_id} has a gap before byte {part.offset}")
        end += part.length
    if not parts or end != record.size:
        raise IntegrityError(f"upload {upload_id} has {end} bytes, not {record.size}")
    combined = treehash.combine([part.tree_hash for part in parts if part.tree_hash])
    if combined.hex() != record.tree_hash:
        raise IntegrityError(f"the parts of upload {upload_id} do not give the tree hash {record.tree_hash}")


def check_repeated(archive_id: ArchiveId, kept: ArchiveRecord | None, record: ArchiveRecord) -> None:
    """Raise `IntegrityError` if the upload was completed before with another size or hash."""
    if kept and (kept.size, kept.tree_hash) != (record.size, record.tree_hash):
        raise IntegrityError(f"upload {archive_id} was completed before, with another size or hash")
