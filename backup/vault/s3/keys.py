"""The keys of archives in a bucket, and the ids derived from them; pure.

    <prefix>data/<inventory>/<pack id>                                        a data pack, in the cold class
    <prefix>meta/<inventory>/<job>/<number, 10 digits>-<full|delta>-<pack id>   a catalog, always readable
    <prefix>meta/<inventory>/vault-<32 hex digits>                            empty: identifies the vault
    <prefix>meta/<inventory>/heir-<…>                                         empty: the mark of an heir

Ids are in hex; the job's is the random id in its catalogs' headers, or zeros if a label has none. An
archive's id is its key without the prefix, so that a bucket can be copied elsewhere. An upload's id is the
service's own id, a colon, and that key; a retrieval's is the key, followed by the range if there is one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from backup.errors import FormatError
from backup.model import (
    ArchiveId,
    ArchiveLabel,
    ByteRange,
    Generation,
    InventoryId,
    PackId,
    PackKind,
    RetrievalId,
    UploadId,
)

META = "meta/"
DATA = "data/"
NO_ARCHIVES = ("reports/", "tasks/", "listings/", "kit/", "evidence/")
"""The prefixes of keys beside them that are no archives: passed over by everything (docs/format.md, 2.6)."""

_HEX = "[0-9a-f]{32}"
_KEY = re.compile(
    rf"data/(?P<data_inventory>{_HEX})/(?P<data_pack>{_HEX})"
    rf"|meta/(?P<inventory>{_HEX})/(?P<job>{_HEX})/(?P<number>[0-9]{{10}})-(?P<generation>full|delta)-(?P<pack>{_HEX})"
)
_IDENTITY = re.compile(rf"meta/(?P<inventory>{_HEX})/vault-(?P<token>{_HEX})")
_RANGE = re.compile(r"(?P<key>[^:]+)(?::(?P<start>[0-9]{1,18})-(?P<end>[0-9]{1,18}))?")
_NO_JOB = bytes(16)


def key_of(label: ArchiveLabel) -> ArchiveId:
    """The key, without the vault's prefix, of the archive with that label."""
    inventory, pack_id = label.inventory_id.hex(), label.pack_id.hex()
    if label.kind is PackKind.DATA:
        return ArchiveId(f"{DATA}{inventory}/{pack_id}")
    if label.generation is None or not 0 <= label.number < 10**10:
        raise FormatError("a catalog's label needs its generation and a number of at most ten digits")
    job, generation = (label.job_id or _NO_JOB).hex(), label.generation.name.lower()
    return ArchiveId(f"{META}{inventory}/{job}/{label.number:010}-{generation}-{pack_id}")


def is_passed_over(key: str) -> bool:
    """Whether a key (without the vault's prefix) cannot be an archive's, by its place."""
    return key.startswith(NO_ARCHIVES)


def label_of(key: str) -> ArchiveLabel | None:
    """The label encoded in a key; None when the key is not one of ours. Never raises."""
    found = _KEY.fullmatch(key)
    if found is None:
        return None
    if found["data_pack"]:
        inventory, pack_id = (bytes.fromhex(found[name]) for name in ("data_inventory", "data_pack"))
        return ArchiveLabel(PackKind.DATA, PackId(pack_id), InventoryId(inventory))
    inventory, pack_id, job = (bytes.fromhex(found[name]) for name in ("inventory", "pack", "job"))
    return ArchiveLabel(
        PackKind.CATALOG,
        PackId(pack_id),
        InventoryId(inventory),
        int(found["number"]),
        Generation[found["generation"].upper()],
        None if job == _NO_JOB else job,
    )


def catalogs_of(inventory_id: InventoryId) -> str:
    """The common prefix of an inventory's catalogs and of its identity object."""
    return f"{META}{inventory_id.hex()}/"


def identity_key(inventory_id: InventoryId, token: str = "") -> str:
    """The key of an inventory's identity object; without a token, the prefix of that key."""
    return f"{catalogs_of(inventory_id)}vault-{token}"


def token_of(key: str) -> str | None:
    """The token in the key of an identity object; None for any other key."""
    found = _IDENTITY.fullmatch(key)
    return found["token"] if found else None


def next_to_list(last: str, known: Mapping[bytes, int]) -> str:
    """The key after which to continue a list of an inventory's catalogs that has come to `last`.

    Catalogs of a job before its `known` number are skipped.
    """
    label = label_of(last)
    if label is None or label.job_id is None:
        return last
    newest = known.get(label.job_id, 0)
    return max(last, f"{catalogs_of(label.inventory_id)}{label.job_id.hex()}/{newest:010}")


def upload_id_of(key: ArchiveId, service_id: str) -> UploadId:
    """Our id for an upload."""
    return UploadId(f"{service_id}:{key}")


def parse_upload_id(upload_id: UploadId) -> tuple[ArchiveId, str] | None:
    """The key and the service's own id in our id of an upload; None if it is not one."""
    service_id, colon, key = upload_id.rpartition(":")
    return (ArchiveId(key), service_id) if colon and service_id and label_of(key) else None


def retrieval_id_of(key: ArchiveId, extent: ByteRange | None) -> RetrievalId:
    """Our id for a retrieval; the service gives none."""
    return RetrievalId(key if extent is None else f"{key}:{extent.start}-{extent.end}")


def parse_retrieval_id(retrieval_id: RetrievalId) -> tuple[ArchiveId, ByteRange | None] | None:
    """The key and the range (None: all of it) in our id of a retrieval; None if it is not one."""
    found = _RANGE.fullmatch(retrieval_id)
    if found is None or label_of(found["key"]) is None:
        return None
    extent = ByteRange(int(found["start"]), int(found["end"])) if found["start"] else None
    return ArchiveId(found["key"]), extent


def just_before(key: str) -> str:
    """A key just before `key`: a list that starts after it begins with `key`, if there are only our keys."""
    return key[:-1] + chr(ord(key[-1]) - 1) + "~"
