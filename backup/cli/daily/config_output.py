"""The settings in force, as TOML for people and as JSON for scripts."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from backup.config.in_force import Origin, Setting, Table
from backup.wording import printable

_WIDTH = 79
_MARK = 44  # the column of what is said of a value, where the value leaves room for it


def documents(tables: Sequence[Table], origins: Collection[Origin]) -> list[dict[str, Any]]:
    """Return the settings as JSON documents."""
    return [
        {"key": f"{table.key}.{setting.name}", "value": setting.value, "from": str(setting.origin)}
        for table in tables
        for setting in table.settings
        if setting.origin in origins
    ]


def lines(
    path: str,
    tables: Sequence[Table],
    origins: Collection[Origin],
    runs: Mapping[str, Sequence[Sequence[str]]],
) -> Iterator[str]:
    """Yield the settings as lines of TOML; `runs` are commands that follow from tables, by key."""
    yield f"# the settings in force, from {path}"
    for table in tables:
        shown = [setting for setting in table.settings if setting.origin in origins]
        if shown:
            yield ""
            yield table.header
            yield from (_line(setting) for setting in shown if setting.value is not None)
            yield from _unset([setting.name for setting in shown if setting.value is None])
            yield from (f"# runs: {printable(shlex.join(words))}" for words in runs.get(table.key, ()))


def _unset(names: Sequence[str]) -> list[str]:
    """A comment that names the keys without a value."""
    return textwrap.wrap(
        ", ".join(names),
        _WIDTH,
        initial_indent="# not set: ",
        subsequent_indent="#   ",
        break_on_hyphens=False,
    )


def _line(setting: Setting) -> str:
    text = f"{setting.name} = {_toml(setting.value)}"
    return f"{text:<{_MARK}} # default" if setting.origin is Origin.DEFAULT else text


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_toml(part)}" for key, part in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, (bool, str)):
        import json

        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value)


def _key(name: str) -> str:
    is_bare = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    return name if is_bare else _toml(name)
