"""The words of labels that are understood: ours, and those of other programs that back up containers.

A label says yes by `true`, `1`, `yes` or `on`, or by the name of a job, which is then meant alone.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from backup.containers.api import Container, ContainersError, Mount

_YES: Final = frozenset({"true", "1", "yes", "on"})
_COMPOSE: Final = "com.docker.compose."
_VOLUMES: Final = ("nightvault.volumes", "stack-back.volumes", "restic-compose-backup.volumes")
_STOP: Final = (
    "nightvault.stop",
    "docker-volume-backup.stop-during-backup",
    "stack-back.volumes.stop-during-backup",
)
_BEFORE: Final = (
    "nightvault.exec-pre",
    "docker-volume-backup.archive-pre",
    "docker-volume-backup.exec-pre",
)
_AFTER: Final = (
    "nightvault.exec-post",
    "docker-volume-backup.archive-post",
    "docker-volume-backup.exec-post",
)
WORDS: Final = (_VOLUMES, _STOP, _BEFORE, _AFTER)
"""The words that are understood, of each kind ours first."""
_DATABASES: Final = tuple(
    f"{program}.{kind}"
    for program in ("stack-back", "restic-compose-backup")
    for kind in ("postgres", "mysql", "mariadb")
)
_SYSTEMS_OWN: Final = ("/dev", "/proc", "/run", "/sys", "/var/run")


def reads_volumes(labels: Mapping[str, str], job: str) -> bool:
    """Whether the job reads the volume with these labels, or those of the container with them."""
    return _says_yes(labels, _VOLUMES, job)


def is_stopped(container: Container, job: str) -> bool:
    """Whether the container is stopped while the job reads."""
    return _says_yes(container.labels, _STOP, job)


def chosen_mounts(container: Container, job: str) -> Iterator[Mount]:
    """The volumes and directories of a container that the job reads by its labels."""
    if not reads_volumes(container.labels, job):
        return
    included, excluded = (_words(container.labels, ending) for ending in (".include", ".exclude"))
    for mount in container.mounts:
        name = mount.name or mount.place
        if included and not any(word in name for word in included):
            continue
        if not any(word in name for word in excluded) and is_data(mount):
            yield mount


def commands(container: Container) -> tuple[Sequence[str], Sequence[str]]:
    """The commands that are run in a container before and after its volumes are read; empty: none.

    `ContainersError` for one that no shell could split into words.
    """
    before, after = (_command(container, names) for names in (_BEFORE, _AFTER))
    return before, after


def not_understood(container: Container) -> Iterator[str]:
    """The labels of a container that ask for the dump of a database."""
    yield from (name for name in _DATABASES if container.labels.get(name, "").lower() in _YES)


def in_order(containers: Sequence[Container]) -> list[Container]:
    """The containers in the order in which they start: after those that they need by their compose file."""
    named: dict[tuple[str, str], list[Container]] = {}
    for container in sorted(containers, key=lambda found: found.name):
        named.setdefault(_service(container), []).append(container)
    found: dict[str, Container] = {}
    for service in named:
        _place(service, named, found, set())
    return list(found.values())


def _place(
    service: tuple[str, str],
    named: Mapping[tuple[str, str], Sequence[Container]],
    found: dict[str, Container],
    above: set[tuple[str, str]],
) -> None:
    """Put the containers of a service after those of the services that it needs; circles are cut."""
    if service in above:
        return
    for container in named.get(service, ()):
        if container.id in found:
            continue
        for needed in _needed(container):
            _place((service[0], needed), named, found, above | {service})
        found[container.id] = container


def _service(container: Container) -> tuple[str, str]:
    project = container.labels.get(f"{_COMPOSE}project", "")
    return project, container.labels.get(f"{_COMPOSE}service", "") or container.id


def _needed(container: Container) -> Iterator[str]:
    """The services that a container needs: `db:service_healthy:false,cache` names two."""
    for text in container.labels.get(f"{_COMPOSE}depends_on", "").split(","):
        if name := text.partition(":")[0].strip():
            yield name


def _says_yes(labels: Mapping[str, str], names: Sequence[str], job: str) -> bool:
    said = (labels.get(name, "").strip() for name in names)
    return any(word == job or word.lower() in _YES for word in said)


def _words(labels: Mapping[str, str], ending: str) -> list[str]:
    """The words of a list in labels, parts of names of volumes or of paths."""
    texts = (labels.get(name + ending, "") for name in _VOLUMES)
    return [word for text in texts for part in text.split(",") if (word := part.strip())]


def is_data(mount: Mount) -> bool:
    """Whether a mount can be data: not a volume that has no name of its own, nor a part of the system."""
    if mount.is_volume:
        return not is_anonymous(mount.name)
    place = mount.place.rstrip("/")
    return place.startswith("/") and not any(f"{place}/".startswith(f"{own}/") for own in _SYSTEMS_OWN)


def is_anonymous(volume: str) -> bool:
    """Whether a volume's name was made up by the engine: it is another one for each new container."""
    return len(volume) == 64 and not volume.strip("0123456789abcdef")


def _command(container: Container, names: Sequence[str]) -> Sequence[str]:
    text = next((container.labels[name] for name in names if name in container.labels), "")
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ContainersError(
            f"the command in a label of container {container.name} cannot be split into words: {error}",
            advice="mend the label",
        ) from error
