"""Finds and reads config.toml; all mistakes are reported at once, each by its key."""

from __future__ import annotations

import os
import re
import tomllib
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from backup.config.checking import Mistake, check, check_tables
from backup.config.limits import limit_windows, parse_rate
from backup.config.monitoring import MonitoringSettings
from backup.config.notifying import NotifySettings
from backup.config.retention import COUNTS, SPANS, RetentionSettings, check_count, check_rules, check_span
from backup.config.settings import (
    LISTS,
    SECTIONS,
    Config,
    CopySettings,
    EncryptionSettings,
    InventorySettings,
    JobSettings,
    LimitsSettings,
    PricesSettings,
    RestoreSettings,
    SourceSettings,
    StateSettings,
)
from backup.config.shapes import NAME, NAME_SENTENCE, check_sources, in_our_words, suggestion, written_as
from backup.config.values import (
    parse_age,
    parse_delay,
    parse_delays,
    parse_duration,
    parse_grace,
    parse_horizon,
    parse_jitter,
    parse_keep_runs,
    parse_lock,
    parse_money,
    parse_size,
)
from backup.credentials.identity_paths import CREDENTIAL
from backup.errors import ConfigError
from backup.files import open_small, read_small
from backup.owners import Hazard, hazard_of_way

SYSTEM_CONFIG = "/etc/nightvault/config.toml"
USER_CONFIG = ".config/nightvault/config.toml"

_NO_CONFIG_ADVICE = (
    "`nightvault begin` writes one, `nightvault config example > FILE` begins one; or name a file: --config"
)
_NO_RIGHT_ADVICE = (
    "run it as a user who may read the config (root, as a rule: sudo), or name another: --config"
)
_MOST_BYTES = 1024 * 1024
_FILE = "file:"
_SIZES = frozenset({"pack_size", "part_size", "exclude_larger_than", "link", "memory", "min_free"})
_LIMITS = frozenset({"upload_limit", "download_limit"})
_HOOKS = frozenset({"before", "after", "on_failure", "finally"})
_PLACES = frozenset({"certificate", "private_key"})  # a token or TPM, if not a path
_SECRETS = frozenset(  # what systemd hands over, if not a path
    {"private_key", "passphrase_file", "url_file", "token_file", "password_file"}
)
PATHS = frozenset(
    {
        *("dir", "file", "recovery_file", "metrics_file", "path", "programs"),
        *("certificate", "private_key", "intermediates", "passphrase_file", "request"),
        *("url_file", "token_file", "password_file", "ca_file", "accounts"),
    }
)
_PATH_LISTS = frozenset({"exclude_file", "iexclude_file"})
_HasPolicy = typing.TypeVar("_HasPolicy", JobSettings, CopySettings)


def find_config(explicit: str | None, environ: Mapping[str, str], *, advice: str = _NO_CONFIG_ADVICE) -> str:
    """Return the config's path: `--config`, `$NIGHTVAULT_CONFIG`, the system's, the user's, in this order.

    `ConfigError` if there is none; a file given by name is never skipped.
    """
    for origin, path in (("--config", explicit), ("$NIGHTVAULT_CONFIG", environ.get("NIGHTVAULT_CONFIG"))):
        if path and _is_there(path):
            return path
        if path or (path is not None and path is explicit):
            raise ConfigError(f"there is no config file {path} (from {origin})", advice=advice)
    home = environ.get("HOME") or os.path.expanduser("~")
    places = (SYSTEM_CONFIG, os.path.join(home, USER_CONFIG))
    for path in places:
        if _is_there(path):
            return path
    raise ConfigError(f"there is no config file: looked for {' and '.join(places)}", advice=advice)


def _is_there(path: str) -> bool:
    """Whether the file exists. `ConfigError` where this user may not even look."""
    try:
        os.stat(path)
    except PermissionError as error:
        raise ConfigError(f"permission denied: {path}", advice=_NO_RIGHT_ADVICE) from error
    except (OSError, ValueError):
        return False
    return True


def load_config(path: str) -> Config:
    """Read and check the file; `ConfigError` names every mistake by its key (tables counted from 1)."""
    path = os.path.abspath(path)
    hazard = _hazard_of(path)  # before it is read: then what nobody else could change is what is read
    return msgspec.structs.replace(config_of(read_document(path), path), hazard=hazard)


def _hazard_of(path: str) -> Hazard | None:
    """Return how others can change the file; None also if that cannot be checked: then it cannot be read."""
    try:
        return hazard_of_way(path)
    except OSError:
        return None


def config_of(document: Mapping[str, Any], path: str) -> Config:
    """Return the config of a document, as if it were the file; `ConfigError` as `load_config`."""
    mistakes: list[Mistake] = []
    config = _read_tables(document, path, mistakes)
    if config is not None:
        mistakes.extend(check(config, document))
    if mistakes or config is None:
        lines = [f"{key}: {sentence}" for key, sentence in mistakes]
        count = f"{len(lines)} mistakes\n  " if len(lines) > 1 else ""
        raise ConfigError(f"{path}: {count}" + "\n  ".join(lines))
    return config


def read_document(path: str) -> dict[str, Any]:
    """Read the file as TOML, unchecked. `ConfigError`, also for a pipe, which would block."""
    try:
        with open(path, "rb", opener=open_small) as file:
            text = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    if len(text) > _MOST_BYTES:
        raise ConfigError(f"{path} is far too large to be a config file", advice="name the right file")
    try:
        return tomllib.loads(text.removeprefix(b"\xef\xbb\xbf").decode())
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}: line {line} is not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    except ValueError as error:  # a number of thousands of digits: Python's own limit
        raise ConfigError(f"{path} holds a number that is far too long") from error
    except RecursionError as error:
        raise ConfigError(f"{path} nests lists or tables far too deep") from error


def _read_tables(document: Mapping[str, Any], path: str, mistakes: list[Mistake]) -> Config | None:
    base, known = os.path.dirname(path), [*SECTIONS, *LISTS, "retention"]
    unknown = [key for key in document if key not in known]
    mistakes.extend((key, f"unknown section{suggestion(key, known)}") for key in unknown)
    read: dict[str, Any] = {"state": StateSettings(), "inventory": InventorySettings()}
    read["encryption"] = EncryptionSettings()
    for key, kind in SECTIONS.items():
        if key in document:
            read[key] = _read_table(kind, document[key], key, base, mistakes)
    for key, kind in LISTS.items():
        tables = document.get(key, [])
        if not isinstance(tables, list):
            mistakes.append((key, f"must be written as [[{key}]]"))
            continue
        counted = enumerate(tables, 1)
        read[key] = tuple(_read_table(kind, table, f"{key}[{n}]", base, mistakes) for n, table in counted)
    written = read["encryption"].recipients if read.get("encryption") else ()
    recipients = tuple(_recipients(written, base, mistakes))
    policies = _read_policies(document.get("retention", {}), base, mistakes)
    jobs = _with_policies(read.get("job", ()), policies, mistakes)
    if mistakes:
        told = {key for key, _ in mistakes}
        more = check_tables(read.get("vault", ()), jobs, document)
        mistakes.extend(mistake for mistake in more if mistake[0] not in told)
        return None
    state = read["state"]
    return Config(
        path=path,
        state_dir=state.dir,
        recovery_file=state.recovery_file,
        keep_runs=read["inventory"].keep_runs,
        inventory_url=read["inventory"].url or f"sqlite:///{state.dir}/inventory.sqlite",
        identity=read.get("identity"),
        roles_anywhere=read.get("roles_anywhere"),
        recipients=recipients,
        prices=read.get("prices", PricesSettings()),
        restore=read.get("restore", RestoreSettings()),
        limits=read.get("limits", LimitsSettings()),
        monitoring=read.get("monitoring", MonitoringSettings()),
        notify=read.get("notify", NotifySettings()),
        web=read.get("web"),
        center=read.get("center"),
        vaults=read["vault"],
        jobs=tuple(job for job in jobs if job is not None),
        drills=read.get("drill", ()),
        connections=read.get("connection", ()),
    )


def _recipients(texts: Sequence[str], base: str, mistakes: list[Mistake]) -> Iterator[str]:
    """The recipients; `file:PATH` stands for those in a file, one a line."""
    for number, text in enumerate(texts, 1):
        if not text.startswith(_FILE):
            yield text
            continue
        path, why, found = _absolute(text.removeprefix(_FILE), base), "", list[str]()
        try:
            found = read_small(path, _MOST_BYTES).decode("ascii").split()
            if hazard := hazard_of_way(path):
                why = f"{hazard.why}: others could have backups sealed for a key of theirs; {hazard.command}"
        except (OSError, UnicodeDecodeError) as error:
            why = f"cannot be read: {error.strerror if isinstance(error, OSError) else 'it is no text'}"
        if why or not found:
            mistakes.append((f"encryption.recipients[{number}]", f"{path}: {why or 'it holds no recipient'}"))
        yield from found


def _read_policies(tables: object, base: str, mistakes: list[Mistake]) -> dict[str, RetentionSettings | None]:
    """The policies of `[retention.NAME]`, by name; None for one with mistakes."""
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        mistakes.append(
            ("retention", "must be written as [retention.NAME]; that of one job is [job.retention]")
        )
        return {}
    found: dict[str, RetentionSettings | None] = {}
    for name, table in tables.items():
        key = f"retention.{name}"
        if not re.fullmatch(NAME, name):
            mistakes.append((key, NAME_SENTENCE))
        policy = found[name] = _read_table(RetentionSettings, table, key, base, mistakes)
        mistakes.extend(check_rules(key, policy) if policy is not None else ())
    return found


def _with_policies(
    jobs: Sequence[JobSettings | None],
    policies: Mapping[str, RetentionSettings | None],
    mistakes: list[Mistake],
) -> tuple[JobSettings | None, ...]:
    """The jobs, and in place of a policy's name the policy. None stands for a job with mistakes."""

    def named(key: str, of: _HasPolicy) -> _HasPolicy:
        if not isinstance(of.retention, str):
            return of
        policy = policies.get(of.retention)
        if of.retention not in policies:
            sentence = f"there is no [retention.{of.retention}]{suggestion(of.retention, policies)}"
            mistakes.append((f"{key}.retention", sentence))
        return of if policy is None else msgspec.structs.replace(of, retention=policy)

    found: list[JobSettings | None] = []
    for number, job in enumerate(jobs, 1):
        key = f"job[{number}]"
        if job is not None:
            copies = tuple(named(f"{key}.copy[{n}]", copy) for n, copy in enumerate(job.copy, 1))
            job = msgspec.structs.replace(named(key, job), copy=copies)  # noqa: PLW2901
        found.append(job)
    return tuple(found)


def _read_table(kind: type[Struct], table: object, key: str, base: str, mistakes: list[Mistake]) -> Any:
    """Return a table as `kind`, read key by key so that each mistake is reported; None if there was any."""
    if not isinstance(table, dict):
        mistakes.append((key, f"must be a table, written as {written_as(key)}"))
        return None
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    before = len(mistakes)
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name not in fields:
            mistakes.append((f"{key}.{name}", f"unknown key{suggestion(name, fields)}"))
            continue
        nested = _table_of(fields[name].type)
        try:
            prepared = _prepare(kind, name, value, base)
            if nested is not None and not (isinstance(value, str) and str in _parts(fields[name].type)):
                _check_shape(fields[name].type, prepared, written_as(f"{key}.{name}[1]"))
                attribute = fields[name].name
                values[attribute] = _read_nested(nested, prepared, f"{key}.{name}", base, mistakes)
                continue
            values[fields[name].name] = msgspec.convert(prepared, fields[name].type)
        except msgspec.ValidationError as error:
            mistakes.append(in_our_words(f"{key}.{name}", str(error), fields[name].type, value))
        except ValueError as error:
            mistakes.append((f"{key}.{name}", str(error)))
    missing = (name for name, field in fields.items() if field.required and name not in table)
    mistakes.extend((f"{key}.{name}", "is missing") for name in missing)
    return kind(**values) if len(mistakes) == before else None


def _table_of(kind: Any) -> type[Struct] | None:
    """The struct of a value or of each member of a list; None if it is no struct."""
    return next((part for part in _parts(kind) if isinstance(part, type) and issubclass(part, Struct)), None)


def _parts(kind: Any) -> tuple[Any, ...]:
    """A type, and the types that it is made of."""
    return (kind, *typing.get_args(kind))


def _check_shape(kind: Any, value: object, written: str) -> None:
    """Refuse a list of tables where one is expected, and one where a list is. `ValueError`."""
    wants_list = typing.get_origin(kind) is tuple
    if wants_list and isinstance(value, dict):
        raise ValueError(f"must be written as {written}")
    if not wants_list and isinstance(value, list):
        raise ValueError(f"must be a table, written as {written[1:-1]}")


def _read_nested(
    kind: type[Struct], value: object, key: str, base: str, mistakes: list[Mistake]
) -> tuple[Any, ...] | Any:
    """A nested table, or a list of them; each mistake has its own key."""
    if isinstance(value, list):
        return tuple(_read_table(kind, row, f"{key}[{n}]", base, mistakes) for n, row in enumerate(value, 1))
    return _read_table(kind, value, key, base, mistakes)


def _hooks(value: object) -> object:
    """The commands of a hook as a list of tables; they may be written as one command, a list, or tables."""
    if not isinstance(value, list):
        raise ValueError(  # noqa: TRY004 (as all mistakes of values)
            'must be a command such as ["/usr/bin/sync", "-f"], or a list of commands'
        )
    if value and all(isinstance(word, str) for word in value):
        return [{"run": value}]
    return [{"run": command} if isinstance(command, list) else command for command in value]


def _prepare(kind: type[Struct], name: str, value: object, base: str) -> object:
    if kind is JobSettings:
        check_sources(name, value)
    if name in _PARSERS:
        return _PARSERS[name](value)
    if name in PATHS and kind is not SourceSettings and isinstance(value, str) and value:
        if value.startswith(("pkcs11:", "handle:")) and name in _PLACES:
            return value
        if value.startswith(CREDENTIAL) and name in _SECRETS:
            return value
        return _absolute(value, base)
    if name in _PATH_LISTS and isinstance(value, list):
        return [_absolute(path, base) if isinstance(path, str) and path else path for path in value]
    return value


_PARSERS: Mapping[str, Callable[[object], object]] = {
    **dict.fromkeys(_SIZES, parse_size),
    **dict.fromkeys(_LIMITS, limit_windows),
    **dict.fromkeys(_HOOKS, _hooks),
    **dict.fromkeys(COUNTS, check_count),
    **dict.fromkeys(SPANS, check_span),
    "limit": parse_rate,
    "max_restore_cost": parse_money,
    "max_month_cost": parse_money,
    "max_cost_per_month": parse_money,
    "check_age": parse_age,
    "timeout": parse_duration,
    "healthy_within": parse_duration,
    "idle_end": parse_duration,
    "absolute_end": parse_duration,
    "jitter": parse_jitter,
    "delay": parse_delay,
    "retry": parse_delays,
    "prune_grace": parse_grace,
    "lock_for": parse_lock,
    "lock_step": parse_lock,
    "compact_horizon": parse_horizon,
    "keep_runs": parse_keep_runs,
}


def _absolute(path: str, base: str) -> str:
    return os.path.normpath(os.path.join(base, os.path.expanduser(path)))
