"""Continues open restores for the daemon: fetches what is ready, requests what is missing.

Under systemd each restore is continued in a unit of its own; else in this process, into targets that hold the
mark file of their restore. The reason why one is not continued is saved for `restores`, and logged once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import closing

from msgspec import Struct
from msgspec.structs import replace

from backup.app.base.opened import opened
from backup.app.base.run_context import RunContext
from backup.app.base.state import State
from backup.app.machine.restore_units import RestoreUnits
from backup.app.restores.contexts import context_of_restore
from backup.app.restores.held import HeldNotes
from backup.app.restores.silence import Silent
from backup.config import Config
from backup.errors import InterruptedRunError, LockedError, NightvaultError
from backup.inventory.content.copied import home_of
from backup.inventory.records import retrievals
from backup.inventory.records.retrievals import Restore
from backup.log_context import about
from backup.protocols import Clock
from backup.reports import Fact
from backup.restorer.dump.dump import ask_once
from backup.restorer.restore import RestoreReport, step
from backup.restorer.selection.choice import Choice
from backup.restorer.writer.mark import read_place, require_mark

_log = logging.getLogger(__name__)


class Continued(Struct, frozen=True):
    """The result of a step of an open restore: a report, or why there is none."""

    restore: str
    report: RestoreReport | NightvaultError

    @property
    def subject(self) -> str:
        """The restore, by its id."""
        return f"restore {self.restore}"

    def facts(self, currency: str = "USD") -> Iterator[Fact]:
        """Those of the report; else the error and its advice."""
        if isinstance(self.report, RestoreReport):
            yield from self.report.facts(currency)
            return
        yield Fact(f"{self.report}", level=logging.ERROR)
        if self.report.advice:
            yield Fact(self.report.advice)


def continue_restores(
    config: Config, *, clock: Clock, stop: threading.Event, units: RestoreUnits | None = None
) -> Iterator[Continued]:
    """Take one step of each open restore; yields what came of those that did more than wait.

    With `units` each is started in a unit, except dumps, which write no files. One that another process works
    on is skipped. A failure of one does not stop the others, and is yielded once. `InterruptedRunError` once
    `stop` is set.
    """
    notes = HeldNotes(State(config.state_dir).restores)
    with closing(opened(config)) as inventory:
        at = RunContext(config=config, inventory=inventory, clock=clock, progress=Silent(), stop=stop.is_set)
        with inventory.reading() as tx:
            open_ones = retrievals.list_restores(tx, only_open=True)
        open_ones = [
            restore for restore in open_ones if not State(config.state_dir).is_of_drill(restore.target)
        ]
        notes.keep({restore.id for restore in open_ones})
        for restore in reversed(open_ones):  # the oldest first: its outputs go first
            if stop.is_set():
                return
            try:
                with about(restore=restore.id, vault=restore.vault):
                    report = _go_on(restore, replace(at, progress=_Notes(restore.id)), units)
            except InterruptedRunError:
                raise
            except LockedError as error:
                _log.debug("restore %s: %s", restore.id, error)
            except NightvaultError as error:
                if notes.note(restore.id, error):
                    yield Continued(restore.id, error)
            else:
                if units is None:
                    notes.clear(restore.id)  # else its unit does
                if report is not None:
                    yield Continued(restore.id, report)


def _go_on(restore: Restore, at: RunContext, units: RestoreUnits | None) -> RestoreReport | None:
    is_dump = bool(Choice.decode(restore.choice).output)
    if units is not None and not is_dump:
        place = read_place(restore, at.inventory)
        units.start(restore, None if place is None else place.path)
        return None
    with at.inventory.reading() as tx:
        home = home_of(tx, restore.snapshot)
    context = replace(context_of_restore(at, home, restore.vault), unattended=True)
    if is_dump:
        ask_once(restore, context)
        return None
    require_mark(restore, context)  # or what is asked for would be paid for, and fetched by nobody
    return step(restore, context).report


class _Notes(Silent):
    """A `Progress` that logs notes alone."""

    def __init__(self, restore_id: str) -> None:
        self._id = restore_id

    def note(self, text: str) -> None:
        """Log one line."""
        _log.warning("restore %s: %s", self._id, text)
