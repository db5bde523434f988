"""The six multipart operations: an upload gathers parts in any order and becomes an archive when it is
completed.
"""

from __future__ import annotations

import re
import sqlite3
from typing import TYPE_CHECKING

from backup.emulator.core.errors import invalid, not_found
from backup.emulator.core.http.treehash import root, split
from backup.emulator.core.state.clock import DAY_MS, ClockState
from backup.emulator.core.state.store import Transaction
from backup.emulator.core.wire import Answer, date_ms, json_answer, new_id, vault_arn

from .archives import Piece, add_archive, check_payload, content_length, stored
from .call import Call, decimal, find_vault

if TYPE_CHECKING:
    from backup.emulator.core.http.receive import Received

MIB = 1024 * 1024
PART_SIZES = {MIB << power for power in range(13)}
PART_LIMIT = 10_000
PAGE = 50
IDLE_MS = DAY_MS
_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\*|\d{1,18})")  # some clients send a total


def initiate_upload(call: Call, tx: Transaction) -> Answer:
    """Open an upload; the part size is 1 MiB times a power of two, up to 4 GiB."""
    vault = find_vault(call, tx)
    part_size = call.inbound.header("x-amz-part-size") or "null"
    if decimal(part_size) not in PART_SIZES:
        raise invalid(
            f"Invalid part size: {part_size}. Part size must not be null, must be a power of two and be "
            "between "
            "1048576 and 4294967296 bytes."
        )
    upload_id = new_id()
    tx.db.execute(
        "INSERT INTO uploads (upload_id, vault, description, part_size, created_ms, touched_real_ms, "
        "touched_stepped_ms) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            upload_id,
            vault["id"],
            call.archive_description(),
            int(part_size),
            tx.now_ms,
            tx.moment.real_ms,
            tx.moment.stepped_ms,
        ),
    )
    headers = {
        "Location": f"{call.location}/multipart-uploads/{upload_id}",
        "x-amz-multipart-upload-id": upload_id,
    }
    return Answer(201, headers)


def _find(call: Call, tx: Transaction, *states: str) -> sqlite3.Row:
    vault = find_vault(call, tx)
    row: sqlite3.Row | None = tx.db.execute(
        "SELECT * FROM uploads WHERE upload_id = ? AND vault = ?", (call.target, vault["id"])
    ).fetchone()
    if row is None or row["state"] not in states:
        raise not_found(f"The upload ID was not found: {call.target}")
    return row


def _touch(tx: Transaction, upload: int) -> None:
    tx.db.execute(
        "UPDATE uploads SET touched_real_ms = ?, touched_stepped_ms = ? WHERE id = ?",
        (tx.moment.real_ms, tx.moment.stepped_ms, upload),
    )


def check_part(call: Call, tx: Transaction) -> None:
    """Check a part before its body arrives: its range, its length, its hash header."""
    row = _find(call, tx, "open")
    first, last = _part_range(call)
    length = content_length(call)
    text = call.required("content-range")
    if length is None:
        length = last - first + 1
    _check_length(call, length)
    if first % row["part_size"] or length > row["part_size"] or first // row["part_size"] >= PART_LIMIT:
        raise invalid(f"Invalid Content-Range: {text}")
    call.tree_hash()


def _check_length(call: Call, length: int) -> None:
    first, last = _part_range(call)
    if last - first + 1 != length:
        text = call.required("content-range")
        raise invalid(f"Content-Range: {text} is incompatible with Content-Length: {length}")


def _part_range(call: Call) -> tuple[int, int]:
    text = call.required("content-range")
    found = _RANGE.fullmatch(text)
    if found is None or int(found[2]) < int(found[1]):
        raise invalid(f"Invalid Content-Range: {text}")
    return int(found[1]), int(found[2])


def upload_part(call: Call, tx: Transaction, received: Received) -> Answer:
    """Record a part whose body has arrived; a part of the same range is replaced."""
    _check_length(call, received.size)
    tree_hash = check_payload(call, received)
    upload = _find(call, tx, "open")["id"]
    start = _part_range(call)[0]
    old = tx.db.execute("SELECT file FROM parts WHERE upload = ? AND start = ?", (upload, start)).fetchone()
    tx.db.execute(
        "INSERT OR REPLACE INTO parts (upload, start, length, file, leaves, tree_hash) VALUES (?, ?, ?, ?, "
        "?, ?)",
        (upload, start, received.size, received.file, received.leaves, tree_hash),
    )
    if old:
        tx.discarded.append(old["file"])
    _touch(tx, upload)
    return Answer(204, {"x-amz-sha256-tree-hash": tree_hash})


def complete_upload(call: Call, tx: Transaction) -> Answer:
    """Make the archive; a mismatch leaves the upload open; repeated, it returns the same archive id."""
    row = _find(call, tx, "open", "completed")
    size = decimal(call.required("x-amz-archive-size"))
    if size is None:
        raise invalid(f"Invalid x-amz-archive-size: {call.required('x-amz-archive-size')}")
    tree_hash = call.tree_hash()
    if row["state"] == "completed":
        return _complete_again(call, tx, row, size, tree_hash)
    pieces = _pieces(tx, row["id"])
    _check_whole(pieces, row["part_size"], size)
    computed = root([leaf for piece in pieces for leaf in split(piece.leaves)])
    if computed != tree_hash:
        raise invalid(f"Checksum mismatch: expected {tree_hash}, computed {computed}")
    number, archive_id = add_archive(tx, call.place, row["vault"], row["description"], computed, pieces)
    tx.db.execute("UPDATE uploads SET state = 'completed', archive = ? WHERE id = ?", (number, row["id"]))
    tx.db.execute("DELETE FROM parts WHERE upload = ?", (row["id"],))
    _touch(tx, row["id"])
    return stored(call, archive_id, computed)


def _complete_again(call: Call, tx: Transaction, upload: sqlite3.Row, size: int, tree_hash: str) -> Answer:
    row = tx.db.execute("SELECT * FROM archives WHERE id = ?", (upload["archive"],)).fetchone()
    if row["size"] != size or row["tree_hash"] != tree_hash:
        raise invalid(f"The upload {call.target} was completed with another size or tree hash.")
    return stored(call, row["archive_id"], row["tree_hash"])


def _pieces(tx: Transaction, upload: int) -> list[Piece]:
    rows = tx.db.execute(
        "SELECT start, length, file, leaves FROM parts WHERE upload = ? ORDER BY start", (upload,)
    ).fetchall()
    return [Piece(*row) for row in rows]


def _check_whole(pieces: list[Piece], part_size: int, size: int) -> None:
    at = 0
    for piece in pieces:
        if piece.start != at:
            raise invalid(f"The upload has a gap: bytes {at}-{piece.start - 1} are missing.")
        at += piece.length
    if at != size:
        raise invalid(f"Invalid x-amz-archive-size: {size}. The parts have {at} bytes.")
    if not pieces:
        raise invalid("The upload has no parts.")
    if any(piece.length != part_size for piece in pieces[:-1]):
        raise invalid(f"Every part but the last must have {part_size} bytes.")


def abort_upload(call: Call, tx: Transaction) -> Answer:
    """Abort an upload, also repeatedly; 400 once it is completed."""
    row = _find(call, tx, "open", "aborted", "completed")
    if row["state"] == "completed":
        raise invalid(f"The upload has been completed already: {call.target}")
    _drop_parts(tx, row["id"])
    tx.db.execute("UPDATE uploads SET state = 'aborted' WHERE id = ?", (row["id"],))
    _touch(tx, row["id"])
    return Answer(204)


def _drop_parts(tx: Transaction, upload: int) -> None:
    rows = tx.db.execute("SELECT file FROM parts WHERE upload = ?", (upload,)).fetchall()
    tx.discarded += [row["file"] for row in rows]
    tx.db.execute("DELETE FROM parts WHERE upload = ?", (upload,))


def list_uploads(call: Call, tx: Transaction) -> Answer:
    """The vault's open uploads, oldest first; the marker is the next page's first upload id."""
    vault = find_vault(call, tx)
    limit = call.limit(PAGE)
    marker = call.query.get("marker", "")
    first = (
        tx.db.execute("SELECT id FROM uploads WHERE upload_id = ?", (marker,)).fetchone() if marker else (0,)
    )
    if first is None:
        raise invalid(f"Invalid marker: {marker}")
    rows = tx.db.execute(
        "SELECT * FROM uploads WHERE vault = ? AND state = 'open' AND id >= ? ORDER BY id LIMIT ?",
        (vault["id"], first[0], limit + 1),
    ).fetchall()
    following = rows[limit]["upload_id"] if len(rows) > limit else None
    return json_answer({"Marker": following, "UploadsList": [_described(call, row) for row in rows[:limit]]})


def _described(call: Call, row: sqlite3.Row) -> dict[str, object]:
    return {
        "MultipartUploadId": row["upload_id"],
        "VaultARN": vault_arn(call.account, call.region, call.vault),
        "ArchiveDescription": row["description"] or None,
        "PartSizeInBytes": row["part_size"],
        "CreationDate": date_ms(row["created_ms"]),
    }


def list_parts(call: Call, tx: Transaction) -> Answer:
    """An open upload's parts by range; the marker is the next page's first byte."""
    row = _find(call, tx, "open")
    limit = call.limit(PAGE)
    first = decimal(call.query.get("marker") or "0")
    if first is None:
        raise invalid(f"Invalid marker: {call.query['marker']}")
    rows = tx.db.execute(
        "SELECT start, length, tree_hash FROM parts WHERE upload = ? AND start >= ? ORDER BY start LIMIT ?",
        (row["id"], first, limit + 1),
    ).fetchall()
    parts = [
        {"RangeInBytes": f"{start}-{start + length - 1}", "SHA256TreeHash": tree_hash}
        for start, length, tree_hash in rows[:limit]
    ]
    following = str(rows[limit]["start"]) if len(rows) > limit else None
    return json_answer({**_described(call, row), "Parts": parts, "Marker": following})


def expire_uploads(tx: Transaction) -> None:
    """Delete open uploads that were idle for a day, and the records of completed and aborted ones of that
    age."""
    for row in tx.db.execute("SELECT id, touched_real_ms, touched_stepped_ms FROM uploads").fetchall():
        touched = ClockState(row["touched_real_ms"], 0, row["touched_stepped_ms"], 1)
        if tx.moment.age_ms(touched, IDLE_MS) >= IDLE_MS:
            _forget(tx, row["id"])


def forget_uploads(tx: Transaction, vault: int) -> None:
    """Delete every upload of a vault that is being deleted."""
    for row in tx.db.execute("SELECT id FROM uploads WHERE vault = ?", (vault,)).fetchall():
        _forget(tx, row["id"])


def _forget(tx: Transaction, upload: int) -> None:
    _drop_parts(tx, upload)
    tx.db.execute("DELETE FROM uploads WHERE id = ?", (upload,))
