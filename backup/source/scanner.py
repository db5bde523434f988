"""Scans in a second process, so that scanning and comparing take one core each.

    for directory in scan_beside(sources, filters=..., overrides=..., report=..., warn=...):
        ...                                # as with `scan`, in the same order

It sends each directory with its open handle, and its entries as columns; the socket's buffer bounds how far
it is ahead. If it cannot be started or dies, there is a warning, and this process scans what is left.
"""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct
from msgspec.msgpack import Decoder, Encoder
from msgspec.structs import replace

from backup.errors import WorkerGoneError
from backup.model import Problem
from backup.source.filters import Filters
from backup.source.roots import roots_of
from backup.source.scan import Report, walk
from backup.source.scanned import ColumnEntries, ScannedDirectory, ScannedEntry, StatusColumns
from backup.workers.messages import receive, send
from backup.workers.pool import Pool
from backup.workers.worker import Worker

_ALONE: Final = "the sources were scanned by one process instead of two: the second"

Warn = Callable[[str], None]


class _ScannedDirectory(Struct, frozen=True, array_like=True):
    """A directory; its entries are those of `StatusColumns`, and indexes of those that only lead on."""

    path: bytes
    device: int
    names: list[bytes]
    numbers: bytes
    leading: frozenset[int]
    unread: frozenset[bytes]
    after: bytes | None
    until: bytes | None
    places: dict[bytes, bytes]


class _Said(Struct, frozen=True, array_like=True):
    """A message: a directory, None after the last one; what seldom comes is `pickled`.

    That is problems, and the entries of a directory where a number does not fit 64 bits: a time in hundreds
    of years.
    """

    found: _ScannedDirectory | None
    pickled: bytes = b""


_ENCODER: Final = Encoder()
_SAID: Final = Decoder(_Said)


class ScannerProcess(Worker):
    """A worker that scans."""

    module = "backup.source.scanner"
    most_handles = 1

    def __init__(self, roots: Mapping[bytes, Filters], places: Mapping[bytes, bytes]) -> None:
        """`roots` and `places` are what `walk` takes."""
        super().__init__(_dumped((roots, places)))

    def directories(self, report: Report) -> Iterator[ScannedDirectory]:
        """The directories, as `scan` yields them. `WorkerGoneError`."""
        while True:
            problems, found = self.receive(_decoded)
            for problem in problems:
                report(problem)
            if found is None:
                return
            try:
                yield found
            finally:
                os.close(found.handle)


def scan_beside(
    sources: Sequence[bytes],
    *,
    filters: Filters,
    overrides: Mapping[bytes, Filters],
    report: Report,
    warn: Warn,
    places: Mapping[bytes, bytes] | None = None,
) -> Generator[ScannedDirectory, None, None]:
    """Same as `scan`, by a second process; `warn` gets a sentence if that cannot be started or dies."""
    roots, places = roots_of(sources, filters, overrides), places or {}
    last: ScannedDirectory | None = None
    told: set[Problem] = set()

    def tell(problem: Problem) -> None:
        if problem not in told:  # those of what is scanned again
            told.add(problem)
            report(problem)

    pool = Pool(lambda: ScannerProcess(roots, places), 1, warn, _ALONE)
    if (scanner := pool.start_one()) is not None:
        try:
            for last in scanner.directories(tell):
                yield last
            return
        except WorkerGoneError as error:
            pool.give_up(scanner, error)
        finally:
            pool.close()
    yield from _left(walk(roots, places, report=tell), last)


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
            entries = [entry for entry in directory.entries if entry.name > begun]
            yield replace(directory, entries=entries, after=max(directory.after or b"", begun))


def _reaches_beyond(until: bytes | None, last: bytes | None) -> bool:
    """Whether a piece up to `until` has names behind another's last; None is the end of the directory."""
    return last is not None and (until is None or until > last)


def _place(path: bytes) -> list[bytes]:
    """By this a scan is ordered: a directory before those in it, and these by name."""
    return path.strip(b"/").split(b"/") if path != b"/" else []


# Messages.


def _dumped(value: object) -> bytes:
    return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)


def _decoded(body: bytearray, handles: Sequence[int]) -> tuple[Sequence[Problem], ScannedDirectory | None]:
    """Problems, and the next directory, None after the last one."""
    said = _SAID.decode(body)
    problems: Sequence[Problem] = ()
    entries: Sequence[ScannedEntry] | None = None
    if said.pickled:
        try:
            problems, entries = pickle.loads(said.pickled)  # noqa: S301  of a process of ours
        except pickle.UnpicklingError as error:
            raise ValueError(str(error)) from error
    if (found := said.found) is None:
        return problems, None
    if entries is None:
        entries = ColumnEntries(StatusColumns.from_bytes(found.names, found.numbers), found.leading)
    (handle,) = handles
    covered = (found.unread, found.after, found.until, found.places)
    return problems, ScannedDirectory(found.path, handle, found.device, entries, *covered)


def _encoded(problems: Sequence[Problem], directory: ScannedDirectory) -> bytes:
    columns = directory.columns()
    entries = directory.entries if columns is None else None
    names, numbers = ([], b"") if columns is None else (columns.names, columns.numbers())
    leading = frozenset(at for at, (_, _, leads_on) in enumerate(directory.entries) if leads_on)
    beside = (leading, directory.unread, directory.after, directory.until, dict(directory.places))
    found = _ScannedDirectory(directory.path, directory.device, names, numbers, *beside)
    return _ENCODER.encode(_Said(found, _dumped((problems, entries)) if problems or entries else b""))


# In the worker.


def serve(connection: socket.socket, _memory: memoryview) -> None:
    """Scan what is asked for, and send what is found."""
    greeting, _ = receive(connection)
    problems: list[Problem] = []
    roots, places = pickle.loads(greeting)  # noqa: S301  of who started us
    for directory in walk(roots, places, report=problems.append):
        send(connection, _encoded(problems, directory), [directory.handle])
        problems.clear()
    send(connection, _ENCODER.encode(_Said(None, _dumped((problems, None)) if problems else b"")))
