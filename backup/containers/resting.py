"""Stops containers and starts them again, whatever becomes of the run: each is a row before it is stopped.

A row means: this container ran until we stopped it. It is started again only if nothing has changed since;
one that runs, was started by somebody, or is gone, is left as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from msgspec import Struct

from backup.containers.api import Container, ContainerEngine, ContainersError
from backup.errors import LockedError
from backup.inventory.records.stopped import (
    StoppedContainer,
    forget_stopped,
    note_stopped,
    note_stopping,
    stopped_containers,
)
from backup.inventory.store.database import Inventory
from backup.inventory.store.locks import BACKUP
from backup.model import JobName
from backup.protocols import Clock

_log = logging.getLogger(__name__)
_LOOK: Final = 0.2  # seconds between two looks at a container that is to become healthy
_SLACK: Final = timedelta(seconds=15)  # in which an engine stops a container, beside the time that it has


class Resting(Struct, frozen=True):
    """Containers of one engine that a job stops; `healthy_within`: seconds."""

    engine: ContainerEngine
    inventory: Inventory
    clock: Clock
    job: JobName
    healthy_within: float

    def stop(self, containers: Sequence[Container]) -> None:
        """Stop those that run, one after the other. `ContainersError`: those before stay stopped."""
        for container in containers:
            if container.is_running:
                self._stop(container)

    def start(self, stop: Callable[[], bool]) -> list[str]:
        """Start again what was stopped, and wait until it is healthy; what went wrong, in sentences."""
        with self.inventory.reading() as tx:
            rows = [row for row in stopped_containers(tx) if row.socket == self.engine.address]
        wait = partial(_until_healthy, self.engine, self.clock, self.healthy_within, stop)
        return [told for row in rows if (told := _started(self.engine, self.inventory, row, wait))]

    def _stop(self, container: Container) -> None:
        if container.goes_with_its_end:
            raise ContainersError(
                f"container {container.name} is removed when it ends (--rm): it cannot be stopped",
                advice="run it without --rm, or take the label away",
            )
        named = self.engine.address, container.id, container.name, self.job
        with self.inventory.writing() as tx:
            row = note_stopping(
                *(tx, *named),
                since=self.clock.now(),
                grace=container.grace,
                started_at=container.started_at,
            )
        has_stopped = self.engine.stop(container)
        now = self.engine.container(container.id)
        with self.inventory.writing() as tx:
            if has_stopped and now is not None and not now.is_running:
                note_stopped(tx, row, now.finished_at)
            else:
                forget_stopped(tx, row)
        if now is not None and now.is_running:
            raise ContainersError(
                f"container {container.name} runs again, though it was stopped",
                advice="something else starts it: stop that while the job runs, or take the label away",
            )


def start_left(inventory: Inventory) -> None:
    """Start what a run that was killed has left stopped, unless a run is at work; all of it is logged."""
    with suppress(LockedError), inventory.locked(BACKUP):
        with inventory.reading() as tx:
            rows = stopped_containers(tx)
        for row in rows:
            told = _started(ContainerEngine(row.socket), inventory, row)
            _log.warning("%s", told or f"container {row.name}, which job {row.job} had stopped, runs again")


def _started(
    engine: ContainerEngine,
    inventory: Inventory,
    row: StoppedContainer,
    wait: Callable[[str, str], str] = lambda *_: "",
) -> str:
    """Start the container of a row, unless that is not ours to do; the row stays only where that fails.

    Returns what a person should know, in a sentence; "" if all is well.
    """
    try:
        now = engine.container(row.container)
        told = _why_not(row, now)
        if now is not None and not told and not now.is_running:
            is_there = engine.start(row.container)
            told = wait(row.container, row.name) if is_there else _GONE.format(row.name)
    except ContainersError as error:
        return f"container {row.name}, which job {row.job} has stopped, is not started again: {error}"
    with inventory.writing() as tx:
        forget_stopped(tx, row.number)
    return told


_GONE: Final = "container {}, which was stopped, was removed meanwhile: it is not started"


def _why_not(row: StoppedContainer, now: Container | None) -> str:
    """Why a container is not ours to start, in a sentence; empty if it is, or if it runs."""
    if now is None:
        return _GONE.format(row.name)
    if now.is_running:
        return ""
    is_ours = _same(now.started_at, row.started_at) and (
        now.finished_at <= row.since + timedelta(seconds=row.grace) + _SLACK
        if row.finished_at is None
        else _same(now.finished_at, row.finished_at)
    )
    if is_ours:
        return ""
    return f"container {row.name} was started and stopped by somebody else meanwhile: it is left as it is"


def _same(one: datetime, other: datetime) -> bool:
    return abs(one - other) < timedelta(milliseconds=1)


def _until_healthy(
    engine: ContainerEngine, clock: Clock, seconds: float, stop: Callable[[], bool], number: str, name: str
) -> str:
    """Wait until a container is healthy, if it has a check of that; what is wrong, in a sentence."""
    waited = 0.0
    while True:
        now = engine.container(number)
        if now is None or not now.is_running:
            return f"container {name} was started again, and has ended at once"
        if now.health in {"", "healthy"}:
            return ""
        if waited >= seconds or stop():
            return f"container {name} runs again, and is not healthy within {seconds:g} s: {now.health}"
        clock.sleep(_LOOK)
        waited += _LOOK
