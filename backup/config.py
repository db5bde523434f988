"""config.toml as frozen values: every mistake is named by its key, all mistakes are told at once."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from backup.errors import ConfigError, NightvaultError, UsageError
from backup.model import MIB, JobName, Tier, VaultName
from backup.schedule import Schedule, parse_schedule

DEFAULT_STATE_DIR = "/var/lib/nightvault"
SYSTEM_CONFIG = "/etc/nightvault/config.toml"
USER_CONFIG = ".config/nightvault/config.toml"
MOST_PARTS = 10_000  # Glacier, "Uploading large archives in parts"

_NO_CONFIG_ADVICE = (
    "copy config.example.toml there and change it, or name a file with --config; then `nightvault init`"
)
_SIZE = re.compile(r"([0-9]+)\s*(KiB|MiB|GiB)")
_UNITS = {"KiB": 1024, "MiB": MIB, "GiB": 1024 * MIB}
_SIZES = frozenset({"pack_size", "part_size"})
_PLACES = frozenset({"certificate", "private_key"})  # a token or TPM, if not a path
_PATHS = frozenset({"dir", "path", "certificate", "private_key", "intermediates", "passphrase_file"})
_KIND_KEYS = {"directory": {"path"}, "glacier": {"region", "vault", "account_id", "endpoint"}}
_TYPE_WORDS = {"int": "a whole number", "str": "a text", "bool": "true or false", "array": "a list"}
Mistake = tuple[str, str]  # key, sentence


def _shape(pattern: str, sentence: str) -> Meta:
    """A text that matches; `sentence` is what a reader is told of one that does not."""
    return Meta(pattern=rf"^(?:{pattern})\Z", description=sentence)


_ARN = "arn:aws[a-z-]*:rolesanywhere:[a-z0-9-]+:[0-9]{12}:"
_ARN_SENTENCE = "must look like arn:aws:rolesanywhere:REGION:ACCOUNT:"
_Name = _shape("[A-Za-z0-9_][A-Za-z0-9_.-]*", "must be of letters, digits and _.- and not begin with . or -")
_Kind = Annotated[str, _shape("directory|glacier", "must be directory or glacier; s3 is not in this version")]
_Text = Annotated[str, Meta(min_length=1, description="must not be empty")]
_Source = Annotated[str, _shape(r"/[^\x00]*", "must be an absolute path")]
_Region = Annotated[str, _shape("[a-z]{2,4}(-[a-z]+)+-[0-9]+", "must look like eu-central-1")]
_Account = Annotated[str, _shape("-|[0-9]{12}", 'must be 12 digits in quotes, or "-"')]
_Stored = Annotated[str, _shape("[A-Za-z0-9_.-]{1,255}", "must be 1 to 255 letters, digits and _.-")]
_Anchor = Annotated[str, _shape(_ARN + "trust-anchor/[A-Za-z0-9-]+", _ARN_SENTENCE + "trust-anchor/ID")]
_Profile = Annotated[str, _shape(_ARN + "profile/[A-Za-z0-9-]+", _ARN_SENTENCE + "profile/ID")]
_ROLE = r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]+"
_Role = Annotated[str, _shape(_ROLE, "must look like arn:aws:iam::ACCOUNT:role/NAME")]
_HTTP = r"http://(127\.0\.0\.1|localhost|\[::1\])(:[0-9]+)?"  # plain, so on this machine only
_SERVICE = rf"(https://[^/@\s]+|{_HTTP})(/\S*)?"
_Endpoint = Annotated[str, _shape(_SERVICE, "must be https://HOST, or http://127.0.0.1 (localhost, [::1])")]
_Session = Annotated[str, _shape("[A-Za-z0-9_+=,.@-]{2,64}", "must be 2 to 64 letters, digits and _+=,.@-")]
_URL = r"(sqlite:////|postgresql\+psycopg://).+"
_Url = Annotated[str, _shape(_URL, "must be sqlite:////PATH or postgresql+psycopg://…")]


class IdentitySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[identity]`: certificate (PEM, PKCS#12, `pkcs11:` URI) and key (these, TSS2 PEM, `handle:0x81…`).

    Paths are absolute. `intermediates` holds the chain above the certificate, `passphrase_file` what opens
    the key (a passphrase, PIN or password), `pkcs11_module` a token's library.
    """

    certificate: _Text
    private_key: _Text
    intermediates: _Text | None = None
    passphrase_file: _Text | None = None
    pkcs11_module: _Text | None = None


class RolesAnywhereSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[roles_anywhere]`: where the identity becomes credentials; `session_duration` in seconds."""

    region: _Region
    trust_anchor_arn: _Anchor
    profile_arn: _Profile
    session_duration: Annotated[int, Meta(ge=900, le=43200)] = 3600  # the bounds of CreateSession
    endpoint: _Endpoint | None = None
    role_session_name: _Session | None = None


class VaultSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[vault]]`; `kind` is "directory" (`path` is set) or "glacier" (`region` and `vault` are).

    Sizes are bytes; `account_id` "-" means the account of the credentials.
    """

    name: Annotated[VaultName, _Name]
    kind: _Kind
    path: _Text | None = None
    region: _Region | None = None
    vault: _Stored | None = None
    account_id: _Account = "-"
    endpoint: _Endpoint | None = None
    role_arn: _Role | None = None
    restore_role_arn: _Role | None = None
    prune_role_arn: _Role | None = None
    pack_size: int = 224 * MIB
    part_size: int = 32 * MIB
    tier: Tier = Tier.STANDARD


class JobSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[job]]`; `sources` are absolute, `schedule` and `timezone` as written."""

    name: Annotated[JobName, _Name]
    vault: VaultName
    sources: Annotated[tuple[_Source, ...], Meta(min_length=1, description="must name something to back up")]
    exclude: tuple[_Text, ...] = ()
    exclude_caches: bool = False
    one_file_system: bool = False
    schedule: str | None = None
    timezone: str | None = None
    compression_level: Annotated[int, Meta(ge=1, le=19)] = 3

    @property
    def when(self) -> Schedule | None:
        """The schedule, read; None when the job runs by hand only."""
        return None if self.schedule is None else parse_schedule(self.schedule, self.timezone or _zone_here())


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file: checked, with absolute paths."""

    path: str
    state_dir: str
    inventory_url: str
    identity: IdentitySettings | None = None
    roles_anywhere: RolesAnywhereSettings | None = None
    recipients: tuple[str, ...] = ()
    vaults: tuple[VaultSettings, ...] = ()
    jobs: tuple[JobSettings, ...] = ()

    def vault(self, name: str) -> VaultSettings:
        """The vault of that name; `UsageError` when there is none."""
        return _named(self.vaults, name, "vault", self.path)

    def job(self, name: str) -> JobSettings:
        """The job of that name; `UsageError` when there is none."""
        return _named(self.jobs, name, "job", self.path)

    def __repr__(self) -> str:
        """Its path alone: the inventory's address may carry a password."""
        return f"Config({self.path!r})"


_State = msgspec.defstruct("_State", [("dir", _Text, DEFAULT_STATE_DIR)])
_Inventory = msgspec.defstruct("_Inventory", [("url", _Url | None, None)])
_Encryption = msgspec.defstruct("_Encryption", [("recipients", tuple[str, ...], ())])

_SECTIONS: Mapping[str, type[Struct]] = {
    "state": _State,
    "inventory": _Inventory,
    "identity": IdentitySettings,
    "roles_anywhere": RolesAnywhereSettings,
    "encryption": _Encryption,
}
_LISTS: Mapping[str, type[Struct]] = {"vault": VaultSettings, "job": JobSettings}
_Named = TypeVar("_Named", VaultSettings, JobSettings)


def find_config(explicit: str | None, environ: Mapping[str, str]) -> str:
    """The config file to read: `--config`, `$NIGHTVAULT_CONFIG`, the system's, the user's, in this order.

    `ConfigError` when there is none; a file that was asked for by name is never passed over.
    """
    for origin, path in (("--config", explicit), ("$NIGHTVAULT_CONFIG", environ.get("NIGHTVAULT_CONFIG"))):
        if path and os.path.exists(path):
            return path
        if path:
            raise ConfigError(f"there is no config file {path} (from {origin})", advice=_NO_CONFIG_ADVICE)
    home = environ.get("HOME") or os.path.expanduser("~")
    places = (SYSTEM_CONFIG, os.path.join(home, USER_CONFIG))
    for path in places:
        if os.path.exists(path):
            return path
    raise ConfigError(f"there is no config file: looked for {' and '.join(places)}", advice=_NO_CONFIG_ADVICE)


def load_config(path: str) -> Config:
    """Read and check the file; `ConfigError` names every mistake by its key (tables counted from 1)."""
    path = os.path.abspath(path)
    document = _read_toml(path)
    mistakes: list[Mistake] = []
    config = _read_document(document, path, mistakes)
    if config is not None:
        mistakes.extend(_check(config, document))
    if mistakes or config is None:
        lines = [f"{key}: {sentence}" for key, sentence in mistakes]
        count = f"{len(lines)} mistakes\n  " if len(lines) > 1 else ""
        raise ConfigError(f"{path}: {count}" + "\n  ".join(lines))
    return config


def parse_size(value: object) -> int:
    """Bytes of 1048576 or "224MiB" (KiB, MiB, GiB); `ValueError` with a sentence for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError('must be a number of bytes or a text like "224MiB" (KiB, MiB or GiB)')
    return int(match[1]) * _UNITS[match[2]]


def _zone_here() -> str:
    import tzlocal

    try:
        return tzlocal.get_localzone_name() or "UTC"
    except LookupError as error:  # this machine says two things
        raise ConfigError(f"this machine's time zone is unclear: {error}", advice="set timezone") from error


def _suggestion(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _named(settings: Sequence[_Named], name: str, noun: str, path: str) -> _Named:
    known = {str(one.name): one for one in settings}
    if name not in known:
        there = f"there is {', '.join(known)}" if known else "there is none"
        raise UsageError(f"no {noun} named {name} in {path}: {there}{_suggestion(name, known)}")
    return known[name]


# From bytes to settings.


def _read_toml(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            text = file.read()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    try:
        return tomllib.loads(text.decode())
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}: line {line} is not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error


def _read_document(document: Mapping[str, Any], path: str, mistakes: list[Mistake]) -> Config | None:
    base, known = os.path.dirname(path), [*_SECTIONS, *_LISTS]
    unknown = [key for key in document if key not in known]
    mistakes.extend((key, f"unknown section{_suggestion(key, known)}") for key in unknown)
    read: dict[str, Any] = {"state": _State(), "inventory": _Inventory(), "encryption": _Encryption()}
    for key, kind in _SECTIONS.items():
        if key in document:
            read[key] = _read_table(kind, document[key], key, base, mistakes)
    for key, kind in _LISTS.items():
        tables = document.get(key, [])
        if not isinstance(tables, list):
            mistakes.append((key, f"must be written as [[{key}]]"))
            continue
        counted = enumerate(tables, 1)
        read[key] = tuple(_read_table(kind, one, f"{key}[{n}]", base, mistakes) for n, one in counted)
    if mistakes:
        return None
    return Config(
        path=path,
        state_dir=read["state"].dir,
        inventory_url=read["inventory"].url or f"sqlite:///{read['state'].dir}/inventory.sqlite",
        identity=read.get("identity"),
        roles_anywhere=read.get("roles_anywhere"),
        recipients=read["encryption"].recipients,
        vaults=read["vault"],
        jobs=read["job"],
    )


def _read_table(kind: type[Struct], table: object, key: str, base: str, mistakes: list[Mistake]) -> Any:
    """One table as `kind`, converted key by key so that each mistake is told; None if there was one."""
    if not isinstance(table, dict):
        mistakes.append((key, "must be a table"))
        return None
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    before = len(mistakes)
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name not in fields:
            mistakes.append((f"{key}.{name}", f"unknown key{_suggestion(name, fields)}"))
            continue
        try:
            values[name] = msgspec.convert(_prepare(name, value, base), fields[name].type)
        except msgspec.ValidationError as error:
            mistakes.append(_in_our_words(f"{key}.{name}", str(error), fields[name].type, value))
        except ValueError as error:
            mistakes.append((f"{key}.{name}", str(error)))
    missing = (name for name, field in fields.items() if field.required and name not in table)
    mistakes.extend((f"{key}.{name}", "is missing") for name in missing)
    return kind(**values) if len(mistakes) == before else None


def _prepare(name: str, value: object, base: str) -> object:
    if name in _SIZES:
        return parse_size(value)
    if name in _PATHS and isinstance(value, str) and value:
        if value.startswith(("pkcs11:", "handle:")) and name in _PLACES:
            return value
        return os.path.normpath(os.path.join(base, os.path.expanduser(value)))
    return value


def _in_our_words(key: str, message: str, kind: Any, value: object) -> Mistake:
    """msgspec's sentence without the types of Python, its place in the list moved into the key."""
    message, _, place = message.partition(" - at `$")
    key += "".join(f"[{int(index) + 1}]" for index in re.findall(r"\d+", place))
    if kind is Tier:
        return key, f"must be one of {', '.join(Tier)}{_suggestion(str(value), Tier)}"
    if "matching regex" in message or "of length" in message:
        return key, next(_descriptions(kind, deepest="[" in place))
    message = re.sub(r" \| `?null`?", "", message)
    message = re.sub(r"`(\w+)`?", lambda word: _TYPE_WORDS.get(word[1], word[1]), message)
    return key, message.replace("Expected", "must be").replace(", got", ", not")


def _descriptions(kind: Any, *, deepest: bool) -> Iterator[str]:
    """The sentences in an annotated type, outermost first, or innermost first for a member of a list."""
    inner = [text for part in typing.get_args(kind) for text in _descriptions(part, deepest=deepest)]
    own = [meta.description for meta in getattr(kind, "__metadata__", ()) if meta.description]
    yield from [*inner, *own] if deepest else [*own, *inner]


# What the settings must be, taken together.


def _check(config: Config, document: Mapping[str, Any]) -> Iterator[Mistake]:
    yield from _check_identity(config)
    yield from _check_recipients(config.recipients)
    for key, names in (("vault", [v.name for v in config.vaults]), ("job", [j.name for j in config.jobs])):
        twice = [n for n, name in enumerate(names) if name in names[:n]]
        yield from ((f"{key}[{n + 1}].name", f"another {key} is named {names[n]}") for n in twice)
    for number, vault in enumerate(config.vaults, 1):
        for name, sentence in _check_vault(vault, document["vault"][number - 1], config):
            yield f"vault[{number}].{name}", sentence
    for number, job in enumerate(config.jobs, 1):
        for name, sentence in _check_job(job, [vault.name for vault in config.vaults]):
            yield f"job[{number}].{name}", sentence


def _check_recipients(recipients: Sequence[str]) -> Iterator[Mistake]:
    for number, text in enumerate(recipients, 1):
        from backup.format.keys import Recipient

        try:
            Recipient.from_text(text)
        except NightvaultError as error:
            yield f"encryption.recipients[{number}]", str(error)
        if text in recipients[: number - 1]:
            yield f"encryption.recipients[{number}]", "is written twice"


def _check_identity(config: Config) -> Iterator[Mistake]:
    exchange = config.roles_anywhere
    if exchange is None:
        return
    if config.identity is None:
        yield "identity", "is missing: [roles_anywhere] needs a certificate and its private key"
    anchor = exchange.trust_anchor_arn.split(":")
    for key in ("trust_anchor_arn", "profile_arn"):
        _, _, _, region, account, _ = getattr(exchange, key).split(":")
        if region != exchange.region:
            yield f"roles_anywhere.{key}", f"is in {region}, but roles_anywhere.region is {exchange.region}"
        if account != anchor[4]:
            yield f"roles_anywhere.{key}", f"is of account {account}, but the trust anchor of {anchor[4]}"


def _check_vault(vault: VaultSettings, written: Mapping[str, Any], config: Config) -> Iterator[Mistake]:
    for kind, keys in _KIND_KEYS.items():
        if kind != vault.kind:
            yield from ((name, f"is for vaults of kind {kind}") for name in sorted(keys & written.keys()))
    needed = ["path"] if vault.kind == "directory" else ["region", "vault"]
    if vault.kind == "glacier" and config.identity is not None:
        needed.append("role_arn")
    missing = [key for key in needed if getattr(vault, key) is None]
    yield from ((key, f"is missing: a {vault.kind} vault needs it") for key in missing)
    part = vault.part_size
    if part < MIB or part > 4096 * MIB or part & (part - 1):
        yield "part_size", "must be 1, 2, 4, 8, … or 4096 MiB"
    elif not MIB <= vault.pack_size <= part * MOST_PARTS:
        yield "pack_size", f"must be at least 1 MiB and at most {MOST_PARTS} times part_size"


def _check_job(job: JobSettings, vaults: Sequence[str]) -> Iterator[Mistake]:
    if job.vault not in vaults:
        yield "vault", f"there is no vault {job.vault}{_suggestion(job.vault, vaults)}"
    try:
        parse_schedule(job.schedule or "every 1d", job.timezone or "UTC")
    except ConfigError as error:
        yield "timezone" if "time zone" in str(error) else "schedule", str(error)
