"""MariaDB and MySQL: `mariadb-dump` or `mysqldump` in one transaction, with routines, events and triggers.

No other session sees what that transaction sees, so rows are counted before and after the dump.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from msgspec import Struct

from backup.databases.engine import GLOBALS, CheckedDump, DumpChoice, Rows
from backup.databases.loading import Loading, OnlyTables, Wish, loaded_by, telling
from backup.databases.server import Server
from backup.source.read import FileUnreadableError
from backup.source.streams import DumpNote, NotedStream, Stop

_ITS_OWN: Final = frozenset({"information_schema", "performance_schema", "sys", "mysql"})
_LIST: Final = "SELECT HEX(SCHEMA_NAME) FROM information_schema.SCHEMATA;"
_KNOWN: Final = "SELECT HEX(VERSION()), HEX(@@character_set_database);"
_TABLES: Final = """SELECT HEX(TABLE_NAME) FROM information_schema.TABLES
                    WHERE TABLE_SCHEMA = DATABASE() AND TABLE_TYPE = 'BASE TABLE' ORDER BY TABLE_NAME;"""
_SNAPSHOT: Final = (
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ; START TRANSACTION WITH CONSISTENT SNAPSHOT;"
)
_CONTENT: Final = (("TABLES", "TABLE_SCHEMA"), ("ROUTINES", "ROUTINE_SCHEMA"))
_DUMP: Final = (
    "--single-transaction",
    "--routines",
    "--events",
    "--triggers",
    "--hex-blob",
    "--skip-dump-date",
)


class MariaDB(Struct, frozen=True):
    """A server of MariaDB or, by its kind, of MySQL; and what is wanted of its databases."""

    server: Server
    choice: DumpChoice = DumpChoice()

    @property
    def has_globals(self) -> bool:
        """Whether accounts can be dumped: MySQL's client cannot."""
        return self.server.kind == "mariadb"

    def listed(self, stop: Stop) -> list[str]:
        """The names of its databases, without those of the server itself."""
        return sorted({name for (name,) in _rows(self.server.ask(self.client(), _LIST, stop))} - _ITS_OWN)

    def shown(self, name: str) -> tuple[str, ...]:
        """The command that dumps a database, or the accounts; with patterns of tables as in the config."""
        tables = [f"--ignore-table={name}.{table}" for table in self.choice.exclude_tables]
        return self._dump(name, tables)

    @contextmanager
    def dumping(self, name: str, stop: Stop) -> Iterator[NotedStream]:
        """Dump a database, and count before and after."""
        ends = b"\n-- Dump completed" if not self.choice.options else b""
        if name == GLOBALS:
            ((version, charset),) = _rows(self.server.ask(self.client(), _KNOWN, stop))
            note = DumpNote(self.server.kind, name, version, charset, (self.server.kind,))
            with self.server.running(self._dump(name, ()), stop) as dump:
                yield CheckedDump(dump, lambda: note, ends=ends)
            return
        client = self.client(name)
        (version, charset), *found = _rows(self.server.ask(client, _KNOWN + _TABLES, stop))
        every = [table for (table,) in found]
        tables = [table for table in every if self.choice.has(name, table)]
        left_out = [f"--ignore-table={name}.{table}" for table in every if table not in tables]
        before = self._count(client, tables, stop)

        def noted() -> DumpNote:
            after = self._count(client, tables, stop)
            pairs = zip(before, after, strict=True)
            rows = tuple(
                (table, min(counts), max(counts)) for table, counts in zip(tables, pairs, strict=True)
            )
            return DumpNote(self.server.kind, name, version, charset, (self.server.kind, name), rows)

        with self.server.running(self._dump(name, left_out), stop) as dump:
            yield CheckedDump(dump, noted, ends=ends)

    def holds(self, name: str, stop: Stop) -> str:
        """Count a database's tables, views and routines."""
        text = name.encode("utf-8", "surrogateescape").hex()
        asked = [
            f"SELECT COUNT(*) FROM information_schema.{table} WHERE HEX({column}) = '{text.upper()}';"
            for table, column in _CONTENT
        ]
        counts = self.server.ask(self.client(), "\n".join(asked), stop).split()
        count = sum(map(int, counts))
        return f"{count} tables, views or routines" if count else ""

    def rows(self, name: str, stop: Stop) -> Rows:
        """The rows of each table."""
        tables = [table for (table,) in _rows(self.server.ask(self.client(name), _TABLES, stop))]
        counts = self._count(self.client(name), tables, stop)
        return tuple((table, count, count) for table, count in zip(tables, counts, strict=True))

    @contextmanager
    def loading(self, name: str, wish: Wish, stop: Stop) -> Iterator[Loading]:
        """The client reads the dump into a new database; for accounts it goes on after errors."""
        if name == GLOBALS:
            with loaded_by(self.server, self._words("", "--force"), stop) as loading:
                yield loading
            return
        drop = "" if wish.tables or not wish.replace else f"DROP DATABASE IF EXISTS {quoted(name)};\n"
        charset = f" CHARACTER SET {wish.charset}" if re.fullmatch("[A-Za-z0-9_]+", wish.charset) else ""
        with telling():
            made = f"{drop}CREATE DATABASE IF NOT EXISTS {quoted(name)}{charset};"
            self.server.ask(self.client(), made, stop)
        with loaded_by(self.server, self.client(name), stop) as loading:
            yield OnlyTables(list(map(quoted, wish.tables)), loading) if wish.tables else loading

    def client(self, name: str = "") -> tuple[str, ...]:
        """The client that is asked, or that loads what it reads."""
        return self._words("", "--batch", "--skip-column-names", *([f"--database={name}"] if name else []))

    def _dump(self, name: str, left_out: Sequence[str]) -> tuple[str, ...]:
        if name == GLOBALS:
            return self._words("dump", "--system=users", "--skip-dump-date", *self.choice.options)
        return self._words("dump", *_DUMP, *left_out, *self.choice.options, "--", name)

    def _words(self, what: str, *words: str) -> tuple[str, ...]:
        at = self.server
        program = {"mariadb": f"mariadb-{what}", "mysql": f"mysql{what}"}[at.kind].strip("-")
        is_socket = at.host.startswith("/")
        places = {
            "--socket": at.host if is_socket else "",
            "--host": "" if is_socket else at.host,
            "--port": str(at.port or ""),
            "--user": at.user,
        }
        given = [f"{option}={value}" for option, value in places.items() if value]
        quiet = ["--loose-skip-print-query-on-error"] if program == "mariadb" else []  # rows are no message
        return at.words(program, *given, "--default-character-set=utf8mb4", *quiet, *words)

    def _count(self, client: Sequence[str], tables: Sequence[str], stop: Stop) -> list[int]:
        """The rows of each table now, all at one moment."""
        questions = ["SELECT COUNT(*) FROM " + quoted(table) + ";" for table in tables]
        answer = self.server.ask(client, "\n".join([_SNAPSHOT, *questions]), stop)
        counts = [int(line) for line in answer.split()]
        if len(counts) != len(tables):
            raise FileUnreadableError("the server's client did not count every table")
        return counts


def quoted(name: str) -> str:
    """A name in SQL."""
    return "`" + name.replace("`", "``") + "`"


def _rows(answer: bytes) -> list[list[str]]:
    """Lines of values, each in hex."""
    lines = [line.split(b"\t") for line in answer.splitlines()]
    return [
        [bytes.fromhex(value.decode()).decode("utf-8", "surrogateescape") for value in line] for line in lines
    ]
