"""Lists the settings in force, each with its origin, without secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct

from backup.config.checking import keys_of_kind
from backup.config.reading import PATHS, read_document
from backup.config.settings import (
    LISTS,
    SECTIONS,
    Config,
    EncryptionSettings,
    InventorySettings,
    JobSettings,
    StateSettings,
)
from backup.config.vaults import VaultSettings
from backup.model import MIB

HIDDEN = "(hidden)"
_SECRET = re.compile(r"(?:^|_)(?:password|passphrase|secret|token|pin|environment|headers)$")
_LOGIN = re.compile(r"(?<=://)[^/@\s]+(?=@)")  # of an address: a user, with a password
_QUERY = re.compile(r"(://[^?\s]*\?).+")  # of an address: what follows its ?
_ADDRESS = re.compile(r"(https?://[^/]+/).+")  # of a channel: what follows the host may be a secret topic
_DAY = 24 * 3600


class Origin(StrEnum):
    """The origin of a value: the file, or the default."""

    FILE = "file"
    DEFAULT = "default"


class Setting(Struct, frozen=True):
    """One key: its name, its value as in TOML (None: not set), and its origin."""

    name: str
    value: Any
    origin: Origin


class Table(Struct, frozen=True):
    """One table of the file, as `[state]` or `[[vault]]`; `key` as messages name it: `vault[2]`."""

    header: str
    key: str
    settings: tuple[Setting, ...]


def settings_in_force(config: Config) -> Iterator[Table]:
    """Yield every table with its keys; keys that do not apply to the kind of a vault are left out."""
    document = read_document(config.path)
    for name in SECTIONS:
        values = _section(config, name)
        if values is not None:
            yield Table(f"[{name}]", name, tuple(_settings(values, document.get(name, {}))))
    for name, written in document.get("retention", {}).items():
        made = (Setting(key, value, Origin.FILE) for key, value in written.items())
        yield Table(f"[retention.{name}]", f"retention.{name}", tuple(made))
    for name, several in zip(LISTS, _lists(config), strict=True):
        for number, (values, written) in enumerate(zip(several, document.get(name, ()), strict=True), 1):
            yield Table(f"[[{name}]]", f"{name}[{number}]", tuple(_settings(values, written)))


def _lists(config: Config) -> tuple[Sequence[Struct], ...]:
    return config.vaults, config.jobs, config.drills, config.connections


def _section(config: Config, name: str) -> Struct | None:
    """The values of a section; None if it is not there and has no defaults."""
    if name == "state":
        return StateSettings(dir=config.state_dir, recovery_file=config.recovery_file)
    if name == "inventory":
        return InventorySettings(url=config.inventory_url, keep_runs=config.keep_runs)
    if name == "encryption":
        return EncryptionSettings(recipients=config.recipients)
    found: Struct | None = getattr(config, name)
    return found


def _settings(values: Struct, written: Mapping[str, Any]) -> Iterator[Setting]:
    kinds = keys_of_kind(values.kind) if isinstance(values, VaultSettings) else None
    for field in msgspec.structs.fields(values):
        name = field.encode_name
        if kinds is not None and name not in kinds:
            continue
        value = getattr(values, field.name)
        if name not in written:
            yield Setting(name, without_secrets(name, _default(values, name, value)), Origin.DEFAULT)
            continue
        as_read = name in PATHS and isinstance(value, str)  # an absolute path
        yield Setting(name, without_secrets(name, value if as_read else written[name]), Origin.FILE)


def without_secrets(name: str, value: Any) -> Any:
    """Return a value with its secrets masked: passwords, tokens, a command's environment."""
    if isinstance(value, Mapping):
        hides = _SECRET.search(name) is not None
        return {key: HIDDEN if hides else without_secrets(key, part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_secrets(name, part) for part in value]
    if isinstance(value, str):
        return _without_secrets(name, value)
    return value


def _without_secrets(name: str, text: str) -> str:
    """A text without a secret; of the address of a channel only the host is left."""
    if _SECRET.search(name):
        return HIDDEN
    if name == "url":
        text = _ADDRESS.sub(rf"\1{HIDDEN}", text)
    return _QUERY.sub(rf"\1{HIDDEN}", _LOGIN.sub(HIDDEN, text))


def _default(values: Struct, name: str, value: Any) -> Any:
    """Return the value in force for a key that the file lacks, in TOML's form; None: nothing is set."""
    if name == "timezone" and isinstance(values, JobSettings):
        return values.zone
    if isinstance(value, Struct) or value is None or value == ():
        return None
    if name in {"pack_size", "part_size", "memory", "min_free"}:
        return f"{value // MIB}MiB"
    if name in {"prune_grace", "compact_horizon", "keep_runs", "lock_for", "lock_step"}:
        return f"{value // _DAY}d"
    return str(value) if isinstance(value, StrEnum) else value
