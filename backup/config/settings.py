"""The settings of config.toml as frozen values; each type of text has the message for a wrong value."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from backup.config import commands
from backup.config.drills import DrillSettings
from backup.config.machine_identity import IdentitySettings, RolesAnywhereSettings
from backup.config.monitoring import MonitoringSettings
from backup.config.notifying import NotifySettings
from backup.config.pruning import (
    DEFAULT_GRACE,
    DEFAULT_HORIZON,
    DEFAULT_KEEP_RUNS,
    DEFAULT_LOCK_FOR,
    DEFAULT_LOCK_STEP,
)
from backup.config.retention import ForgetWhen, RetentionSettings, parse_forget
from backup.config.shapes import NAME, NAME_SENTENCE, Endpoint, Text, suggestion
from backup.config.shapes import shape as _shape
from backup.config.values import LimitSettings, local_zone
from backup.config.web import WebSettings
from backup.errors import ConfigError, UsageError
from backup.memory import DEFAULT_MEMORY
from backup.model import MIB, JobName, OnCapacity, Tier, VaultName
from backup.owners import Hazard
from backup.retention.policy import Policy
from backup.schedule import CatchUp, Schedule, parse_schedule

DEFAULT_RETRY = (600, 3600, 10_800)
"""After how many seconds a backup that failed is tried again: 10 minutes, then an hour, then three."""
DEFAULT_STATE_DIR = "/var/lib/nightvault"


_Name = _shape(NAME, NAME_SENTENCE)
_Kind = Annotated[str, _shape("directory|glacier|s3", "must be directory, glacier or s3")]
_TAG = r"[^/\x00:]+(:[^\x00]*)?"
_Tag = Annotated[str, _shape(_TAG, "must be the name of a file, or NAME:HEADER")]
_Source = Annotated[str, _shape(r"/[^\x00]*", "must be an absolute path")]
_AnyRegion = Annotated[str, _shape("[A-Za-z0-9-]{1,64}", "must look like eu-central-1")]
_Account = Annotated[str, _shape("-|[0-9]{12}", 'must be 12 digits in quotes, or "-"')]
_Stored = Annotated[str, _shape("[A-Za-z0-9_.-]{1,255}", "must be 1 to 255 letters, digits and _.-")]
_Bucket = Annotated[
    str, _shape("[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "must be 3 to 63 small letters, digits, dots and hyphens")
]
_Prefix = Annotated[
    str,
    _shape(
        "|([A-Za-z0-9!_.*'()-]+/)+",
        "must be letters, digits and !_.*'()- and end with a slash; it must not begin with a slash",
    ),
]
_CLASSES = "GLACIER|DEEP_ARCHIVE|GLACIER_IR|STANDARD|STANDARD_IA|ONEZONE_IA|[A-Z][A-Z0-9_]{1,63}"
_Class = Annotated[str, _shape(_CLASSES, "must be a class in capitals, such as DEEP_ARCHIVE")]
_HOT = "must be a class that is read at once: STANDARD or STANDARD_IA"
_HotClass = Annotated[str, _shape("STANDARD|STANDARD_IA", _HOT)]
_Checksums = Annotated[str, _shape("crc64nvme|none", "must be crc64nvme or none")]
_Sample = Annotated[
    str,
    _shape(r"[0-9]{1,3}(\.[0-9]{1,9})?%|[0-9]+ ?(KiB|MiB|GiB)", 'must be a share or a size: "1%", "5GiB"'),
]
_Lock = Annotated[str, _shape("governance|compliance", "must be governance or compliance")]
_Deletes = Annotated[str, _shape("here|elsewhere", "must be here or elsewhere")]
_ROLE = r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]+"
_Role = Annotated[str, _shape(_ROLE, "must look like arn:aws:iam::ACCOUNT:role/NAME")]
_IONICE = "idle|best-effort:[0-7]"
_IoNice = Annotated[str, _shape(_IONICE, "must be idle, or best-effort:0 (most urgent) to best-effort:7")]
_URL = r"(sqlite:////|postgresql\+psycopg://)[^\x00]+"
_Url = Annotated[str, _shape(_URL, "must be sqlite:////PATH")]


class VaultSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[vault]]`; `kind` decides which of the others are set: directory `path`, glacier `region` and
    `vault`, s3 `region` and `bucket`.

    Sizes are bytes; `account_id` "-" means the account of the credentials, or for S3 of `role_arn`, if there
    is one. `retrieval_days`: how long S3
    keeps what was retrieved. `parts_at_once`: so many, None: as many as make it faster. `deletes`: whether
    this server may delete, None: as follows from its rights. `check`, `prune`, `compact`: schedules;
    `check_sample`: how much a check reads back, as "1%" or "5GiB". `prune_grace`, `compact_horizon`: seconds.
    `keep_within`: a span, the floor of whoever deletes in place of servers. `lock`: what is stored is locked
    in that mode, for `lock_for` seconds, rounded up to a `lock_step`; `lock_forever`: the vault's name, typed
    by whoever means it.
    """

    name: Annotated[VaultName, _Name]
    kind: _Kind
    path: Text | None = None
    region: _AnyRegion | None = None
    vault: _Stored | None = None
    bucket: _Bucket | None = None
    prefix: _Prefix = ""
    storage_class: _Class = "DEEP_ARCHIVE"
    catalog_class: _HotClass = "STANDARD"
    retrieval_days: Annotated[int, Meta(ge=1, le=365)] = 7
    path_style: bool = False
    checksums: _Checksums = "crc64nvme"
    account_id: _Account = "-"
    endpoint: Endpoint | None = None
    role_arn: _Role | None = None
    restore_role_arn: _Role | None = None
    copy_role_arn: _Role | None = None
    prune_role_arn: _Role | None = None
    lock_role_arn: _Role | None = None
    lock: _Lock | None = None
    lock_for: int = DEFAULT_LOCK_FOR
    lock_step: int = DEFAULT_LOCK_STEP
    lock_forever: str | None = None
    extend: str | None = None
    pack_size: int = 0  # once read: that of the kind
    part_size: int = 32 * MIB
    parts_at_once: Annotated[int, Meta(ge=1, le=64)] | None = None
    tier: Tier = Tier.STANDARD
    upload_limit: tuple[LimitSettings, ...] = ()
    download_limit: tuple[LimitSettings, ...] = ()
    deletes: _Deletes | None = None
    check: str | None = None
    check_sample: _Sample | None = None
    prune: str | None = None
    prune_grace: int = DEFAULT_GRACE
    compact: str | None = None
    compact_horizon: int = DEFAULT_HORIZON
    keep_within: str | None = None

    @property
    def is_in_aws(self) -> bool:
        """Whether it is in AWS itself: not a directory, nor a bucket of another service."""
        return self.kind == "glacier" or (self.kind == "s3" and self.endpoint is None)

    def when(self, kind: str) -> Schedule | None:
        """The parsed schedule of that kind of task, in this machine's time zone; None: by hand only."""
        text: str | None = getattr(self, kind)
        return None if text is None else parse_schedule(text, local_zone())

    @property
    def smallest_part(self) -> int:
        """The smallest part in bytes; S3's own bound is 5 MiB, and parts are powers of two."""
        return (8 if self.kind == "s3" else 1) * MIB

    def __post_init__(self) -> None:
        """Set the pack size by the kind: packs are smaller on S3, which retrieves them only whole."""
        if not self.pack_size:
            msgspec.structs.force_setattr(self, "pack_size", (64 if self.kind == "s3" else 224) * MIB)


class SourceSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[job.source]]`: lists add to the job's, single values replace the job's."""

    path: _Source
    exclude: tuple[Text, ...] = ()
    exclude_file: tuple[Text, ...] = ()
    iexclude: tuple[Text, ...] = ()
    iexclude_file: tuple[Text, ...] = ()
    exclude_if_present: tuple[_Tag, ...] = ()
    exclude_larger_than: Annotated[int, Meta(ge=0)] | None = None
    exclude_caches: bool | None = None
    one_file_system: bool | None = None


class CopySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[job.copy]]`: another vault that gets copies of the job's snapshots, and what it keeps.

    `delay` (seconds): only older snapshots are copied. `retention` as a job's.
    """

    vault: VaultName
    schedule: str | None = None
    retention: RetentionSettings | str | None = None
    delay: int = 0

    @property
    def policy(self) -> Policy | None:
        """Which snapshots are copied and kept there; None: all of them."""
        return self.retention.policy if isinstance(self.retention, RetentionSettings) else None


class JobSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[job]]`; `sources` are absolute, `schedule`, `timezone` and `forget` as written.

    `jitter` (seconds) delays each time by something below it; `retry` are seconds after a run that failed.
    `retention` is the name of a `[retention.NAME]` only while the file is being read. `notify` names
    channels, None: those of all jobs.
    """

    name: Annotated[JobName, _Name]
    vault: VaultName
    sources: Annotated[tuple[_Source, ...], Meta(description="must be a list of paths")] = ()
    source: tuple[SourceSettings, ...] = ()
    command: tuple[commands.CommandSettings, ...] = ()
    database: tuple[commands.DatabaseSettings, ...] = ()
    containers: commands.ContainersSettings | None = None
    devices: tuple[_Source, ...] = ()
    exclude: tuple[Text, ...] = ()
    exclude_file: tuple[Text, ...] = ()
    iexclude: tuple[Text, ...] = ()
    iexclude_file: tuple[Text, ...] = ()
    exclude_if_present: tuple[_Tag, ...] = ()
    exclude_larger_than: Annotated[int, Meta(ge=0)] | None = None
    exclude_caches: bool = False
    exclude_own: bool | None = None  # None: what the newest snapshot has of it, and nothing more
    one_file_system: bool = False
    hooks: commands.HooksSettings = commands.HooksSettings()
    schedule: str | None = None
    timezone: str | None = None
    jitter: int = 0
    catch_up: CatchUp = CatchUp.ONCE
    retry: tuple[int, ...] = DEFAULT_RETRY
    compression_level: Annotated[int, Meta(ge=1, le=19)] | None = None
    nice: Annotated[int, Meta(ge=0, le=19)] | None = None
    ionice: _IoNice | None = None
    retention: RetentionSettings | str | None = None
    forget: str | None = None
    copy: tuple[CopySettings, ...] = ()
    notify: tuple[Annotated[str, _Name], ...] | None = None
    alarm_on_unusual: bool = False
    may_shrink: bool = False

    @property
    def paths(self) -> tuple[str, ...]:
        """All sources; those with settings of their own are last."""
        return (*self.sources, *(source.path for source in self.source))

    @property
    def when(self) -> Schedule | None:
        """The parsed schedule; None if the job is run by hand only."""
        return None if self.schedule is None else parse_schedule(self.schedule, self.zone)

    @property
    def zone(self) -> str:
        """The job's time zone: its own, else this machine's. `ConfigError` if that cannot be determined."""
        return self.timezone or local_zone()

    @property
    def policy(self) -> Policy | None:
        """The policy that says which snapshots are kept; None: all of them."""
        return self.retention.policy if isinstance(self.retention, RetentionSettings) else None

    @property
    def forget_when(self) -> ForgetWhen | Schedule:
        """When to forget by the policy: never without one, after each backup unless `forget` says else."""
        has_policy = self.policy is not None
        return parse_forget(self.forget, self.zone if has_policy else "UTC", has_policy=has_policy)


class PricesSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[prices]`: a table of prices instead of the one that comes with nightvault."""

    file: Text | None = None


class RestoreSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[restore]`: limit of cost, bytes per second of the link, and what to do without capacity."""

    max_restore_cost: Decimal | None = None
    link: Annotated[int, Meta(ge=1)] | None = None
    on_capacity: OnCapacity = OnCapacity.WAIT


class LimitsSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[limits]`: the bytes that all buffers and queues of a run may hold together."""

    memory: int = DEFAULT_MEMORY
    cores: int | None = None


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file: checked, with absolute paths."""

    path: str
    state_dir: str
    inventory_url: str
    keep_runs: int = DEFAULT_KEEP_RUNS  # seconds
    recovery_file: str | None = None  # a second place for the recovery lines
    identity: IdentitySettings | None = None
    roles_anywhere: RolesAnywhereSettings | None = None
    recipients: tuple[str, ...] = ()
    prices: PricesSettings = PricesSettings()
    restore: RestoreSettings = RestoreSettings()
    limits: LimitsSettings = LimitsSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    notify: NotifySettings = NotifySettings()
    web: WebSettings | None = None
    vaults: tuple[VaultSettings, ...] = ()
    jobs: tuple[JobSettings, ...] = ()
    drills: tuple[DrillSettings, ...] = ()
    connections: tuple[commands.ConnectionSettings, ...] = ()
    hazard: Hazard | None = None  # how others can change the file

    def vault(self, name: str) -> VaultSettings:
        """Return the vault of that name; `UsageError` if there is none."""
        return _named(self.vaults, name, "vault", self.path)

    def gaps_of(self, vault: VaultSettings) -> tuple[str, ...]:
        """Return the keys that a vault lacks and `setup aws` fills in; none once it is set up."""
        if self.identity is None or not vault.is_in_aws:
            return ()
        keys = ("bucket", "role_arn") if vault.kind == "s3" else ("role_arn",)
        return tuple(key for key in keys if getattr(vault, key) is None)

    def not_set_up(self, vault: VaultSettings) -> str:
        """Return a sentence if the vault is not set up in AWS yet, so that it cannot be used; else ""."""
        lacks = " and no ".join(self.gaps_of(vault))
        return lacks and f"vault {vault.name} is not set up in AWS yet: the config has no {lacks} of it"

    def job(self, name: str) -> JobSettings:
        """Return the job of that name; `UsageError` if there is none."""
        return _named(self.jobs, name, "job", self.path)

    def copy_to(self, job: str, vault: str) -> CopySettings:
        """Return the copy of a job to that vault; `UsageError` if the config has none."""
        every = self.job(job).copy
        found = next((copy for copy in every if copy.vault == vault), None)
        if found is None:
            there = f"there is one to {', '.join(copy.vault for copy in every)}" if every else "there is none"
            by_hand = f"nightvault copy --from {self.job(job).vault} --to {vault} --job {job}"
            raise UsageError(
                f"job {job} has no [[job.copy]] to vault {vault} in {self.path}: {there}",
                advice=f"a copy by hand: `{by_hand}`",
            )
        return found

    def drill(self, name: str) -> DrillSettings:
        """Return the drill of that name; `UsageError` if there is none."""
        return _named(self.drills, name, "drill", self.path)

    def connection(self, name: str) -> commands.ConnectionSettings:
        """Return the connection of that name; `UsageError` if there is none."""
        return _named(self.connections, name, "connection", self.path)

    def vault_of_drill(self, drill: DrillSettings) -> VaultName:
        """Return the vault that a drill reads."""
        return drill.vault or self.job(drill.jobs[0]).vault

    @property
    def warning(self) -> str:
        """A sentence if others can change the file, and so what this user runs; else ""."""
        if self.hazard is None:
            return ""
        return (
            f"{self.path} can be changed by others ({self.hazard.why}), and with it what is backed up, and "
            f"where to: {self.hazard.command}"
        )

    def require_own(self, what: str) -> None:
        """`ConfigError` for root if others can change the file, and with it what root runs or loads."""
        if self.hazard is not None and os.geteuid() == 0:
            raise ConfigError(
                f"as root, nightvault does not use {what}: others can change the config {self.path}: "
                f"{self.hazard.why}",
                advice=f"read the config, correct what others wrote there, then: {self.hazard.command}",
            )

    def __repr__(self) -> str:
        """The path alone: the inventory's address may contain a password."""
        return f"Config({self.path!r})"


StateSettings = msgspec.defstruct(
    "StateSettings", [("dir", Text, DEFAULT_STATE_DIR), ("recovery_file", Text | None, None)]
)
InventorySettings = msgspec.defstruct(
    "InventorySettings", [("url", _Url | None, None), ("keep_runs", int, DEFAULT_KEEP_RUNS)]
)
EncryptionSettings = msgspec.defstruct("EncryptionSettings", [("recipients", tuple[str, ...], ())])

SECTIONS: Mapping[str, type[Struct]] = {
    "state": StateSettings,
    "inventory": InventorySettings,
    "identity": IdentitySettings,
    "roles_anywhere": RolesAnywhereSettings,
    "encryption": EncryptionSettings,
    "prices": PricesSettings,
    "restore": RestoreSettings,
    "limits": LimitsSettings,
    "monitoring": MonitoringSettings,
    "notify": NotifySettings,
    "web": WebSettings,
}
LISTS: Mapping[str, type[Struct]] = {
    "vault": VaultSettings,
    "job": JobSettings,
    "drill": DrillSettings,
    "connection": commands.ConnectionSettings,
}
_Named = TypeVar("_Named", VaultSettings, JobSettings, DrillSettings, commands.ConnectionSettings)


def _named(settings: Sequence[_Named], name: str, noun: str, path: str) -> _Named:
    known = {str(vault.name): vault for vault in settings}
    if name not in known:
        there = f"there is {', '.join(known)}" if known else "there is none"
        raise UsageError(f"no {noun} named {name} in {path}: {there}{suggestion(name, known)}")
    return known[name]
