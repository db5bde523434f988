"""Write keys and certificates so that a cut leaves either the old file or the new one, and no one else
reads keys."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from backup.errors import NightvaultError, UsageError

PRIVATE = 0o600
PUBLIC = 0o644


@dataclass(frozen=True, slots=True)
class NewFile:
    """What is to be in a file, and who may read it."""

    path: str
    data: bytes = field(repr=False)
    mode: int = PUBLIC


def make_directory(path: str) -> None:
    """Make a directory that only its owner may enter; one that is there is left as it is."""
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
    except OSError as error:
        raise NightvaultError(f"cannot make the directory {path}: {error.strerror}") from error


def create_files(files: Sequence[NewFile]) -> None:
    """Write files that must not be there yet; `UsageError` names the first that is."""
    for file in files:
        if os.path.lexists(file.path):
            raise UsageError(
                f"{file.path} is there already", advice="choose another place, or move it away first"
            )
    _write(files, replace=False)


def replace_files(files: Sequence[NewFile]) -> None:
    """Write files in place of those that may be there: none is touched before all are written and synced."""
    _write(files, replace=True)


def _write(files: Sequence[NewFile], *, replace: bool) -> None:
    waiting = [(_name_beside(file.path), file) for file in files]
    try:
        for temporary, file in waiting:
            _write_file(temporary, file)
        for temporary, file in waiting:
            _move(temporary, file.path, replace=replace)
        for directory in dict.fromkeys(os.path.dirname(temporary) for temporary, _file in waiting):
            _sync(directory)
    except OSError as error:
        raise NightvaultError(
            f"cannot write {error.filename2 or error.filename}: {error.strerror}"
        ) from error
    finally:
        for temporary, _file in waiting:
            if os.path.exists(temporary):
                os.unlink(temporary)


def _name_beside(path: str) -> str:
    directory, name = os.path.split(os.path.abspath(path))
    return os.path.join(directory, f".{name}.{secrets.token_hex(4)}")


def _write_file(path: str, file: NewFile) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, file.mode)
    with os.fdopen(handle, "wb") as output:
        os.fchmod(handle, file.mode)  # the umask may have taken more than we mean to
        output.write(file.data)
        output.flush()
        os.fsync(handle)


def _move(temporary: str, path: str, *, replace: bool) -> None:
    if replace:
        os.replace(temporary, path)
    else:
        os.link(temporary, path)  # unlike rename, it fails if somebody was faster
        os.unlink(temporary)


def _sync(directory: str) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
