"""The paths of a state directory, for modules that read no key in it (`state.py` does)."""

from __future__ import annotations

import os

from msgspec import Struct


class Folders(Struct, frozen=True):
    """Paths below one state directory."""

    directory: str

    @property
    def spool(self) -> str:
        """The directory in which packs are written."""
        return os.path.join(self.directory, "spool")

    @property
    def restores(self) -> str:
        """The directory in which the keys of packs are kept while a restore waits."""
        return os.path.join(self.directory, "restores")

    @property
    def rebuild(self) -> str:
        """The directory of a rebuild's journal and files; created on demand."""
        return os.path.join(self.directory, "rebuild")

    @property
    def keeper(self) -> str:
        """The directory of deletions in place of servers, by vault; created on demand."""
        return os.path.join(self.directory, "keeper")

    @property
    def drills(self) -> str:
        """The directory into which drills restore, and which they empty again; created on demand."""
        return os.path.join(self.directory, "drills")

    def is_of_drill(self, target: bytes) -> bool:
        """Whether a restore's target lies in the directory of drills: then the drill continues it."""
        return target.startswith(os.fsencode(self.drills) + b"/")

    @property
    def keys(self) -> str:
        """The directory of the server's own keys."""
        return os.path.join(self.directory, "keys")
