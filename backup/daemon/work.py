"""The work of each kind of task, done by functions of `app` with the config in force."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from backup.app.base.malloc import give_back_freed_memory
from backup.app.base.priority import Priority, in_thread
from backup.app.machine.renewal import RenewalState, renew_if_due
from backup.app.machine.restore_units import RestoreUnits
from backup.app.tasks.tasks import tasks_of
from backup.config import Config
from backup.daemon.task_run import Done, TaskRun
from backup.errors import MonthSpentError
from backup.kinds import KINDS, TaskKind, load, run_of
from backup.operations.operation import Operation
from backup.operations.recorded import step_of
from backup.operations.restores import continue_restores
from backup.protocols import Clock
from backup.reports import Report, log_report

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class TaskWork:
    """Does the work of tasks; `config` may be replaced between two runs."""

    config: Config
    clock: Clock
    units: RestoreUnits | None = None

    def __call__(self, run: TaskRun) -> Done:
        """Do what the run's task is about."""
        kind = run_of(run.task.kind)
        try:
            if kind is not None and (operation := KINDS[kind].operation):
                return self._step(load(operation), run)
            return _WORK[run.task.kind](self, self.config, run)
        finally:
            give_back_freed_memory()

    def _step(self, make: type[Operation[Report]], run: TaskRun) -> Done:
        config, name, progress = self.config, run.task.name, run.progress
        if run.task.key not in {task.key for task in tasks_of(config)}:  # it was read again meanwhile
            _log.info("%s: nothing is done, as the config does not have it any more", run.task)
            return Done()
        job = run.task.of_job
        priority = Priority() if job is None else Priority.of(config.job(job))
        try:
            report = in_thread(
                priority,
                lambda: step_of(config, make, name, clock=self.clock, progress=progress, stop=run.stop),
            )
        except MonthSpentError as error:  # as it was meant to be
            _log.info("%s: %s", run.task, error)
            return Done()
        return Done(report, report.waits_for)

    def _restores(self, config: Config, run: TaskRun) -> Done:
        for restore in continue_restores(config, clock=self.clock, stop=run.stop, units=self.units):
            log_report(restore)
        return Done()

    def _renewal(self, config: Config, _run: TaskRun) -> Done:
        done = renew_if_due(config, self.clock)
        if done.state is RenewalState.RENEWED:
            end = done.certificate.not_valid_after_utc
            _log.info("the certificate was renewed; it expires on %s", f"{end.astimezone():%Y-%m-%d %H:%M}")
        return Done()


_WORK: dict[TaskKind, Callable[[TaskWork, Config, TaskRun], Done]] = {
    TaskKind.RESTORES: TaskWork._restores,  # noqa: SLF001
    TaskKind.RENEWAL: TaskWork._renewal,  # noqa: SLF001
}
