"""`[[drill]]`: rehearsals of restores, their schedules, samples and what they may cost."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Annotated

from msgspec import Struct

from backup.config.shapes import NAME, NAME_SENTENCE, shape, suggestion
from backup.config.values import local_zone, parse_size
from backup.errors import ConfigError
from backup.model import JobName, Tier, VaultName
from backup.schedule import Schedule, parse_schedule

_Name = Annotated[str, shape(NAME, NAME_SENTENCE)]
_WORDS = re.compile(r"([0-9]{1,6}) files?")
_Sample = Annotated[
    str,
    shape(
        r"[0-9]{1,6} files?|[0-9]+ ?(KiB|MiB|GiB)", 'must be a number of files or a size: "20 files", "1GiB"'
    ),
]


class DrillSample(Struct, frozen=True):
    """The amount that a drill reads: a number of `files`, or else of `bytes`."""

    files: int | None = None
    bytes: int = 0


class DrillSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[drill]]`: of all jobs of a `vault`, or of some `jobs` in one vault.

    `max_cost_per_month`: what it may cost in a calendar month (UTC), None: whatever it costs. `tier`: None
    for the vault's. `load`: with a recovery key, dumps of databases are loaded.
    """

    name: _Name
    schedule: str | None = None
    vault: VaultName | None = None
    jobs: tuple[JobName, ...] = ()
    sample: _Sample = "20 files"
    max_cost_per_month: Decimal | None = None
    tier: Tier | None = None
    load: bool = False

    @property
    def when(self) -> Schedule | None:
        """The parsed schedule, in this machine's time zone; None: by hand only."""
        return None if self.schedule is None else parse_schedule(self.schedule, local_zone())

    @property
    def amount(self) -> DrillSample:
        """The size of the sample."""
        match = _WORDS.fullmatch(self.sample)
        return DrillSample(bytes=parse_size(self.sample)) if match is None else DrillSample(int(match[1]))


def check_drill(
    drill: DrillSettings, vaults: Sequence[str], vault_of: Mapping[JobName, VaultName], deep: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """Return the mistakes of a drill, by key.

    `vault_of` has the vault of each job, `deep` the vaults that have no expedited retrievals.
    """
    if (drill.vault is None) == (not drill.jobs):
        yield "vault", "must be set, or jobs: one of the two"
    if drill.vault is not None and drill.vault not in vaults:
        yield "vault", f"there is no vault {drill.vault}{suggestion(drill.vault, vaults)}"
    for number, job in enumerate(drill.jobs, 1):
        if job not in vault_of:
            yield f"jobs[{number}]", f"there is no job {job}{suggestion(job, vault_of)}"
    places = sorted({vault_of[job] for job in drill.jobs if job in vault_of})
    if len(places) > 1:
        yield "jobs", f"lie in different vaults, {' and '.join(places)}: a drill for each is needed"
    if drill.amount == DrillSample(files=0) or drill.amount == DrillSample():
        yield "sample", "must be above 0"
    if drill.tier is Tier.EXPEDITED and (drill.vault in deep or set(places) & set(deep)):
        yield "tier", "must be standard or bulk: DEEP_ARCHIVE has no expedited retrievals"
    try:
        parse_schedule(drill.schedule or "weekly", "UTC")
    except ConfigError as error:
        yield "schedule", str(error)
