"""Modes and owners that let the web page's group read a copy of the inventory, and nothing else.

Only where `[web]` is configured. The directory can be entered and listed, and the copy that
`inventory/pages/page_copies.py` makes can be read; the inventory itself, keys, spool and all else stay for
their owner alone.
"""

from __future__ import annotations

import grp
import os
import stat
from contextlib import suppress

from backup.config import Config
from backup.errors import ConfigError, NightvaultError
from backup.inventory.pages.page_copies import remove_page_copy
from backup.inventory.store.database import sqlite_path
from backup.owners import set_mode

PAGE_SOCKET = "page.sock"
_BESIDE = ("", "-wal", "-shm")


def page_group(config: Config) -> int | None:
    """Return the group id of the web page; None without `[web]`.

    `ConfigError` if the group does not exist.
    """
    if config.web is None:
        return None
    try:
        return grp.getgrnam(config.web.group).gr_gid
    except KeyError as error:
        raise ConfigError(
            f"web.group: this machine has no group {config.web.group}",
            advice="`nightvault install --systemd` says how to make it; or name another",
        ) from error


def open_to_page(config: Config, group: int) -> None:
    """Let the group enter the state directory and read the copy; the inventory itself stays closed to it.

    A process that may read an SQLite file may also lock it and so block all writers: that is why the group
    gets a copy. `NightvaultError` if that fails.
    """
    try:
        _let(config.state_dir, group, 0o750)
    except OSError as error:
        raise NightvaultError(
            f"the page's group may not enter {error.filename}: {error.strerror}",
            advice="the daemon has to run as root, or as a member of that group",
        ) from error
    _close_inventory(config)


def is_open_to_page(config: Config) -> bool:
    """Whether the state directory has the modes that `open_to_page` sets: only the page's group may enter."""
    try:
        group, found = page_group(config), os.stat(config.state_dir)
    except (OSError, ConfigError):
        return False
    return group == found.st_gid and stat.S_IMODE(found.st_mode) == 0o750


def close_to_page(config: Config) -> None:
    """Withdraw the rights that `open_to_page` gave, once `[web]` is removed from the config."""
    _take_back(config.state_dir, 0o750, 0o700)
    _close_inventory(config)
    remove_page_copy(config.state_dir)


def _close_inventory(config: Config) -> None:
    """Take back that the group reads the inventory, which versions before this allowed."""
    path = sqlite_path(config.inventory_url) or ""
    for end in _BESIDE:
        _take_back(path + end, 0o640, 0o600)


def _take_back(path: str, was: int, mode: int) -> None:
    """Give a file that mode if it has the other one; SQLite's locks on it stay."""
    with suppress(OSError):
        set_mode(path, mode, was=was)


def _let(path: str, group: int, mode: int) -> None:
    """Give a directory that group and mode; a link is neither followed nor changed."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(handle)
        if found.st_gid != group:
            os.fchown(handle, -1, group)
        if stat.S_IMODE(found.st_mode) != mode:
            os.fchmod(handle, mode)
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(handle)
