"""Who is measured: nightvault as it lies here, and restic and borg from Debian, each with its defaults."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_PACKAGES = {"restic": "restic", "borg": "borgbackup"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where one program works in one round: what it backs up, its repository, its own files."""

    source: Path
    repository: Path
    home: Path

    @property
    def environment(self) -> Mapping[str, str]:
        """Nothing of this user's own settings, and passphrases that need no terminal."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "RESTIC_PASSWORD": "bench",
            "BORG_PASSPHRASE": "bench",
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
        }


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
    """This program, into a directory vault."""

    name = "nightvault"

    def __init__(self) -> None:
        self._command = [str(Path(sys.executable).with_name("nightvault"))]

    def version(self) -> str:
        """What it says of itself."""
        return _output([*self._command, "--version"])

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
        return _output(["restic", "version"]).partition(" compiled")[0]

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
        return _output(["borg", "--version"])

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
        newest = _output(listed, place.environment)
        return ["borg", "extract", f"{place.repository}::{newest}"]


PEERS: Mapping[str, type[Peer]] = {"nightvault": Nightvault, "restic": Restic, "borg": Borg}


def install(names: Sequence[str]) -> None:
    """Get peers that are missing from Debian; `SystemExit` with a sentence where that cannot be done."""
    missing = [_PACKAGES[name] for name in names if name in _PACKAGES and shutil.which(name) is None]
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SystemExit(f"bench: missing here, and not to be installed by this user: {', '.join(missing)}")
    command = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *missing]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _output(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return done.stdout.strip()
