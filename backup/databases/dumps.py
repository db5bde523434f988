"""The databases of a job as streams: one, or all that its server has when a run begins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from msgspec import Struct

from backup.databases.engine import GLOBALS, DumpChoice, Engine, path_of
from backup.databases.mariadb import MariaDB
from backup.databases.postgresql import PostgreSQL
from backup.databases.redis import Redis
from backup.databases.server import Server
from backup.databases.sqlite import SQLite
from backup.source.command import RunningCommand
from backup.source.streams import TOP, OpenStream, Stop

_ENGINES: Final[Mapping[str, type[PostgreSQL | MariaDB | Redis | SQLite]]] = {
    "postgresql": PostgreSQL,
    "mariadb": MariaDB,
    "mysql": MariaDB,
    "redis": Redis,
    "sqlite": SQLite,
}
KINDS: Final = tuple(_ENGINES)
"""The kinds of databases."""
Program = tuple[tuple[str, ...], float]
"""A command around a dump, and the seconds that it may take."""


class Databases(Struct, frozen=True, kw_only=True):
    """One database of a server by name, or all of them; a `StreamList`.

    `before` and `after` are commands around each dump; those after it are run whatever came of it.
    """

    server: Server
    choice: DumpChoice
    name: str
    is_all: bool
    has_globals: bool
    before: tuple[Program, ...] = ()
    after: tuple[Program, ...] = ()

    @property
    def engine(self) -> Engine:
        """The engine of the server."""
        return engine_of(self.server, self.choice)

    @property
    def path(self) -> bytes:
        """The path of its dump, or the directory of those of all."""
        kind = self.server.kind
        return TOP + b"/databases/" + kind.encode() if self.is_all else path_of(kind, self.name)

    def streams(self, stop: Stop) -> Sequence[Dump]:
        """The globals first, then each database."""
        engine = self.engine
        names = engine.listed(stop) if self.is_all else [self.name]
        globals_ = [GLOBALS] if self.has_globals and engine.has_globals else []
        kind = self.server.kind
        return [
            *(Dump(self, name, path_of(kind, "globals", ".sql")) for name in globals_),
            *(Dump(self, name, path_of(kind, name)) for name in names),
        ]

    def commands(self) -> Iterator[tuple[str, ...]]:
        """The commands that dump it, as `config show` prints them; of all databases with a placeholder."""
        engine = self.engine
        if self.has_globals and engine.has_globals:
            yield engine.shown(GLOBALS)
        yield engine.shown("NAME" if self.is_all else self.name)


class Dump(Struct, frozen=True):
    """The dump of one database, or of the globals; a `Stream`."""

    of: Databases
    name: str
    path: bytes

    @contextmanager
    def open(self, stop: Stop) -> Iterator[OpenStream]:
        """Begin to dump it, after the commands before."""
        try:
            _run(self.of.before, stop)
            with self.of.engine.dumping(self.name, stop) as opened:
                yield opened
        finally:
            _run(self.of.after, lambda: False)


def engine_of(server: Server, choice: DumpChoice | None = None) -> Engine:
    """The engine of a server."""
    return _ENGINES[server.kind](server, choice or DumpChoice())


def _run(programs: Sequence[Program], stop: Stop) -> None:
    """Run commands one after the other; `FileUnreadableError` for the first that fails."""
    for words, timeout in programs:
        with RunningCommand(words, timeout, {}, None, stop, allow_empty=True) as command:
            while command.some(memoryview(bytearray(4096))):
                pass
            command.finish()
