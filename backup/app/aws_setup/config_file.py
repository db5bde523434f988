"""ARNs put into config.toml with its comments and order kept, after a copy of the old file; pure but for the
writing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT

from backup.errors import ConfigError
from backup.files import create_durably, write_durably

Values = Mapping[str, str]


def with_values(text: str, vault: str, of_vault: Values, anywhere: Values) -> str:
    """The text of a config with these keys of a vault and of [roles_anywhere]; what else it says stays."""
    try:
        document = tomlkit.parse(text)
    except TOMLKitError as error:
        raise ConfigError(f"the config cannot be changed: {error}") from error
    tables = document.get("vault")
    table = (
        next((one for one in tables if one.get("name") == vault), None) if isinstance(tables, AoT) else None
    )
    if table is None:
        raise ConfigError(f"the config has no [[vault]] named {vault}")
    for key, value in of_vault.items():
        if table.get(key) != value:
            table[key] = value
    if anywhere:
        section = document.get("roles_anywhere")
        if section is None:
            section = tomlkit.table()
            document["roles_anywhere"] = section
        for key, value in anywhere.items():
            if section.get(key) != value:
                section[key] = value
    return tomlkit.dumps(document)


def replace_config(path: str, old: str, new: str, now: datetime) -> str | None:
    """Replace the file, its mode kept, after a copy beside it; the copy's path, None if nothing changed."""
    if old == new:
        return None
    mode = os.stat(path).st_mode & 0o777
    copy = f"{path}.{now:%Y%m%dT%H%M%S}"
    create_durably(copy, old.encode(), mode=mode)
    write_durably(path, new.encode(), mode=mode)
    return copy
