"""Steps of operations, recorded: an attempt that fails and a run that is over are rows; metrics follow."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from typing import TYPE_CHECKING

from backup.app.base.opened import opened
from backup.app.base.run_context import RunContext, attempt
from backup.app.status.metrics_file import metrics_after
from backup.config import Config
from backup.errors import as_stopped
from backup.inventory.records import runs
from backup.kinds import parts_of_name
from backup.model import JobName
from backup.protocols import Clock, Progress
from backup.transfer.retry import RetryLimit

if TYPE_CHECKING:
    from backup.operations.operation import Operation, R_co
    from backup.reports import Report


def step(operation: Operation[R_co], at: RunContext, retry_limit: RetryLimit | None = None) -> R_co:
    """Do one step of an operation; one that fails or is over is recorded."""
    with _attempt(type(operation), operation.name, at), as_stopped(at.stop):
        began = at.clock.now()
        report = operation.step(retry_limit)
        if not report.waits_for and not operation.records_itself:
            with at.inventory.writing() as tx:
                ended, told = at.clock.now(), report.document()
                runs.record_of_vault(tx, operation.kind, report.outcome, told, began, ended)
        return report


def step_of(
    config: Config,
    make: type[Operation[R_co]],
    name: str,
    *,
    clock: Clock,
    progress: Progress,
    stop: threading.Event | None = None,
) -> R_co:
    """Do one step of the run of a vault, job or drill, as the daemon does at its ticks.

    What fails before it began is recorded, too.
    """
    with (
        context(config, clock=clock, progress=progress, stop=(stop or threading.Event()).is_set) as at,
        _attempt(make, name, at),
    ):
        return step(make.of(at, name), at)


@contextmanager
def context(
    config: Config,
    *,
    clock: Clock,
    progress: Progress,
    stop: Callable[[], bool] = lambda: False,
    retry_limit: RetryLimit | None = None,
    only_plan: bool = False,
) -> Iterator[RunContext]:
    """A context manager that opens the inventory for runs; metrics are written after them, but for a plan."""
    metrics = nullcontext() if only_plan else metrics_after(config, clock)
    with metrics, closing(opened(config)) as inventory:
        yield RunContext(
            config=config,
            inventory=inventory,
            clock=clock,
            progress=progress,
            stop=stop,
            retry_limit=retry_limit or RetryLimit(),
        )


def _attempt(make: type[Operation[Report]], name: str, at: RunContext) -> AbstractContextManager[None]:
    job = JobName(parts_of_name(name)[0]) if make.of_job else None
    return attempt(at.inventory, at.clock, make.kind, dict(make.about(at.config, name)), job)
