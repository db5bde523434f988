"""Notes on why the daemon does not continue an open restore; stored beside its keys, shown by `restores`."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress

import msgspec
from msgspec import Struct

from backup.errors import InterruptedRunError, LockedError, NightvaultError
from backup.files import write_durably

_SUFFIX = ".held"


class HeldNote(Struct, frozen=True):
    """The reason why a restore does not continue, and what to do."""

    why: str
    advice: str


class HeldNotes:
    """The notes on restores, in the directory that holds their pack keys."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def read(self, restore_id: str) -> HeldNote | None:
        """The note on a restore; None if there is none."""
        with suppress(OSError, msgspec.MsgspecError), open(self._path(restore_id), "rb") as file:
            return msgspec.json.decode(file.read(), type=HeldNote)
        return None

    def note(self, restore_id: str, error: NightvaultError) -> bool:
        """Save why a restore does not continue; returns whether that is new."""
        held = HeldNote(str(error), error.advice)
        if self.read(restore_id) == held:
            return False
        with suppress(OSError):  # the log has it
            write_durably(self._path(restore_id), msgspec.json.encode(held))
        return True

    def clear(self, restore_id: str) -> None:
        """Delete the note: the restore continues."""
        with suppress(OSError):
            os.unlink(self._path(restore_id))

    def keep(self, open_ids: Collection[str]) -> None:
        """Delete all notes but those on these restores."""
        with suppress(OSError):
            for name in os.listdir(self._directory):
                restore_id, dot, _ = name.partition(_SUFFIX)
                if dot and restore_id not in open_ids:
                    os.unlink(os.path.join(self._directory, name))

    @contextmanager
    def noting(self, restore_id: str) -> Iterator[None]:
        """A context manager that saves the error that ends the work on a restore, except stops and locks."""
        try:
            yield
        except (InterruptedRunError, LockedError):
            raise
        except NightvaultError as error:
            self.note(restore_id, error)
            raise
        self.clear(restore_id)

    def _path(self, restore_id: str) -> str:
        return os.path.join(self._directory, restore_id + _SUFFIX)
