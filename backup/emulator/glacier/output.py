"""GetJobOutput: the bytes of a job's output, and the headers of the answer.

Source: Developer Guide (api-job-output-get, checksum-calculations-range) and real answers: a malformed Range
is ignored, one that begins beyond the end is refused.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable

from backup.emulator.core.errors import invalid
from backup.emulator.core.http.treehash import is_tree_aligned
from backup.emulator.core.state.store import Transaction
from backup.emulator.core.wire import Answer, Extent

from .archives import Piece, read_pieces
from .call import Call
from .jobs import find_job, range_hash

_RANGE = re.compile(r"bytes=(\d{1,15})-(\d{0,15})")


def get_job_output(call: Call, tx: Transaction) -> Answer:
    """The whole output (status 200) or the requested range of it (206)."""
    job = find_job(call, tx)
    if job["state"] != "Succeeded":
        raise invalid(f"The job is not currently available for download: {call.target}")
    if job["archive"] is None:
        return _inventory_output(call, job)
    return _archive_output(call, tx, job)


def _inventory_output(call: Call, job: sqlite3.Row) -> Answer:
    status, headers, first, end = _ranged(call.inbound.header("range"), job["file_size"])
    kind = "text/csv" if job["format"] == "CSV" else "application/json"
    extent = Extent(call.store.path(job["file"]), first, end - first)
    return _answer(call, status, {"Content-Type": kind, **headers}, (extent,))


def _archive_output(call: Call, tx: Transaction, job: sqlite3.Row) -> Answer:
    start, size = job["range_start"], job["range_end"] - job["range_start"]
    status, headers, first, end = _ranged(call.inbound.header("range"), size)
    headers["Content-Type"] = "application/octet-stream"
    if is_tree_aligned(start, start + size, job["archive_size"]) and is_tree_aligned(first, end, size):
        tree_hash = range_hash(tx, job["archive"], start + first, start + end)
        headers["x-amz-sha256-tree-hash"] = tree_hash or ""
    if job["archive_description"]:
        headers["x-amz-archive-description"] = job["archive_description"]
    pieces = read_pieces(tx, job["archive"])
    return _answer(call, status, headers, tuple(_extents(call, pieces, start + first, start + end)))


def _answer(call: Call, status: int, headers: dict[str, str], extents: tuple[Extent, ...]) -> Answer:
    """The answer, which holds its files, so that a download can finish even if its job expires meanwhile."""
    held = call.store.hold([extent.path.name for extent in extents])
    return Answer(status, headers, extents=extents, held=held)


def _ranged(text: str | None, size: int) -> tuple[int, dict[str, str], int, int]:
    """Status, headers, first byte and end (exclusive) for a Range header over `size` bytes."""
    headers = {"Accept-Ranges": "bytes"}
    found = _RANGE.fullmatch(text) if text else None
    if text is None or found is None:
        return 200, headers, 0, size
    first = int(found[1])
    last = min(int(found[2]), size - 1) if found[2] else size - 1
    if first >= size:
        raise invalid(f"The start of the range is larger than size of retrieved data: {text}")
    if last < first:
        return 200, headers, 0, size
    headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    return 206, headers, first, last + 1


def _extents(call: Call, pieces: Iterable[Piece], start: int, end: int) -> Iterable[Extent]:
    for piece in pieces:
        low, high = max(start, piece.start), min(end, piece.start + piece.length)
        if low < high:
            yield Extent(call.store.path(piece.file), low - piece.start, high - low)
