"""The paths, devices and credentials that systemd units must name, collected from the config."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from backup.app.machine.unit_texts import Places
from backup.config import Config
from backup.credentials.identity_paths import CREDENTIAL

_STORES: Final = ("/etc/credstore.encrypted", "/etc/credstore")


def places_of(config: Config, program: str, *, is_user: bool, usual_config: str) -> Places:
    """Return the paths and devices of this machine that the units must name."""
    identity = config.identity
    keys = (identity.private_key,) if identity else ()
    is_usual = not is_user and config.path == usual_config
    return Places(
        program=program,
        config=None if is_usual else os.path.abspath(config.path),
        state=config.state_dir,
        writable=tuple(_writable(config)),
        devices=tuple(sorted({path for job in config.jobs for path in job.devices})),
        tpm=any(key.startswith("handle:") or _is_tss2(key) for key in keys),
        credentials=tuple((name, _stored(name)) for name in credentials_of(config)),
        changes_user=any(_users(config)),
        is_user=is_user,
    )


def _users(config: Config) -> Iterator[str | None]:
    """The users that commands and clients of databases are run as, None: as the unit's own."""
    for job in config.jobs:
        yield from (command.user for command in job.command)
        yield from (database.run_as for database in job.database if not database.container)


def _writable(config: Config) -> Iterator[str]:
    """Directories that are written to, beside the state directory."""
    files = [config.monitoring.metrics_file, config.recovery_file, _inventory_file(config)]
    folders = [os.path.dirname(path) for path in files if path]
    folders += [vault.path for vault in config.vaults if vault.path]
    inside = config.state_dir.rstrip("/") + "/"
    yield from dict.fromkeys(folder for folder in folders if not f"{folder}/".startswith(inside))


def _inventory_file(config: Config) -> str | None:
    return config.inventory_url.removeprefix("sqlite:///") if "sqlite" in config.inventory_url else None


def _is_tss2(path: str) -> bool:
    """Whether a key file is one that only a TPM can use."""
    try:
        with open(path, "rb") as file:
            return b"TSS2 PRIVATE KEY" in file.read(4096)
    except (OSError, ValueError):
        return False


def credentials_of(config: Config) -> list[str]:
    """The names of all systemd credentials that a config asks for."""
    return sorted({text.removeprefix(CREDENTIAL) for text in _texts(msgspec.to_builtins(config))})


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if value.startswith(CREDENTIAL):
            yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _texts(part)


def _stored(name: str) -> str:
    """Return the path at which a credential lies, or is to be put."""
    paths = [os.path.join(store, name) for store in _STORES]
    return next((path for path in paths if os.path.exists(path)), paths[-1])
