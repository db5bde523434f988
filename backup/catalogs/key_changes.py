"""Warnings about keys: recipients that have not enrolled the signer, older packs that need other keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from backup.catalogs.context import Keys
from backup.inventory.content.domains import Needed, OlderPacks, needed_of, older_packs
from backup.inventory.records import runs
from backup.inventory.records.runs import JobRow
from backup.inventory.store.connections import Transaction
from backup.model import JobName


def unenrolled(keys: Keys) -> Iterator[str]:
    """Yield a sentence for each recipient whose recovery key has not enrolled the signer."""
    vouching = {recipient for recipient, _ in keys.enrolments}
    for recipient in keys.recipients:
        if recipient.id not in vouching:
            yield (
                f"the recovery key of recipient {recipient.id.hex()} has not enrolled this server: a rebuild "
                "with that key alone cannot tell its catalogs from forged ones; run `nightvault key request` "
                "here, `nightvault key enroll` where the key is, `nightvault key accept` here"
            )


class OlderData(Struct, frozen=True):
    """Data of a job in packs that at least one of its present recipients cannot open.

    `needed`: the part that the newest snapshot needs; `is_told`: an earlier run already reported that it
    needs none.
    """

    domains: Sequence[OlderPacks]
    needed: Needed
    is_told: bool = False

    @property
    def packs(self) -> int:
        """Number of packs."""
        return sum(domain.packs for domain in self.domains)

    @property
    def bytes(self) -> int:
        """Size of the packs in the vault."""
        return sum(domain.bytes for domain in self.domains)

    def document(self) -> dict[str, Any]:
        """The value as JSON; the keys are part of the interface."""
        return {
            "packs": self.packs,
            "bytes": self.bytes,
            "sealed_for": [
                sorted(recipient.hex() for recipient in domain.recipients) for domain in self.domains
            ],
            "newest_files": self.needed.files,
            "newest_bytes": self.needed.bytes,
        }

    def tell(self, job: JobName) -> Iterator[str]:
        """Yield a sentence while the newest snapshot needs these packs, and once when it no longer does."""
        count = "1 older pack" if self.packs == 1 else f"{self.packs:,} older packs"
        whom = ", or ".join(
            " or ".join(sorted(recipient.hex() for recipient in domain.recipients)) for domain in self.domains
        )
        sealed = (
            f"{count} ({self.bytes:,} bytes in the vault) of job {job}, sealed for other recipients than "
            f"today's, need the recovery key of {whom}"
        )
        if self.needed.files:
            yield (
                f"{sealed}. {self.needed.files:,} files of the newest snapshot lie there. Keep that key, or "
                f"run `nightvault backup {job} --reread`: it stores them again for today's recipients, at "
                f"most {self.needed.bytes:,} bytes; older snapshots need that key even then"
            )
        elif not self.is_told:
            yield f"{sealed}. The newest snapshot does without: keep that key as long as you want older ones"


def older_data(tx: Transaction, row: JobRow, keys: Keys, *, run: int) -> OlderData | None:
    """Return a job's data in packs that one of the present recipients cannot open; None if there is none.

    The newest snapshot's files in them are counted by each run until there are none, as no later run adds
    any. `run` is the present run.
    """
    found = older_packs(tx, {recipient.id for recipient in keys.recipients}, job=row.number)
    if not found:
        return None
    if _needs_none(runs.last_report(tx, row, before=run), keys):
        return OlderData(found, Needed(0, 0), is_told=True)
    return OlderData(found, needed_of(tx, row.number, [domain.domain for domain in found]))


def _needs_none(report: Mapping[str, Any], keys: Keys) -> bool:
    """Whether a run of the same recipients found that its snapshot needs no older packs."""
    older = report.get("older_packs")
    is_same = set(report.get("recipients", ())) == {recipient.id.hex() for recipient in keys.recipients}
    return is_same and older is not None and older.get("newest_files") == 0
