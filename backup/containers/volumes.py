"""The containers of a job: the volumes and directories that it reads, and their rest while it does."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase

from msgspec import Struct

from backup.containers.api import Container, ContainerEngine, ContainersError, Volume
from backup.containers.labels import (
    chosen_mounts,
    commands,
    in_order,
    is_anonymous,
    is_stopped,
    reads_volumes,
)
from backup.containers.resting import Resting
from backup.inventory.store.database import Inventory
from backup.model import JobName
from backup.protocols import Clock
from backup.source.roots import VOLUMES, resolved

_log = logging.getLogger(__name__)


class JobContainers(Struct, frozen=True, kw_only=True):
    """The containers of a job; `named` are volumes beside those with labels, by name or pattern.

    `timeout`: seconds that a command of a label may take; `healthy_within`: seconds.
    """

    engine: ContainerEngine
    job: JobName
    named: tuple[str, ...]
    timeout: float
    healthy_within: float

    def volumes(self) -> Mapping[bytes, bytes]:
        """The places that are read, by their paths in the snapshot.

        A volume that cannot be read has its own path: nothing is there, which a scan tells.
        """
        known = {volume.name: volume for volume in self.engine.volumes()}
        names = {name for name, volume in known.items() if self._is_meant(volume)}
        names |= {name for name in self.named if not _is_pattern(name)}
        found: dict[bytes, bytes] = {}
        for container in self.engine.containers():
            for mount in chosen_mounts(container, self.job):
                if mount.is_volume:
                    names.add(mount.name)
                else:
                    path = os.fsencode(os.path.normpath(mount.place))
                    found[path] = path
        return found | {path_of(name): _place(name, known.get(name)) for name in sorted(names)}

    @contextmanager
    def at_rest(self, inventory: Inventory, clock: Clock, stop: Callable[[], bool]) -> Iterator[list[str]]:
        """While its volumes are read, containers are stopped; a list of what went wrong after that.

        Commands of labels are run before and after, whatever comes of it. `ContainersError`.
        """
        told: list[str] = []
        ordered = in_order(self.engine.containers())
        resting = Resting(self.engine, inventory, clock, self.job, self.healthy_within)
        read = self.volumes()
        used = [found for found in ordered if found.is_running and self._uses(found, read)]
        try:
            for container in used:
                self._run(container, commands(container)[0])
            resting.stop([found for found in reversed(ordered) if is_stopped(found, self.job)])
            yield told
        except BaseException:
            for text in self._up_again(resting, used, stop):
                _log.warning("%s", text)
            raise
        told += self._up_again(resting, used, stop)

    def _up_again(
        self, resting: Resting, used: Sequence[Container], stop: Callable[[], bool]
    ) -> Iterator[str]:
        yield from resting.start(stop)
        for container in used:
            try:
                self._run(container, commands(container)[1])
            except ContainersError as error:
                yield str(error)

    def _run(self, container: Container, words: Sequence[str]) -> None:
        if not words:
            return
        code, said = self.engine.run(container, words, self.timeout)
        if code:
            last = said.splitlines()[-1:] or ["it said nothing"]
            raise ContainersError(
                f"the command of a label in container {container.name} failed ({code}): {last[0]}",
                advice="mend the command: it is run without a shell, unless the label says sh -c '…'",
            )

    def _uses(self, container: Container, read: Mapping[bytes, bytes]) -> bool:
        """Whether the container is stopped by this job, or has mounted what the job reads."""
        return is_stopped(container, self.job) or any(
            (path_of(mount.name) if mount.is_volume else os.fsencode(mount.place)) in read
            for mount in container.mounts
        )

    def _is_meant(self, volume: Volume) -> bool:
        """Whether a volume is read by a label of its own, or by a pattern of the config."""
        if reads_volumes(volume.labels, self.job):
            return True
        patterns = [] if is_anonymous(volume.name) else filter(_is_pattern, self.named)
        return any(fnmatchcase(volume.name, pattern) for pattern in patterns)


def path_of(volume: str) -> bytes:
    """The path of a volume in snapshots."""
    return VOLUMES + os.fsencode(volume)


def _is_pattern(name: str) -> bool:
    return not set("*?[").isdisjoint(name)


def _place(name: str, volume: Volume | None) -> bytes:
    if volume is None or not volume.is_plain or not volume.place.startswith("/"):
        return path_of(name)
    return resolved(os.fsencode(volume.place))
