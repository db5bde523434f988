"""The marker of a directory vault: it tells the vault from an empty mount point, and from other vaults.

Archives are recognised without it. So if it is damaged, or missing while there are archives, nothing is lost:
they can be read, and a person can have the marker written again. Until then nothing is written to the vault.
"""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import datetime

import msgspec
from msgspec import Struct

from backup.errors import UnmarkedVaultError, VaultError, VaultMissingError
from backup.model import VaultName
from backup.vault import dirfd
from backup.vault.layout import Root, holds_archives

MARKER = "nightvault-vault.json"
DAMAGED = f"{MARKER}.damaged"
"""The name that a damaged marker gets when a new one is written."""
LAYOUT = 1


class Marker(Struct, frozen=True):
    """The content of the marker file; the id tells one vault from another."""

    layout: int
    id: str
    created_at: datetime


class _AnyLayout(Struct, frozen=True):
    """As much as the marker of any layout has."""

    layout: int


def read_marker(root: Root, name: VaultName) -> Marker:
    """The marker of the vault of that name.

    `VaultMissingError` without one, `UnmarkedVaultError` if it is damaged, or missing where archives are,
    `VaultError` for that of another layout.
    """
    try:
        data = dirfd.read_file(MARKER, dir_fd=root.fd)
    except FileNotFoundError as error:
        if holds_archives(root):
            raise _unmarked(root, name, "is missing, and archives are there") from error
        raise VaultMissingError(
            f"there is no vault in {root.path}: it has no {MARKER}",
            advice=f"mount the disk that belongs at {root.path}, or correct the path",
        ) from error
    with suppress(msgspec.DecodeError):
        if msgspec.json.decode(data, type=_AnyLayout).layout != LAYOUT:
            raise VaultError(
                f"{root.path}/{MARKER} is from another version",
                advice="use the nightvault that made this vault, or a newer one",
            )
    try:
        return msgspec.json.decode(data, type=Marker)
    except msgspec.DecodeError as error:
        raise _unmarked(root, name, "is damaged") from error


def _unmarked(root: Root, name: VaultName, what: str) -> UnmarkedVaultError:
    return UnmarkedVaultError(
        f"the marker of vault {name}, {root.path}/{MARKER}, {what}",
        advice=f"no archive is lost by that. If this is the right disk: `nightvault vaults accept {name}` "
        "writes a new marker and compares what is there. If this server lost its inventory: first "
        "`nightvault rebuild --key FILE`",
    )


def write_first_marker(root: Root, name: VaultName, marker: Marker) -> None:
    """Make a directory a vault, writing the marker last; no effect if it is one. `UnmarkedVaultError`."""
    try:
        read_marker(root, name)
    except VaultMissingError:
        _write(root, marker)


def write_marker_anew(root: Root, name: VaultName, marker: Marker) -> None:
    """Write the marker of a vault that lacks it, and keep a damaged one beside it; a whole one stays."""
    try:
        read_marker(root, name)
    except UnmarkedVaultError:
        with suppress(FileNotFoundError):
            os.rename(MARKER, DAMAGED, src_dir_fd=root.fd, dst_dir_fd=root.fd)
        _write(root, marker)


def _write(root: Root, marker: Marker) -> None:
    dirfd.make_directory("archives", dir_fd=root.fd)
    dirfd.make_directory("uploads", dir_fd=root.fd)
    dirfd.write_file(MARKER, msgspec.json.encode(marker), dir_fd=root.fd)
