"""What a backup run is given: the job, the keys that seal, and its context (inventory, vault, clock)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from backup.archiver.hooks import Hooks
from backup.archiver.packing import Spool
from backup.errors import NoSourceError
from backup.format.keys import ChunkSecret, Recipient, Signer
from backup.inventory.database import Inventory
from backup.inventory.runs import JobRow, Run
from backup.memory import BackupMemory, backup_memory
from backup.model import JobName
from backup.protocols import Clock, Progress, Vault
from backup.source.filters import Filters
from backup.source.freshness import stamp_clock
from backup.source.scan import any_is_there
from backup.source.streams import Stream
from backup.transfer.retry import Reach
from backup.transfer.upload import Uploader


@dataclass(frozen=True, slots=True)
class BackupJob:
    """What to back up and how; sizes in bytes.

    `overrides` are the filters of single sources; `reread`: files that seem unchanged are read, too;
    `only_streams`: a run that leaves the sources as they were; `memory`: what its buffers may hold;
    `most_parts_at_once`: so many parts, `parts_are_fixed`, or up to so many, are sent at once.
    """

    name: JobName
    sources: tuple[bytes, ...]
    filters: Filters
    pack_size: int
    part_size: int
    level: int | None = None
    overrides: Mapping[bytes, Filters] = field(default_factory=dict)
    reread: bool = False
    disks_gone: frozenset[bytes] = frozenset()  # mount points whose file systems will not come back
    streams: tuple[Stream, ...] = ()
    only_streams: bool = False
    hooks: Hooks = field(default_factory=Hooks)
    memory: BackupMemory = field(default_factory=backup_memory)
    most_parts_at_once: int = 3
    parts_are_fixed: bool = True


@dataclass(frozen=True, slots=True)
class Keys:
    """What a server needs to seal: never a key that opens."""

    signer: Signer = field(repr=False)
    secret: ChunkSecret = field(repr=False)
    recipients: tuple[Recipient, ...]
    enrolments: tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class BackupContext:
    """Everything a backup run works with outside its job. `stamps` is the sources' clock, in ns."""

    inventory: Inventory
    vault: Vault
    clock: Clock
    progress: Progress
    spool: str
    host: str
    program: str
    stop: Callable[[], bool]
    stamps: Callable[[], int] = stamp_clock
    reach: Reach = field(default_factory=Reach)


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run that has begun: what its steps work with. `domain` is the dedup domain's number."""

    job: BackupJob
    keys: Keys
    context: BackupContext
    spool: Spool
    uploader: Uploader
    domain: int
    row: JobRow
    run: Run


def require_a_source(job: BackupJob) -> None:
    """`NoSourceError` when there is none; asked once `before` has run, as that may bring them."""
    if job.sources and not job.streams and not any_is_there(job.sources):
        raise NoSourceError(
            f"not one of the sources of job {job.name} is there: {os.fsdecode(b', '.join(job.sources))}",
            advice="mount what they lie on, or correct them in the config; older snapshots stay as they are",
        )
