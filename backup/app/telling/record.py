"""Messages recorded as rows: made of runs that ended, and of concerns.

Messages are made in the transaction that marks their run as seen; the next process (the daemon, a command, a
timer's `status --notify`) finishes what a dead one left. Where the inventory cannot be written, a message is
sent without a row (`fallback.py`). `send.py` sends what was made.

Every backup comes here, so what makes messages is imported only where the config has channels.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from backup.app.base.opened import opened
from backup.config import Config
from backup.errors import (
    InterruptedRunError,
    LockedError,
    NightvaultError,
    NoInventoryError,
    UsageError,
    failure_report,
)
from backup.inventory.records import runs
from backup.inventory.records.runs import Run
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import Inventory
from backup.kinds import Outcome, RunKind
from backup.model import JobName, VaultName
from backup.protocols import Clock

if TYPE_CHECKING:
    from backup.app.status.parts import Status

_PAUSE = 0.1
"""Seconds between two looks at whether another process still writes."""
_log = logging.getLogger(__name__)


@contextmanager
def messages_after(
    config: Config,
    clock: Clock,
    kind: RunKind | None = None,
    *,
    job: JobName | None = None,
    vault: VaultName | None = None,
) -> Iterator[None]:
    """A context manager that makes messages of the body's runs; with `kind` also of an error without a run.

    Errors of that are only logged: no run fails because a message could not be made.
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
            else unrecorded_run(kind, job, _of(vault), failed, began, clock.now())
        )
        make_messages(config, clock, unrecorded=lost)


def _of(vault: VaultName | None) -> Mapping[str, object]:
    return {} if vault is None else {"vault": vault}


def unrecorded_run(
    kind: RunKind,
    job: JobName | None,
    about: Mapping[str, object],
    error: NightvaultError,
    began: datetime,
    now: datetime,
) -> Run:
    """Return a failed run as it would be recorded, without a number. `about` names its vault or drill."""
    return Run(0, kind, job, Outcome.FAILED, began, now, None, {**about, **failure_report(error)})


def make_messages(
    config: Config,
    clock: Clock,
    *,
    unrecorded: Run | None = None,
    status: Status | None = None,
    only_overdue: bool = False,
    patience: float | None = None,
) -> bool:
    """Make messages of runs that ended, of `unrecorded` if no row describes it, and of concerns.

    With `status` also of what is overdue in it, or only of that and of what cannot be found out. `patience`:
    for how many seconds to wait while another process writes, None: as long as the inventory does. Errors are
    logged, but not that there is no inventory: whatever needed it has said so. False if another
    process wrote for longer than that: then the messages that wait cannot be sent, either.
    """
    try:
        with closing(opened(config)) as inventory:
            with _writing(inventory, patience) as tx:
                if config.notify.channel:
                    _of_runs(tx, config, clock.now(), unrecorded)
                else:
                    runs.mark_all_noticed(tx)
            unrecorded = None  # it is a message now, whatever fails below
            if config.notify.channel:
                _of_concerns(config, clock, inventory, status, only_overdue=only_overdue, patience=patience)
    except NightvaultError as error:
        level = logging.DEBUG if isinstance(error, NoInventoryError) else logging.WARNING
        if isinstance(error, LockedError):
            _log.log(level, "no message could be recorded now, whoever looks next does that: %s", error)
            return False
        _log.log(level, "no message could be recorded: %s", error)
        from backup.app.telling.fallback import send_directly

        send_directly(config, clock, error, unrecorded)
    except Exception as error:  # noqa: BLE001  a backup that is done must not fail for its message
        _log.error("no message could be made: unexpected %s: %s", type(error).__name__, error)
        _log.debug("where it happened", exc_info=error)
    return True


@contextmanager
def _writing(inventory: Inventory, patience: float | None) -> Iterator[Transaction]:
    """A transaction that writes. `LockedError` if another process writes for that many seconds."""
    with ExitStack() as stack:
        if patience is None:
            yield stack.enter_context(inventory.writing())
            return
        until = time.monotonic() + patience
        tx = None
        while tx is None:
            try:
                tx = stack.enter_context(inventory.writing(waits=False))
            except LockedError:
                if time.monotonic() >= until:
                    raise
                time.sleep(_PAUSE)
        yield tx


def _of_runs(tx: Transaction, config: Config, now: datetime, unrecorded: Run | None) -> None:
    from backup.app.telling.maker import Maker

    Maker(config, now).of_runs(tx, unrecorded)


def _of_concerns(
    config: Config,
    clock: Clock,
    inventory: Inventory,
    status: Status | None,
    *,
    only_overdue: bool,
    patience: float | None,
) -> None:
    from backup.app.status.parts import Topic
    from backup.app.status.status import read_status
    from backup.app.telling.maker import WARNED_OF, Maker

    found = status or read_status(config, clock.now())
    wanted = frozenset({Topic.UNKNOWN}) if only_overdue else WARNED_OF
    if status is not None:
        wanted |= {Topic.OVERDUE}
    with _writing(inventory, patience) as tx:
        Maker(config, clock.now()).of_concerns(tx, found, wanted)
