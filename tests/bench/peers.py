"""Who is measured: nightvault as it lies here, restic and borg from Debian, others where they are there.

Each works with its defaults; where those do not encrypt or compress, with what the others do.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tests.bench.more_peers import MORE
from tests.bench.place import Place, output

_PACKAGES = {"restic": "restic", "borg": "borgbackup"}


class Peer(Protocol):
    """A backup program's commands."""

    name: str

    def version(self) -> str:
        """What it says of itself."""

    def prepare(self, place: Place) -> Sequence[str]:
        """The command that makes a repository; what must lie there before, is made now."""

    def backup(self, place: Place) -> Sequence[str]:
        """The command that backs `place.source` up."""

    def restore(self, place: Place, target: Path) -> Sequence[str]:
        """The command that restores the newest backup below `target`, run in `target`."""


class Nightvault:
    """This program, into a directory vault; with the Python of another environment, if one is given."""

    name = "nightvault"

    def __init__(self, environment: Path | None = None) -> None:
        folder = environment / "bin" if environment else Path(sys.executable).parent
        self._command = [str(folder / "nightvault")]
        if environment:
            asked = "import platform; print(platform.python_version())"
            self.name = f"nightvault, {output([str(folder / 'python'), '-c', asked])}"

    def version(self) -> str:
        """What it says of itself."""
        return output([*self._command, "--version"])

    def prepare(self, place: Place) -> Sequence[str]:
        """Its configuration file, then the command that makes vault and keys."""
        config = place.home / "config.toml"
        config.write_text(
            f'[state]\ndir = "{place.home}/state"\n'
            f'[[vault]]\nname = "here"\nkind = "directory"\npath = "{place.repository}"\n'
            f'[[job]]\nname = "all"\nvault = "here"\nsources = ["{place.source}"]\n'
        )
        return self.command(place, "init", "--non-interactive", "--key-file", str(place.home / "key"))

    def backup(self, place: Place) -> Sequence[str]:
        """Back up."""
        return self.command(place, "--quiet", "backup")

    def restore(self, place: Place, target: Path) -> Sequence[str]:
        """Restore."""
        key = str(place.home / "key")
        return self.command(
            place, "--quiet", "restore", "latest", "--target", str(target), "--key", key, "--wait"
        )

    def command(self, place: Place, *arguments: str) -> list[str]:
        """Any command, with the place's configuration."""
        return [*self._command, "--config", str(place.home / "config.toml"), *arguments]


class Restic:
    """restic, encryption always on, compression by its default."""

    name = "restic"

    def version(self) -> str:
        """What it says of itself."""
        return output(["restic", "version"]).partition(" compiled")[0]

    def prepare(self, place: Place) -> Sequence[str]:
        """Make a repository."""
        return ["restic", "init", "--quiet", *self._at(place)]

    def backup(self, place: Place) -> Sequence[str]:
        """Back up."""
        return ["restic", "backup", "--quiet", *self._at(place), str(place.source)]

    def restore(self, place: Place, target: Path) -> Sequence[str]:
        """Restore."""
        return ["restic", "restore", "latest", "--quiet", *self._at(place), "--target", str(target)]

    def _at(self, place: Place) -> list[str]:
        return ["--repo", str(place.repository), "--cache-dir", str(place.home / "cache")]


class Borg:
    """borg 1, with the compression that the two others use."""

    name = "borg"

    def version(self) -> str:
        """What it says of itself."""
        return output(["borg", "--version"])

    def prepare(self, place: Place) -> Sequence[str]:
        """Make a repository."""
        return ["borg", "init", "--encryption", "repokey-blake2", str(place.repository)]

    def backup(self, place: Place) -> Sequence[str]:
        """Back up; the names of archives sort by their time."""
        name = "{now:%Y-%m-%dT%H:%M:%S.%f}"
        return ["borg", "create", "--compression", "zstd,3", f"{place.repository}::{name}", str(place.source)]

    def restore(self, place: Place, target: Path) -> Sequence[str]:
        """Restore into the working directory, which is `target`."""
        listed = ["borg", "list", "--last", "1", "--format", "{archive}", str(place.repository)]
        newest = output(listed, place.environment)
        return ["borg", "extract", f"{place.repository}::{newest}"]


PEERS: Mapping[str, type[Peer]] = {"nightvault": Nightvault, "restic": Restic, "borg": Borg, **MORE}


def usual() -> list[str]:
    """nightvault, restic and borg, and those of the others that are on PATH."""
    return [name for name in PEERS if name not in MORE or shutil.which(name) is not None]


def install(names: Sequence[str]) -> None:
    """Get restic and borg from Debian if they are missing; `SystemExit` where a program cannot be had."""
    away = [name for name in names if name != Nightvault.name and shutil.which(name) is None]
    missing = [_PACKAGES[name] for name in away if name in _PACKAGES]
    if others := [name for name in away if name not in _PACKAGES]:
        raise SystemExit(f"bench: not on PATH: {', '.join(others)}")
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SystemExit(f"bench: missing here, and not to be installed by this user: {', '.join(missing)}")
    command = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *missing]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
