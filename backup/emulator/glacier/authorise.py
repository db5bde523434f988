"""Whether an authenticated caller may make a call: its role's policy, the vault's access policy and the
vault's lock together.

Source: IAM User Guide (policy evaluation logic) and Developer Guide (vault-access-policy, vault-lock-policy).
An explicit Deny anywhere wins; within an account one Allow is enough, from another account both sides must
allow. Static keys count as their account, which may do everything that no vault denies.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from backup.emulator.core.accounts import Accounts
from backup.emulator.core.callers import Caller
from backup.emulator.core.clock import DAY_MS
from backup.emulator.core.errors import denied
from backup.emulator.core.policy import Policy, Principal
from backup.emulator.core.store import Transaction
from backup.emulator.core.wire import date_ms

from .access_policies import parsed, read_access_policy
from .call import Call
from .locks import find_lock
from .tags import read_tags


def authorise(call: Call, caller: Caller, accounts: Accounts, tx: Transaction) -> None:
    """Raise 403 if the call is not allowed; `call.account` is the owner of its vault."""
    action, resource = f"glacier:{call.operation}", call.arn if call.vault else "*"
    refusal = f"User: {caller.arn} is not authorized to perform: {action} on resource: {resource}"
    principal = Principal(caller.account_id, caller.arn, caller.role_arn)
    vault = _vault(call, tx)
    policies = [] if vault is None else _policies_of(vault["id"], tx)
    foreign = call.account != caller.account_id
    if not policies and not foreign and caller.role_arn is None:
        return
    context = _context(call, caller, vault, tx)
    if any(policy.denies(action, context, resource=resource, principal=principal) for policy in policies):
        raise denied(f"{refusal} with an explicit deny in a resource-based policy")
    granted = any(
        policy.grants(action, context, resource=resource, principal=principal, singled_out=not foreign)
        for policy in policies
    )
    if foreign and not granted:
        raise denied(f"{refusal} because no resource-based policy allows the {action} action")
    _check_role(caller, action, context, resource, accounts, refusal, granted=granted and not foreign)


def _check_role(
    caller: Caller,
    action: str,
    context: Mapping[str, str],
    resource: str,
    accounts: Accounts,
    refusal: str,
    *,
    granted: bool,
) -> None:
    if caller.role_arn is None:
        return
    role = accounts.role(caller.role_arn)
    if role is None:
        raise denied(f"{refusal} because its role does not exist")
    policy: Policy | None = role.policy
    if policy is None or policy.allows(action, context, resource=resource):
        return
    if policy.denies(action, context, resource=resource):
        raise denied(f"{refusal} with an explicit deny in an identity-based policy")
    if not granted:
        raise denied(f"{refusal} because no identity-based policy allows the {action} action")


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


def _context(call: Call, caller: Caller, vault: sqlite3.Row | None, tx: Transaction) -> dict[str, str]:
    """The condition keys of a call: of the caller, of the vault's tags, the archive's age in days."""
    context = {
        **caller.context,
        "aws:PrincipalAccount": caller.account_id,
        "aws:PrincipalArn": caller.role_arn or caller.arn,
        "aws:SecureTransport": "true" if call.secure else "false",
        "aws:CurrentTime": date_ms(tx.moment.real_ms),
    }
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
