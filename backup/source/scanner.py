"""A second process that scans, so that looking at the sources and comparing take one core each.

    for directory in scan_beside(sources, filters=..., overrides=..., report=..., warn=...):
        ...                                # as with `scan`, in the same order

It sends each directory with its open handle, and its entries as columns; the socket's buffer bounds how far
it is ahead. If it cannot be started or dies, that is told, and this process scans what is left.
"""

from __future__ import annotations

import gc
import os
import pickle
import socket
import struct
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final

from msgspec import MsgspecError, Struct
from msgspec.msgpack import Decoder, Encoder
from msgspec.structs import replace

from backup.errors import SourceError
from backup.model import Problem
from backup.second_process import receive, start
from backup.source.columns import StatusColumns
from backup.source.filters import Filters
from backup.source.roots import roots_of
from backup.source.scan import Report, walk
from backup.source.scanned import ColumnEntries, ScannedDirectory, ScannedEntry

_HEAD: Final = struct.Struct("<I")
_ALONE: Final = "the sources were scanned by one process instead of two: the second"

Warn = Callable[[str], None]


class _Found(Struct, frozen=True, array_like=True):
    """A directory; its entries are those of `StatusColumns`, and indexes of those that only lead on."""

    path: bytes
    device: int
    names: list[bytes]
    numbers: bytes
    leading: frozenset[int]
    unread: frozenset[bytes]
    after: bytes | None
    until: bytes | None


class _Said(Struct, frozen=True, array_like=True):
    """A message: a directory, None after the last one; what seldom comes is `pickled`.

    That is problems, and the entries of a directory where a number does not fit 64 bits: a time in hundreds
    of years.
    """

    found: _Found | None
    pickled: bytes = b""


_ENCODER: Final = Encoder()
_SAID: Final = Decoder(_Said)


class ScannerGoneError(SourceError):
    """The second process is gone."""


class ScannerProcess:
    """The first process's side. `OSError` if it cannot be started; `close` it whatever happened."""

    def __init__(self, roots: Mapping[bytes, Filters]) -> None:
        """`roots` are what `walk` takes."""
        self._socket, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = start("backup.source.scanner", [theirs.fileno()])
        except BaseException:
            self._socket.close()
            raise
        wanted = _dumped(roots)
        with suppress(OSError):  # it is gone already: that is told as soon as something is asked of it
            self._socket.sendall(_HEAD.pack(len(wanted)) + wanted)

    def directories(self, report: Report) -> Iterator[ScannedDirectory]:
        """The directories, as `scan` yields them; `ScannerGoneError`."""
        while (found := self._receive(report)) is not None:
            try:
                yield found
            finally:
                os.close(found.handle)

    def _receive(self, report: Report) -> ScannedDirectory | None:
        """The next directory, None after the last one; problems are reported before it."""
        handles: list[int] = []
        try:
            head, handles, _, _ = socket.recv_fds(self._socket, _HEAD.size, 1)
            head += receive(self._socket, _HEAD.size - len(head))
            (size,) = _HEAD.unpack(head)
            said = _SAID.decode(receive(self._socket, size))
            problems: Sequence[Problem] = ()
            entries: Sequence[ScannedEntry] | None = None
            if said.pickled:
                problems, entries = pickle.loads(said.pickled)  # noqa: S301  of a process of ours
            if (found := said.found) is None:
                directory = None
            else:
                (handle,) = handles
                if entries is None:
                    columns = StatusColumns.from_bytes(found.names, found.numbers)
                    entries = ColumnEntries(columns, found.leading)
                directory = ScannedDirectory(
                    found.path, handle, found.device, entries, found.unread, found.after, found.until
                )
        except (OSError, EOFError, ValueError, MsgspecError, pickle.UnpicklingError) as error:
            for handle in handles:
                os.close(handle)
            raise ScannerGoneError(self._process.ending(error)) from error
        for problem in problems:
            report(problem)
        return directory

    def close(self) -> None:
        """End the process."""
        self._socket.close()
        self._process.kill()
        self._process.wait()
        self._process.release()


def scan_beside(
    sources: Sequence[bytes],
    *,
    filters: Filters,
    overrides: Mapping[bytes, Filters],
    report: Report,
    warn: Warn,
) -> Generator[ScannedDirectory, None, None]:
    """What `scan` yields, found by a second process; `warn` is told in a sentence if there is none."""
    roots = roots_of(sources, filters, overrides)
    last: ScannedDirectory | None = None
    told: set[Problem] = set()

    def tell(problem: Problem) -> None:
        if problem not in told:  # those of what is scanned again
            told.add(problem)
            report(problem)

    try:
        scanner = ScannerProcess(roots)
    except OSError as error:
        warn(f"{_ALONE} cannot be started: {error.strerror or error}")
    else:
        try:
            for last in scanner.directories(tell):
                yield last
            return
        except ScannerGoneError as error:
            warn(f"{_ALONE} is gone: {error}")
        finally:
            scanner.close()
    yield from _left(walk(roots, report=tell), last)


def _left(
    directories: Generator[ScannedDirectory, None, None], last: ScannedDirectory | None
) -> Iterator[ScannedDirectory]:
    """The directories of a new scan that follow the last one that was handled, or the last piece of one.

    No piece covers what one before it does: names that it lacks would be taken for gone.
    """
    for directory in directories:
        if last is None or _place(directory.path) > _place(last.path):
            yield directory
        elif directory.path == last.path and _reaches_beyond(directory.until, last.until):
            begun = last.until or b""
            entries = [one for one in directory.entries if one.name > begun]
            yield replace(directory, entries=entries, after=max(directory.after or b"", begun))


def _reaches_beyond(until: bytes | None, last: bytes | None) -> bool:
    """Whether a piece up to `until` has names behind another's last; None is the end of the directory."""
    return last is not None and (until is None or until > last)


def _place(path: bytes) -> list[bytes]:
    """By this a scan is ordered: a directory before those in it, and these by name."""
    return path.strip(b"/").split(b"/") if path != b"/" else []


def _dumped(value: object) -> bytes:
    return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)


# In the second process.


def serve(number: int) -> None:
    """Scan what the socket of this number asks for, and send what is found; ends when nobody listens."""
    gc.disable()  # no reference cycles here: memory is freed after each directory
    with socket.socket(fileno=number) as connection:
        try:
            _serve(connection)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return  # the other side has ended


def _serve(connection: socket.socket) -> None:
    (size,) = _HEAD.unpack(receive(connection, _HEAD.size))
    roots = pickle.loads(receive(connection, size))  # noqa: S301  of who started us
    problems: list[Problem] = []
    for directory in walk(roots, report=problems.append):
        _send(connection, _encoded(problems, directory), [directory.handle])
        problems.clear()
    _send(connection, _ENCODER.encode(_Said(None, _dumped((problems, None)) if problems else b"")), [])


def _encoded(problems: Sequence[Problem], directory: ScannedDirectory) -> bytes:
    columns = directory.columns()
    entries = directory.entries if columns is None else None
    names, numbers = ([], b"") if columns is None else (columns.names, columns.numbers())
    leading = frozenset(at for at, (_, _, leads_on) in enumerate(directory.entries) if leads_on)
    beside = (leading, directory.unread, directory.after, directory.until)
    found = _Found(directory.path, directory.device, names, numbers, *beside)
    return _ENCODER.encode(_Said(found, _dumped((problems, entries)) if problems or entries else b""))


def _send(connection: socket.socket, body: bytes, handles: Sequence[int]) -> None:
    sent = socket.send_fds(connection, [_HEAD.pack(len(body)), body], handles)
    rest = memoryview(body)[max(sent - _HEAD.size, 0) :]
    if sent < _HEAD.size:
        raise BrokenPipeError("not even the head of a message was taken")
    connection.sendall(rest)
