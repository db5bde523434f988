"""Inputs of a run that stores catalogs: job, keys that seal, and context (inventory, vault, clock, …)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from msgspec import Struct, field

from backup.catalogs.hooks import Hooks
from backup.catalogs.packing import Spool
from backup.errors import NoSourceError
from backup.format.enrolment import EnrolmentKey
from backup.format.keys import ChunkSecret, Recipient, Signer
from backup.inventory.records.runs import JobRow, Run
from backup.inventory.store.database import Inventory
from backup.memory import BackupMemory, backup_memory
from backup.model import JobName
from backup.protocols import Clock
from backup.source.filters import Filters
from backup.source.freshness import stamp_clock
from backup.source.roots import any_is_there
from backup.source.streams import Stop, Stream, StreamList
from backup.transfer.upload import Uploader
from backup.transfer.vault_run import VaultRun


class Sending(Struct, frozen=True):
    """Settings of uploads: the size of a part in bytes, parts at once, the compression of catalogs.

    `most_parts_at_once` is the number of parts if `parts_are_fixed`, else its upper limit.
    """

    part_size: int
    most_parts_at_once: int = 3
    parts_are_fixed: bool = True
    level: int | None = None


class Containers(Protocol):
    """Containers whose volumes a job reads."""

    def volumes(self) -> Mapping[bytes, bytes]:
        """The places that are read, by their paths in the snapshot; `NightvaultError`."""
        ...

    def at_rest(
        self, inventory: Inventory, clock: Clock, stop: Stop
    ) -> AbstractContextManager[Sequence[str]]:
        """While the volumes are read, containers are stopped; a list of what went wrong after that.

        `NightvaultError` if that is impossible.
        """
        ...


class BackupJob(Struct, frozen=True):
    """A job's sources and options; sizes in bytes.

    `overrides` are the filters of single sources; `reread`: files that seem unchanged are read, too;
    `only_streams`: a run that leaves the sources as they were; `memory`: the limit for its buffers;
    `most_parts_at_once`: the number of parts sent at once if `parts_are_fixed`, else its upper limit. Once
    its run has begun `sources` are volumes of its `containers`, too, and `places` says where these are.
    """

    name: JobName
    sources: tuple[bytes, ...]
    filters: Filters
    pack_size: int
    part_size: int
    level: int | None = None
    overrides: Mapping[bytes, Filters] = field(default_factory=dict)
    reread: bool = False
    disks_gone: frozenset[bytes] = frozenset()  # mount points of file systems that are gone for good
    streams: tuple[Stream, ...] = ()
    databases: tuple[StreamList, ...] = ()
    containers: Containers | None = None
    places: Mapping[bytes, bytes] = field(default_factory=dict)
    only_streams: bool = False
    hooks: Hooks = field(default_factory=Hooks)
    memory: BackupMemory = field(default_factory=backup_memory)
    most_parts_at_once: int = 3
    parts_are_fixed: bool = True
    tags: tuple[str, ...] = ()  # of the snapshot that it makes
    may_shrink: bool = False  # a source that loses nearly everything is as usual as any

    @property
    def stream_paths(self) -> list[bytes]:
        """The paths of its streams, and of the databases that are listed when it runs."""
        return [*(stream.path for stream in self.streams), *(listed.path for listed in self.databases)]

    @property
    def sending(self) -> Sending:
        """The settings by which the packs of the run are sent."""
        return Sending(self.part_size, self.most_parts_at_once, self.parts_are_fixed, self.level)


class Keys(Struct, frozen=True):
    """The keys that a server needs to seal packs; none of them opens one.

    `enrolments` are the slots of a catalog's header. `vouching` are the enrolment keys of its recipients, as
    far as they are known here; `signature` is one of theirs for this inventory, empty if there is none.
    """

    signer: Signer
    secret: ChunkSecret
    recipients: tuple[Recipient, ...]
    enrolments: tuple[tuple[bytes, bytes], ...]
    vouching: tuple[EnrolmentKey, ...] = ()
    signature: bytes = b""


class BackupContext(VaultRun, frozen=True, kw_only=True):
    """The context of a run, besides its job; `stamps` is the clock of the file systems, in ns.

    `most_deltas`, if set, is the number of deltas after which a full catalog is due. `begun` is called with
    the number of a run once it is recorded.
    """

    spool: str
    host: str
    program: str
    stamps: Callable[[], int] = stamp_clock
    most_deltas: int | None = None
    begun: Callable[[int], None] = lambda _: None


class OpenVault(Struct, frozen=True, kw_only=True):
    """A vault into which catalogs are stored. `vault` and `domain` (of dedup) are numbers.

    `level` is that of the compression, as `FrameCodec` takes it.
    """

    keys: Keys
    context: BackupContext
    spool: Spool
    uploader: Uploader
    vault: int
    domain: int
    level: int | None


class OpenRun(OpenVault, frozen=True, kw_only=True):
    """A run in progress that stores catalogs."""

    row: JobRow
    run: Run


class OpenBackup(OpenRun, frozen=True, kw_only=True):
    """A backup in progress, as its steps need it."""

    job: BackupJob


def require_a_source(job: BackupJob) -> None:
    """`NoSourceError` if no source exists; call it after the hook `before`, which may mount them."""
    others = job.streams or job.databases or job.places
    if job.sources and not others and not any_is_there(job.sources):
        raise NoSourceError(
            f"not one of the sources of job {job.name} is there: {os.fsdecode(b', '.join(job.sources))}",
            advice="mount what they lie on, or correct them in the config; older snapshots stay as they are",
        )
