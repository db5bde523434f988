"""Parse S3's answers: restores, parts, uploads, lists; pure.

Sources: Amazon S3 API reference (HeadObject, ListObjectsV2, ListParts) and user guide, "Restoring an
archived object".
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from backup.errors import IntegrityError
from backup.format import pack
from backup.format.enrolment import HeirMark
from backup.format.treehash import combine
from backup.model import (
    ArchiveId,
    ByteRange,
    ListedArchive,
    PackKind,
    Part,
    RetrievalState,
    RetrievalStatus,
    StoredPart,
    TreeHash,
)
from backup.vault.s3.keys import label_of

FROZEN = frozenset({"GLACIER", "DEEP_ARCHIVE"})
"""The storage classes whose objects must be retrieved before they can be read."""

SENT_AS = "nightvault-class"
"""The user metadata that says in which class an object was stored: a rule that moves it leaves that."""

EXPIRED = RetrievalStatus(RetrievalState.EXPIRED)
WAITING = RetrievalStatus(RetrievalState.WAITING)
READY = RetrievalStatus(RetrievalState.READY)

_PAIR = re.compile(r'\s*([A-Za-z-]+)\s*=\s*"([^"]*)"\s*(?:,|$)')  # a date has a comma of its own


def parse_restore(header: str) -> tuple[bool, datetime | None]:
    """Parse an `x-amz-restore` header: whether a restore is under way, and until when the copy is kept."""
    values = {name.lower(): value for name, value in _PAIR.findall(header)}
    expiry = values.get("expiry-date")
    return values.get("ongoing-request", "").lower() == "true", _date(expiry) if expiry else None


def _date(text: str) -> datetime | None:
    try:
        return parsedate_to_datetime(text).astimezone(UTC)
    except (ValueError, TypeError):
        return None


def status_of_head(head: Mapping[str, Any]) -> RetrievalStatus:
    """The status of an object's retrieval by HeadObject, which is authoritative."""
    if not is_frozen(head):
        return READY
    if not head.get("Restore"):
        return EXPIRED
    ongoing, expires_at = parse_restore(head["Restore"])
    return WAITING if ongoing else _ready_until(expires_at)


def status_of_line(line: Mapping[str, Any]) -> RetrievalStatus | None:
    """The status of an object's retrieval by an item of a list with RestoreStatus; None if it has none."""
    if not is_frozen(line):
        return READY
    told = line.get("RestoreStatus")
    if not told:
        return None
    return WAITING if told.get("IsRestoreInProgress") else _ready_until(told.get("RestoreExpiryDate"))


def _ready_until(when: datetime | None) -> RetrievalStatus:
    message = f"kept until {when:%Y-%m-%d %H:%M} UTC" if when else ""
    return RetrievalStatus(RetrievalState.READY, message)


def is_frozen(answer: Mapping[str, Any]) -> bool:
    """Whether an object must be retrieved before it can be read, by the storage class in an answer."""
    return answer.get("StorageClass", "STANDARD") in FROZEN or bool(answer.get("ArchiveStatus"))


def listed(line: Mapping[str, Any], prefix: str) -> ListedArchive:
    """One item of ListObjectsV2 as a value; the description is made from the key, and S3 has no tree hash.

    That of a mark of an heir, an empty object, is its key.
    """
    key = line["Key"].removeprefix(prefix)
    label = label_of(key)
    is_mark = label is None and line["Size"] == 0 and HeirMark.from_text(key) is not None
    description = pack.describe(label) if label else key * is_mark
    return ListedArchive(
        ArchiveId(key), description, label, line["Size"], None, line["LastModified"], tag_of(line)
    )


def is_catalog_or_mark(line: ListedArchive) -> bool:
    """Whether a line is a catalog's, or a mark of an heir."""
    if line.label is None:
        return HeirMark.from_text(line.description) is not None
    return line.label.kind is PackKind.CATALOG


def stored_part(answer: Mapping[str, Any], part_size: int) -> StoredPart:
    """One item of ListParts as a value."""
    crc = answer.get("ChecksumCRC64NVME")
    offset = (answer["PartNumber"] - 1) * part_size
    return StoredPart(offset, answer["Size"], None, decode_crc(crc) if crc else None, tag_of(answer))


def tag_of(answer: Mapping[str, Any]) -> str:
    """The ETag in an answer; empty where there is none. Of a part it is the MD5, unless a KMS encrypts."""
    return str(answer.get("ETag") or "").strip('"')


def whole_tag(tags: Sequence[str]) -> str:
    """The ETag of an object of parts with these; empty if one is not known or no MD5.

    Nobody can make another object with the same ETag: that would need a second preimage of MD5.
    """
    try:
        joined = b"".join(map(bytes.fromhex, tags))
    except ValueError:
        return ""
    if not tags or not all(tags):
        return ""
    return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(tags)}"


def encode_crc(value: int) -> str:
    """A CRC as S3 writes it: big-endian, in base64."""
    return base64.b64encode(value.to_bytes(8, "big")).decode()


def decode_crc(text: str) -> int | None:
    """Parse a CRC as S3 writes it; None for anything else, such as some services' checksum of checksums."""
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return int.from_bytes(raw, "big") if len(raw) == 8 else None


def check_parts(doing: str, size: int, tree_hash: TreeHash, parts: Sequence[Part]) -> None:
    """Raise `IntegrityError` unless the parts are contiguous, `size` bytes long and have that tree hash
    together."""
    end = 0
    for number, part in enumerate(parts, 1):
        if (part.offset, part.number) != (end, number):
            raise IntegrityError(f"cannot {doing}: there is a gap before byte {part.offset}")
        end += part.length
    if not parts or end != size:
        raise IntegrityError(f"cannot {doing}: its parts have {end} bytes, not {size}")
    if combine([part.tree_hash for part in parts]) != tree_hash:
        raise IntegrityError(f"cannot {doing}: its parts do not give the tree hash {tree_hash.hex()}")


def check_present(
    doing: str, parts: Sequence[Part], there: Sequence[Mapping[str, Any]], tags: Sequence[str]
) -> None:
    """Raise `IntegrityError` unless the vault has exactly these parts, by number, size, ETag and CRC, if any.

    Anybody with the permission to store can replace a part of an open upload by one with the same CRC.
    """
    if [part.number for part in parts] != [uploaded["PartNumber"] for uploaded in there]:
        raise IntegrityError(f"cannot {doing}: the vault has {len(there)} of its {len(parts)} parts")
    for part, tag, uploaded in zip(parts, tags, there, strict=True):
        stored = stored_part(uploaded, 0)
        same_crc = None in {stored.crc64, part.crc64} or stored.crc64 == part.crc64
        if stored.length != part.length or not same_crc or not tag or stored.tag != tag:
            raise IntegrityError(f"cannot {doing}: the vault has other bytes as part {part.number}")


def range_of(answer: Mapping[str, Any]) -> ByteRange:
    """The range of an object that an answer holds, by its Content-Range; all of it without that header."""
    told = re.fullmatch(r"bytes ([0-9]+)-([0-9]+)/.*", answer.get("ContentRange") or "")
    return ByteRange(int(told[1]), int(told[2]) + 1) if told else ByteRange(0, answer["ContentLength"])
