"""A server whose job reads volumes of an engine, for the tests of containers."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from backup.inventory.records.stopped import StoppedContainer, stopped_containers
from backup.inventory.store.database import open_inventory
from tests.support.servers import Server

OURS = {"nightvault.volumes": "true"}
STOP = OURS | {"nightvault.stop": "true"}
COMPOSE = "com.docker.compose."

KILLER = """
import os, signal, sys
from backup.containers import resting
from backup.containers.api import ContainerEngine
from backup.archiver.trees import Trees
from backup.cli import main
where = sys.argv.pop(1)
def kill(*_): os.kill(os.getpid(), signal.SIGKILL)
def cut(owner, name, after):
    real = getattr(owner, name)
    def cutting(*some, **more):
        if not after: kill()
        real(*some, **more)
        kill()
    setattr(owner, name, cutting)
room, name, when = where.split()
cut({"resting": resting, "engine": ContainerEngine, "trees": Trees}[room], name, when == "after")
main()
"""
CUTS = [
    "resting note_stopping before",
    "resting note_stopping after",  # what was not committed is not there
    "engine stop before",
    "engine stop after",
    "resting note_stopped before",
    "trees read before",
    "trees read after",
    "engine start before",
    "engine start after",
    "resting forget_stopped before",
    "resting forget_stopped after",
]


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


def service(name: str, needs: str = "") -> dict[str, str]:
    """The labels of a service of a compose file that is to be stopped."""
    labels = {f"{COMPOSE}project": "shop", f"{COMPOSE}service": name, f"{COMPOSE}depends_on": needs}
    return labels | {"nightvault.stop": "true"}


def killed(server: Server, cut: str) -> None:
    """A backup that is killed there."""
    words = [sys.executable, "-c", KILLER, cut, "--config", str(server.config), "backup", "main"]
    ended = subprocess.run(words, check=False, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
