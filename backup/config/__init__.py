"""config.toml: what it may say, how it is read, what must hold of it as a whole."""

from backup.config.reading import find_config, load_config, parse_money, parse_size
from backup.config.settings import (
    STREAM_NAME,
    CommandSettings,
    Config,
    HooksSettings,
    IdentitySettings,
    JobSettings,
    RolesAnywhereSettings,
    SourceSettings,
    VaultSettings,
)

__all__ = [
    "STREAM_NAME",
    "CommandSettings",
    "Config",
    "HooksSettings",
    "IdentitySettings",
    "JobSettings",
    "RolesAnywhereSettings",
    "SourceSettings",
    "VaultSettings",
    "find_config",
    "load_config",
    "parse_money",
    "parse_size",
]
