"""The notification configuration of a vault; the messages themselves are in `core/state/messages.py`.

Source: Developer Guide (api-vault-notifications-put, -get, -delete).
"""

from __future__ import annotations

from backup.emulator.core.errors import invalid, not_found
from backup.emulator.core.http.json_body import json_object, required_text, strings
from backup.emulator.core.state.store import Transaction
from backup.emulator.core.wire import Answer, json_answer

from .call import Call, find_vault

EVENTS = ("ArchiveRetrievalCompleted", "InventoryRetrievalCompleted")


def set_notifications(call: Call, tx: Transaction) -> Answer:
    """Replace the configuration; the topic's existence is not checked."""
    vault = find_vault(call, tx)["id"]
    raw = json_object(call.body)
    topic, events = required_text(raw, "SNSTopic"), strings(raw, "Events")
    if not topic.startswith("arn:"):
        raise invalid(f"Invalid SNSTopic: {topic}")
    for event in events:
        if event not in EVENTS:
            raise invalid(f"Invalid event: {event}")
    kept = ",".join(dict.fromkeys(events))
    tx.db.execute("INSERT OR REPLACE INTO notifications VALUES (?, ?, ?)", (vault, topic, kept))
    return Answer(204)


def get_notifications(call: Call, tx: Transaction) -> Answer:
    """The configuration; 404 without one."""
    vault = find_vault(call, tx)["id"]
    row = tx.db.execute("SELECT sns_topic, events FROM notifications WHERE vault = ?", (vault,)).fetchone()
    if row is None:
        raise not_found(f"No notification configuration is set for vault: {call.arn}")
    return json_answer({"SNSTopic": row["sns_topic"], "Events": row["events"].split(",")})


def drop_notifications(call: Call, tx: Transaction) -> Answer:
    """Delete the configuration, if there is one."""
    tx.db.execute("DELETE FROM notifications WHERE vault = ?", (find_vault(call, tx)["id"],))
    return Answer(204)
