"""config.toml: what it may say, how it is read, what must hold of it as a whole."""

from backup.config.limits import most_parts_at_once, part_size_within, warnings_of_limits
from backup.config.reading import find_config, load_config, parse_duration, parse_money, parse_size
from backup.config.settings import (
    STREAM_NAME,
    CommandSettings,
    Config,
    HooksSettings,
    IdentitySettings,
    JobSettings,
    LimitSettings,
    RolesAnywhereSettings,
    SourceSettings,
    VaultSettings,
    minute_of,
)

__all__ = [
    "STREAM_NAME",
    "CommandSettings",
    "Config",
    "HooksSettings",
    "IdentitySettings",
    "JobSettings",
    "LimitSettings",
    "RolesAnywhereSettings",
    "SourceSettings",
    "VaultSettings",
    "find_config",
    "load_config",
    "minute_of",
    "most_parts_at_once",
    "parse_duration",
    "parse_money",
    "parse_size",
    "part_size_within",
    "warnings_of_limits",
]
