"""Renews the web page's copy of the inventory on its own thread, so that no run waits for it.

The copy is renewed at the daemon's start, when a task begins or ends, and, while somebody has the page open,
when the inventory has changed otherwise. While nobody has it open and nothing runs, nothing is done.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from backup.app.base.opened import opened
from backup.config import Config
from backup.daemon.task_run import TaskEnd, TaskRun
from backup.errors import NightvaultError
from backup.inventory.pages.page_copies import PageCopier, page_copy
from backup.inventory.store.database import sqlite_path

_JOIN_SECONDS = 0.5
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class PageWatcher:
    """A watcher that renews the page's copy when runs begin or end; `config` returns the config in force."""

    config: Callable[[], Config]
    _woken: threading.Event = field(default_factory=threading.Event, init=False)
    _waited_for: threading.Event = field(default_factory=threading.Event, init=False)
    _stop: threading.Event = field(default_factory=threading.Event, init=False)
    _failed: str = field(default="", init=False)

    def began(self, _run: TaskRun) -> None:
        """Renew the copy, so that the page shows the run in progress."""
        self.is_looked_at(waited_for=True)

    def ended(self, _run: TaskRun, _end: TaskEnd) -> None:
        """Renew the copy, so that the page shows how the run ended."""
        self.is_looked_at(waited_for=True)

    def is_looked_at(self, *, waited_for: bool = False) -> None:
        """Note that somebody has the page open; `waited_for`: the copy must have the newest records."""
        if waited_for:
            self._waited_for.set()
        self._woken.set()

    def document(self) -> Mapping[str, Any]:
        """Return the part of the daemon's answer about the copy: when it was made."""
        try:
            made = os.stat(page_copy(self.config().state_dir)).st_mtime
        except OSError:
            return {"copied_at": None}
        return {"copied_at": datetime.fromtimestamp(made, UTC)}

    @contextmanager
    def copying(self, group: int) -> Iterator[None]:
        """Renew the copy, readable by a group, until the body ends."""
        config = self.config()
        copier = PageCopier(sqlite_path(config.inventory_url) or "", config.state_dir, group)
        self.is_looked_at(waited_for=True)
        thread = threading.Thread(target=self._work, args=[copier], name="page copy", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._woken.set()
            thread.join(_JOIN_SECONDS)  # what is not placed then is removed by the next daemon

    def _work(self, copier: PageCopier) -> None:
        with closing(copier):
            while not self._stop.is_set():
                self._woken.wait()
                self._woken.clear()
                waited_for = self._waited_for.is_set()
                self._waited_for.clear()
                if not self._stop.is_set() and copier.is_due(waited_for=waited_for):
                    self._copy(copier)

    def _copy(self, copier: PageCopier) -> None:
        """Make a copy; one that fails is told of once, and tried again when there is a reason."""
        try:
            with closing(opened(self.config())) as inventory:
                copier.copy(inventory.connections)
        except NightvaultError as error:
            if f"{error}" != self._failed:
                _log.warning("the page shows an older state: %s", error)
            self._failed = f"{error}"
        except Exception as error:  # noqa: BLE001  the next copy may go well
            _log.error("the page shows an older state: unexpected %s: %s", type(error).__name__, error)
            _log.debug("where it happened", exc_info=error)
        else:
            self._failed = ""
