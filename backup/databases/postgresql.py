"""PostgreSQL: `pg_dump` in its own format, uncompressed; roles and tablespaces by `pg_dumpall`.

Rows are counted in the very snapshot of the server that is dumped, which a session holds meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import Struct

from backup.databases.engine import GLOBALS, CheckedDump, DumpChoice, Rows
from backup.databases.loading import Loading, Wish, loaded_by, telling
from backup.databases.server import Conversation, Server
from backup.source.streams import DumpNote, NotedStream, Stop

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
_END = "\nSELECT chr(1) || 'end' || chr(2);\n"  # by the server: psql writes it out at once
_ENDED = b"\x01end\x02\0"
_SET = (
    "SET client_encoding = 'UTF8'; SET idle_in_transaction_session_timeout = 0; SET statement_timeout = 0;\n"
)
_BEGIN = f"""{_SET}BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT pg_export_snapshot(), current_setting('server_version'), pg_encoding_to_char(encoding)
  FROM pg_database WHERE datname = current_database();"""
_LIST = f"{_SET}SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname;"
_OURS = """n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = o.oid AND d.deptype = 'e')"""
_CONTENT = f"""SELECT
  (SELECT count(*) FROM pg_class o JOIN pg_namespace n ON n.oid = o.relnamespace WHERE {_OURS})
  + (SELECT count(*) FROM pg_proc o JOIN pg_namespace n ON n.oid = o.pronamespace WHERE {_OURS});"""
_TABLES = """SELECT n.nspname, c.relname, format('%I.%I', n.nspname, c.relname)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname <> 'information_schema'
    AND n.nspname !~ '^pg_'
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                    AND d.deptype = 'e') ORDER BY 1, 2;"""


class PostgreSQL(Struct, frozen=True):
    """A server of PostgreSQL, and what is wanted of its databases."""

    server: Server
    choice: DumpChoice = DumpChoice()
    has_globals: bool = True

    def listed(self, stop: Stop) -> list[str]:
        """The names of its databases, without templates."""
        return _texts(self.server.ask(self.psql("postgres"), _LIST, stop))

    def shown(self, name: str) -> tuple[str, ...]:
        """`pg_dump` of a database, `pg_dumpall` of the globals."""
        if name == GLOBALS:
            return self._words("pg_dumpall", "--globals-only")
        left_out = [f"--exclude-table={_pattern(table)}" for table in self.choice.exclude_tables]
        only = [f"--schema={quoted(schema)}" for schema in self.choice.only_schemas]
        return self._words(
            *("pg_dump", "--format=custom", "--compress=0"),
            *(*left_out, *only, *self.choice.options, f"--dbname={database_word(name)}"),
        )

    @contextmanager
    def dumping(self, name: str, stop: Stop) -> Iterator[NotedStream]:
        """Dump in a snapshot that a session exports, and count in it when the dump has ended."""
        where = "postgres" if name == GLOBALS else name
        with self.server.conversing(self.psql(where), stop) as session:
            snapshot, version, charset = _texts(session.ask(_BEGIN + _END, _ENDED))
            note = DumpNote("postgresql", name, version, charset, self._back(name))
            words = self.shown(name)
            if name == GLOBALS:
                with self.server.running(words, stop) as dump:
                    yield CheckedDump(
                        dump, lambda: note, ends=b"\n-- PostgreSQL database cluster dump complete"
                    )
                return

            def noted() -> DumpNote:
                return DumpNote(note.engine, name, version, charset, note.back, self._rows(session))

            with self.server.running((*words, f"--snapshot={snapshot}"), stop) as dump:
                yield CheckedDump(dump, noted, begins=b"PGDMP")

    def holds(self, name: str, stop: Stop) -> str:
        """Count a database's tables, views and functions."""
        if not self._exists(name, stop):
            return ""
        (count,) = _texts(self.server.ask(self.psql(name), _SET + _CONTENT, stop))
        return "" if count == "0" else f"{count} tables, views or functions"

    def rows(self, name: str, stop: Stop) -> Rows:
        """The rows of each table."""
        with self.server.conversing(self.psql(name), stop) as session:
            session.ask(_BEGIN + _END, _ENDED)
            return self._rows(session)

    @contextmanager
    def loading(self, name: str, wish: Wish, stop: Stop) -> Iterator[Loading]:
        """`pg_restore` into a new database, all or nothing; `psql` for the globals, and after errors on."""
        if name == GLOBALS:
            words = self._words("psql", "--no-psqlrc", "--quiet", "--dbname=postgres")
            with loaded_by(self.server, words, stop) as loading:
                yield loading
            return
        with telling():
            there = self._exists(name, stop)
            if there and wish.replace and not wish.tables:
                self._change(name, f"DROP DATABASE {quoted(name)};", stop)
                there = False
            if not there:
                charset = f" ENCODING '{wish.charset}'" if _PLAIN.fullmatch(wish.charset) else ""
                self._change(name, f"CREATE DATABASE {quoted(name)} TEMPLATE template0{charset};", stop)
        tables = [word for table in wish.tables for word in _table_words(table)]
        clean = ["--clean", "--if-exists"] if wish.tables and wish.replace else []
        bare = ["--no-owner", "--no-privileges"] if wish.is_bare else []
        all_or_nothing = ("--exit-on-error", "--single-transaction")
        words = self._words(
            "pg_restore", *all_or_nothing, *bare, *clean, *tables, f"--dbname={database_word(name)}"
        )
        with loaded_by(self.server, words, stop) as loading:
            yield loading

    def _exists(self, name: str, stop: Stop) -> bool:
        text = name.replace("'", "''")
        sql = f"{_SET}SELECT count(*) FROM pg_database WHERE datname = '{text}';"
        return _texts(self.server.ask(self.psql("template1"), sql, stop)) == ["1"]

    def _change(self, name: str, sql: str, stop: Stop) -> None:
        """Make or remove a database, asked from another one."""
        self.server.ask(self.psql("template1" if name == "postgres" else "postgres"), _SET + sql, stop)

    def psql(self, name: str) -> tuple[str, ...]:
        """The client that is asked: what it answers has a NUL after each value."""
        quiet = ("--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--no-align", "--tuples-only")
        zeros = ("--field-separator-zero", "--record-separator-zero")
        return self._words("psql", *quiet, *zeros, f"--dbname={database_word(name)}")

    def _words(self, program: str, *words: str) -> tuple[str, ...]:
        at = self.server
        places = {"--host": at.host, "--port": str(at.port or ""), "--username": at.user}
        given = [f"{option}={value}" for option, value in places.items() if value]
        return at.words(program, *given, "--no-password", *words)

    def _back(self, name: str) -> tuple[str, ...]:
        if name == GLOBALS:
            return ("psql", "--dbname=postgres")
        return ("pg_restore", "--exit-on-error", f"--dbname={database_word(name)}")

    def _rows(self, session: Conversation) -> Rows:
        """The rows of each table in the session's snapshot."""
        found = iter(_texts(session.ask(_TABLES + _END, _ENDED)))
        tables = [(schema, table, word) for schema, table, word in zip(found, found, found, strict=True)]
        tables = [(schema, table, word) for schema, table, word in tables if self.choice.has(schema, table)]
        counts = "".join(f"SELECT count(*) FROM ONLY {word};\n" for *_, word in tables)
        rows = map(int, _texts(session.ask(counts + _END, _ENDED)))
        return tuple(
            (f"{schema}.{table}", count, count)
            for (schema, table, _), count in zip(tables, rows, strict=True)
        )


def database_word(name: str) -> str:
    """A database's name for `--dbname`, which would take some names for a connection string."""
    if _PLAIN.fullmatch(name):
        return name
    escaped = name.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{escaped}'"


def _pattern(table: str) -> str:
    """A pattern of ours in PostgreSQL's words: all but dots, `*` and `?` is quoted."""
    parts = re.split(r"([.*?])", table if "." in table else f"*.{table}")
    return "".join(part if part in {".", "*", "?", ""} else quoted(part) for part in parts)


def _table_words(table: str) -> list[str]:
    schema, _, name = table.rpartition(".")
    return [f"--table={name}", *([f"--schema={schema}"] if schema else [])]


def quoted(name: str) -> str:
    """A name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def _texts(answer: bytes) -> list[str]:
    return [value.decode("utf-8", "surrogateescape") for value in answer.split(b"\0")[:-1]]
