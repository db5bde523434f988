"""DeleteObjects: up to 1,000 keys in one call, each authorised by itself.

Source: S3 API Reference (DeleteObjects).
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from backup.emulator.core.http.faults import Fault
from backup.emulator.core.s3_errors import S3Error
from backup.emulator.core.state.store import Transaction
from backup.emulator.core.wire import Answer
from backup.emulator.s3.actions import delete_actions
from backup.emulator.s3.buckets.documents import xml_answer
from backup.emulator.s3.call import S3Call, check_version
from backup.emulator.s3.xml import Element, Node, document, parse

from .objects import delete_object
from .versioning import ID, MARKER

MOST_KEYS = 1000


def delete_objects(
    call: S3Call,
    tx: Transaction,
    refusal: Callable[[S3Call, str], str | None],
    planned: Callable[[str], Fault | None],
) -> Answer:
    """Delete each key.

    `refusal` returns the message that forbids an action of a deletion, or None; `planned` a key's planned
    fault.
    """
    request = parse(call.body, "Delete")
    wanted = request.children("Object")
    if not 1 <= len(wanted) <= MOST_KEYS:
        raise S3Error("MalformedXML")
    for node in wanted:
        for strange in {child.name for child in node.children()} - {"Key", "VersionId", "ETag"}:
            raise S3Error("NotImplemented", f"The emulator does not know {strange} of a key to be deleted.")
    quiet = (request.get("Quiet") or "").lower() == "true"
    nodes: list[Node] = []
    for node in wanted:
        fault = planned(_key(node))
        error = None if fault is None or fault.after else _planned(fault, _key(node))
        found = error or _delete(call, tx, node, refusal)
        if fault is not None and fault.after:
            error = _planned(fault, _key(node))
        error = error or (found if isinstance(found, list) else None)
        if error is not None:
            nodes.append(("Error", error))
        elif not quiet:
            nodes.append(("Deleted", _deleted(node, found if isinstance(found, Answer) else Answer(204))))
    return xml_answer(document("DeleteResult", nodes))


def _deleted(node: Element, answer: Answer) -> list[Node]:
    """The answer of S3 on a key: the version that was named, and the marker that was made or deleted."""
    is_marker = MARKER in answer.headers
    return [
        ("Key", _key(node)),
        ("VersionId", node.get("VersionId")),
        ("DeleteMarker", True if is_marker else None),
        ("DeleteMarkerVersionId", answer.headers[ID] if is_marker else None),
    ]


def _planned(fault: Fault, key: str) -> list[Node] | None:
    error = fault.error()
    return None if error is None else [("Key", key), ("Code", error.code), ("Message", error.message)]


def _key(node: Element) -> str:
    found = node.child("Key")
    if found is None or not found.raw:
        raise S3Error("MalformedXML")
    return found.raw


def _delete(
    call: S3Call, tx: Transaction, node: Element, refusal: Callable[[S3Call, str], str | None]
) -> list[Node] | Answer:
    """The answer to a deletion, or the elements of its error."""
    key = _key(node)
    version = node.get("VersionId")
    match = node.get("ETag")
    headers = () if match is None else (("if-match", match),)
    single = replace(
        call,
        key=key,
        query={} if version is None else {"versionId": version},
        inbound=replace(call.inbound, headers=(*call.inbound.headers, *headers)),
    )
    for action in delete_actions(single, versioned=version is not None):
        refused = refusal(single, action)
        if refused is not None:
            return [("Key", key), ("Code", "AccessDenied"), ("Message", refused)]
    try:
        check_version(single)
        return delete_object(single, tx)
    except S3Error as error:
        told: list[Node] = [("Key", key), ("VersionId", version)]
        return [*told, ("Code", error.code), ("Message", error.message)]
