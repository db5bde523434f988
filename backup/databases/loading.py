"""Loads a dump: a stream that a client of the server reads, or a new file of SQLite."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Protocol

from msgspec import Struct

from backup.databases.server import Server
from backup.errors import NightvaultError
from backup.source.command import RunningCommand
from backup.source.read import FileUnreadableError
from backup.source.streams import Stop

_LOOK: Final = 0.2  # seconds until it is seen that a client wants to say something


class LoadFailedError(NightvaultError):
    """A server, or its client, did not take a dump."""

    advice = (
        "solve what it says and run the same command again; what the vault made readable is not paid twice"
    )


class Wish(Struct, frozen=True):
    """The way in which a dump is loaded: into a new database of this character set, or in place of another.

    `tables`: these alone, into what is there; none: all. `is_bare`: without owners and rights, for a server
    that has no such roles.
    """

    charset: str = ""
    tables: tuple[str, ...] = ()
    replace: bool = False
    is_bare: bool = False


class Loading(Protocol):
    """A place that takes a dump."""

    def write(self, data: bytes | memoryview) -> object:
        """Take the next bytes; `LoadFailedError`."""
        ...

    def finish(self) -> None:
        """Confirm that all of it was taken; else `LoadFailedError`."""
        ...


@contextmanager
def loaded_by(server: Server, words: Sequence[str], stop: Stop) -> Iterator[ClientLoading]:
    """Run a client that reads a dump; one that lacks its end is ended itself before its input."""
    theirs, ours = os.pipe()
    with (
        open(ours, "wb", buffering=0) as typed,
        open(theirs, "rb", buffering=0) as read,
        telling(),
        server.running(words, stop, stdin=theirs, allow_empty=True) as command,
    ):
        read.close()
        os.set_blocking(ours, False)
        yield ClientLoading(command, ours, typed.close)


class ClientLoading:
    """A client of a server that reads a dump."""

    def __init__(self, command: RunningCommand, handle: int, close: Callable[[], None]) -> None:
        self._command = command
        self._handle = handle
        self._close = close

    def write(self, data: bytes | memoryview) -> None:
        """Give the client the next bytes, and let it speak meanwhile."""
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self._handle, left) :]
            except BlockingIOError:
                self._command.hear()
                select.select([], [self._handle], [], _LOOK)
            except BrokenPipeError:
                self.finish()
                raise LoadFailedError("the server's client ended before it had the whole dump") from None

    def finish(self) -> None:
        """End the input, and wait for the client's word."""
        self._close()
        buffer = memoryview(bytearray(65536))
        with telling():
            while self._command.some(buffer):
                pass
            self._command.finish()


@contextmanager
def telling() -> Iterator[None]:
    """Raise what a client says as `LoadFailedError`."""
    try:
        yield
    except FileUnreadableError as error:
        raise LoadFailedError(str(error)) from error


class OnlyTables:
    """Passes on some tables of a dump of MariaDB or MySQL, and what stands around all of them."""

    _TABLE = b"-- Table structure for table "
    _OTHERS = (
        *(b"-- Temporary table structure for view ", b"-- Temporary view structure for view "),
        *(b"-- Final view structure for view ", b"-- Dumping routines for ", b"-- Dumping events for "),
    )
    _END = b"/*!40103 SET TIME_ZONE=@OLD_TIME_ZONE"

    def __init__(self, quoted: Sequence[str], to: Loading) -> None:
        self._wanted = {name.encode() for name in quoted}
        self.found: set[bytes] = set()
        self._to = to
        self._line = b""  # so far
        self._is_wanted = True

    def write(self, data: bytes | memoryview) -> None:
        """Pass on the lines that are wanted."""
        *lines, self._line = (self._line + bytes(data)).split(b"\n")
        kept = [line + b"\n" for line in lines if self._keeps(line)]
        if kept:
            self._to.write(b"".join(kept))

    def finish(self) -> None:
        """Pass on the last line; `LoadFailedError` if a table was not there."""
        if self._line and self._keeps(self._line):
            self._to.write(self._line)
        self._to.finish()
        if missing := self._wanted - self.found:
            named = ", ".join(sorted(name.decode(errors="replace") for name in missing))
            raise LoadFailedError(f"the dump has no table {named}")

    def _keeps(self, line: bytes) -> bool:
        if line.startswith(b"-- "):
            if line.startswith(self._TABLE):
                name = line.removeprefix(self._TABLE)
                self._is_wanted = name in self._wanted
                self.found.update({name} & self._wanted)
            elif line.startswith(self._OTHERS):
                self._is_wanted = False
        elif line.startswith(self._END):
            self._is_wanted = True
        return self._is_wanted
