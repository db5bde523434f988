"""ListObjectVersions, where each object has the one version `null`.

Source: S3 API Reference (ListObjectVersions).
"""

from __future__ import annotations

from backup.emulator.core.s3_errors import invalid_argument
from backup.emulator.core.store import Transaction
from backup.emulator.core.wire import Answer

from .call import S3Call
from .documents import xml_answer
from .listing import read_common, results
from .xml import Node, document, encoded

NULL = "null"


def list_versions(call: S3Call, tx: Transaction) -> Answer:
    """A page of objects behind the two markers, each the latest and only version of its key."""
    query, encoding = call.query, call.query.get("encoding-type")
    key_marker, version_marker = query.get("key-marker", ""), query.get("version-id-marker", "")
    if version_marker and not key_marker:
        message = "A version-id marker cannot be specified without a key marker."
        raise invalid_argument(message, "version-id-marker", version_marker)
    if version_marker not in ("", NULL):
        raise invalid_argument("Invalid version id specified", "version-id-marker", version_marker)
    page, common = read_common(call, tx, key_marker.encode())
    last_is_version = bool(page.rows) and bytes(page.rows[-1]["key"]) == page.last
    nodes: list[Node] = [
        *common,
        ("KeyMarker", encoded(key_marker, encoding)),
        ("VersionIdMarker", version_marker),
        ("NextKeyMarker", encoded(page.last.decode(), encoding) if page.is_truncated else None),
        ("NextVersionIdMarker", NULL if page.is_truncated and last_is_version else None),
        *results(call, tx, page, name="Version", first=(("VersionId", NULL), ("IsLatest", True))),
    ]
    return xml_answer(document("ListVersionsResult", nodes))
