"""ListObjectVersions: all versions and delete markers of a bucket, the newest of a key first.

Source: S3 API Reference (ListObjectVersions).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from msgspec.structs import replace

from backup.emulator.core.s3_errors import invalid_argument
from backup.emulator.core.state.store import Transaction
from backup.emulator.core.wire import Answer
from backup.emulator.s3.buckets.buckets import owner_id
from backup.emulator.s3.buckets.documents import xml_answer
from backup.emulator.s3.call import S3Call, find_version, is_version, iso_date
from backup.emulator.s3.xml import Node, document, encoded

from .listing import EVERY, Page, check_attributes, described, prefixes_of, read_common
from .versioning import NULL, number_of


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
