"""Read the accounts file (TOML), naming each mistake by its key; read it again when it or a named file
changes."""

from __future__ import annotations

import os
import re
import sys
import threading
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from cryptography import x509

from backup.emulator.core.errors import EmulatorError

from .accounts import AccessKey, Account, Accounts, Profile, Role, TrustAnchor
from .certificates import check_anchor
from .policy import Policy, parse_policy

T = TypeVar("T")

MAPPED_FIELDS = ("x509Subject", "x509Issuer", "x509SAN")
SPECIFIER_LIMIT = 60  # characters (PutAttributeMapping)
ANCHOR_LIMIT = 2  # certificates and CRLs per trust anchor (Roles Anywhere quotas, both fixed)


@dataclass(slots=True)
class Reader:
    """Reads files relative to a folder, and remembers every file that it read."""

    folder: Path
    files: list[Path] = field(default_factory=list)

    def text(self, value: str, where: str, *, inline: str) -> str:
        """The value itself if it begins with `inline`, else the text of the file that it names."""
        if value.lstrip().startswith(inline):
            return value
        path = self.folder / value
        self.files.append(path)
        try:
            return path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise EmulatorError(f"{where}: cannot read {path}: {error}.") from error


class Table:
    """One TOML table; `where` names it in messages; `done` refuses the keys that were not read."""

    def __init__(self, raw: Mapping[str, object], where: str) -> None:
        self._raw = dict(raw)
        self.where = where

    def name(self, key: str) -> str:
        """The full name of a key."""
        return f"{self.where}.{key}" if self.where else key

    def _take(self, key: str, kind: type, words: str, default: object) -> object:
        value = self._raw.pop(key, default)
        if value is ...:
            raise EmulatorError(f"{self.name(key)} is missing: give {words}.")
        if value is not default and (
            not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)
        ):
            raise EmulatorError(f"{self.name(key)} must be {words}.")
        return value

    def string(self, key: str) -> str:
        """A required string."""
        value = self._take(key, str, "a string", ...)
        return value if isinstance(value, str) else ""

    def optional_string(self, key: str) -> str | None:
        """A string or None."""
        value = self._take(key, str, "a string", None)
        return value if isinstance(value, str) else None

    def strings(self, key: str) -> list[str]:
        """A list of strings, empty when absent."""
        values = self._take(key, list, "a list of strings", [])
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise EmulatorError(f"{self.name(key)} must be a list of strings.")
        return values

    def flag(self, key: str, *, default: bool) -> bool:
        """True or false."""
        return bool(self._take(key, bool, "true or false", default))

    def seconds(self, key: str, *, default: int, low: int, high: int) -> int:
        """A number of seconds within bounds."""
        value = self._take(key, int, "a number of seconds", default)
        if not isinstance(value, int) or not low <= value <= high:
            raise EmulatorError(f"{self.name(key)} must lie between {low} and {high} seconds.")
        return value

    def moment_ms(self, key: str) -> int | None:
        """A date with an offset, as a TOML date or as text, in ms since the epoch."""
        value = self._raw.pop(key, None)
        if value is None:
            return None
        try:
            moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        except ValueError:
            moment = datetime.min  # noqa: DTZ901 (no offset: refused below)
        if moment.tzinfo is None:
            raise EmulatorError(
                f"{self.name(key)} must be a date with an offset, such as 2026-01-02T03:04:05Z."
            )
        return int(moment.astimezone(UTC).timestamp() * 1000)

    def tables(self, key: str) -> Iterator[Table]:
        """An array of tables, empty when absent."""
        values = self._take(key, list, "an array of tables", [])
        for number, value in enumerate(values if isinstance(values, list) else []):
            if not isinstance(value, dict):
                raise EmulatorError(f"{self.name(key)}[{number}] must be a table.")
            yield Table(value, f"{self.name(key)}[{number}]")

    def has(self, key: str) -> bool:
        """Whether the key is there."""
        return key in self._raw

    def done(self) -> None:
        """Raise `EmulatorError` for keys that were not read."""
        if self._raw:
            raise EmulatorError(f"{self.name(min(self._raw))} is not a key of the accounts file.")


def read_accounts(path: Path) -> tuple[Accounts, list[Path]]:
    """The accounts, and every file that they were read from; EmulatorError with one sentence for a
    mistake."""
    reader = Reader(path.parent, [path])
    try:
        raw = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise EmulatorError(f"Cannot read the accounts file {path}: {error}.") from error
    except tomllib.TOMLDecodeError as error:
        raise EmulatorError(f"The accounts file {path} is not TOML: {error}.") from error
    top = Table(raw, "")
    accounts = tuple(_account(table, reader) for table in top.tables("account"))
    top.done()
    if not accounts:
        raise EmulatorError(f"The accounts file {path} has no [[account]].")
    _check_distinct(accounts)
    return Accounts(accounts), reader.files


def _check_distinct(accounts: Iterable[Account]) -> None:
    seen: set[str] = set()
    for account in accounts:
        names = [
            account.account_id,
            *(key.access_key_id for key in account.keys),
            *(anchor.arn for anchor in account.trust_anchors),
            *(profile.arn for profile in account.profiles),
            *(role.arn for role in account.roles),
        ]
        for name in names:
            if name in seen:
                raise EmulatorError(f"{name} is given twice in the accounts file.")
            seen.add(name)


def _account(table: Table, reader: Reader) -> Account:
    account_id = table.string("id")
    if not re.fullmatch(r"[0-9]{12}", account_id):
        raise EmulatorError(f"{table.name('id')} must be 12 digits.")
    account = Account(
        account_id,
        keys=tuple(_key(entry, account_id, reader) for entry in table.tables("key")),
        trust_anchors=tuple(
            _trust_anchor(entry, account_id, reader) for entry in table.tables("trust_anchor")
        ),
        profiles=tuple(_profile(entry, account_id) for entry in table.tables("profile")),
        roles=tuple(_role(entry, account_id, reader) for entry in table.tables("role")),
    )
    table.done()
    return account


def _key(table: Table, account_id: str, reader: Reader) -> AccessKey:
    policy = table.optional_string("policy")
    key = AccessKey(
        account_id,
        table.string("access_key_id"),
        table.string("secret_access_key"),
        table.optional_string("session_token"),
        table.moment_ms("expires_at"),
        table.optional_string("user"),
        None if policy is None else _policy(policy, table.name("policy"), reader),
    )
    if (key.user is None) != (key.policy is None):
        raise EmulatorError(f"{table.where}: a user needs a policy, and only a user has one.")
    table.done()
    return key


def _trust_anchor(table: Table, account_id: str, reader: Reader) -> TrustAnchor:
    arn = _arn(table, "rolesanywhere", account_id)
    certificates = _load(table, "certificates", reader, x509.load_pem_x509_certificates)
    crls = _load(table, "crls", reader, lambda pem: [x509.load_pem_x509_crl(pem)])
    if not certificates:
        raise EmulatorError(f"{table.name('certificates')} must name at least one PEM file.")
    for certificate in certificates:
        check_anchor(certificate, table.name("certificates"))
    anchor = TrustAnchor(
        account_id,
        arn,
        certificates,
        crls,
        table.flag("enabled", default=True),
        table.flag("lenient", default=False),
    )
    table.done()
    return anchor


def _load(table: Table, key: str, reader: Reader, load: Callable[[bytes], list[T]]) -> tuple[T, ...]:
    loaded: list[T] = []
    for value in table.strings(key):
        pem = reader.text(value, table.name(key), inline="-----BEGIN")
        try:
            loaded += load(pem.encode())
        except ValueError as error:
            raise EmulatorError(f"{table.name(key)}: {error}.") from error
    if len(loaded) > ANCHOR_LIMIT:
        raise EmulatorError(f"{table.name(key)} may hold at most {ANCHOR_LIMIT}.")
    return tuple(loaded)


def _profile(table: Table, account_id: str) -> Profile:
    profile = Profile(
        account_id,
        _arn(table, "rolesanywhere", account_id),
        tuple(table.strings("role_arns")),
        table.seconds("duration_seconds", default=3600, low=900, high=43200),
        table.flag("accept_role_session_name", default=False),
        table.flag("enabled", default=True),
        _mappings(table),
        table.flag("ignores_unmappable", default=False),
        table.optional_string("session_policy"),
    )
    if profile.session_policy is not None:
        parse_policy(profile.session_policy, table.name("session_policy"))
    table.done()
    return profile


def _mappings(table: Table) -> tuple[tuple[str, str], ...] | None:
    """The rules in `attribute_mappings = ["x509Subject=CN", "x509SAN=Name/*"]`; None means the default
    rules."""
    if not table.has("attribute_mappings"):
        return None
    rules = []
    for text in table.strings("attribute_mappings"):
        where, equals, specifier = text.partition("=")
        if not equals or where not in MAPPED_FIELDS or not 0 < len(specifier) <= SPECIFIER_LIMIT:
            raise EmulatorError(
                f"{table.name('attribute_mappings')}: {text!r} is not FIELD=SPECIFIER with a field of "
                f"{', '.join(MAPPED_FIELDS)}."
            )
        rules.append((where, "Name/*" if specifier in {"Name", "Name/"} else specifier))
    return tuple(rules)


def _role(table: Table, account_id: str, reader: Reader) -> Role:
    policy = table.optional_string("policy")
    role = Role(
        account_id,
        _arn(table, "iam", account_id),
        table.seconds("max_session_duration", default=3600, low=3600, high=43200),
        _policy(table.string("trust_policy"), table.name("trust_policy"), reader),
        None if policy is None else _policy(policy, table.name("policy"), reader),
    )
    table.done()
    return role


def _policy(value: str, where: str, reader: Reader) -> Policy:
    return parse_policy(reader.text(value, where, inline="{"), where)


def _arn(table: Table, service: str, account_id: str) -> str:
    arn = table.string("arn")
    parts = arn.split(":", 5)
    if len(parts) != 6 or parts[0] != "arn" or parts[2] != service or parts[4] != account_id or not parts[5]:
        raise EmulatorError(f"{table.name('arn')} must be an ARN of {service} in account {account_id}.")
    return arn


Fingerprint = tuple[tuple[str, int, int, int], ...]


class AccountsFile:
    """The accounts in the file, read again when it changes; after a mistake the last good ones stay in
    force."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._accounts, self._files = read_accounts(path)
        self._seen = self._fingerprint()

    def current(self) -> Accounts:
        """The accounts, read again if a file changed since the last call."""
        with self._lock:
            seen = self._fingerprint()
            if seen != self._seen:
                self._seen = seen
                self._reload()
            return self._accounts

    def _reload(self) -> None:
        try:
            self._accounts, self._files = read_accounts(self._path)
        except EmulatorError as error:
            print(f"{error} The accounts stay as they were.", file=sys.stderr, flush=True)  # noqa: T201
        self._seen = self._fingerprint()

    def _fingerprint(self) -> Fingerprint:
        return tuple(_stamp(path) for path in self._files)


def _stamp(path: Path) -> tuple[str, int, int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return str(path), 0, 0, 0
    return str(path), found.st_mtime_ns, found.st_size, found.st_ino
