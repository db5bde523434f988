"""The lists of a directory vault: of its archives, and of the marks of heirs; the ids of its retrievals.

A mark is an empty file `meta/<inventory>/heir-<…>`, known by its name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterator
from contextlib import suppress
from datetime import UTC, datetime

from backup.errors import VaultError
from backup.format import pack
from backup.format.enrolment import HeirMark
from backup.model import ArchiveId, ByteRange, InventoryId, ListedArchive, PackKind, RetrievalId, TreeHash
from backup.vault import dirfd, layout
from backup.vault.layout import Root

_META = "meta"
_RETRIEVAL = re.compile(r"([0-9a-f]{32}):([0-9]{1,18})-([0-9]{1,18})")


def retrieval_of(archive_id: ArchiveId, start: int, end: int) -> RetrievalId:
    """The id of a range of an archive, which says it all."""
    return RetrievalId(f"{archive_id}:{start}-{end}")


def parse_retrieval(retrieval_id: RetrievalId) -> tuple[ArchiveId, ByteRange] | None:
    """The inverse of `retrieval_of`; None for any other text."""
    found = _RETRIEVAL.fullmatch(retrieval_id)
    return (ArchiveId(found[1]), ByteRange(int(found[2]), int(found[3]))) if found else None


def archives_in(root: Root) -> Iterator[ListedArchive]:
    """Every archive, as a line of a list."""
    for archive_id, record in layout.all_archives(root):
        tree_hash = TreeHash(bytes.fromhex(record.tree_hash)) if record.tree_hash else None
        label = pack.parse_description(record.description)
        yield ListedArchive(archive_id, record.description, label, record.size, tree_hash, record.created_at)


def catalogs_in(
    root: Root, inventory_id: InventoryId, jobs: Container[bytes | None]
) -> Iterator[ListedArchive]:
    """The catalogs of an inventory, and those of these jobs by any inventory."""
    for line in archives_in(root):
        label = line.label
        if label is None or label.kind is not PackKind.CATALOG:
            continue
        if label.inventory_id == inventory_id or label.job_id in jobs:
            yield line


def is_mark(line: ListedArchive) -> bool:
    """Whether a line of a list is a mark, and no archive."""
    return line.label is None and HeirMark.from_text(line.description) is not None


def write_mark(root: Root, name: str) -> None:
    """Make a mark, durably; no effect if it is there."""
    mark = HeirMark.from_text(name)
    if mark is None:
        raise VaultError(f"{name[:40]} is not the name of a mark")
    _, folder, file = name.split("/")
    dirfd.make_directory(_META, dir_fd=root.fd)
    with dirfd.open_directory(_META, dir_fd=root.fd) as meta:
        dirfd.make_directory(folder, dir_fd=meta)
        with dirfd.open_directory(folder, dir_fd=meta) as below:
            if dirfd.file_size(file, dir_fd=below) is None:
                dirfd.write_file(file, b"", dir_fd=below)


def marks_in(root: Root, inventory_id: InventoryId | None = None) -> Iterator[ListedArchive]:
    """The marks of an inventory's heirs, or of all, as lines of a list."""
    with suppress(FileNotFoundError, NotADirectoryError), dirfd.open_directory(_META, dir_fd=root.fd) as meta:
        names = dirfd.names_in(meta) if inventory_id is None else [inventory_id.hex()]
        for folder in names:
            with (
                suppress(FileNotFoundError, NotADirectoryError),
                dirfd.open_directory(folder, dir_fd=meta) as below,
            ):
                yield from _marks(folder, below)


def _marks(folder: str, below: int) -> Iterator[ListedArchive]:
    for file in dirfd.names_in(below):
        name = f"{_META}/{folder}/{file}"
        if HeirMark.from_text(name) is not None and dirfd.file_size(file, dir_fd=below) == 0:
            made = os.stat(file, dir_fd=below, follow_symlinks=False).st_mtime
            yield ListedArchive(ArchiveId(name), name, None, 0, None, datetime.fromtimestamp(made, UTC))
