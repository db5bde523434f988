"""The data retrieval policy of an account in a region: set, read, and applied to Standard retrievals.

Source: Developer Guide (data-retrieval-policy, api-SetDataRetrievalPolicy): it applies to Standard retrievals
alone; without one nothing is limited. How AWS reckons a peak rate is not written down: here it is the bytes
of all Standard retrievals in progress, each spread over the time that it takes.
"""

from __future__ import annotations

from backup.emulator.core.errors import MESSAGE_BY_CODE, ServiceError, invalid, missing
from backup.emulator.core.http.json_body import json_object, text
from backup.emulator.core.state.clock import DAY_MS
from backup.emulator.core.state.store import Transaction
from backup.emulator.core.wire import Answer, json_answer

from .call import Call

STRATEGIES = ("BytesPerHour", "FreeTier", "None")
HIGHEST_RATE = 2**63 - 1
HOUR_MS = 60 * 60 * 1000


def get_retrieval_policy(call: Call, tx: Transaction) -> Answer:
    """The policy in force; the strategy None where none was set."""
    strategy, rate = _policy(call, tx)
    return json_answer({"Policy": {"Rules": [{"BytesPerHour": rate, "Strategy": strategy}]}})


def _policy(call: Call, tx: Transaction) -> tuple[str, int | None]:
    row = tx.db.execute(
        "SELECT strategy, bytes_per_hour FROM retrieval_policies WHERE account_id = ? AND region = ?",
        (call.account, call.region),
    ).fetchone()
    return ("None", None) if row is None else (row["strategy"], row["bytes_per_hour"])


def set_retrieval_policy(call: Call, tx: Transaction) -> Answer:
    """Replace the policy by one rule; jobs already begun are not touched."""
    strategy, rate = _rule(json_object(call.body))
    tx.db.execute(
        "INSERT OR REPLACE INTO retrieval_policies VALUES (?, ?, ?, ?)",
        (call.account, call.region, strategy, rate),
    )
    return Answer(204)


def _rule(raw: dict[str, object]) -> tuple[str, int | None]:
    policy = raw.get("Policy")
    if policy is None:
        raise missing("Required parameter missing: Policy")
    rules = policy.get("Rules") if isinstance(policy, dict) else None
    if not isinstance(rules, list) or len(rules) != 1 or not isinstance(rules[0], dict):
        raise invalid("Invalid policy: Rules must be a list of exactly one rule.")
    strategy, rate = text(rules[0], "Strategy"), rules[0].get("BytesPerHour")
    if strategy not in STRATEGIES:
        raise invalid(f"Invalid strategy: {strategy}")
    if (strategy == "BytesPerHour") != (rate is not None):
        raise invalid("BytesPerHour must be given with the strategy BytesPerHour, and with no other.")
    if rate is None:
        return strategy, None
    if isinstance(rate, bool) or not isinstance(rate, int) or not 1 <= rate <= HIGHEST_RATE:
        raise invalid(f"Invalid BytesPerHour: {rate}")
    return strategy, rate


def check_standard_retrieval(call: Call, tx: Transaction, size: int, duration_ms: int) -> None:
    """Raise 400 PolicyEnforcedException when a Standard retrieval of `size` bytes would break the policy."""
    strategy, rate = _policy(call, tx)
    if strategy == "BytesPerHour" and rate is not None:
        running = _bytes(call, tx, state="InProgress")
        allowed = (running + size) * HOUR_MS <= rate * duration_ms
    elif strategy == "FreeTier":
        lately = _bytes(call, tx, since_ms=tx.now_ms - DAY_MS)
        allowed = lately + size <= call.settings.free_tier_bytes_per_day
    else:
        return
    if not allowed:
        raise ServiceError("PolicyEnforcedException", MESSAGE_BY_CODE["PolicyEnforcedException"])


def _bytes(call: Call, tx: Transaction, *, state: str = "", since_ms: int = HIGHEST_RATE) -> int:
    """The sum of bytes of the account's Standard retrievals in a state, or begun since a moment."""
    row = tx.db.execute(
        "SELECT coalesce(sum(range_end - range_start), 0) FROM jobs JOIN vaults ON vaults.id = jobs.vault "
        "WHERE account_id = ? AND region = ? AND tier = 'Standard' AND (state = ? OR jobs.created_ms > ?)",
        (call.account, call.region, state, since_ms),
    ).fetchone()
    return int(row[0])
