"""The rules for when a full catalog is due, and the messages of a run that could not store it.

A rebuild begins with a full catalog. If none is stored that the present recovery keys open and trust, a
rebuild gives nothing, or an older state: a run that leaves it so is partial.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec.structs import replace

from backup.catalogs.catalogs import Chain
from backup.catalogs.context import Keys
from backup.catalogs.report import BackupReport
from backup.errors import FormatError
from backup.format.pack import parse_header
from backup.inventory.content.archives import Archive
from backup.model import MIB, Generation, JobName

DELTAS_A_FULL = 100
_SMALLEST_FULL = MIB  # below this, full catalogs would cost more than the deltas they replace


class Due(StrEnum):
    """Reasons why a full catalog is due; the value says what the vault lacks."""

    MISSING = "no full catalog is stored"
    BROKEN = "a catalog that a rebuild needs is lost or damaged, and no full one is stored since"
    RECIPIENTS = "no full catalog is stored for the present recipients"
    ENROLMENT = "no full catalog is stored that carries the present enrolments"
    SIZE = "the deltas since the last full catalog have grown long"

    @property
    def is_pressing(self) -> bool:
        """Whether a rebuild could not give the newest state back until a full catalog is stored."""
        return self is not Due.SIZE


def full_due(chain: Chain, keys: Keys, most_deltas: int | None = None) -> Due | None:
    """The most serious reason why a full catalog is due; None if it is not.

    The limit of size: deltas of more than half of the last full catalog, or `most_deltas` (100) of them.
    """
    full = next((link for link in chain.links if link.label.generation is Generation.FULL), None)
    if full is None:
        return Due.MISSING
    if chain.is_broken:
        return Due.BROKEN
    if (changed := _changed(full, keys)) is not None:
        return changed
    deltas = [link.size for link in chain.links if link.label.generation is Generation.DELTA]
    is_long = len(deltas) >= (most_deltas or DELTAS_A_FULL) or sum(deltas) > max(
        full.size // 2, _SMALLEST_FULL
    )
    return Due.SIZE if is_long else None


def _changed(full: Archive, keys: Keys) -> Due | None:
    """The reason to replace a full catalog: damaged, or of other recipients or enrolments; else None."""
    try:
        header = parse_header(full.header)
    except FormatError:
        return Due.BROKEN
    if {stanza.recipient_id for stanza in header.stanzas} != {recipient.id for recipient in keys.recipients}:
        return Due.RECIPIENTS
    fields = header.fields.catalog
    if fields is None or dict(fields.enrolments) != dict(keys.enrolments):
        return Due.ENROLMENT
    return None


def without_full(report: BackupReport, due: Due, why: str) -> BackupReport:
    """Return the report of a run that could not store a due full catalog."""
    partial = report.as_partial(lacks_full(report.job, due, why))
    return partial if due.is_pressing else replace(partial, outcome=report.outcome)


def lacks_full(job: JobName, due: Due, why: str) -> str:
    """Return a sentence on the consequences, and on what comes next."""
    if not due.is_pressing:
        return f"the full catalog of job {job} could not be stored and is due next time: {why}"
    means = {
        Due.MISSING: "if this server were lost now, the vault alone could give nothing of the job back",
        Due.BROKEN: "if this server were lost now, the vault alone would give an older state back",
        Due.RECIPIENTS: "a rebuild with their keys alone gives nothing back, or an older state",
        Due.ENROLMENT: "a rebuild may refuse what it finds, or give an older state back",
    }[due]
    return f"job {job}: {due}: {means}; the next backup tries again ({why})"
