"""The folder of a rebuild drill: its journal, and the scratch inventory during the comparison.

    <state>/rebuild-drill/        0700
        begun.json                when the drill was begun, and how long it has worked so far
        asked/                    the journal of its rebuild, as `journal.py` has it
        scratch/                  the rebuilt inventory, for as long as it is compared

It is made and removed through the descriptor of the state directory, so never through a symlink. `scratch` is
emptied when a step begins and when it ends, so also after a step that was killed; when the drill is over the
whole folder goes. No key is ever written here.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

import msgspec

from backup.errors import SpoolError
from backup.files import write_durably

NAME = "rebuild-drill"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Begun(msgspec.Struct):
    """The start of a drill, and the seconds of work so far."""

    at: datetime
    worked: float = 0.0


class DrillFolder:
    """The folder, used within `opened` by one process at a time."""

    def __init__(self, state: int, path: str, vault: str) -> None:
        self._state = state
        self.path = path
        self._vault = vault

    @classmethod
    @contextmanager
    def opened(cls, state_directory: str, vault: str) -> Iterator[DrillFolder]:
        """Open the folder and remove leftovers; the caller holds a lock.

        `SpoolError` if it cannot be used.
        """
        path = os.path.join(state_directory, NAME)
        try:
            state = os.open(state_directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise SpoolError(f"{state_directory}: {error.strerror}") from error
        try:
            _make(NAME, state, path)
            folder = cls(state, path, vault)
            folder.empty()
            try:
                yield folder
            finally:
                folder.clear_scratch()
        finally:
            os.close(state)

    @property
    def asked(self) -> str:
        """The folder for the journal of the rebuild, separate for each vault."""
        return os.path.join(self.path, "asked", self._vault)

    @property
    def inventory(self) -> str:
        """The file of the rebuilt inventory."""
        return os.path.join(self.path, "scratch", "inventory.sqlite")

    def empty(self) -> None:
        """Create an empty scratch folder, and a folder for the journal."""
        self.clear_scratch()
        with self._own() as own:
            _make("scratch", own, f"{self.path}/scratch")
            _make("asked", own, f"{self.path}/asked")

    def clear_scratch(self) -> None:
        """Remove the rebuilt inventory."""
        with suppress(FileNotFoundError), self._own() as own:
            _remove("scratch", own)

    def begun(self, now: datetime) -> Begun:
        """Return when the drill was begun: now, unless an earlier step recorded it."""
        with suppress(OSError, msgspec.MsgspecError), open(self._note, "rb") as file:
            return msgspec.json.decode(file.read(), type=Begun)
        return Begun(now)

    def note(self, begun: Begun) -> None:
        """Record how long the drill has worked, for its next step."""
        try:
            write_durably(self._note, msgspec.json.encode(begun), beside=f"{self._note}.new")
        except OSError as error:
            raise SpoolError(f"{self._note} cannot be written: {error.strerror}") from error

    def forget(self) -> None:
        """Delete the requests of this vault, and the start of its drill."""
        with self._own() as own:
            with suppress(OSError):
                os.unlink(os.path.basename(self._note), dir_fd=own)
            asked = os.open("asked", _DIRECTORY, dir_fd=own)
            try:
                _remove(self._vault, asked)
            finally:
                os.close(asked)

    def end(self) -> None:
        """Remove everything of the drill, unless one of another vault still waits."""
        self.clear_scratch()
        self.forget()
        if not os.listdir(os.path.join(self.path, "asked")):
            _remove(NAME, self._state)

    @property
    def _note(self) -> str:
        return os.path.join(self.path, f"begun-{self._vault}.json")

    @contextmanager
    def _own(self) -> Iterator[int]:
        handle = os.open(NAME, _DIRECTORY, dir_fd=self._state)
        try:
            yield handle
        finally:
            os.close(handle)


def _make(name: str, parent: int, path: str) -> None:
    """A directory of ours alone, made if it is not there. `SpoolError` if something else is in its place."""
    try:
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=parent)
        handle = os.open(name, _DIRECTORY, dir_fd=parent)
        try:
            found = os.fstat(handle)
            if found.st_uid != os.geteuid():
                raise SpoolError(f"{path} belongs to another user", advice="remove it, then run this again")
            if stat.S_IMODE(found.st_mode) != 0o700:
                os.fchmod(handle, 0o700)
        finally:
            os.close(handle)
    except OSError as error:
        why = error.strerror or str(error)
        raise SpoolError(
            f"{path} cannot be used for a drill: {why}", advice="remove what is in its place"
        ) from error


def _remove(name: str, parent: int) -> None:
    """Remove a directory with all that is in it, never through a symlink."""
    shutil.rmtree(name, ignore_errors=True, dir_fd=parent)
