"""The wheel: its version, the manual pages and completions in it, made from the commands."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COMPLETIONS = {
    "bash": "share/bash-completion/completions/nightvault",
    "zsh": "share/zsh/site-functions/_nightvault",
    "fish": "share/fish/vendor_completions.d/nightvault.fish",
}

BUILT = "backup/built.py"
"""The file that tells an installed program which build it is."""


def version_of_build(folder: str) -> str:
    """The version that a build of the sources in `folder` has: another one for each commit between releases.

    "0.2.0.dev0" becomes "0.2.0.dev1343+g91375b2e": the number of commits, so that a later build is newer for
    `pip install --upgrade`, and the commit's name; with changes that are not committed the time, too. A
    release has its number alone; sources without a history have what is written there.
    """
    try:
        with open(os.path.join(folder, "PKG-INFO"), encoding="utf-8") as file:  # sources out of an sdist
            return next(line.split(": ", 1)[1].strip() for line in file if line.startswith("Version: "))
    except FileNotFoundError:
        pass
    with open(os.path.join(folder, "backup", "__init__.py"), encoding="utf-8") as file:
        written = next(line.split('"')[1] for line in file if "VERSION = " in line)
    number, dev, _ = written.partition(".dev")
    try:
        commits, name = (
            _git(folder, "rev-list", "--count", "HEAD"),
            _git(folder, "rev-parse", "--short=8", "HEAD"),
        )
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return written
    if not dev:
        return written
    return f"{number}.dev{commits}+g{name}" + (
        time.strftime(".d%Y%m%d%H%M%S", time.gmtime()) if changed else ""
    )


def _git(folder: str, *words: str) -> str:
    """What git says of the repository whose top `folder` is; `CalledProcessError` if it is none."""
    if not os.path.exists(os.path.join(folder, ".git")):  # not one that lies further up
        raise FileNotFoundError(folder)
    command = ["git", "-C", folder, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


class Reference(BuildHookInterface):  # type: ignore[type-arg]  # hatchling names no type for the settings
    """Writes the files into a folder of its own, and tells hatchling where they go below the prefix."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the files; an editable install does without them."""
        if version == "editable":
            return
        sys.path.insert(0, self.root)
        import backup

        backup.__version__ = self.metadata.version  # the pages name it
        from backup.cli.manual.pages import all_pages
        from backup.cli.manual.roff import files_of
        from backup.cli.support.shells import script_for

        files = {f"share/man/man1/{name}": text for name, text in files_of(all_pages()).items()}
        files |= {place: script_for(shell) for shell, place in COMPLETIONS.items()}
        files[BUILT] = f'"""Which build this is."""\n\nVERSION = "{self.metadata.version}"\n'
        self.made = tempfile.TemporaryDirectory(prefix="nightvault-reference-")
        for place, text in files.items():
            path = os.path.join(self.made.name, place)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            build_data["force_include" if place == BUILT else "shared_data"][path] = place

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Remove the folder."""
        if version != "editable":
            self.made.cleanup()
