"""Where one program works in one round of the benchmark."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct


class Place(Struct, frozen=True):
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
            "KOPIA_PASSWORD": "bench",
            "KOPIA_CONFIG_PATH": str(self.home / "kopia.config"),
            "KOPIA_CACHE_DIRECTORY": str(self.home / "kopia-cache"),
            "KOPIA_CHECK_FOR_UPDATES": "false",
            "VYKAR_CONFIG": str(self.home / "vykar.yaml"),
            "VYKAR_PASSPHRASE": "bench",
            "BUPSTASH_REPOSITORY": str(self.repository),
            "BUPSTASH_KEY": str(self.home / "bupstash.key"),
        }


def output(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """What a command says, without the line's end."""
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return done.stdout.strip()


def restored(target: Path, source: Path) -> Path:
    """Where a program has put `source` below `target`: by its whole path, its name, or its content alone."""
    for place in (target / str(source).lstrip("/"), target / source.name):
        if place.is_dir():
            return place
    return target
