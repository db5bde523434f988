"""Labels, bytes and parts to send to a vault in tests."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

from blake3 import blake3

from backup.format.crc64 import crc64
from backup.format.treehash import combine, tree_hash
from backup.model import (
    MIB,
    ArchiveId,
    ArchiveLabel,
    ByteRange,
    Generation,
    InventoryId,
    PackId,
    PackKind,
    Part,
    Tier,
    TreeHash,
    UploadId,
)
from backup.protocols import Vault

_random = random.Random(7)

CATALOG = ArchiveLabel(PackKind.CATALOG, PackId(b"c" * 16), InventoryId(b"i" * 16), 12, Generation.FULL)


def some_label() -> ArchiveLabel:
    """A data pack's, each time another."""
    return ArchiveLabel(PackKind.DATA, PackId(_random.randbytes(16)), InventoryId(b"i" * 16))


def some_bytes(size: int) -> bytes:
    """Each time others; `randbytes` alone would take five times as long."""
    return blake3(_random.randbytes(16)).digest(size)


def cut(data: bytes, part_size: int = MIB) -> list[Part]:
    """All parts of an archive."""
    view = memoryview(data)
    return [part_of(view[at : at + part_size], at, part_size) for at in range(0, len(data), part_size)]


def part_hashes(view: bytes | memoryview, leaf: int = MIB) -> tuple[TreeHash, bytes]:
    """Tree hash and plain SHA-256 of a part, leaf by leaf so that the second pass finds it in the cache."""
    whole = hashlib.sha256()
    leaves: list[bytes] = []
    data = memoryview(view)
    for start in range(0, max(len(data), 1), leaf):
        piece = data[start : start + leaf]
        leaves.append(hashlib.sha256(piece).digest())
        whole.update(piece)
    return combine(leaves), whole.digest()


def part_of(body: bytes | memoryview, offset: int, part_size: int = MIB) -> Part:
    """One part with its hashes."""
    tag = hashlib.md5(body, usedforsecurity=False).hexdigest()
    return Part(offset, len(body), *part_hashes(body), offset // part_size + 1, crc64(body), tag)


def send(vault: Vault, upload_id: UploadId, data: bytes, parts: Sequence[Part]) -> None:
    """Put these parts in this order."""
    for part in parts:
        vault.put_part(upload_id, part, memoryview(data)[part.offset : part.offset + part.length])


def complete(vault: Vault, upload_id: UploadId, label: ArchiveLabel, data: bytes) -> ArchiveId:
    """Complete an upload that is meant to hold `data`."""
    parts = cut(data, vault.traits.smallest_part)
    return vault.complete_upload(upload_id, label, len(data), tree_hash(data), parts)


def store(vault: Vault, data: bytes, label: ArchiveLabel | None = None) -> ArchiveId:
    """A whole upload, in the smallest parts."""
    label, part_size = label or some_label(), vault.traits.smallest_part
    upload_id = vault.begin_upload(label, part_size)
    send(vault, upload_id, data, cut(data, part_size))
    return complete(vault, upload_id, label, data)


def read_directly(vault: Vault, archive_id: ArchiveId, size: int) -> bytes:
    """All of an archive of a vault that does not wait."""
    retrieval_id = vault.request_retrieval(archive_id, None, Tier.BULK, "t")
    return bytes(vault.fetch(retrieval_id, ByteRange(0, size)).data)
