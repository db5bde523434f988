"""The access policy of a vault: set, read, deleted, and read to authorise a call.

Source: Developer Guide (api-SetVaultAccessPolicy, vault-access-policy).
"""

from __future__ import annotations

from functools import lru_cache

from backup.emulator.core.access.policy import Policy, parse_policy
from backup.emulator.core.errors import EmulatorError, invalid, not_found
from backup.emulator.core.http.json_body import json_object, required_text
from backup.emulator.core.state.store import Transaction
from backup.emulator.core.wire import Answer, json_answer

from .call import Call, find_vault

POLICY_BYTES = 20 * 1024


def wanted_policy(call: Call) -> str:
    """The policy text in a body; 400 if it is over 20 KB or cannot be evaluated."""
    document = required_text(json_object(call.body), "Policy")
    if len(document.encode()) > POLICY_BYTES:
        raise invalid(f"Invalid policy: it must not be larger than {POLICY_BYTES} bytes.")
    try:
        policy = parsed(document)
    except EmulatorError as error:
        raise invalid(f"Invalid policy: {error}") from error
    for statement in policy.statements:
        if not statement.principals and not statement.aws_principals:
            raise invalid("Invalid policy: each statement of a vault's policy needs a Principal.")
        if not statement.resources:
            raise invalid("Invalid policy: each statement of a vault's policy needs a Resource.")
    return document


@lru_cache(maxsize=64)
def parsed(document: str) -> Policy:
    """A vault's policy text as a value."""
    return parse_policy(document, "Policy")


def set_access_policy(call: Call, tx: Transaction) -> Answer:
    """Replace the policy."""
    vault = find_vault(call, tx)["id"]
    tx.db.execute("INSERT OR REPLACE INTO access_policies VALUES (?, ?)", (vault, wanted_policy(call)))
    return Answer(204)


def get_access_policy(call: Call, tx: Transaction) -> Answer:
    """The policy's text as it was set; 404 without one."""
    document = read_access_policy(tx, find_vault(call, tx)["id"])
    if document is None:
        raise not_found(f"No vault access policy is set for: {call.arn}")
    return json_answer({"Policy": document})


def delete_access_policy(call: Call, tx: Transaction) -> Answer:
    """Delete the policy, if there is one."""
    tx.db.execute("DELETE FROM access_policies WHERE vault = ?", (find_vault(call, tx)["id"],))
    return Answer(204)


def read_access_policy(tx: Transaction, vault: int) -> str | None:
    """A vault's access policy."""
    row = tx.db.execute("SELECT policy FROM access_policies WHERE vault = ?", (vault,)).fetchone()
    return None if row is None else str(row["policy"])
