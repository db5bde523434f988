"""One call of a vault operation, authenticated and parsed: the argument of all operations."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping

from msgspec import Struct, field

from backup.emulator.core.errors import invalid, missing, not_found
from backup.emulator.core.state.meter import BilledStore
from backup.emulator.core.state.settings import Settings
from backup.emulator.core.state.store import Store, Transaction
from backup.emulator.core.wire import Inbound, vault_arn

DESCRIPTION_LIMIT = 1024
_PRINTABLE = re.compile(r"[\x20-\x7e]*")
_HEX_DIGEST = re.compile(r"[0-9a-fA-F]{64}")


class Call(Struct, frozen=True):
    """A call: `account` owns what it is about; `target` is the archive, upload, job or lock id of the path;
    `body` is empty for the two uploads; `secure` if it came over TLS. `unknown` are jobs that others
    have begun and this call does not know yet; one that it begins is unknown for `unknown_seconds`.
    """

    operation: str
    account: str
    region: str
    inbound: Inbound
    store: Store
    settings: Settings
    vault: str = ""
    target: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    secure: bool = False
    unknown: frozenset[str] = frozenset()
    unknown_seconds: float = 0.0

    @property
    def arn(self) -> str:
        """The ARN of the vault."""
        return vault_arn(self.account, self.region, self.vault)

    @property
    def place(self) -> BilledStore:
        """The vault as the meter names it."""
        return BilledStore(self.account, "glacier", self.region, self.vault)

    @property
    def location(self) -> str:
        """The vault's path with the real 12 digits, as `Location` begins."""
        return f"/{self.account}/vaults/{self.vault}"

    @property
    def is_chunked(self) -> bool:
        """Whether the body comes in chunks, its length unknown until its end."""
        return self.inbound.header("transfer-encoding") is not None

    def required(self, name: str) -> str:
        """A header that must be there; 400 otherwise."""
        value = self.inbound.header(name)
        if value is None:
            raise missing(f"Required parameter missing: {name}")
        return value

    def tree_hash(self) -> str:
        """The tree hash that the client computed, 64 hex digits."""
        value = self.required("x-amz-sha256-tree-hash")
        if not _HEX_DIGEST.fullmatch(value):
            raise invalid(f"Invalid x-amz-sha256-tree-hash: {value}")
        return value.lower()

    def archive_description(self) -> str:
        """The archive's description, leading blanks cut off; 400 if too long or not printable ASCII."""
        text = (self.inbound.header("x-amz-archive-description") or "").lstrip(" ")
        if len(text) > DESCRIPTION_LIMIT or not _PRINTABLE.fullmatch(text):
            raise invalid(
                "Invalid x-amz-archive-description: up to 1024 characters from 0x20 to 0x7E are allowed."
            )
        return text

    def limit(self, maximum: int) -> int:
        """The page size: the maximum when none is given; 400 outside 1..maximum."""
        value = self.query.get("limit") or str(maximum)
        number = decimal(value)
        if number is None or not 1 <= number <= maximum:
            raise invalid(f"Invalid limit: {value}. The limit must be between 1 and {maximum}.")
        return number


def decimal(text: str) -> int | None:
    """A plain decimal number of at most 18 digits, or None."""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def find_vault(call: Call, tx: Transaction) -> sqlite3.Row:
    """The vault's row; 404 without one."""
    row: sqlite3.Row | None = tx.db.execute(
        "SELECT * FROM vaults WHERE account_id = ? AND region = ? AND name = ?",
        (call.account, call.region, call.vault),
    ).fetchone()
    if row is None:
        raise not_found(f"Vault not found for ARN: {call.arn}")
    return row
