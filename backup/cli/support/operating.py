"""Operations of commands: done step by step while people wait, and their reports on the screen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from textwrap import fill
from typing import TYPE_CHECKING, Protocol, TypeVar

from backup.cli.support.choosing_vault import Result
from backup.cli.support.context import Cli
from backup.cli.support.stopping import stop_on_signals
from backup.cli.support.waiting import SAME_COMMAND_GOES_ON, wait_until
from backup.errors import ExitCode, LockedError, NightvaultError

if TYPE_CHECKING:
    from backup.app.base.run_context import RunContext
    from backup.config import Config
    from backup.inventory.store.database import Inventory
    from backup.protocols import Progress
    from backup.reports import Report
    from backup.transfer.retry import RetryLimit


class Waiting(Protocol):
    """The result of a step."""

    @property
    def waits_for(self) -> str:
        """The thing that the run waits for; empty once it is over."""
        ...


_R = TypeVar("_R", bound="Waiting | None")
_WIDTH = 80


@contextmanager
def run_context(cli: Cli, config: Config, inventory: Inventory) -> Iterator[RunContext]:
    """A context manager that gives the context of a run; the first signal stops it between two steps."""
    with stop_on_signals() as stop:
        yield context_of(cli, config, inventory, stop=stop.is_set)


def context_of(
    cli: Cli, config: Config, inventory: Inventory, *, stop: Callable[[], bool] = lambda: False
) -> RunContext:
    """Return the context of a run; without `stop` the first signal ends it at once."""
    from backup.app.base.run_context import RunContext

    return RunContext(
        config=config,
        inventory=inventory,
        clock=cli.clock,
        progress=cli.progress(),
        stop=stop,
        retry_limit=cli.retry_limit(),
    )


def operate(
    cli: Cli,
    config: Config,
    begin: Callable[[RunContext], Callable[[RetryLimit], _R]],
    *,
    told: AbstractContextManager[None] | None = None,
    stays: bool = False,
    stops: bool = True,
    answers: Callable[[NightvaultError], bool] = lambda _: False,
) -> _R:
    """Do the steps that `begin` returns, until the run is over; people are told of it as `told` does.

    Of a plan nobody is told (None), and no metrics are written after it. While it waits the lock is free:
    backups go on. `stops`: the first signal lets the step end; else it ends the command at once. `answers`,
    called with an error, says whether a person has removed its cause: then the step is done again.
    """
    from backup.operations.recorded import context

    progress = cli.progress()
    with (
        told or nullcontext(),
        stop_on_signals() if stops else nullcontext(threading.Event()) as stop,
        context(
            config,
            clock=cli.clock,
            progress=progress,
            stop=stop.is_set,
            retry_limit=cli.retry_limit(),
            only_plan=told is None,
        ) as at,
    ):
        return step_loop(cli, begin(at), progress, stays=stays, answers=answers)


def step_loop(
    cli: Cli,
    step: Callable[[RetryLimit], _R],
    progress: Progress,
    *,
    stays: bool,
    answers: Callable[[NightvaultError], bool] = lambda _: False,
) -> _R:
    """Do steps until the run is over, or waits and the command does not stay; the report of the last.

    While it waits, another process that stands in its way is waited for, too.
    """

    def answered(retry_limit: RetryLimit) -> _R:
        try:
            return step(retry_limit)
        except NightvaultError as error:
            if not answers(error):
                raise
        return step(retry_limit)

    first = answered(cli.retry_limit())

    def look_again(retry_limit: RetryLimit) -> _R:
        try:
            return answered(retry_limit)
        except LockedError:
            return first

    return wait_until(
        lambda report: not _waits_for(report),
        first,
        look_again,
        cli=cli,
        progress=progress,
        stays=stays,
        title=lambda report: f"Waiting for {_waits_for(report)}",
        hint=SAME_COMMAND_GOES_ON,
    )


def _waits_for(report: Waiting | None) -> str:
    return "" if report is None else report.waits_for


def report_lines(report: Report, currency: str, *, is_plan: bool = False, nothing: str = "") -> list[str]:
    """The subject of a report and its rows, for 80 columns; without rows the sentence `nothing`."""
    from backup.reports import rows_of

    rows = [_row(label, value) for label, value in rows_of(report.facts(currency))]
    title = report.subject + (", a plan: nothing was done" if is_plan else "")
    return [title, *(rows or [f"  {nothing}"])]


def _row(label: str, value: str) -> str:
    lines = []
    for line in value.split("\n"):
        start = f"  {label:<15}"
        lines.append(fill(line, _WIDTH, initial_indent=start, subsequent_indent=" " * len(start)))
        label = ""
    return "\n".join(lines)


def result_of(
    cli: Cli,
    report: Report,
    text: object,
    remarks: Sequence[str] = (),
    warnings: Sequence[str] | None = None,
    so_far: str = "nothing was done yet",
) -> Result:
    """The outcome of an operation: its exit code, what it did (`text`, for rich), remarks and warnings.

    The warnings are the report's, if no others are given. `so_far`: what one that waits has done.
    """
    from backup.kinds import Outcome

    if report.waits_for:
        return Result(
            dict(report.document()),
            ExitCode.WAITING,
            f"the {report.subject} waits for {report.waits_for}; {so_far}\n"
            "next: run the same command again in some hours, or now with --wait",
        )

    def remark() -> None:
        for line in remarks:
            cli.say(line)
        for warning in report.warnings if warnings is None else warnings:
            cli.warn(f"warning: {warning}")

    codes = {Outcome.DONE: ExitCode.DONE, Outcome.PARTIAL: ExitCode.PARTIAL}
    return Result(dict(report.document()), codes.get(report.outcome, ExitCode.FAILED), text, remark)
