"""The daemon's tasks by a config: backups, forgets, compactions, prunes, checks, drills, copies, restores, …

One of a lane runs at a time; each vault is a lane. Those that store catalogs exclude each other, whatever the
vault: there is one lock of backups. Copies are made beside them, open restores go on, and the certificate is
renewed, in lanes of their own.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import timedelta

from msgspec import Struct

from backup.app.tasks.times import Timing
from backup.config import Config, ForgetWhen, JobSettings
from backup.config.settings import DEFAULT_RETRY
from backup.kinds import TASKS, TaskKind, parts_of_name, run_of
from backup.model import VaultName
from backup.schedule import parse_schedule

SAMPLE = "sample"
"""No kind of task: by this name it is remembered since when a vault's checks are to read a sample back."""


_ORDER = {kind: number for number, kind in enumerate(TaskKind)}
TaskKey = tuple[str, str]


class Task(Struct, frozen=True):
    """Work that is done by a schedule: its kind, the name of its job, vault or drill, and its times."""

    kind: TaskKind
    name: str
    vault: VaultName | None
    timing: Timing
    number: int = 0  # among those of its kind, as the config has them

    @property
    def key(self) -> TaskKey:
        """The task's unique key."""
        return self.kind, self.name

    @property
    def lane(self) -> str:
        """The name of its lane, in which one task runs at a time."""
        is_beside = self.vault is None or self.kind is TaskKind.COPY  # for days, beside what is done there
        return f" {self.kind}" if is_beside else str(self.vault)

    @property
    def order(self) -> tuple[int, int]:
        """Its sort key among waiting tasks."""
        return _ORDER[self.kind], self.number

    @property
    def is_exclusive(self) -> bool:
        """Whether it takes the lock of backups."""
        return TASKS[self.kind].stores_catalogs

    @property
    def is_recorded(self) -> bool:
        """Whether it is stored over restarts; the looks at restores and the certificate are not."""
        return run_of(self.kind) is not None

    @property
    def of_job(self) -> str | None:
        """The name of its job; None for tasks of a vault."""
        return parts_of_name(self.name)[0] if TASKS[self.kind].of_job else None

    @property
    def names(self) -> dict[str, str]:
        """The fields that log lines about it carry."""
        job = {} if self.of_job is None else {"job": self.of_job}
        return job if self.vault is None else {**job, "vault": self.vault}

    def __str__(self) -> str:
        """As logs and messages name it."""
        return TASKS[self.kind].text_of(self.name)


def scheduled_tasks(config: Config) -> list[Task]:
    """Return the config's tasks that have a schedule, in the order of execution, without restores."""
    return [task for task in tasks_of(config) if task.timing.schedule is not None]


def noted_keys(config: Config) -> list[TaskKey]:
    """Return the keys of tasks whose first sight is recorded: one that never ran is late from then on."""
    samples = [(SAMPLE, vault.name) for vault in config.vaults if vault.check and vault.check_sample]
    return [*(task.key for task in scheduled_tasks(config)), *samples]


def tasks_of(config: Config) -> list[Task]:
    """Return all tasks of a config, also backups of jobs without a schedule, which run on request."""
    return sorted(_tasks(config, socket.gethostname()), key=lambda task: task.order)


def restores_task() -> Task:
    """Return the task that looks for open restores every five minutes."""
    return Task(TaskKind.RESTORES, TaskKind.RESTORES, None, Timing(parse_schedule("every 5m", "UTC")))


def renewal_tasks(config: Config) -> list[Task]:
    """Return the task that looks at the certificate every five minutes, if renewal is configured."""
    if config.identity is None or config.identity.renew is None:
        return []
    name = "certificate's renewal"
    return [Task(TaskKind.RENEWAL, name, None, Timing(parse_schedule("every 5m", "UTC")))]


def backup_task(job: JobSettings, host: str, number: int = 0) -> Task:
    """Return the task for the backups of a job."""
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
        for copy in job.copy:
            when = None if copy.schedule is None else parse_schedule(copy.schedule, job.zone)
            name = f"{job.name}@{copy.vault}"
            yield Task(TaskKind.COPY, name, copy.vault, Timing(when, retry=retry), number)
    for number, vault in enumerate(config.vaults):
        for kind, traits in TASKS.items():
            if traits.of_vault and (when := vault.when(kind)) is not None:
                yield Task(kind, vault.name, vault.name, Timing(when, retry=retry), number)
    for number, drill in enumerate(config.drills):
        place = config.vault_of_drill(drill)
        yield Task(TaskKind.DRILL, drill.name, place, Timing(drill.when, retry=retry), number)
