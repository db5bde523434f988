"""Callers and the secrets of their access keys, shared by the two services that authenticate by access
key."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from .accounts import Accounts
from .sigv4 import query_pairs
from .store import Transaction
from .wire import Inbound


@dataclass(frozen=True, slots=True)
class Secret:
    """An access key: its secret, account and role, and when it expires."""

    account_id: str
    secret_access_key: str
    session_token: str | None = None
    expires_ms: int | None = None
    role_arn: str | None = None
    arn: str = ""
    context: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller; `role_arn` is None for a static key."""

    account_id: str
    arn: str
    role_arn: str | None
    region: str
    context: Mapping[str, str]


def claimed_key(inbound: Inbound) -> str:
    """The access key id that a request names, unverified; empty where it names none."""
    query = dict(query_pairs(inbound.raw_query, form=False))
    found = re.search(r"Credential=([^/,\s]+)/", inbound.header("authorization") or "")
    return found[1] if found else query.get("X-Amz-Credential", "").partition("/")[0]


def find_secret(access_key_id: str, accounts: Accounts, tx: Transaction) -> Secret | None:
    """The secret of a key in the accounts file, or of credentials that CreateSession issued; None if
    unknown."""
    key = accounts.key(access_key_id)
    if key is not None:
        arn = f"arn:aws:iam::{key.account_id}:root"
        return Secret(key.account_id, key.secret_access_key, key.session_token, key.expires_at_ms, arn=arn)
    row = tx.db.execute("SELECT * FROM credentials WHERE access_key_id = ?", (access_key_id,)).fetchone()
    if row is None:
        return None
    return Secret(
        row["account_id"],
        row["secret_access_key"],
        row["session_token"],
        row["expires_ms"],
        row["role_arn"],
        row["session_arn"],
        json.loads(row["context"]),
    )
