"""The input of checks, their findings, and the repair of what can safely be repaired."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from msgspec import Struct

from backup.app.restores.contexts import Link
from backup.app.status.parts import Level, Status
from backup.config import Config
from backup.format.keys import RecoveryKey
from backup.model import JobName, SnapshotId, Tier, VaultName, VaultState
from backup.protocols import Clock


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be; `command` repairs it, or shows more.

    `check` names the kind of finding; `fix`, if set, repairs it and returns what it did.
    """

    check: str
    level: Level
    what: str
    why: str
    command: str
    fix: Callable[[], str] | None = field(default=None, repr=False, compare=False)


class FullRestore(Struct, frozen=True):
    """An estimate of restoring a job's whole newest snapshot; `files` and `bytes` are written.

    `seconds` is the download time of the `fetched` bytes; `hours`, from and to, are what the vault needs
    before that, with this `tier`. `cost` is None where no price is known; one of a directory is 0.
    `is_unverified`: some of the figures are known of another region or kind only.
    """

    job: JobName
    vault: VaultName
    snapshot: SnapshotId
    files: int
    bytes: int
    fetched: int
    link: Link
    tier: Tier
    hours: tuple[float, float] | None
    cost: Decimal | None
    currency: str
    is_unverified: bool = False

    @property
    def seconds(self) -> float:
        """The time that the link needs."""
        return self.fetched / self.link.speed


@dataclass(slots=True)
class DoctorContext:
    """The input of all checks. `status` is None if the inventory cannot be opened; `keys` are recovery keys.

    `requests` describes the requests sent: each check that sends one adds it. `notes` say what was tried, or
    was not, and `restores` are estimates of full restores: none of these is a finding. `is_fresh`: rights
    that worked recently are tried, too. `silent` are places whose mounts do not answer. `away` are vaults
    that do not exist or cannot be reached, and `denied` roles that give no credentials: no more requests go
    to them. `states` of vaults, and whether buckets `keep_versions`, are asked for once.
    """

    config: Config
    clock: Clock
    status: Status | None
    seconds: float = 20.0
    keys: Sequence[RecoveryKey] = ()
    is_fresh: bool = False
    silent: Collection[str] = ()
    requests: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    restores: list[FullRestore] = field(default_factory=list)
    away: set[VaultName] = field(default_factory=set)
    denied: set[str] = field(default_factory=set)
    states: dict[VaultName, VaultState] = field(default_factory=dict)
    keep_versions: dict[VaultName, bool] = field(default_factory=dict)

    @property
    def now(self) -> datetime:
        """The time here."""
        return self.clock.now()


Check = Callable[[DoctorContext], Iterator[Finding]]
"""Looks at one thing; our errors mean that it cannot."""


class Mended(Struct, frozen=True):
    """The repairs made, in sentences, and the remaining findings."""

    done: Sequence[str]
    left: Sequence[Finding]


def mend(findings: Sequence[Finding]) -> Mended:
    """Repair what can safely be repaired: file modes. All else, and each failed repair, remains a finding."""
    done, left = [], []
    for finding in findings:
        try:
            if finding.fix is None:
                left.append(finding)
            else:
                done.append(finding.fix())
        except OSError:
            left.append(finding)
    return Mended(done, left)
