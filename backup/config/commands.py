"""The settings of a job's hooks, commands, databases and containers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from backup.config.shapes import NAME, NAME_SENTENCE, Command, Text, shape

_STEP = r"(?!\.{1,2}(/|\Z))[^/\x00]{1,255}"
STREAM_NAME = rf"{_STEP}(/{_STEP})*"
_Stream = Annotated[str, shape(STREAM_NAME, "must be a name such as shop.dump or db/shop.dump")]
_Variable = Annotated[str, shape(r"[^=\x00]+", "must be names of variables, without = and NUL")]
_Value = Annotated[str, shape(r"[^\x00]*", "must be values without NUL")]
_Engine = Annotated[
    str,
    shape("postgresql|mariadb|mysql|sqlite|redis", "must be postgresql, mariadb, mysql, sqlite or redis"),
]
_Program = Annotated[str, shape("/[^\x00]*", "must be an absolute path")]
_Socket = Annotated[str, shape(r"unix:///[^\x00]*", "must look like unix:///run/docker.sock")]
_Port = Annotated[int, Meta(ge=1, le=65535)]
_Timeout = Annotated[int, Meta(ge=1, le=604_800)]


class HookSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One command of a hook: the program and its words, and the seconds that it may take."""

    run: Command
    timeout: Annotated[int, Meta(ge=1, le=86400)] | None = None


class HooksSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[job.hooks]`: commands before and after a backup; `timeout` (seconds) is for those without one."""

    before: tuple[HookSettings, ...] = ()
    after: tuple[HookSettings, ...] = ()
    on_failure: tuple[HookSettings, ...] = ()
    finally_: tuple[HookSettings, ...] = msgspec.field(default=(), name="finally")
    timeout: Annotated[int, Meta(ge=1, le=86400)] = 3600


class CommandSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[job.command]]`: its output is saved as `/.streams/NAME`; `timeout` in seconds.

    Without `allow_empty` a command that prints nothing has failed.
    """

    name: _Stream
    run: Command
    timeout: Annotated[int, Meta(ge=1, le=604_800)] = 43_200
    environment: dict[_Variable, _Value] = {}
    user: Text | None = None
    allow_empty: bool = False


class ServerSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A server of databases, and how its clients are run; of kind sqlite it is a file, `path`.

    `host` is a name, or the directory (PostgreSQL) or file of a socket. `container`: the clients are run in
    it. `run_as`: a user of this machine, or in the container. `programs`: the directory of the clients.
    """

    kind: _Engine
    host: Text | None = None
    port: _Port | None = None
    user: Text | None = None
    password_file: Text | None = None
    container: Text | None = None
    run_as: Text | None = None
    programs: _Program | None = None
    path: Text | None = None
    timeout: _Timeout = 43_200


class ConnectionSettings(ServerSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[connection]]`: a server that dumps may be restored to, by its name."""

    name: Annotated[str, shape(NAME, NAME_SENTENCE)]


class DatabaseHooks(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[job.database.hooks]`: commands around its dumps; `timeout` (seconds) is for those without one."""

    before: tuple[HookSettings, ...] = ()
    after: tuple[HookSettings, ...] = ()
    timeout: Annotated[int, Meta(ge=1, le=86400)] = 3600


class DatabaseSettings(ServerSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[job.database]]`: a database, or "all" of its server, each saved as a stream of its own.

    `globals`: also roles and their like, which belong to no database; None: of "all".
    """

    name: Text
    options: tuple[Text, ...] = ()
    exclude_tables: tuple[Text, ...] = ()
    only_schemas: tuple[Text, ...] = ()
    globals: bool | None = None
    hooks: DatabaseHooks = DatabaseHooks()

    @property
    def is_all(self) -> bool:
        """Whether the databases are listed when a run begins."""
        return self.name == "all" and self.kind not in {"sqlite", "redis"}


class ContainersSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[job.containers]`: the API of Docker or Podman; `volumes`: also those of these names or patterns.

    `timeout`: the seconds that a command of a label may take. `healthy_within`: seconds, too.
    """

    socket: _Socket
    volumes: tuple[Text, ...] = ()
    timeout: Annotated[int, Meta(ge=1, le=86400)] = 3600
    healthy_within: Annotated[int, Meta(ge=1, le=86400)] = 120


_OF_SERVERS = frozenset({"host", "port", "user", "password_file", "container"})
_KEYS_OF: Mapping[str, frozenset[str]] = {
    "postgresql": _OF_SERVERS | {"exclude_tables", "only_schemas", "globals", "options"},
    "mariadb": _OF_SERVERS | {"exclude_tables", "globals", "options"},
    "mysql": _OF_SERVERS | {"exclude_tables", "options"},
    "redis": _OF_SERVERS | {"options"},
    "sqlite": frozenset({"path"}),
}
_OF_ALL = frozenset().union(*_KEYS_OF.values())
_NO_PROGRAM = frozenset({"run_as", "programs"})  # a SQLite file is copied by this program itself


def check_server(settings: ServerSettings) -> Iterator[tuple[str, str]]:
    """Return the mistakes of a server, by key: what another kind has, a file that is missing."""
    keys = _KEYS_OF[settings.kind] | (frozenset() if settings.kind == "sqlite" else _NO_PROGRAM)
    for field in msgspec.structs.fields(type(settings)):
        of_kinds = field.name in _OF_ALL | _NO_PROGRAM
        if of_kinds and field.name not in keys and getattr(settings, field.name) != field.default:
            yield field.name, f"is not for kind {settings.kind}"
    if settings.kind == "sqlite" and settings.path is None:
        yield "path", "is missing: kind sqlite needs the path of its file"


def check_databases(databases: Sequence[DatabaseSettings]) -> Iterator[tuple[str, str]]:
    """Return the mistakes of a job's databases, by key; of two with one name the second is wrong."""
    seen: set[tuple[Any, ...]] = set()
    for number, database in enumerate(databases, 1):
        for key, sentence in check_server(database):
            yield f"database[{number}].{key}", sentence
        if (database.kind, database.name) in seen:
            yield f"database[{number}].name", "another database of this kind has that name: use another job"
        elif (database.kind, "all") in seen and database.kind not in {"sqlite", "redis"}:
            yield f"database[{number}].name", "is one of all, which the job saves already"
        seen.add((database.kind, database.name))
