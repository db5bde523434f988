"""The three tag operations of a vault.

Source: Developer Guide (api-AddTagsToVault, api-RemoveTagsFromVault, tagging): 10 tags a call, keys of 1 to
128 and values of up to 255 characters, `aws:` reserved.
"""

from __future__ import annotations

import unicodedata

from backup.emulator.core.errors import ServiceError, invalid, missing
from backup.emulator.core.http.json_body import json_object, strings
from backup.emulator.core.state.store import Transaction
from backup.emulator.core.wire import Answer, json_answer

from .call import Call, find_vault

CALL_LIMIT = 10
KEY_LIMIT = 128
VALUE_LIMIT = 255


def add_tags(call: Call, tx: Transaction) -> Answer:
    """Set up to ten tags, replacing those of the same keys; 400 beyond the vault's limit."""
    vault = find_vault(call, tx)["id"]
    tags = json_object(call.body).get("Tags")
    if not tags:
        raise missing("Required parameter missing: Tags")
    if not isinstance(tags, dict) or not all(isinstance(value, str) for value in tags.values()):
        raise ServiceError("SerializationException", "Tags must map strings to strings.")
    if len(tags) > CALL_LIMIT:
        raise invalid(f"Invalid Tags: at most {CALL_LIMIT} tags may be added in one call.")
    for key, value in tags.items():
        _check(key, value)
    kept = {key: value for key, value in read_tags(tx, vault).items() if key not in tags}
    if len(kept) + len(tags) > call.settings.tag_limit:
        raise ServiceError(
            "LimitExceededException", f"A vault can have at most {call.settings.tag_limit} tags."
        )
    tx.db.executemany(
        "INSERT OR REPLACE INTO tags (vault, key, value) VALUES (?, ?, ?)",
        [(vault, key, value) for key, value in tags.items()],
    )
    return Answer(204)


def _check(key: str, value: str) -> None:
    if not 1 <= len(key) <= KEY_LIMIT or not _is_plain(key):
        raise invalid(f"Invalid tag key: {key}")
    if key.lower().startswith("aws:"):
        raise invalid(f"Invalid tag key: {key}. The prefix aws: is reserved.")
    if len(value) > VALUE_LIMIT or not _is_plain(value):
        raise invalid(f"Invalid tag value: {value}")


def _is_plain(text: str) -> bool:
    """Letters, digits, blanks and a few signs; the colon is taken because AWS's own prefix has one."""
    return all(character in " _./=+-@:" or unicodedata.category(character)[0] in "LN" for character in text)


def remove_tags(call: Call, tx: Transaction) -> Answer:
    """Take tags off; a key that is not there is no error."""
    vault = find_vault(call, tx)["id"]
    keys = strings(json_object(call.body), "TagKeys")
    tx.db.executemany("DELETE FROM tags WHERE vault = ? AND key = ?", [(vault, key) for key in keys])
    return Answer(204)


def list_tags(call: Call, tx: Transaction) -> Answer:
    """All tags of the vault."""
    return json_answer({"Tags": read_tags(tx, find_vault(call, tx)["id"])})


def read_tags(tx: Transaction, vault: int) -> dict[str, str]:
    """A vault's tags by key."""
    rows = tx.db.execute("SELECT key, value FROM tags WHERE vault = ? ORDER BY key", (vault,)).fetchall()
    return {row["key"]: row["value"] for row in rows}
