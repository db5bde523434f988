"""The part of the config that the web page gets: what it shows, and no secret, command, address or role.

The daemon writes it as `page.toml` into the state directory, for root alone (0600); systemd hands it to the
page's process. Settings that are not listed here are left out, so a new setting is left out by default.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import tomlkit

from backup.config import Config
from backup.config.limits import deletes_here
from backup.config.reading import config_of, read_document
from backup.files import write_durably

PAGE_CONFIG: Final = "page.toml"

_VAULT: Final = """
name kind path region vault bucket prefix storage_class catalog_class retrieval_days endpoint pack_size
part_size tier deletes check check_sample prune prune_grace compact compact_horizon keep_within
lock lock_for lock_step lock_forever extend
"""
_JOB: Final = (
    "name vault schedule timezone jitter catch_up retry retention forget alarm_on_unusual may_shrink"
)
_TABLES: Final[Mapping[str, str]] = {
    "state": "dir",
    "inventory": "url",
    "prices": "file",
    "restore": "max_restore_cost link on_capacity",
    "monitoring": "log min_free check_age max_month_cost",
}
_LISTS: Final[Mapping[str, str]] = {"vault": _VAULT, "job": _JOB}
_WHOLE: Final = ("web", "retention", "drill")
_FILES: Final = frozenset({"dir", "file", "path", "certificate", "private_key", "accounts"})
_NO_KEY: Final = "/nonexistent"  # a config with a certificate needs a key
_NO_BUCKET: Final = "none-yet"  # of a vault that is not set up yet
_NO_ROLE: Final = "arn:aws:iam::000000000000:role/none"
_ANY_SOURCE: Final = "/"


def page_document(config: Config) -> dict[str, Any]:
    """Return the config for the page, as TOML. `ConfigError` if the file cannot be read any more."""
    found = _for_page(read_document(config.path), os.path.dirname(config.path))
    settings = {vault.name: vault for vault in config.vaults}
    for vault in found.get("vault", ()):  # it follows from roles, which the page has not
        if vault["name"] in settings:
            vault["deletes"] = "here" if deletes_here(config, settings[vault["name"]]) else "elsewhere"
    return found


def write_page_config(config: Config) -> None:
    """Write it into the state directory. `ConfigError`, `OSError`."""
    document = page_document(config)
    path = os.path.join(config.state_dir, PAGE_CONFIG)
    config_of(document, path)  # it must be a config still
    write_durably(path, tomlkit.dumps(document).encode(), mode=0o600)


def remove_page_config(config: Config) -> None:
    """Remove it, if `[web]` is no longer configured."""
    with suppress(OSError):
        os.unlink(os.path.join(config.state_dir, PAGE_CONFIG))


def _for_page(whole: Mapping[str, Any], base: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, keys in _TABLES.items():
        if name in whole:
            found[name] = _only(whole[name], keys, base)
    for name in _WHOLE:
        if name in whole:
            found[name] = _placed(whole[name], base)
    for name, keys in _LISTS.items():
        if name in whole:
            found[name] = [_only(table, keys, base) for table in whole[name]]
    for job in found.get("job", ()):
        job["sources"] = [_ANY_SOURCE]  # a config needs some; the page shows those of snapshots
    _with_identity(found, whole, base)
    _with_buckets(found)
    return found


def _with_identity(found: dict[str, Any], whole: Mapping[str, Any], base: str) -> None:
    """Add the certificate, whose dates are shown; of one on a token nothing is."""
    certificate = whole.get("identity", {}).get("certificate", "")
    if not certificate or ":" in certificate.partition("/")[0]:
        return
    found["identity"] = _placed({"certificate": certificate}, base) | {"private_key": _NO_KEY}
    for vault, written in zip(found.get("vault", ()), whole.get("vault", ()), strict=True):
        if "role_arn" in written:  # else it is not set up yet, which the page says
            vault["role_arn"] = _NO_ROLE


def _with_buckets(found: Mapping[str, Any]) -> None:
    """Name the buckets that have no name yet: without a certificate a config needs one."""
    for vault in found.get("vault", ()) if "identity" not in found else ():
        if vault.get("kind") == "s3":
            vault.setdefault("bucket", _NO_BUCKET)


def _only(table: Mapping[str, Any], keys: str, base: str) -> dict[str, Any]:
    wanted = frozenset(keys.split())
    found: dict[str, Any] = _placed({name: value for name, value in table.items() if name in wanted}, base)
    return found


def _placed(value: Any, base: str) -> Any:
    """Return the same values with absolute paths, as they are read from another place."""
    if isinstance(value, list):
        return [_placed(part, base) for part in value]
    if not isinstance(value, dict):
        return value
    return {name: _absolute(part, base) if name in _FILES else part for name, part in value.items()}


def _absolute(path: Any, base: str) -> Any:
    is_path = isinstance(path, str) and path
    return os.path.normpath(os.path.join(base, os.path.expanduser(path))) if is_path else path
