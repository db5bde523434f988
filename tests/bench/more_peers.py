"""Programs that are measured where they are on PATH: their settings are as near to each other's as can be.

All encrypt, and compress with zstd at its usual speed. borg 2 was tried here; the commands of the others are
from their documentation.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.bench.place import Place, output


class Borg2:
    """borg 2, in its own form of repository."""

    name = "borg2"

    def version(self) -> str:
        """What it says of itself."""
        return output(["borg2", "--version"])

    def prepare(self, place: Place) -> Sequence[str]:
        """Make a repository."""
        return [*self._at(place), "repo-create", "--encryption", "repokey-aes-ocb"]

    def backup(self, place: Place) -> Sequence[str]:
        """Back up; all archives of the source have one name, and ids."""
        return [*self._at(place), "create", "--compression", "zstd,3", "bench", str(place.source)]

    def restore(self, place: Place, target: Path) -> Sequence[str]:
        """Restore into the working directory, which is `target`."""
        newest = output([*self._at(place), "repo-list", "--last", "1", "--format", "{id}"], place.environment)
        return [*self._at(place), "extract", f"aid:{newest[:16]}"]

    def _at(self, place: Place) -> list[str]:
        return ["borg2", "--repo", str(place.repository)]


class Rustic:
    """rustic, in restic's form of repository."""

    name = "rustic"

    def version(self) -> str:
        """What it says of itself."""
        return output(["rustic", "--version"])

    def prepare(self, place: Place) -> Sequence[str]:
        """Make a repository."""
        return [*self._at(place), "init"]

    def backup(self, place: Place) -> Sequence[str]:
        """Back up."""
        return [*self._at(place), "backup", str(place.source)]

    def restore(self, place: Place, target: Path) -> Sequence[str]:
        """Restore."""
        return [*self._at(place), "restore", "latest", str(target)]

    def _at(self, place: Place) -> list[str]:
        return ["rustic", "--no-progress", "--repository", str(place.repository), "--password", "bench"]


class Kopia:
    """kopia; it compresses only where a policy says so."""

    name = "kopia"

    def version(self) -> str:
        """What it says of itself."""
        return f"kopia {output(['kopia', '--version'])}"

    def prepare(self, place: Place) -> Sequence[str]:
        """Make a repository, and a policy that compresses with zstd."""
        made = f"kopia repository create filesystem --path '{place.repository}'"
        return ["sh", "-ec", f"{made}; kopia policy set --global --compression=zstd"]

    def backup(self, place: Place) -> Sequence[str]:
        """Back up."""
        return ["kopia", "snapshot", "create", "--no-progress", str(place.source)]

    def restore(self, place: Place, target: Path) -> Sequence[str]:
        """Restore the newest snapshot's content."""
        listed = output(["kopia", "snapshot", "list", "--json", str(place.source)], place.environment)
        return ["kopia", "snapshot", "restore", json.loads(listed)[-1]["id"], str(target)]


class Vykar:
    """vykar, with zstd as the others have it."""

    name = "vykar"

    def version(self) -> str:
        """What it says of itself."""
        return output(["vykar", "--version"])

    def prepare(self, place: Place) -> Sequence[str]:
        """Its configuration file, then the command that makes the repository."""
        (place.home / "vykar.yaml").write_text(
            f'repositories:\n  - url: "{place.repository}"\n    label: bench\n'
            "compression:\n  algorithm: zstd\n"
        )
        (place.home / "vykar.yaml").chmod(0o600)
        return ["vykar", "init", "-R", "bench"]

    def backup(self, place: Place) -> Sequence[str]:
        """Back up."""
        return ["vykar", "backup", "-R", "bench", "-l", "bench", str(place.source)]

    def restore(self, place: Place, target: Path) -> Sequence[str]:
        """Restore the newest snapshot."""
        listed = output(["vykar", "list", "-R", "bench", "--last", "1"], place.environment).splitlines()
        return ["vykar", "restore", "-R", "bench", listed[1].split()[0], str(target)]


class Bupstash:
    """bupstash; it compresses with zstd, and restores one directory's content."""

    name = "bupstash"

    def version(self) -> str:
        """What it says of itself."""
        return output(["bupstash", "version"])

    def prepare(self, place: Place) -> Sequence[str]:
        """Make a key now, then the command that makes the repository."""
        key = str(place.home / "bupstash.key")
        subprocess.run(["bupstash", "new-key", "-o", key], check=True, env=dict(place.environment))
        return ["bupstash", "init"]

    def backup(self, place: Place) -> Sequence[str]:
        """Back up."""
        return ["bupstash", "put", "--quiet", "--xattrs", "name=bench", str(place.source)]

    def restore(self, place: Place, target: Path) -> Sequence[str]:
        """Restore the newest item with owners and attributes, as all others do."""
        listed = output(["bupstash", "list", "--format=jsonl1", "name=bench"], place.environment)
        newest = json.loads(listed.splitlines()[-1])["id"]
        into = ["--into", str(target), "--ownership", "--xattrs"]
        return ["bupstash", "restore", "--quiet", *into, f"id={newest}"]


MORE: Mapping[str, type[Borg2 | Rustic | Kopia | Vykar | Bupstash]] = {
    peer.name: peer for peer in (Borg2, Kopia, Rustic, Vykar, Bupstash)
}
