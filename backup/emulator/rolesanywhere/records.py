"""Trust anchors, profiles, CRLs and subjects in the database, and the anchors and profiles that sessions use.

A record's `detail` is what the API shows of it, without ARN, id and dates.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Mapping
from typing import Any

from cryptography import x509
from msgspec import Struct, field
from msgspec.structs import replace

from backup.emulator.core.access.accounts import Accounts, Profile, TrustAnchor
from backup.emulator.core.errors import ServiceError, not_found
from backup.emulator.core.state.store import Transaction

KINDS = {"trust-anchor": "trustAnchor", "profile": "profile", "crl": "crl", "subject": "subject"}
"""The kinds of records as ARNs have them, and as members of answers do."""


CREDENTIALS = "credentials"
"""The member of a subject's detail with its certificates, which lists do not show."""


class Record(Struct, frozen=True):
    """One thing that the control plane made."""

    arn: str
    kind: str
    account: str
    region: str
    detail: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    created_ms: int = 0
    updated_ms: int = 0

    @property
    def id(self) -> str:
        """Its id, the end of its ARN."""
        return self.arn.rsplit("/", 1)[-1]

    def changed(self, **members: Any) -> Record:
        """With these members of its detail replaced; None takes none away."""
        given = {name: value for name, value in members.items() if value is not None}
        return replace(self, detail={**self.detail, **given})


def new_record(kind: str, account: str, region: str, tx: Transaction, name: str = "") -> Record:
    """A record that is not stored yet; its id is random, or follows from a name."""
    made = uuid.uuid5(uuid.NAMESPACE_X500, name) if name else uuid.uuid4()
    arn = f"arn:aws:rolesanywhere:{region}:{account}:{kind}/{made}"
    return Record(arn, kind, account, region, created_ms=tx.now_ms)


def save(record: Record, tx: Transaction) -> Record:
    """Store it, new or changed; as it is now."""
    stored = replace(record, updated_ms=tx.now_ms)
    tx.db.execute(
        "INSERT OR REPLACE INTO anywhere VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(stored.arn, stored.kind, stored.account, stored.region),
            *(json.dumps(stored.detail), json.dumps(stored.tags), stored.created_ms, stored.updated_ms),
        ),
    )
    return stored


def remove(record: Record, tx: Transaction) -> None:
    """Delete it."""
    tx.db.execute("DELETE FROM anywhere WHERE arn = ?", (record.arn,))


def find(arn: str, tx: Transaction) -> Record | None:
    """A record by ARN."""
    row = tx.db.execute("SELECT * FROM anywhere WHERE arn = ?", (arn,)).fetchone()
    return None if row is None else _record(row)


def need(arn: str, tx: Transaction) -> Record:
    """A record by ARN; 404 without it."""
    record = find(arn, tx)
    if record is None:
        raise not_found(f"There is no {arn.rpartition(':')[2].partition('/')[0]} {arn}.")
    return record


def records(kind: str, account: str, region: str, tx: Transaction) -> list[Record]:
    """All of a kind in an account and region, in the order in which they were made."""
    rows = tx.db.execute(
        "SELECT * FROM anywhere WHERE account_id = ? AND region = ? AND kind = ? ORDER BY rowid",
        (account, region, kind),
    )
    return [_record(row) for row in rows]


def _record(row: Mapping[str, Any]) -> Record:
    return Record(
        *(row["arn"], row["kind"], row["account_id"], row["region"]),
        *(json.loads(row["detail"]), json.loads(row["tags"]), row["created_ms"], row["updated_ms"]),
    )


def find_anchor(arn: str, accounts: Accounts, tx: Transaction) -> TrustAnchor | None:
    """A trust anchor for a session, of the accounts file or made, with its enabled CRLs."""
    given = accounts.trust_anchor(arn)
    record = None if given is not None else find(arn, tx)
    if record is None or record.kind != "trust-anchor":
        return given
    pem = record.detail["source"]["sourceData"]["x509CertificateData"]
    crls = [
        base64.b64decode(crl.detail["crlData"])
        for crl in records("crl", record.account, record.region, tx)
        if crl.detail["trustAnchorArn"] == arn and crl.detail["enabled"]
    ]
    return TrustAnchor(
        record.account,
        arn,
        tuple(x509.load_pem_x509_certificates(pem.encode())),
        tuple(load_crl(crl) for crl in crls),
        record.detail["enabled"],
    )


def find_profile(arn: str, accounts: Accounts, tx: Transaction) -> Profile | None:
    """A profile for a session, of the accounts file or made."""
    given = accounts.profile(arn)
    record = None if given is not None else find(arn, tx)
    if record is None or record.kind != "profile":
        return given
    detail = record.detail
    rules = tuple(
        (mapping["certificateField"], rule["specifier"])
        for mapping in detail["attributeMappings"]
        for rule in mapping["mappingRules"]
    )
    return Profile(
        record.account,
        arn,
        tuple(detail["roleArns"]),
        detail["durationSeconds"],
        detail["acceptRoleSessionName"],
        detail["enabled"],
        None if rules == DEFAULT_RULES else rules,
        session_policy=detail.get("sessionPolicy") or None,
    )


DEFAULT_RULES = (
    *(("x509Subject", "*"), ("x509Issuer", "*")),
    *(("x509SAN", "DNS"), ("x509SAN", "URI"), ("x509SAN", "Name/*")),
)


def load_crl(data: bytes) -> x509.CertificateRevocationList:
    """A revocation list in PEM or DER; 400 for anything else."""
    try:
        if data.lstrip().startswith(b"-----BEGIN"):
            return x509.load_pem_x509_crl(data)
        return x509.load_der_x509_crl(data)
    except ValueError as error:
        raise ServiceError("ValidationException", "Invalid CRL data") from error
