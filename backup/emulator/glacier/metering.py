"""The requests that a vault is billed for; its retrievals are counted where they begin.

Source: Amazon Glacier's price page: upload and retrieval requests cost, all others are free.
"""

from __future__ import annotations

from backup.emulator.core.state.meter import count
from backup.emulator.core.state.store import Transaction
from backup.emulator.core.wire import Answer

from .call import Call

_UPLOADS = ("UploadArchive", "InitiateMultipartUpload", "UploadMultipartPart")
_ITEMS = {**dict.fromkeys(_UPLOADS, "upload"), "CompleteMultipartUpload": "complete"}


def meter_request(call: Call, tx: Transaction, answer: Answer) -> None:
    """Count a request that was answered; one that was refused costs nothing here."""
    item = _ITEMS.get(call.operation)
    if item is not None:
        count(tx, call.place, "glacier", item)
    elif call.operation == "GetJobOutput":
        count(tx, call.place, "glacier", "download", size=answer.length)
