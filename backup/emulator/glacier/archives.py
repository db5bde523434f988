"""Archives: uploaded in a single request, deleted, and kept on disk as long as a job still offers them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from backup.emulator.core.errors import bad_signature, invalid, missing
from backup.emulator.core.http.treehash import root, split
from backup.emulator.core.state.meter import BilledStore, begin_storing, end_storing
from backup.emulator.core.state.store import Transaction
from backup.emulator.core.wire import Answer, new_archive_id

from .call import Call, decimal, find_vault
from .inventories import mark_changed

if TYPE_CHECKING:
    from backup.emulator.core.http.receive import Received

UPLOAD_LIMIT = 4 * 1024**3


class Piece(Struct, frozen=True):
    """A run of an archive's bytes in one file, with the digests of its leaves."""

    start: int
    length: int
    file: str
    leaves: bytes


def content_length(call: Call) -> int | None:
    """The announced length of an upload, 1 byte to 4 GiB; 400 outside. None for a body sent in chunks."""
    if call.is_chunked and call.settings.chunked_uploads:
        return None
    if call.is_chunked:
        raise missing("Required parameter missing: Content-Length")
    value = call.inbound.header("content-length") or "0"
    number = decimal(value)
    if number is None or not 1 <= number <= UPLOAD_LIMIT:
        raise invalid(f"Invalid Content-Length: {value}")
    return number


def check_payload(call: Call, received: Received) -> str:
    """Compare both hashes of the client with the received bytes, and return the tree hash."""
    check_linear_hash(call.required("x-amz-content-sha256"), received.linear)
    computed = root(split(received.leaves))
    expected = call.tree_hash()
    if expected != computed:
        raise invalid(f"Checksum mismatch: expected {expected}, computed {computed}")
    return computed


def check_linear_hash(expected: str, computed: str) -> None:
    """Raise 403 with the service's text when the payload is not what was signed."""
    if expected != computed:
        raise bad_signature(
            "The value passed in as x-amz-content-sha256 does not match the computed payload hash. "
            f"Computed digest: {computed} expected hash: {expected}"
        )


def check_upload_archive(call: Call, tx: Transaction) -> None:
    """Check an UploadArchive request before its body arrives."""
    find_vault(call, tx)
    content_length(call)
    call.archive_description()
    call.tree_hash()


def upload_archive(call: Call, tx: Transaction, received: Received) -> Answer:
    """UploadArchive, once its body has arrived."""
    if not received.size:
        raise invalid("Invalid Content-Length: 0")
    tree_hash = check_payload(call, received)
    vault = find_vault(call, tx)
    piece = Piece(0, received.size, received.file, received.leaves)
    archive_id = add_archive(tx, call.place, vault["id"], call.archive_description(), tree_hash, [piece])[1]
    return stored(call, archive_id, tree_hash)


def stored(call: Call, archive_id: str, tree_hash: str) -> Answer:
    """The answer with the new archive's id."""
    headers = {
        "Location": f"{call.location}/archives/{archive_id}",
        "x-amz-archive-id": archive_id,
        "x-amz-sha256-tree-hash": tree_hash,
    }
    return Answer(201, headers)


def add_archive(
    tx: Transaction, place: BilledStore, vault: int, description: str, tree_hash: str, pieces: list[Piece]
) -> tuple[int, str]:
    """Record an archive whose files exist already; return its row number and its id."""
    archive_id = new_archive_id()
    size = sum(piece.length for piece in pieces)
    number = tx.db.execute(
        "INSERT INTO archives (archive_id, vault, description, created_ms, size, tree_hash) VALUES (?, ?, "
        "?, ?, ?, ?)",
        (archive_id, vault, description, tx.now_ms, size, tree_hash),
    ).lastrowid
    tx.db.executemany(
        "INSERT INTO pieces (archive, start, length, file, leaves) VALUES (?, ?, ?, ?, ?)",
        [(number, piece.start, piece.length, piece.file, piece.leaves) for piece in pieces],
    )
    mark_changed(tx, vault)
    begin_storing(tx, place, f"archive {number}", "glacier", size)
    return number or 0, archive_id


def delete_archive(call: Call, tx: Transaction) -> Answer:
    """Delete an archive; 204, also for an id that is gone or never was; 400 for an archive of another
    vault."""
    vault = find_vault(call, tx)
    row = tx.db.execute("SELECT * FROM archives WHERE archive_id = ?", (call.target,)).fetchone()
    if row is None:
        return Answer(204)
    if row["vault"] != vault["id"]:
        raise invalid(f"Invalid vault name: {call.arn}")
    if row["deleted_ms"] is None:
        tx.db.execute("UPDATE archives SET deleted_ms = ? WHERE id = ?", (tx.now_ms, row["id"]))
        mark_changed(tx, vault["id"])
        end_storing(tx, f"archive {row['id']}")
        drop_unused_pieces(tx)
    return Answer(204)


def drop_unused_pieces(tx: Transaction) -> None:
    """Delete the bytes of deleted archives, except those that a finished job still offers."""
    unused = (
        "SELECT id FROM archives a WHERE deleted_ms IS NOT NULL AND NOT EXISTS "
        "(SELECT 1 FROM jobs j WHERE j.archive = a.id AND j.state = 'Succeeded')"
    )
    rows = tx.db.execute(f"SELECT file FROM pieces WHERE archive IN ({unused})").fetchall()  # noqa: S608
    tx.db.execute(f"DELETE FROM pieces WHERE archive IN ({unused})")  # noqa: S608
    tx.discarded += [row["file"] for row in rows]


def read_pieces(tx: Transaction, archive: int) -> list[Piece]:
    """An archive's pieces in order."""
    rows = tx.db.execute(
        "SELECT start, length, file, leaves FROM pieces WHERE archive = ? ORDER BY start", (archive,)
    ).fetchall()
    return [Piece(*row) for row in rows]
