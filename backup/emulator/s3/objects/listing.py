"""ListObjects, ListObjectsV2 and ListObjectVersions.

Source: S3 API Reference (ListObjects, ListObjectsV2, ListObjectVersions). Keys come in the order of their
UTF-8 bytes, of each the newest version first; a common prefix counts as one result and stands where its first
key would.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field

from msgspec import Struct
from msgspec.structs import replace

from backup.emulator.core.s3_errors import invalid_argument
from backup.emulator.core.state.store import Transaction
from backup.emulator.core.wire import Answer
from backup.emulator.s3.buckets.buckets import owner_id
from backup.emulator.s3.buckets.documents import xml_answer
from backup.emulator.s3.call import S3Call, find_version, from_token, is_version, iso_date, to_token
from backup.emulator.s3.xml import Node, document, encoded

from .restore import is_restored, is_restoring
from .versioning import NULL, number_of

PAGE = 1000
ATTRIBUTES = "x-amz-optional-object-attributes"
EVERY = 2**62
"""A number above those of all versions."""


@dataclass(slots=True)
class Page:
    """One page: rows, common prefixes, and the last of either if there is more."""

    rows: list[sqlite3.Row] = field(default_factory=list)
    prefixes: list[bytes] = field(default_factory=list)
    last: bytes = b""
    is_truncated: bool = False

    @property
    def count(self) -> int:
        """Results on the page."""
        return len(self.rows) + len(self.prefixes)


def after(raw: bytes) -> bytes:
    """The first possible key after all keys that begin with these bytes."""
    stripped = raw.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else b"\xff" * 1025


class ListingWalk(Struct, frozen=True):
    """The results that a listing goes through, those of a bucket behind `marker`.

    `every`: all versions and markers, the newest of a key first; of the marker's own key then those whose
    number is below `below`.
    """

    bucket: int
    prefix: bytes
    delimiter: bytes
    marker: bytes
    every: bool = False
    below: int | None = None

    @property
    def start(self) -> bytes:
        """The first key that may be a result."""
        at = self.marker.find(self.delimiter, len(self.prefix)) if self.delimiter else -1
        if at >= 0 and self.marker.startswith(self.prefix) and at + len(self.delimiter) == len(self.marker):
            return after(self.marker)
        behind = self.marker if self.below is not None else self.marker + b"\x00" if self.marker else b""
        return max(self.prefix, behind)

    def rows(self, tx: Transaction, start: bytes, below: int | None, limit: int) -> list[sqlite3.Row]:
        """Some rows from a key on."""
        if self.every:
            found = (
                "SELECT * FROM objects WHERE bucket = ? AND key >= ? AND NOT (key = ? AND id >= ?) "
                "ORDER BY key, id DESC LIMIT ?"
            )
            most = EVERY if below is None else below
            return tx.db.execute(found, (self.bucket, start, start, most, limit)).fetchall()
        found = (
            "SELECT * FROM objects WHERE bucket = ? AND key >= ? AND is_latest = 1 AND is_marker = 0 "
            "ORDER BY key LIMIT ?"
        )
        return tx.db.execute(found, (self.bucket, start, limit)).fetchall()


def read_page(tx: Transaction, walk: ListingWalk, limit: int) -> Page:
    """The next results, at most `limit`."""
    page = Page()
    if not limit:
        return page
    for row, common in _results(tx, walk, limit + 1):
        if page.count == limit:
            page.is_truncated = True
            break
        if common is None and row is not None:
            page.rows.append(row)
            page.last = row["key"]
        elif common is not None:
            page.prefixes.append(common)
            page.last = common
    return page


def _results(
    tx: Transaction, walk: ListingWalk, limit: int
) -> Iterator[tuple[sqlite3.Row | None, bytes | None]]:
    """Rows or common prefixes; the keys below a found prefix are skipped."""
    start, below = walk.start, walk.below
    while True:
        rows = walk.rows(tx, start, below, limit)
        jumped = False
        for row in rows:
            key = bytes(row["key"])
            if not key.startswith(walk.prefix):
                return
            at = key.find(walk.delimiter, len(walk.prefix)) if walk.delimiter else -1
            if at >= 0:
                common = key[: at + len(walk.delimiter)]
                yield None, common
                start, below, jumped = after(common), None, True
                break
            yield row, None
            start, below = (key, row["id"]) if walk.every else (key + b"\x00", None)
        if not jumped and len(rows) < limit:
            return


def list_objects_v2(call: S3Call, tx: Transaction) -> Answer:
    """ListObjectsV2; another `list-type` than 2 is the older call."""
    query = call.query
    if query.get("list-type") != "2":
        return list_objects(call, tx)
    token, start_after = query.get("continuation-token"), query.get("start-after", "")
    if token == "":
        raise invalid_argument("The continuation token provided is incorrect", "continuation-token", "")
    marker = start_after.encode() if token is None else from_token(token, "continuation-token")
    page, common = read_common(call, tx, marker)
    encoding = query.get("encoding-type")
    shows_owner = query.get("fetch-owner", "").lower() == "true"
    nodes: list[Node] = [
        *common,
        ("KeyCount", page.count),
        ("ContinuationToken", token),
        ("NextContinuationToken", to_token(page.last) if page.is_truncated else None),
        ("StartAfter", encoded(start_after, encoding) if start_after else None),
        *results(call, tx, page, shows_owner=shows_owner),
    ]
    return xml_answer(document("ListBucketResult", nodes))


def list_objects(call: S3Call, tx: Transaction) -> Answer:
    """ListObjects, the older call; NextMarker only with a delimiter."""
    encoding = call.query.get("encoding-type")
    marker = call.query.get("marker", "")
    page, common = read_common(call, tx, marker.encode())
    following = None
    if page.is_truncated and call.query.get("delimiter"):
        following = encoded(page.last.decode(), encoding)
    nodes: list[Node] = [
        *common,
        ("Marker", encoded(marker, encoding)),
        ("NextMarker", following),
        *results(call, tx, page),
    ]
    return xml_answer(document("ListBucketResult", nodes))


def read_common(
    call: S3Call, tx: Transaction, marker: bytes, *, every: bool = False, below: int | None = None
) -> tuple[Page, list[Node]]:
    """A page after the marker, and the elements with which the answers of all listings begin."""
    prefix, delimiter = call.query.get("prefix", ""), call.query.get("delimiter", "")
    encoding = call.query.get("encoding-type")
    if encoding not in (None, "url"):
        raise invalid_argument(
            "Invalid Encoding Method specified in Request", "encoding-type", encoding or ""
        )
    limit = call.max_of("max-keys", PAGE)
    walk = ListingWalk(call.at.id, prefix.encode(), delimiter.encode(), marker, every, below)
    page = read_page(tx, walk, limit)
    nodes: list[Node] = [
        ("Name", call.at.name),
        ("Prefix", encoded(prefix, encoding)),
        ("Delimiter", encoded(delimiter, encoding) if delimiter else None),
        ("MaxKeys", limit),
        ("EncodingType", encoding),
        ("IsTruncated", page.is_truncated),
    ]
    return page, nodes


def results(call: S3Call, tx: Transaction, page: Page, *, shows_owner: bool = True) -> Iterator[Node]:
    """A page's objects and prefixes."""
    check_attributes(call)
    for row in page.rows:
        yield "Contents", described(call, tx, row, shows_owner=shows_owner)
    yield from prefixes_of(call, page)


def check_attributes(call: S3Call) -> None:
    """Check the further attributes that are asked for."""
    wanted = call.header(ATTRIBUTES)
    if wanted not in (None, "RestoreStatus"):
        raise invalid_argument("Invalid attribute name specified", ATTRIBUTES, wanted or "")


def described(
    call: S3Call, tx: Transaction, row: sqlite3.Row, *, first: tuple[Node, ...] = (), shows_owner: bool = True
) -> list[Node]:
    """The description of an object in a listing, with `first` after its key."""
    return [
        ("Key", encoded(bytes(row["key"]).decode(), call.query.get("encoding-type"))),
        *first,
        ("LastModified", iso_date(row["created_ms"])),
        ("ETag", f'"{row["etag"]}"'),
        ("ChecksumAlgorithm", row["algorithm"]),
        ("ChecksumType", row["checksum_type"]),
        ("Size", row["size"]),
        ("Owner", [("ID", owner_id(call.at.account_id))] if shows_owner else None),
        ("StorageClass", row["class"]),
        ("RestoreStatus", _restore_status(row, tx.now_ms) if call.header(ATTRIBUTES) else None),
    ]


def prefixes_of(call: S3Call, page: Page) -> Iterator[Node]:
    """A page's common prefixes."""
    for prefix in page.prefixes:
        yield "CommonPrefixes", [("Prefix", encoded(prefix.decode(), call.query.get("encoding-type")))]


def _restore_status(row: sqlite3.Row, now_ms: int) -> list[Node] | None:
    if is_restoring(row, now_ms):
        return [("IsRestoreInProgress", True)]
    if is_restored(row, now_ms):
        return [("IsRestoreInProgress", False), ("RestoreExpiryDate", iso_date(row["restore_expiry_ms"]))]
    return None


def list_versions(call: S3Call, tx: Transaction) -> Answer:
    """A page of versions behind the two markers."""
    query, encoding = call.query, call.query.get("encoding-type")
    key_marker, version_marker = query.get("key-marker", ""), query.get("version-id-marker", "")
    if version_marker and not key_marker:
        message = "A version-id marker cannot be specified without a key marker."
        raise invalid_argument(message, "version-id-marker", version_marker)
    below = _below(call, tx, key_marker, version_marker) if version_marker else None
    page, common = read_common(call, tx, key_marker.encode(), every=True, below=below)
    last = page.rows[-1] if page.rows and bytes(page.rows[-1]["key"]) == page.last else None
    nodes: list[Node] = [
        *common,
        ("KeyMarker", encoded(key_marker, encoding)),
        ("VersionIdMarker", version_marker),
        ("NextKeyMarker", encoded(page.last.decode(), encoding) if page.is_truncated else None),
        ("NextVersionIdMarker", last["version"] if page.is_truncated and last is not None else None),
        *_versions(call, tx, page),
    ]
    return xml_answer(document("ListVersionsResult", nodes))


def _below(call: S3Call, tx: Transaction, key: str, version: str) -> int:
    """The number behind which the page begins. It stands in the id, since the version may be deleted by now;
    of `null` it is that of the row, and all of the key's versions are listed where that is gone."""
    if not is_version(version):
        raise invalid_argument("Invalid version id specified", "version-id-marker", version)
    if version != NULL:
        return number_of(version)
    row = find_version(replace(call, key=key, query={"versionId": version}), tx)
    return EVERY if row is None else int(row["id"])


def _versions(call: S3Call, tx: Transaction, page: Page) -> Iterator[Node]:
    check_attributes(call)
    for row in page.rows:
        first: tuple[Node, ...] = (("VersionId", row["version"]), ("IsLatest", bool(row["is_latest"])))
        if row["is_marker"]:
            yield "DeleteMarker", _marker(call, row, first)
        else:
            yield "Version", described(call, tx, row, first=first)
    yield from prefixes_of(call, page)


def _marker(call: S3Call, row: sqlite3.Row, first: tuple[Node, ...]) -> list[Node]:
    return [
        ("Key", encoded(bytes(row["key"]).decode(), call.query.get("encoding-type"))),
        *first,
        ("LastModified", iso_date(row["created_ms"])),
        ("Owner", [("ID", owner_id(call.at.account_id))]),
    ]
