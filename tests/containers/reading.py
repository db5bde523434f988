"""A server whose job reads volumes of an engine, for the tests of containers."""

from __future__ import annotations

from pathlib import Path

from backup.inventory.records.stopped import StoppedContainer, stopped_containers
from backup.inventory.store.database import open_inventory
from tests.support.servers import Server

OURS = {"nightvault.volumes": "true"}


def reading(server: Server, address: str, *lines: str) -> None:
    """Have the job read volumes of the engine at that address."""
    text = server.config.read_text().partition("\n[job.containers]")[0]
    section = f'\n[job.containers]\nsocket = "{address}"\n'
    server.config.write_text(text + section + "".join(f"{line}\n" for line in lines))


def filled(place: Path, **texts: str) -> Path:
    """The directory with files of these texts."""
    for name, text in texts.items():
        (place / name).write_text(text)
    return place


def names(server: Server, snapshot: str = "latest") -> list[str]:
    """The paths in volumes that a snapshot has."""
    return server.done("ls", "-r", f"{snapshot}:/.volumes").stdout.splitlines()


def rows(server: Server) -> list[StoppedContainer]:
    """The containers that somebody has to start; looking starts none."""
    inventory = open_inventory(f"sqlite:///{server.state}/inventory.sqlite", lock_directory=str(server.state))
    with inventory.reading() as tx:
        found = stopped_containers(tx)
    inventory.close()
    return found
