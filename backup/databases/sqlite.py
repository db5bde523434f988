"""SQLite: a copy by its backup API in the spool, as of one moment, whoever writes meanwhile."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from typing import Final
from urllib.parse import quote

from msgspec import Struct

from backup.databases.engine import CheckedDump, DumpChoice, Rows
from backup.databases.loading import Loading, Wish
from backup.databases.server import Server
from backup.errors import InterruptedRunError, UsageError, writing_to
from backup.files import Draft
from backup.source.read import FileUnreadableError, unreadable
from backup.source.streams import DumpNote, NotedStream, Stop

_COPY: Final = "sqlite-"  # how copies in the spool are called
_PAGES: Final = 1024  # until a stop is seen
_PATIENCE: Final = 60.0  # seconds that a writer may lock the file
_TABLES: Final = """SELECT name FROM sqlite_master WHERE type = 'table'
                    AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"""
_WORDS: Final[Mapping[int | None, str]] = {
    sqlite3.SQLITE_FULL: "its copy has no room in {spool}",  # only the copy is written to
    sqlite3.SQLITE_READONLY_ROLLBACK: "a writer has died in a transaction, "
    "which is undone when {path} is opened by who may write to it",
}


class SQLite(Struct, frozen=True):
    """A file of SQLite."""

    server: Server
    choice: DumpChoice = DumpChoice()
    has_globals: bool = False

    def listed(self, stop: Stop) -> list[str]:  # noqa: ARG002
        """None: it has no databases with names of their own."""
        return []

    def shown(self, name: str) -> tuple[str, ...]:  # noqa: ARG002
        """The words that `sqlite3` would be told; the copy is made without it."""
        return ("sqlite3", "-readonly", self.server.path, ".backup SPOOL")

    def holds(self, name: str, stop: Stop) -> str:  # noqa: ARG002
        """The size of a file that is there."""
        path = name or self.server.path
        length = os.path.getsize(path) if os.path.exists(path) else 0
        return f"{length} bytes" if length else ""

    def rows(self, name: str, stop: Stop) -> Rows:  # noqa: ARG002
        """The rows of each table of a whole file; `FileUnreadableError`."""
        path = name or self.server.path
        try:
            with closing(sqlite3.connect(f"file:{quote(path)}?mode=ro&immutable=1", uri=True)) as database:
                found = [text for (text,) in database.execute("PRAGMA integrity_check(5)").fetchall()]
            if found != ["ok"]:
                raise FileUnreadableError(f"it is damaged: {'; '.join(found)}")
            return _looked_at(path)[2]
        except sqlite3.Error as error:
            raise FileUnreadableError(str(error)) from error

    @contextmanager
    def loading(self, name: str, wish: Wish, stop: Stop) -> Iterator[Loading]:  # noqa: ARG002
        """A file that takes its place once it is whole; `name` is a path, "" for the usual one."""
        if wish.tables:
            raise UsageError(
                "a file of SQLite comes back whole", advice="take the table out of it: sqlite3 FILE .dump"
            )
        path = name or self.server.path
        with writing_to(path), Draft(path) as draft:
            yield _FileLoading(draft, path)

    @contextmanager
    def dumping(self, name: str, stop: Stop) -> Iterator[NotedStream]:
        """Copy the database, and read the copy."""
        with _copied(self.server, stop) as copy:
            version, charset, rows = _looked_at(copy)
            note = DumpNote("sqlite", name, version, charset, (), rows)
            with open(copy, "rb", buffering=0) as file:
                yield CheckedDump(_Copy(file.fileno()), lambda: note, begins=b"SQLite format 3\0")


class _FileLoading(Struct):
    draft: Draft
    path: str

    def write(self, data: bytes | memoryview) -> None:
        with writing_to(self.path):
            self.draft.write(data)

    def finish(self) -> None:
        """Remove what a writer of the old file left beside it, as it would be taken for the new one's."""
        with writing_to(self.path):
            for ending in ("-wal", "-shm", "-journal"):
                with suppress(FileNotFoundError):
                    os.unlink(self.path + ending)
            self.draft.place()


class _Copy(Struct):
    handle: int

    @property
    def size(self) -> int:
        return os.fstat(self.handle).st_size

    def fill(self, view: memoryview) -> int:
        filled = 0
        while filled < len(view):
            try:
                got = os.readv(self.handle, [view[filled:]])
            except OSError as error:
                raise unreadable(error) from error
            if not got:
                break
            filled += got
        return filled

    def finish(self) -> None:
        pass


@contextmanager
def _copied(server: Server, stop: Stop) -> Iterator[str]:
    """A copy in the spool, which is deleted at the end; those that a dead process left are deleted now."""
    for name in os.listdir(server.spool):
        if name.startswith(_COPY):
            os.unlink(os.path.join(server.spool, name))
    try:
        handle, copy = tempfile.mkstemp(prefix=_COPY, dir=server.spool)
    except OSError as error:
        raise FileUnreadableError(f"no copy can be made in {server.spool}: {error.strerror}") from error
    os.close(handle)
    try:
        _copy(server.path, copy, stop)
        yield copy
    except sqlite3.Error as error:
        code: int | None = getattr(error, "sqlite_errorcode", None)
        where = _WORDS.get(code, "{path}").format(path=server.path, spool=server.spool)
        raise FileUnreadableError(f"{where}: {error}") from error
    finally:
        with suppress(FileNotFoundError):
            os.unlink(copy)


def _copy(path: str, copy: str, stop: Stop) -> None:
    """Copy a database as it is at one moment: what reads it holds that, so no writer makes it begin anew."""

    def look(*_: int) -> None:
        if stop():
            raise InterruptedRunError("the backup was stopped while it copied a database")

    if not os.path.exists(path):
        raise FileUnreadableError(f"there is no file {path}")
    source = sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True, timeout=_PATIENCE, isolation_level=None)
    with closing(source), closing(sqlite3.connect(copy)) as target:
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_master").fetchone()
        target.execute("PRAGMA journal_mode = OFF")  # nobody takes up a half copy
        target.execute("PRAGMA synchronous = OFF")
        source.backup(target, pages=_PAGES, progress=look, sleep=0.05)


def _looked_at(copy: str) -> tuple[str, str, Rows]:
    """The version of SQLite, the encoding, and the rows of each table that can be counted."""
    with closing(sqlite3.connect(f"file:{quote(copy)}?mode=ro&immutable=1", uri=True)) as database:
        ((charset,),) = database.execute("PRAGMA encoding").fetchall()
        rows = []
        for (table,) in database.execute(_TABLES).fetchall():
            name = table.replace('"', '""')
            with suppress(sqlite3.OperationalError):  # of a module that is not here
                ((count,),) = database.execute(f'SELECT count(*) FROM "{name}"').fetchall()
                rows.append((table, count, count))
        return sqlite3.sqlite_version, charset, tuple(rows)
