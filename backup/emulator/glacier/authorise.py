"""Whether an authenticated caller may make a call: the policies of role or user, the vault's access policy
and the vault's lock together.

Source: IAM User Guide (policy evaluation logic) and Developer Guide (vault-access-policy, vault-lock-policy).
"""

from __future__ import annotations

import sqlite3

from backup.emulator.core.access.accounts import Accounts
from backup.emulator.core.access.callers import Caller
from backup.emulator.core.access.conditions import Context
from backup.emulator.core.access.evaluate import AccessRequest
from backup.emulator.core.access.identities import common_context, refusal
from backup.emulator.core.access.policy import Policy
from backup.emulator.core.errors import denied
from backup.emulator.core.state.clock import DAY_MS
from backup.emulator.core.state.store import Transaction

from .access_policies import parsed, read_access_policy
from .call import Call
from .locks import find_lock
from .tags import read_tags


def authorise(call: Call, caller: Caller, accounts: Accounts, tx: Transaction) -> None:
    """Raise 403 if the call is not allowed; `call.account` is the owner of its vault."""
    vault = _vault(call, tx)
    policies = [] if vault is None else _policies_of(vault["id"], tx)
    if not policies and call.account == caller.account_id and caller.is_root:
        return
    resource = call.arn if call.vault else "*"
    asked = AccessRequest(
        f"glacier:{call.operation}", resource, call.account, _context(call, caller, vault, tx)
    )
    refused = refusal(asked, caller, accounts, tx, of_resource=policies)
    if refused is not None:
        raise denied(refused)


def _vault(call: Call, tx: Transaction) -> sqlite3.Row | None:
    row: sqlite3.Row | None = tx.db.execute(
        "SELECT id FROM vaults WHERE account_id = ? AND region = ? AND name = ?",
        (call.account, call.region, call.vault),
    ).fetchone()
    return row


def _policies_of(vault: int, tx: Transaction) -> list[Policy]:
    lock = find_lock(tx, vault)
    texts = (read_access_policy(tx, vault), None if lock is None else lock["policy"])
    return [parsed(text) for text in texts if text is not None]


def _context(call: Call, caller: Caller, vault: sqlite3.Row | None, tx: Transaction) -> Context:
    """The condition keys of a call: of the caller, of the vault's tags, the archive's age in days."""
    context = common_context(caller, call.inbound, tx, secure=call.secure)
    if vault is None:
        return context
    for key, value in read_tags(tx, vault["id"]).items():
        context[f"glacier:ResourceTag/{key}"] = value
    if call.operation == "DeleteArchive":
        archive = tx.db.execute(
            "SELECT created_ms FROM archives WHERE archive_id = ? AND vault = ?", (call.target, vault["id"])
        ).fetchone()
        if archive is not None:
            context["glacier:ArchiveAgeInDays"] = str((tx.now_ms - archive["created_ms"]) // DAY_MS)
    return context
