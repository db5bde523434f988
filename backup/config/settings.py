"""The settings of config.toml as frozen values; each type of text has the message for a wrong value."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct, field

from backup.config import commands
from backup.config.drills import DrillSettings
from backup.config.machine_identity import IdentitySettings, RolesAnywhereSettings
from backup.config.monitoring import CenterSettings, MonitoringSettings
from backup.config.notifying import NotifySettings
from backup.config.retention import ForgetWhen, RetentionSettings, parse_forget
from backup.config.shapes import NAME, NAME_SENTENCE, Text, suggestion
from backup.config.shapes import shape as _shape
from backup.config.values import DEFAULT_KEEP_RUNS, local_zone, usable_memory
from backup.config.vaults import VaultSettings
from backup.config.web import WebSettings
from backup.errors import ConfigError, UsageError
from backup.memory import usual_memory
from backup.model import JobName, OnCapacity, VaultName
from backup.owners import Hazard
from backup.retention.policy import Policy
from backup.schedule import CatchUp, Schedule, parse_schedule

DEFAULT_RETRY = (600, 3600, 10_800)
"""After how many seconds a backup that failed is tried again: 10 minutes, then an hour, then three."""
DEFAULT_STATE_DIR = "/var/lib/nightvault"


_Name = _shape(NAME, NAME_SENTENCE)
_TAG = r"[^/\x00:]+(:[^\x00]*)?"
_Tag = Annotated[str, _shape(_TAG, "must be the name of a file, or NAME:HEADER")]
_Source = Annotated[str, _shape(r"/[^\x00]*", "must be an absolute path")]
_IONICE = "idle|best-effort:[0-7]"
_IoNice = Annotated[str, _shape(_IONICE, "must be idle, or best-effort:0 (most urgent) to best-effort:7")]
_URL = r"(sqlite:////|postgresql\+psycopg://)[^\x00]+"
_Url = Annotated[str, _shape(_URL, "must be sqlite:////PATH")]


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


def _usual_memory() -> int:
    return usual_memory(usable_memory())


class LimitsSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[limits]`: the memory of a run in bytes, less by default in a small container; cores."""

    memory: int = field(default_factory=_usual_memory)
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
    limits: LimitsSettings = field(default_factory=LimitsSettings)
    monitoring: MonitoringSettings = MonitoringSettings()
    notify: NotifySettings = NotifySettings()
    web: WebSettings | None = None
    center: CenterSettings | None = None
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
    "center": CenterSettings,
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
