"""Jobs: initiated now, completed hours later by the emulator's clock, deleted a day after that.

Source: Developer Guide (api-initiate-job-post, api-describe-job-get, api-jobs-get) and real answers where
they differ: an archive job tells its hashes, size and range from the start; `StatusMessage` is null until the
end.
"""

from __future__ import annotations

import json
import sqlite3

from backup.emulator.core.errors import invalid, not_found
from backup.emulator.core.http.treehash import LEAF_BYTES, is_megabyte_aligned, is_tree_aligned, root, split
from backup.emulator.core.state.clock import DAY_MS, NEVER_MS, ClockState
from backup.emulator.core.state.messages import put_message, topics_of
from backup.emulator.core.state.meter import count
from backup.emulator.core.state.store import Transaction
from backup.emulator.core.wire import Answer, date_ms, json_answer, new_id, vault_arn

from .archives import drop_unused_pieces, read_pieces
from .call import Call, find_vault
from .capacity import check_expedited
from .inventories import as_csv, as_json, select_items
from .job_request import JobRequest, parse_job_request
from .retrieval_policy import check_standard_retrieval

PAGE = 50
LIFE_MS = DAY_MS
_MINUTE_MS = 60 * 1000
DURATION_MS = {"Expedited": 3 * _MINUTE_MS, "Standard": 230 * _MINUTE_MS, "Bulk": 8 * 60 * _MINUTE_MS}
INVENTORY_MS = 230 * _MINUTE_MS
STATUS_CODES = ("InProgress", "Succeeded", "Failed")
_WITH_ARCHIVE = (
    "SELECT jobs.*, archives.archive_id, archives.size AS archive_size, archives.tree_hash AS "
    "archive_tree_hash, "
    "archives.description AS archive_description "
    "FROM jobs LEFT JOIN archives ON archives.id = jobs.archive "
)
_LISTED = (
    "WHERE jobs.vault = ? AND jobs.id >= ? AND jobs.state IN (?, ?, ?) "
    "AND job_id NOT IN (SELECT value FROM json_each(?)) ORDER BY jobs.id LIMIT ?"
)


def initiate_job(call: Call, tx: Transaction) -> Answer:
    """Record a job; the output of an inventory is fixed now, from the last snapshot."""
    vault = find_vault(call, tx)
    wanted = parse_job_request(call.body)
    make = _initiate_inventory if wanted.is_inventory else _initiate_retrieval
    job_id = make(call, tx, vault, wanted)
    return Answer(202, {"Location": f"{call.location}/jobs/{job_id}", "x-amz-job-id": job_id})


def _insert(tx: Transaction, vault: int, wanted: JobRequest, **columns: object) -> str:
    duration = INVENTORY_MS if wanted.tier is None else DURATION_MS[wanted.tier]
    job_id = new_id()
    values = {
        "job_id": job_id,
        "vault": vault,
        "action": "InventoryRetrieval" if wanted.is_inventory else "ArchiveRetrieval",
        "created_ms": tx.now_ms,
        "created_stepped_ms": tx.moment.stepped_ms,
        "due_ms": tx.now_ms + duration,
        "description": wanted.description,
        "sns_topic": wanted.sns_topic,
        "tier": wanted.tier,
        **columns,
    }
    names, marks = ", ".join(values), ", ".join("?" * len(values))
    tx.db.execute(f"INSERT INTO jobs ({names}) VALUES ({marks})", tuple(values.values()))  # noqa: S608
    return job_id


def _initiate_retrieval(call: Call, tx: Transaction, vault: sqlite3.Row, wanted: JobRequest) -> str:
    row = tx.db.execute(
        "SELECT id, size FROM archives WHERE archive_id = ? AND vault = ? AND deleted_ms IS NULL",
        (wanted.archive_id, vault["id"]),
    ).fetchone()
    if row is None:
        raise not_found(f"The archive ID was not found: {wanted.archive_id}")
    first, last = wanted.byte_range or (0, row["size"] - 1)
    if not is_megabyte_aligned(first, last + 1, row["size"]):
        raise invalid(
            f"Invalid retrieval byte range: {first}-{last}. It must begin on a megabyte, and end on one or "
            "with the "
            f"archive of {row['size']} bytes."
        )
    if wanted.tier == "Standard":
        check_standard_retrieval(call, tx, last + 1 - first, DURATION_MS["Standard"])
    elif wanted.tier == "Expedited":
        check_expedited(call, tx)
    count(tx, call.place, "glacier", (wanted.tier or "Standard").lower(), size=last + 1 - first)
    return _insert(tx, vault["id"], wanted, archive=row["id"], range_start=first, range_end=last + 1)


def _initiate_inventory(call: Call, tx: Transaction, vault: sqlite3.Row, wanted: JobRequest) -> str:
    if vault["inventory_ms"] is None:
        raise not_found(
            f"Inventory retrieval jobs for vault {call.arn} cannot be initiated yet, as Amazon Glacier has "
            "not yet "
            "generated an initial inventory for this vault."
        )
    page = wanted.page
    rows, following = select_items(
        tx, vault["id"], start_ms=page.start_ms, end_ms=page.end_ms, first=page.first, limit=page.limit
    )
    output = as_csv(rows) if wanted.format == "CSV" else as_json(call.arn, vault["inventory_ms"], rows)
    file = call.store.new_file()
    tx.made.append(file)
    call.store.path(file).write_bytes(output)
    return _insert(
        tx,
        vault["id"],
        wanted,
        format=wanted.format,
        start_date=page.start_date,
        end_date=page.end_date,
        page_limit=None if page.limit is None else str(page.limit),
        marker=page.marker,
        next_marker=None if following is None else f"from-{following}",
        file=file,
        file_size=len(output),
    )


def find_job(call: Call, tx: Transaction) -> sqlite3.Row:
    """The job's row with its archive's; 404 without one."""
    vault = find_vault(call, tx)
    row: sqlite3.Row | None = tx.db.execute(
        _WITH_ARCHIVE + "WHERE job_id = ? AND jobs.vault = ?", (call.target, vault["id"])
    ).fetchone()
    if row is None or call.target in call.unknown:
        raise not_found(f"The job ID was not found: {call.target}")
    return row


def describe_job(call: Call, tx: Transaction) -> Answer:
    """The job object."""
    return json_answer(_described(call.arn, tx, find_job(call, tx)))


def list_jobs(call: Call, tx: Transaction) -> Answer:
    """Jobs in order of initiation, by state if wanted; the marker is the next page's first job id."""
    vault = find_vault(call, tx)
    limit = call.limit(PAGE)
    marker = call.query.get("marker", "")
    first = tx.db.execute("SELECT id FROM jobs WHERE job_id = ?", (marker,)).fetchone() if marker else (0,)
    if first is None:
        raise invalid(f"Invalid marker: {marker}")
    states = _wanted_states(call)
    rows = tx.db.execute(
        _WITH_ARCHIVE + _LISTED,
        (vault["id"], first[0], *states, json.dumps(sorted(call.unknown)), limit + 1),
    ).fetchall()
    following = rows[limit]["job_id"] if len(rows) > limit else None
    return json_answer(
        {"JobList": [_described(call.arn, tx, row) for row in rows[:limit]], "Marker": following}
    )


def _wanted_states(call: Call) -> tuple[str, str, str]:
    """Three state names, repeated or empty where fewer are wanted."""
    code, completed = call.query.get("statuscode") or None, call.query.get("completed") or None
    if code is not None and code not in STATUS_CODES:
        raise invalid(f"The job status code is not valid: {code}")
    if completed not in (None, "true", "false"):
        raise invalid(f"The value of completed is not valid: {completed}")
    wanted = [
        state
        for state in STATUS_CODES
        if code in (None, state) and completed in (None, "false" if state == "InProgress" else "true")
    ]
    first, second, third = [*wanted, "", "", ""][:3]
    return first, second, third


def _described(arn: str, tx: Transaction, row: sqlite3.Row) -> dict[str, object]:
    done = row["state"] != "InProgress"
    return {
        "Action": row["action"],
        "ArchiveId": row["archive_id"],
        "ArchiveSHA256TreeHash": row["archive_tree_hash"],
        "ArchiveSizeInBytes": row["archive_size"],
        "Completed": done,
        "CompletionDate": date_ms(row["due_ms"]) if done else None,
        "CreationDate": date_ms(row["created_ms"]),
        "InventoryRetrievalParameters": _parameters(row, done=done),
        "InventorySizeInBytes": row["file_size"] if row["state"] == "Succeeded" else None,
        "JobDescription": row["description"],
        "JobId": row["job_id"],
        "JobOutputPath": None,
        "OutputLocation": None,
        "RetrievalByteRange": None
        if row["archive"] is None
        else f"{row['range_start']}-{row['range_end'] - 1}",
        "SelectParameters": None,
        "SHA256TreeHash": retrieved_hash(tx, row),
        "SNSTopic": row["sns_topic"],
        "StatusCode": row["state"],
        "StatusMessage": row["message"],
        "Tier": row["tier"],
        "VaultARN": arn,
    }


def _parameters(row: sqlite3.Row, *, done: bool) -> dict[str, object] | None:
    if row["action"] != "InventoryRetrieval":
        return None
    return {
        "StartDate": row["start_date"],
        "EndDate": row["end_date"],
        "Limit": row["page_limit"],
        "Format": row["format"],
        "Marker": row["next_marker"] if done else row["marker"],
    }


def retrieved_hash(tx: Transaction, row: sqlite3.Row) -> str | None:
    """The tree hash of the range that a job retrieves; None if the range is no node of the archive's tree."""
    if row["archive"] is None:
        return None
    start, end, size = row["range_start"], row["range_end"], row["archive_size"]
    if (start, end) == (0, size):
        return str(row["archive_tree_hash"])
    if not is_tree_aligned(start, end, size):
        return None
    return range_hash(tx, row["archive"], start, end)


def range_hash(tx: Transaction, archive: int, start: int, end: int) -> str | None:
    """The tree hash of an archive's bytes between two leaf borders; None once the bytes are gone."""
    leaves = split(b"".join(piece.leaves for piece in read_pieces(tx, archive)))
    wanted = leaves[start // LEAF_BYTES : -(-end // LEAF_BYTES)]
    return root(wanted) if wanted else None


def complete_due_jobs(tx: Transaction) -> None:
    """Finish the jobs whose time has come; a retrieval whose archive was deleted meanwhile fails."""
    rows = tx.db.execute(
        "SELECT jobs.id, due_ms, created_stepped_ms, archives.deleted_ms, archives.archive_id "
        "FROM jobs LEFT JOIN archives ON archives.id = jobs.archive WHERE state = 'InProgress' AND due_ms "
        "<= ?",
        (tx.now_ms,),
    ).fetchall()
    for row in rows:
        gone = row["deleted_ms"] is not None
        overdue_ms = tx.now_ms - row["due_ms"]
        by_step_ms = min(overdue_ms, tx.moment.stepped_ms - row["created_stepped_ms"])
        by_running_ms = int((overdue_ms - by_step_ms) / tx.moment.speed)
        tx.db.execute(
            "UPDATE jobs SET state = ?, message = ?, done_real_ms = ?, done_stepped_ms = ? WHERE id = ?",
            (
                "Failed" if gone else "Succeeded",
                f"The archive ID was not found: {row['archive_id']}" if gone else "Succeeded",
                tx.moment.real_ms - by_running_ms,
                tx.moment.stepped_ms - by_step_ms,
                row["id"],
            ),
        )
        _tell_topics(tx, row["id"])


def next_end_ms(tx: Transaction) -> int:
    """The time when the next job ends, if no other is initiated before."""
    row = tx.db.execute("SELECT min(due_ms) FROM jobs WHERE state = 'InProgress'").fetchone()
    return NEVER_MS if row[0] is None else int(row[0])


def _tell_topics(tx: Transaction, job: int) -> None:
    """Put messages to the topics on the end of a job into the outbox."""
    row = tx.db.execute(_WITH_ARCHIVE + "WHERE jobs.id = ?", (job,)).fetchone()
    topics = topics_of(tx, row["vault"], f"{row['action']}Completed", row["sns_topic"])
    if topics:
        vault = tx.db.execute("SELECT * FROM vaults WHERE id = ?", (row["vault"],)).fetchone()
        document = _described(vault_arn(vault["account_id"], vault["region"], vault["name"]), tx, row)
        for topic in topics:
            put_message(tx, topic, document)


def expire_jobs(tx: Transaction) -> None:
    """Forget jobs that ended a day ago, with their outputs."""
    rows = tx.db.execute(
        "SELECT id, done_real_ms, done_stepped_ms FROM jobs WHERE state != 'InProgress'"
    ).fetchall()
    old = [
        row["id"]
        for row in rows
        if tx.moment.age_ms(ClockState(row["done_real_ms"], 0, row["done_stepped_ms"], 1), LIFE_MS) >= LIFE_MS
    ]
    _forget(tx, old)


def forget_jobs(tx: Transaction, vault: int) -> None:
    """Drop every job of a vault that is being deleted."""
    _forget(
        tx, [row["id"] for row in tx.db.execute("SELECT id FROM jobs WHERE vault = ?", (vault,)).fetchall()]
    )


def _forget(tx: Transaction, jobs: list[int]) -> None:
    for job in jobs:
        file = tx.db.execute("SELECT file FROM jobs WHERE id = ?", (job,)).fetchone()["file"]
        tx.discarded += [file] if file else []
        tx.db.execute("DELETE FROM jobs WHERE id = ?", (job,))
    if jobs:
        drop_unused_pieces(tx)
