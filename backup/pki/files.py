"""Writes keys and certificates atomically and durably; key files are readable by their owner only."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from backup.errors import NightvaultError, UsageError
from backup.files import Draft
from backup.safe_paths import make_folders

PRIVATE = 0o600
PUBLIC = 0o644


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file to write: path, content and mode."""

    path: str
    data: bytes = field(repr=False)
    mode: int = PUBLIC


def make_directory(path: str) -> None:
    """Make a directory that only its owner may enter; an existing one is left unchanged."""
    try:
        make_folders(path)
    except OSError as error:
        raise NightvaultError(f"cannot make the directory {path}: {error.strerror}") from error


def create_files(files: Sequence[NewFile]) -> None:
    """Write files that must not exist yet; `UsageError` names the first that does."""
    for file in files:
        if os.path.lexists(file.path):
            raise UsageError(
                f"{file.path} is there already", advice="choose another place, or move it away first"
            )
    _write(files, replace=False)


def replace_files(files: Sequence[NewFile]) -> None:
    """Write files, replacing existing ones; none is renamed into place before all are synced."""
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
