"""The wheel's build: puts the manual pages and the shells' completions into it, made from the commands."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COMPLETIONS = {
    "bash": "share/bash-completion/completions/nightvault",
    "zsh": "share/zsh/site-functions/_nightvault",
    "fish": "share/fish/vendor_completions.d/nightvault.fish",
}


class Reference(BuildHookInterface):  # type: ignore[type-arg]  # hatchling names no type for the settings
    """Writes the files into a folder of its own, and tells hatchling where they go below the prefix."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the files; an editable install does without them."""
        if version == "editable":
            return
        sys.path.insert(0, self.root)
        from backup.cli.manual.pages import all_pages
        from backup.cli.manual.roff import files_of
        from backup.cli.support.shells import script_for

        files = {f"share/man/man1/{name}": text for name, text in files_of(all_pages()).items()}
        files |= {place: script_for(shell) for shell, place in COMPLETIONS.items()}
        self.made = tempfile.TemporaryDirectory(prefix="nightvault-reference-")
        for place, text in files.items():
            path = os.path.join(self.made.name, place)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            build_data["shared_data"][path] = place

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Remove the folder."""
        if version != "editable":
            self.made.cleanup()
