"""The requests that a bucket is billed for; restores are counted where they begin.

Source: S3 User Guide (aws-usage-report-understand, mpuoverview) and S3's price page: an upload into an
archive class costs as in STANDARD until the request that completes it; DELETE and CANCEL are free.
"""

from __future__ import annotations

from backup.emulator.core.state.meter import LOOK, BilledStore, count
from backup.emulator.core.state.store import Transaction
from backup.emulator.core.wire import Answer

from .call import S3Call

STANDARD = "s3:STANDARD"
READ_FOR_MONEY = ("STANDARD_IA", "ONEZONE_IA", "GLACIER_IR")
"""Classes that can be read at once, for a price by the GB."""
_FREE = ("RestoreObject", "DeleteObjects")  # a restore is a retrieval
_WHOLE = ("PutObject", "CopyObject")
_OF_UPLOADS = ("UploadPart", "UploadPartCopy", "CompleteMultipartUpload")


def meter_request(call: S3Call, tx: Transaction, answer: Answer) -> None:
    """Count a request that was answered; one that was refused costs nothing here."""
    method = call.inbound.method
    if call.bucket is None or method == "DELETE" or call.operation in _FREE:
        return
    if call.operation in ("GetObject", "HeadObject"):
        _meter_get(call, tx, answer)
    elif call.operation in _WHOLE:
        count(tx, call.at.place, f"s3:{call.storage_class()}", "complete")
    elif call.operation == "CreateMultipartUpload":
        count(tx, call.at.place, f"s3:{call.storage_class()}", "upload")
    elif call.operation in _OF_UPLOADS:
        item = "complete" if call.operation == "CompleteMultipartUpload" else "upload"
        count(tx, call.at.place, _class_of_upload(call, tx), item)
    else:
        item = "upload" if method in ("PUT", "POST") or call.operation.startswith("List") else "download"
        count(tx, call.at.place, STANDARD, item)


def _meter_get(call: S3Call, tx: Transaction, answer: Answer) -> None:
    storage_class = answer.headers.get("x-amz-storage-class", "STANDARD")
    if call.operation == "HeadObject":
        count(tx, call.at.place, f"s3:{storage_class}", LOOK)
    else:
        count(tx, call.at.place, f"s3:{storage_class}", "download", size=answer.length)
        meter_reading(tx, call.at.place, storage_class, answer.length)


def meter_reading(tx: Transaction, place: BilledStore, storage_class: str, size: int) -> None:
    """Count the reading of an object where reading costs by the GB."""
    if storage_class in READ_FOR_MONEY:
        count(tx, place, f"s3:{storage_class}", "standard", size=size)


def _class_of_upload(call: S3Call, tx: Transaction) -> str:
    row = tx.db.execute(
        "SELECT class FROM object_uploads WHERE upload_id = ?", (call.query["uploadId"],)
    ).fetchone()
    return STANDARD if row is None else f"s3:{row['class']}"
