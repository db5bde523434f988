"""GetObjectAttributes, and the tags of objects.

Source: S3 API Reference (GetObjectAttributes, GetObjectTagging, PutObjectTagging, DeleteObjectTagging).
"""

from __future__ import annotations

import json
import sqlite3

from backup.emulator.core.s3_errors import S3Error, invalid_argument
from backup.emulator.core.state.store import Transaction
from backup.emulator.core.wire import Answer, http_date
from backup.emulator.s3.buckets.documents import xml_answer
from backup.emulator.s3.call import S3Call, need_object
from backup.emulator.s3.request.checksums import ALGORITHMS, COMPOSITE
from backup.emulator.s3.xml import Node, document, parse

from .objects import check_tags
from .versioning import version_header

KNOWN = ("ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize")


def get_attributes(call: S3Call, tx: Transaction) -> Answer:
    """The requested attributes of an object, frozen or not; its parts page by page."""
    row = need_object(call, tx)
    wanted = [name.strip() for name in (call.header("x-amz-object-attributes") or "").split(",")]
    if not all(name in KNOWN for name in wanted):
        raise invalid_argument(
            "Invalid attribute name specified.", "x-amz-object-attributes", ",".join(wanted)
        )
    marker, limit = _number(call, "x-amz-part-number-marker", 0), _number(call, "x-amz-max-parts", 1000)
    algorithm = ALGORITHMS[row["algorithm"]]
    nodes: list[Node] = []
    if "ETag" in wanted:
        nodes.append(("ETag", row["etag"]))
    if "Checksum" in wanted:
        value = row["checksum"].partition("-")[0]
        nodes.append(("Checksum", [(algorithm.element, value), ("ChecksumType", row["checksum_type"])]))
    if "ObjectParts" in wanted and row["parts"]:
        nodes.append(("ObjectParts", _parts(tx, row, marker, min(limit, 1000))))
    if "StorageClass" in wanted:
        nodes.append(("StorageClass", row["class"]))
    if "ObjectSize" in wanted:
        nodes.append(("ObjectSize", row["size"]))
    headers = {"Last-Modified": http_date(row["created_ms"]), **version_header(call.at.versioning, row)}
    return xml_answer(document("GetObjectAttributesResponse", nodes), headers)


def _parts(tx: Transaction, row: sqlite3.Row, marker: int, limit: int) -> list[Node]:
    """The number of parts; and the parts themselves if they have checksums of their own, as S3 does."""
    nodes: list[Node] = [("PartsCount", row["parts"])]
    if row["checksum_type"] != COMPOSITE:
        return nodes
    pieces = tx.db.execute(
        "SELECT number, length, checksum FROM object_pieces WHERE object = ? AND number > ? ORDER BY number "
        "LIMIT ?",
        (row["id"], marker, limit + 1),
    ).fetchall()
    shown = pieces[:limit]
    element = ALGORITHMS[row["algorithm"]].element
    nodes += [
        ("PartNumberMarker", marker),
        ("NextPartNumberMarker", shown[-1]["number"] if shown else 0),
        ("MaxParts", limit),
        ("IsTruncated", len(pieces) > limit),
    ]
    for piece in shown:
        part: list[Node] = [
            ("PartNumber", piece["number"]),
            ("Size", piece["length"]),
            (element, piece["checksum"]),
        ]
        nodes.append(("Part", part))
    return nodes


def _number(call: S3Call, name: str, default: int) -> int:
    text = call.header(name) or str(default)
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise invalid_argument(f"Provided {name} not an integer or within integer range", name, text)
    return int(text)


def get_tagging(call: S3Call, tx: Transaction) -> Answer:
    """An object's tags."""
    row = need_object(call, tx)
    tags: dict[str, str] = json.loads(row["tags"])
    shown = [("Tag", [("Key", key), ("Value", value)]) for key, value in tags.items()]
    return xml_answer(document("Tagging", [("TagSet", shown)]), version_header(call.at.versioning, row))


def put_tagging(call: S3Call, tx: Transaction) -> Answer:
    """Replace an object's tags."""
    row = need_object(call, tx)
    found = parse(call.body, "Tagging").child("TagSet")
    if found is None:
        raise S3Error("MalformedXML")
    pairs = [(node.required("Key"), node.get("Value") or "") for node in found.children("Tag")]
    tags = check_tags(dict(pairs), len(pairs))
    tx.db.execute("UPDATE objects SET tags = ? WHERE id = ?", (json.dumps(tags), row["id"]))
    return Answer(200, version_header(call.at.versioning, row))


def delete_tagging(call: S3Call, tx: Transaction) -> Answer:
    """Delete an object's tags."""
    row = need_object(call, tx)
    tx.db.execute("UPDATE objects SET tags = '{}' WHERE id = ?", (row["id"],))
    return Answer(204, version_header(call.at.versioning, row))
