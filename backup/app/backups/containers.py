"""The containers of jobs by their settings; imported only where a job has some."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from backup.config import Config, ContainersSettings
from backup.containers.api import Container, ContainerEngine, Mount
from backup.containers.volumes import JobContainers, path_of
from backup.errors import TargetError, UsageError
from backup.model import JobName
from backup.source.roots import is_at_or_below, resolved


def containers_of(job: JobName, settings: ContainersSettings) -> JobContainers:
    """Return the containers of a job."""
    return JobContainers(
        engine=ContainerEngine(settings.socket),
        job=job,
        named=settings.volumes,
        timeout=settings.timeout,
        healthy_within=settings.healthy_within,
    )


def containers_by_engine(config: Config) -> Iterator[tuple[ContainerEngine, Callable[[Mount], bool]]]:
    """Yield each engine, and whether some job reads what is mounted there. `ContainersError`."""
    sources = [resolved(os.fsencode(path)) for job in config.jobs for path in job.paths]
    for engine, jobs in _engines(config, None):
        read = {path for job in jobs for path in job.volumes()}

        def reads(mount: Mount, read: set[bytes] = read) -> bool:
            place = os.path.realpath(os.fsencode(mount.place))
            named = path_of(mount.name) if mount.is_volume else place
            return named in read or any(is_at_or_below(place, source) for source in sources)

        yield engine, reads


def target_volume(config: Config, name: str, job: str | None) -> tuple[str, list[Container]]:
    """Return where the files of a volume are, and the running containers that use it.

    `UsageError` if the engines of the jobs have none of that name, or two have; `TargetError`.
    """
    engines = [engine for engine, _ in _engines(config, job)]
    found = [(engine, volume) for engine in engines if (volume := engine.volume(name)) is not None]
    if len(found) != 1:
        where = f"{len(found)} engines have" if found else "there is no"
        advice = (
            "choose the engine of one job: --job JOB" if found else "make it: docker volume create, or podman"
        )
        no_engine = "" if engines else "; no job has [job.containers], which names the engine"
        raise UsageError(f"{where} volume {name}{no_engine}", advice=advice)
    ((engine, volume),) = found
    if not volume.is_plain or not volume.place.startswith("/"):
        raise TargetError(
            f"volume {name} is mounted by its driver, for containers alone",
            advice="restore to where its files lie",
        )
    used = [container for container in engine.containers() if container.is_running and _uses(container, name)]
    return volume.place, used


def _uses(container: Container, volume: str) -> bool:
    return any(mount.is_volume and mount.name == volume for mount in container.mounts)


def _engines(config: Config, job: str | None) -> Iterator[tuple[ContainerEngine, list[JobContainers]]]:
    """The engines of the config, or of one job, each once, with the jobs that have it."""
    jobs = config.jobs if job is None else (config.job(job),)
    by_address: dict[str, list[JobContainers]] = {}
    for settings in jobs:
        if settings.containers is not None:
            by_address.setdefault(settings.containers.socket, []).append(
                containers_of(settings.name, settings.containers)
            )
    for found in by_address.values():
        yield found[0].engine, found
