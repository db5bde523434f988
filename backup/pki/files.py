"""Write keys and certificates so that a cut leaves either the old file or the new one, and no one else
reads keys."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from backup.errors import NightvaultError, UsageError
from backup.files import Draft

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
    try:
        with ExitStack() as stack:
            drafts = [stack.enter_context(Draft(file.path, mode=file.mode)) for file in files]
            for draft, file in zip(drafts, files, strict=True):
                draft.write(file.data)
                draft.sync()
            for draft in drafts:
                draft.place(replace=replace)
    except OSError as error:
        raise NightvaultError(f"cannot write {error.filename}: {error.strerror}") from error
