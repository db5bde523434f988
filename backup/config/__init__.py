"""config.toml as frozen values: `load_config` reads it, and names every mistake at once by its key.

`settings.py` has the values, each with its shape and the sentence for what breaks it; begin there.
`commands.py` has what jobs run, `machine_identity.py` the certificate, `retention.py` what jobs keep,
`drills.py` drills. `reading.py`
finds, reads and parses the file. `checking.py` and `limits.py` check what no single value shows.
`in_force.py` lists each setting in force, and its origin. A `Config` is always whole and correct, its paths
absolute; modules below `app` never get it, only single values.
"""

from backup.config.commands import (
    STREAM_NAME,
    CommandSettings,
    ConnectionSettings,
    ContainersSettings,
    DatabaseSettings,
    HooksSettings,
    ServerSettings,
)
from backup.config.drills import DrillSample, DrillSettings
from backup.config.limits import most_parts_at_once, part_size_within, warnings_of_limits
from backup.config.machine_identity import IdentitySettings, RenewSettings, RolesAnywhereSettings
from backup.config.monitoring import LogForm
from backup.config.reading import (
    SYSTEM_CONFIG,
    config_of,
    find_config,
    load_config,
    read_document,
)
from backup.config.retention import PROPOSED, ForgetWhen, RetentionSettings, proposed_lines
from backup.config.settings import (
    Config,
    JobSettings,
    SourceSettings,
)
from backup.config.values import LimitSettings, minute_of, parse_duration, parse_money, parse_size
from backup.config.vaults import VaultSettings

__all__ = [
    "PROPOSED",
    "STREAM_NAME",
    "SYSTEM_CONFIG",
    "CommandSettings",
    "Config",
    "ConnectionSettings",
    "ContainersSettings",
    "DatabaseSettings",
    "DrillSample",
    "DrillSettings",
    "ForgetWhen",
    "HooksSettings",
    "IdentitySettings",
    "JobSettings",
    "LimitSettings",
    "LogForm",
    "RenewSettings",
    "RetentionSettings",
    "RolesAnywhereSettings",
    "ServerSettings",
    "SourceSettings",
    "VaultSettings",
    "config_of",
    "find_config",
    "load_config",
    "minute_of",
    "most_parts_at_once",
    "parse_duration",
    "parse_money",
    "parse_size",
    "part_size_within",
    "proposed_lines",
    "read_document",
    "warnings_of_limits",
]
