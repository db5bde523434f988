"""The daemon's tasks by a config: backups, forgets, compactions, prunes, checks, drills, restores, renewals.

One of a lane runs at a time; each vault is a lane. Those that store catalogs exclude each other, whatever the
vault: there is one lock of backups. Open restores go on beside them, and the certificate is renewed, in lanes
of their own.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from datetime import timedelta
from enum import StrEnum

from msgspec import Struct

from backup.app.tasks.times import Timing
from backup.config import Config, ForgetWhen, JobSettings
from backup.config.settings import DEFAULT_RETRY
from backup.inventory.records.runs import Outcome, RunKind
from backup.model import VaultName
from backup.schedule import parse_schedule

RESTORES = "restores"
RENEWAL = "renewal"
SAMPLE = "sample"
"""No kind of task: by this name it is remembered since when a vault's checks are to read a sample back."""


class TaskKind(StrEnum):
    """What a task does, in the order in which those that are due at the same time run."""

    BACKUP = "backup"
    FORGET = "forget"
    COMPACT = "compact"
    PRUNE = "prune"
    CHECK = "check"
    DRILL = "drill"
    RESTORES = RESTORES
    RENEWAL = RENEWAL


class KindTraits(Struct, frozen=True):
    """All that tells the tasks of one kind from others; it stands here, and nowhere else.

    `text` names one, and `command` does it by hand, with its name as {}. `run` is the kind of run that an
    attempt is; None: it only looks whether something is to be done. It was good if it ended as one of `good`.
    """

    text: str
    command: str
    run: RunKind | None = None
    of_job: bool = False
    good: tuple[Outcome, ...] = (Outcome.DONE, Outcome.PARTIAL)
    stores_catalogs: bool = False


KINDS: Mapping[TaskKind, KindTraits] = {
    TaskKind.BACKUP: KindTraits(
        "job {}", "nightvault backup {}", RunKind.BACKUP, of_job=True, stores_catalogs=True
    ),
    TaskKind.FORGET: KindTraits(
        "forget of job {}", "nightvault forget {}", RunKind.FORGET, of_job=True, stores_catalogs=True
    ),
    TaskKind.COMPACT: KindTraits(
        "compaction of vault {}", "nightvault compact --vault {}", RunKind.COMPACT, stores_catalogs=True
    ),
    TaskKind.PRUNE: KindTraits(
        "prune of vault {}", "nightvault prune --vault {}", RunKind.PRUNE, stores_catalogs=True
    ),
    TaskKind.CHECK: KindTraits(
        "check of vault {}", "nightvault check --vault {}", RunKind.CHECK, good=(Outcome.DONE,)
    ),
    TaskKind.DRILL: KindTraits("drill {}", "nightvault drill run {}", RunKind.DRILL, good=(Outcome.DONE,)),
    TaskKind.RESTORES: KindTraits("{}", "nightvault restores"),
    TaskKind.RENEWAL: KindTraits("{}", "nightvault identity renew"),
}
"""All kinds of tasks. By this list they are recorded, told, shown, measured and overdue."""

_ORDER = {kind: number for number, kind in enumerate(TaskKind)}
TaskKey = tuple[str, str]


class Task(Struct, frozen=True):
    """Something that is done by a schedule: its kind, the name of its job, vault or drill, and its times."""

    kind: TaskKind
    name: str
    vault: VaultName | None
    timing: Timing
    number: int = 0  # among those of its kind, as the config has them

    @property
    def key(self) -> TaskKey:
        """What tells it from other tasks."""
        return self.kind, self.name

    @property
    def lane(self) -> str:
        """Of each lane one task runs at a time."""
        return f" {self.kind}" if self.vault is None else self.vault

    @property
    def order(self) -> tuple[int, int]:
        """Its place among those that wait."""
        return _ORDER[self.kind], self.number

    @property
    def is_exclusive(self) -> bool:
        """Whether it takes the lock of backups."""
        return KINDS[self.kind].stores_catalogs

    @property
    def is_recorded(self) -> bool:
        """Whether it is remembered over restarts: not that restores or the certificate were looked at."""
        return KINDS[self.kind].run is not None

    @property
    def of_job(self) -> str | None:
        """The name of its job; None for tasks of a vault."""
        return self.name if KINDS[self.kind].of_job else None

    @property
    def names(self) -> dict[str, str]:
        """What the log's lines of it carry."""
        job = {} if self.of_job is None else {"job": self.name}
        return job if self.vault is None else {**job, "vault": self.vault}

    def __str__(self) -> str:
        """As logs and messages name it."""
        return KINDS[self.kind].text.format(self.name)


def scheduled_tasks(config: Config) -> list[Task]:
    """What the config gives a schedule, in the order in which it is done; restores are not among it."""
    return [task for task in tasks_of(config) if task.timing.schedule is not None]


def noted_keys(config: Config) -> list[TaskKey]:
    """All of which is remembered since when it is known: it counts as late from then on, if it never came."""
    samples = [(SAMPLE, vault.name) for vault in config.vaults if vault.check_when and vault.check_sample]
    return [*(task.key for task in scheduled_tasks(config)), *samples]


def tasks_of(config: Config) -> list[Task]:
    """What can be done by this config: also the backups of jobs without a schedule, when asked for."""
    return sorted(_tasks(config, socket.gethostname()), key=lambda task: task.order)


def restores_task() -> Task:
    """Open restores: looked at every five minutes."""
    return Task(TaskKind.RESTORES, RESTORES, None, Timing(parse_schedule("every 5m", "UTC")))


def renewal_tasks(config: Config) -> list[Task]:
    """The certificate, if the config says how it is renewed: looked at every five minutes."""
    if config.identity is None or config.identity.renew is None:
        return []
    name = "certificate's renewal"
    return [Task(TaskKind.RENEWAL, name, None, Timing(parse_schedule("every 5m", "UTC")))]


def backup_task(job: JobSettings, host: str, number: int = 0) -> Task:
    """The backups of a job."""
    timing = Timing(
        job.when,
        timedelta(seconds=job.jitter),
        job.catch_up,
        tuple(timedelta(seconds=delay) for delay in job.retry),
        f"{host}/{job.name}",
    )
    return Task(TaskKind.BACKUP, job.name, job.vault, timing, number)


def _tasks(config: Config, host: str) -> Iterator[Task]:
    retry = tuple(timedelta(seconds=delay) for delay in DEFAULT_RETRY)
    for number, job in enumerate(config.jobs):
        yield backup_task(job, host, number)
        if not isinstance(job.forget_when, ForgetWhen):
            yield Task(TaskKind.FORGET, job.name, job.vault, Timing(job.forget_when, retry=retry), number)
    for number, vault in enumerate(config.vaults):
        whens = {
            TaskKind.COMPACT: vault.compact_when,
            TaskKind.PRUNE: vault.prune_when,
            TaskKind.CHECK: vault.check_when,
        }
        for kind, when in whens.items():
            if when is not None:
                yield Task(kind, vault.name, vault.name, Timing(when, retry=retry), number)
    for number, drill in enumerate(config.drills):
        place = config.vault_of_drill(drill)
        yield Task(TaskKind.DRILL, drill.name, place, Timing(drill.when, retry=retry), number)
