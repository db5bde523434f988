"""What the page's group may see of the state directory: the inventory, and nothing else that matters.

Only where `[web]` is configured. The directory can be entered and listed, the inventory and what SQLite keeps
beside it can be read; keys, spool and all else stay for their owner alone.
"""

from __future__ import annotations

import grp
import os
import stat
from contextlib import suppress

from backup.config import Config
from backup.errors import ConfigError, NightvaultError
from backup.inventory.database import sqlite_path

PAGE_SOCKET = "page.sock"
_BESIDE = ("", "-wal", "-shm")


def page_group(config: Config) -> int | None:
    """The id of the page's group; None without `[web]`. `ConfigError` if this machine has no such group."""
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
    """Let the group read the inventory; what is so already stays. `NightvaultError` if it cannot be."""
    path = sqlite_path(config.inventory_url) or ""
    try:
        _let(config.state_dir, group, 0o750)
        for end in _BESIDE:
            with suppress(FileNotFoundError):
                _let(path + end, group, 0o640)
    except OSError as error:
        raise NightvaultError(
            f"the page's group may not read {error.filename}: {error.strerror}",
            advice="the daemon has to run as root, or as a member of that group",
        ) from error


def close_to_page(config: Config) -> None:
    """Take back what `open_to_page` allowed, once `[web]` is gone from the config."""
    path = sqlite_path(config.inventory_url) or ""
    for place, mode in ((config.state_dir, 0o700), *((path + end, 0o600) for end in _BESIDE)):
        with suppress(OSError):
            if stat.S_IMODE(os.stat(place).st_mode) == mode | (0o050 if mode == 0o700 else 0o040):
                os.chmod(place, mode)


def _let(path: str, group: int, mode: int) -> None:
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
