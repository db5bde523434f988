"""Parts of each job's archives that were ever verified by reading them back, with dates; also as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from backup.inventory.questions.proofs import NOTHING_PROVEN, LoadProof, Proof, proofs
from backup.inventory.records.readings import Grade
from backup.inventory.store.connections import Transaction
from backup.model import JobName
from backup.wording import escape

_GRADES = {Grade.READ_BACK: "read back", Grade.OPENED: "opened"}


def proofs_of_jobs(tx: Transaction, now: datetime) -> Mapping[JobName, Proof]:
    """Return how much of each job's archives was verified, over all vaults, and when last, by grade."""
    found: dict[JobName, Proof] = {}
    for (_, job), proof in proofs(tx, now).items():
        if job is not None:
            found[job] = found.get(job, NOTHING_PROVEN) + proof
    return found


def proof_text(proof: Proof) -> str:
    """Return the verified shares as text: both grades, never mixed."""
    told = ((word, proof.last(grade), proof.share(grade)) for grade, word in _GRADES.items())
    return ", ".join(f"{word} {_share_text(when, share)}" for word, when, share in told)


def loads_text(found: Sequence[LoadProof]) -> str:
    """Return which databases were proven to load, and when, as text."""
    names = [proof.database for proof in found]
    groups: dict[str, list[str]] = {}
    for proof in found:
        is_alone = names.count(proof.database) == 1
        when = proof.loaded_at
        state = "never loaded" if when is None else f"loaded {when.astimezone():%Y-%m-%d}"
        name = proof.database if is_alone else f"{proof.engine}/{proof.database}"
        groups.setdefault(state, []).append(escape(name))
    return "; ".join(f"{', '.join(these)} {state}" for state, these in groups.items())


def _share_text(when: datetime | None, share: float | None) -> str:
    if when is None:
        return "never"
    return f"{when.astimezone():%Y-%m-%d} ({percent(share)} of what is stored, ever)"


def percent(share: float | None) -> str:
    """Return a share as text: 100 % only if it is all, and 0 % only if it is none."""
    if share is None:
        return "-"
    if 0 < share < 0.01:
        return "below 1%"
    return f"{int(share * 100)}%"
