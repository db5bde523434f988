"""Compares two configs at a reload: log lines of changed keys, without values that may be secret."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any

from msgspec import Struct
from msgspec.structs import fields

from backup.config import Config
from backup.errors import ConfigError

_FIXED = ("state_dir", "inventory_url")
_SHOWN = frozenset(
    {
        *("schedule", "timezone", "forget", "check", "check_sample", "prune", "compact", "vault", "kind"),
        *("path", "region", "bucket", "prefix", "storage_class", "certificate", "private_key", "ionice"),
        *("metrics_file", "recovery_file", "role_arn", "restore_role_arn", "copy_role_arn"),
        "prune_role_arn",
    }
)
_LISTS = {"vaults": "vault", "jobs": "job"}


def require_same_place(old: Config, new: Config) -> None:
    """Raise `ConfigError` if a setting changed that a running process cannot change."""
    for name in _FIXED:
        if getattr(old, name) != getattr(new, name):
            raise ConfigError(
                "the state directory or the inventory is another one", advice="start the daemon anew for that"
            )


def differences(old: Config, new: Config) -> list[str]:
    """Yield a line for each changed key: `job main: schedule: daily at 02:30 -> daily at 03:00`."""
    lines: list[str] = []
    for field in fields(Config):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if field.name in _LISTS:
            lines += _members(_LISTS[field.name], before, after)
        elif before != after:
            lines += _values(f"[{field.name}]: ", field.name, before, after)
    return lines


def _members(noun: str, before: tuple[Any, ...], after: tuple[Any, ...]) -> Iterator[str]:
    """Yield the differences between lists of tables with names."""
    old: Mapping[str, Any] = {member.name: member for member in before}
    new: Mapping[str, Any] = {member.name: member for member in after}
    yield from (f"{noun} {name}: removed" for name in old if name not in new)
    for name, settings in new.items():
        if name not in old:
            yield f"{noun} {name}: new"
            continue
        yield from _values(f"{noun} {name}: ", "", old[name], settings)


def _values(where: str, name: str, before: Any, after: Any) -> Iterator[str]:
    """The differences of a value, by key where both are tables."""
    if before == after:
        return
    if isinstance(before, Struct) and type(before) is type(after):
        for field in fields(before):
            yield from _values(where, field.name, getattr(before, field.name), getattr(after, field.name))
    elif _may_show(name, before) and _may_show(name, after):
        yield f"{where}{name}: {_text(before)} -> {_text(after)}"
    else:
        yield f"{where}{name} changed" if name else f"{where}changed"


def _may_show(name: str, value: Any) -> bool:
    if value is None or isinstance(value, (bool, int, StrEnum)):
        return True
    if isinstance(value, tuple):
        return all(isinstance(number, int) for number in value)
    return isinstance(value, str) and name in _SHOWN


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return "not set" if value is None else str(value)
