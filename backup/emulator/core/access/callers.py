"""Callers and the secrets of their access keys, shared by the two services that authenticate by access
key."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from msgspec import Struct, field

from backup.emulator.core.state.store import Transaction
from backup.emulator.core.wire import Inbound

from .accounts import Accounts
from .policy import Policy, Principal
from .sigv4 import query_pairs


class Secret(Struct, frozen=True):
    """An access key: its secret, and who has it; when it expires.

    `role_arn` is that of a session's role, `policy` an IAM user's, `session_policy` limits a session. With
    neither role nor policy it is the account's root.
    """

    account_id: str
    secret_access_key: str
    session_token: str | None = None
    expires_ms: int | None = None
    role_arn: str | None = None
    arn: str = ""
    context: Mapping[str, str] = field(default_factory=dict)
    policy: Policy | None = None
    session_policy: str | None = None

    def caller(self, region: str) -> Caller:
        """Who signed with it, for a region."""
        return Caller(
            self.account_id,
            self.arn,
            self.role_arn,
            region,
            self.context,
            self.policy,
            self.session_policy,
        )


class Caller(Struct, frozen=True):
    """An authenticated caller: a session of a role (`role_arn`), a user with a `policy`, or else the root."""

    account_id: str
    arn: str
    role_arn: str | None
    region: str
    context: Mapping[str, str]
    policy: Policy | None = None
    session_policy: str | None = None

    @property
    def is_root(self) -> bool:
        """Whether nothing but a resource's Deny limits it."""
        return self.role_arn is None and self.policy is None

    @property
    def principal(self) -> Principal:
        """The caller as resource policies name it."""
        return Principal(self.account_id, self.arn, self.role_arn)


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
        name = "root" if key.user is None else f"user/{key.user}"
        return Secret(
            key.account_id,
            key.secret_access_key,
            key.session_token,
            key.expires_at_ms,
            arn=f"arn:aws:iam::{key.account_id}:{name}",
            policy=key.policy,
        )
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
        session_policy=row["session_policy"],
    )
