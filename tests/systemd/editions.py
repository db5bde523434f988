"""Builds packages of a clone of this repository, one edition for each commit, as a release does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from msgspec import Struct

from tests.support.emulated import REPOSITORY

WHO = "builder@example.org"


def what_is_missing_here() -> str:
    """Why no package can be built here, in a sentence; "" if it can."""
    has_all = shutil.which("git") is not None and (REPOSITORY / ".git").exists()
    return "" if has_all else "needs git, and a clone"


class Edition(Struct, frozen=True):
    """What one build made: packages by name, a signed apt repository, versions by distribution."""

    packages: Sequence[Path]
    repository: Path
    versions: Mapping[str, str]


class Builder:
    """Builds packages of a clone, and makes commits in it; at its end its agent for keys is gone."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clone, self.tools = folder, folder / "clone", folder / "tools"
        self._environ = {**os.environ, "GNUPGHOME": str(folder / "keys")}
        self._has_key = False
        self._run("git", "clone", "--quiet", "--shared", str(REPOSITORY), str(self.clone))
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
        self._run(*pip, "--target", str(self.tools), "-r", str(REPOSITORY / "constraints-packages.txt"))
        self._version("99.0.0.dev0")  # between releases, whatever this commit is

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._has_key:
            self._run("gpgconf", "--kill", "all")

    def edition(self, name: str, distributions: Sequence[str]) -> Edition:
        """Make a commit, and build packages of it that have a higher version than any before."""
        self.commit()
        self._make_key()
        words = [f"--distribution={distribution}" for distribution in distributions]
        made = self.build(self.folder / name, *words, "--machine=amd64", f"--key={WHO}")
        told = [path.name.split("_")[1] for path in made if path.suffix == ".deb"]
        versions = {f"debian{version.rpartition('~deb')[2]}": version for version in told}
        return Edition(made, self.folder / name / "apt", versions)

    def build(self, to: Path, *words: str) -> list[Path]:
        """The packages, by name."""
        script = str(self.clone / "deploy" / "packages" / "build.py")
        self._run(sys.executable, script, "--nfpm", str(self.tools / "bin/nfpm"), "--to", str(to), *words)
        return sorted([*to.glob("*.deb"), *to.glob("*.rpm")])

    def _version(self, version: str) -> None:
        source = self.clone / "backup" / "__init__.py"
        lines = source.read_text().splitlines()
        changed = [
            f'    VERSION = "{version}"' if line.startswith("    VERSION = ") else line for line in lines
        ]
        source.write_text("\n".join([*changed, ""]))
        self.commit()

    def commit(self) -> None:
        """Make a commit, so that the next build has a higher version."""
        who = ("-c", f"user.name={WHO}", "-c", f"user.email={WHO}", "-c", "commit.gpgsign=false")
        self._run(
            *("git", "-C", str(self.clone), *who, "commit", "--quiet", "--all", "--allow-empty", "-m", "More")
        )

    def _make_key(self) -> None:
        if self._has_key:
            return
        (self.folder / "keys").mkdir(mode=0o700)
        self._has_key = True
        self._run(
            *("gpg", "--batch", "--quiet", "--passphrase", ""),
            *("--quick-generate-key", WHO, "default", "sign"),
        )

    def _run(self, *words: str) -> None:
        done = subprocess.run(words, env=self._environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
