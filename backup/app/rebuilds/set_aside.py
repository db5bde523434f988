"""Moves an inventory and its keys aside for a rebuild, and back if nothing was rebuilt."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime

from msgspec import Struct

from backup.app.base.state import State
from backup.config import Config
from backup.errors import LockedError, NightvaultError
from backup.files import sync_directory
from backup.inventory.store.database import require_file, sqlite_path
from backup.inventory.store.locks import exclusive_opening, hold_lock
from backup.protocols import Clock

_KEY_FILES = ("signer", "chunk-secret", "enrolments", "signed-enrolments")
_BESIDE = ("-wal", "-shm")
_TRIES, _PAUSE = 20, 0.5  # seconds: a daemon looks each minute, for a moment


class Moved(Struct, frozen=True):
    """A file that was moved from `place` to `aside`."""

    place: str
    aside: str


@contextmanager
def alone_on_state(config: Config, clock: Clock) -> Iterator[None]:
    """Hold the locks of the state directory: no backup runs, and no process has the inventory open.

    Waits briefly for a process that has it open; then `LockedError`.
    """
    State(config.state_dir).create()
    with ExitStack() as held:
        held.enter_context(hold_lock(config.state_dir, "backup"))
        for _ in range(_TRIES):
            with suppress(LockedError):
                held.enter_context(exclusive_opening(config.state_dir))
                break
            clock.sleep(_PAUSE)
        else:
            held.enter_context(exclusive_opening(config.state_dir))
        yield


def set_aside(config: Config, now: datetime) -> list[Moved]:
    """Rename inventory and keys with a timestamp; the caller holds `alone_on_state`.

    The inventory is renamed first, so that an interruption never leaves one without its log. SQLite's files
    beside it are renamed to match.
    """
    require_file(config.inventory_url)
    state, path = State(config.state_dir), sqlite_path(config.inventory_url) or ""
    suffix = _free_suffix(state, path, now)
    moved = [
        Moved(path, f"{path}.{suffix}"),
        *(Moved(path + end, f"{path}.{suffix}{end}") for end in _BESIDE),
    ]
    moved += [Moved(file, f"{file}.{suffix}") for file in _key_files(state)]
    moved = [file for file in moved if os.path.lexists(file.place)]
    with _our_errors("moved out of the way"):
        for file in moved[1:]:
            with suppress(OSError):  # some file systems have no links
                os.link(file.place, file.aside)
        for file in moved:
            os.rename(file.place, file.aside)
            with suppress(FileNotFoundError):
                os.unlink(file.place)  # two names of one file are left as they are by a rename
        _sync(moved)
    _forget_locks(config.state_dir)
    return moved


def put_back(config: Config, moved: Sequence[Moved]) -> bool:
    """Undo `set_aside`; False if there is nothing to undo, or a new inventory exists."""
    if not moved or os.path.lexists(sqlite_path(config.inventory_url) or ""):
        return False
    with _our_errors("put back"):
        for file in reversed(moved):
            os.rename(file.aside, file.place)
        _sync(moved)
    return True


def waiting_restores(config: Config) -> int:
    """Return the number of restores that wait for a vault and have pack keys here."""
    try:
        return sum(name.endswith(".keys") for name in os.listdir(State(config.state_dir).restores))
    except FileNotFoundError:
        return 0


def _key_files(state: State) -> list[str]:
    return [os.path.join(state.keys, name) for name in _KEY_FILES]


def _free_suffix(state: State, path: str, now: datetime) -> str:
    """A suffix that no file has yet."""
    base = suffix = f"aside-{now:%Y%m%dT%H%M%S}"
    count = 1
    while any(os.path.lexists(f"{file}.{suffix}") for file in (path, *_key_files(state))):
        count += 1
        suffix = f"{base}-{count}"
    return suffix


def _forget_locks(directory: str) -> None:
    """Remove the lock files of restores: they belong to the inventory that was moved."""
    for name in os.listdir(directory):
        if name.startswith("restore-") and name.endswith(".lock"):
            with suppress(OSError):
                os.unlink(os.path.join(directory, name))


def _sync(moved: Sequence[Moved]) -> None:
    for directory in {os.path.dirname(file.place) for file in moved}:
        sync_directory(directory)


@contextmanager
def _our_errors(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NightvaultError(f"{error.filename} cannot be {what}: {error.strerror}") from error
