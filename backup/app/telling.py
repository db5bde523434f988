"""Telling people by a config: messages are made of runs that ended and of concerns, and delivered.

Messages are made in one transaction with the mark that their run was looked at; whoever comes next (the
daemon, a command, a timer's `status --notify`) finishes what a dead process left. Where the inventory cannot
be written, a message is sent without a row (`telling_directly.py`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime

from backup.app.channels import make_channels
from backup.app.message_ids import message_id, run_id
from backup.app.message_maker import Maker
from backup.app.status_parts import Status, Topic
from backup.config import Config
from backup.errors import InterruptedRunError, LockedError, NightvaultError, UsageError, failure_report
from backup.inventory import runs
from backup.inventory.database import Inventory, open_inventory
from backup.inventory.messages import Message
from backup.inventory.runs import Outcome, Run, RunKind
from backup.inventory.stages import MessageKind
from backup.model import JobName, VaultName
from backup.notify.channel import Note
from backup.notify.decide import SILENT
from backup.notify.letter import Letter
from backup.notify.outbox import Flushed, deliver
from backup.notify.run_letters import letter_of
from backup.protocols import Clock

WARNED_OF = frozenset({Topic.CERTIFICATE, Topic.DISK, Topic.COST, Topic.CHECK})
"""What will fail, unless somebody does something."""

_log = logging.getLogger(__name__)


@contextmanager
def told_after(
    config: Config,
    clock: Clock,
    kind: RunKind | None = None,
    *,
    job: JobName | None = None,
    vault: VaultName | None = None,
) -> Iterator[None]:
    """Make messages of whatever the body's runs came to; with `kind` also of an error that left no run.

    What fails in that is logged: nothing fails because nobody could be told of it.
    """
    began = clock.now()
    failed: NightvaultError | None = None
    try:
        yield
    except (LockedError, InterruptedRunError, UsageError):
        raise  # another run is at it, or somebody sits there
    except NightvaultError as error:
        failed = error
        raise
    finally:
        lost = (
            None
            if failed is None or kind is None
            else unrecorded_run(kind, job, vault, failed, began, clock.now())
        )
        make_messages(config, clock, unrecorded=lost)


def unrecorded_run(
    kind: RunKind,
    job: JobName | None,
    vault: VaultName | None,
    error: NightvaultError,
    began: datetime,
    now: datetime,
) -> Run:
    """A run that failed, as it would be recorded; it has no number."""
    report = failure_report(error)
    if vault is not None:
        report["vault"] = vault
    return Run(0, kind, job, Outcome.FAILED, began, now, None, report)


def make_messages(
    config: Config,
    clock: Clock,
    *,
    unrecorded: Run | None = None,
    status: Status | None = None,
    only_overdue: bool = False,
) -> None:
    """Make messages of runs that ended, of `unrecorded` if no run tells of it, and of what will fail.

    With `status` also of the jobs that are overdue in it, or of these alone. Errors are logged.
    """
    from backup.app.telling_directly import tell_directly

    try:
        with closing(_opened(config)) as inventory:
            maker = Maker(config, clock.now())
            with inventory.writing() as tx:
                maker.of_runs(tx, unrecorded)
            if config.notify.channel:
                found = status or _status(config, clock)
                wanted = frozenset() if only_overdue else WARNED_OF
                if status is not None:
                    wanted |= {Topic.OVERDUE}
                with inventory.writing() as tx:
                    maker.of_concerns(tx, found, wanted)
    except NightvaultError as error:
        _log.warning("no message could be recorded: %s", error)
        if not isinstance(error, LockedError):  # the next one makes what this one could not
            tell_directly(config, clock, error, unrecorded)
    except Exception as error:  # noqa: BLE001  a backup that is done must not fail for its message
        _log.error("no message could be made: unexpected %s: %s", type(error).__name__, error)
        _log.debug("where it happened", exc_info=error)


def _opened(config: Config) -> Inventory:
    return open_inventory(config.inventory_url, lock_directory=config.state_dir)


def _status(config: Config, clock: Clock) -> Status:
    from backup.app.status import read_status  # heavy, and needed only where there are channels

    return read_status(config, clock.now())


def deliver_messages(
    config: Config, clock: Clock, *, stop: Callable[[], bool] = lambda: False, only_due: bool = True
) -> Flushed:
    """Send what waits. Errors of the inventory are raised, those of channels are recorded and logged."""
    with closing(_opened(config)) as inventory:
        channels = make_channels(config, os.environ)

        def note(one: Message) -> Note:
            return note_of(inventory.id, one)

        return deliver(inventory, channels, note, clock, stop=stop, only_due=only_due)


def note_of(inventory_id: bytes, one: Message) -> Note:
    """A message as channels send it. Its id and its run's are made of the inventory's, and never change."""
    details = {key: value for key, value in one.document.items() if key != "letter"}
    code = details.pop("exit_code", None)
    return Note(
        id=message_id(inventory_id, one.key),
        kind=one.kind,
        created_at=one.created_at,
        letter=Letter.of(one.document["letter"]),
        details=details,
        run_id=None if one.run is None else run_id(inventory_id, one.run),
        exit_code=code,
    )


def report_of(config: Config, clock: Clock, number: int | None) -> tuple[Run, Letter]:
    """A run and the letter about it; without a number of the newest run that is not silent. `UsageError`."""
    with closing(_opened(config)) as inventory, inventory.reading() as tx:
        wanted = runs.find_run(tx, number) if number is not None else None
        if number is None:
            ended = (one for one in runs.list_runs(tx) if one.outcome is not Outcome.RUNNING)
            wanted = next((one for one in ended if one.kind not in SILENT), None)
        if wanted is None:
            raise UsageError("nothing was run yet" if number is None else f"there is no run {number}")
        at = Maker(config, clock.now()).letter_context(tx, wanted)
        return wanted, letter_of(wanted, MessageKind.RUN, at)
