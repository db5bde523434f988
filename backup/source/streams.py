"""Streams: sources that are no trees (a command's output, a database, a device), each saved as one file.

They lie below `/.streams` in every snapshot, where no file of a disk is ever saved. A stream cannot be known
to be unchanged without reading, so each run that includes it reads it.
"""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol, runtime_checkable

from msgspec import Struct

from backup.errors import InterruptedRunError
from backup.source.read import FileUnreadableError, unreadable

NAME: Final = b".streams"
TOP: Final = b"/" + NAME
_UNKNOWN: Final = 2**40  # more than any window: a hint for buffers
_LOOK_MS: Final = 200

Stop = Callable[[], bool]


class OpenStream(Protocol):
    """A stream that is being read; `size` is a hint."""

    @property
    def size(self) -> int:
        """Expected size in bytes."""
        ...

    def fill(self, view: memoryview) -> int:
        """Fill the view; a short fill is the last. `FileUnreadableError`, `InterruptedRunError`."""
        ...

    def finish(self) -> None:
        """Confirm that this was the whole stream; else `FileUnreadableError`."""
        ...


class DumpNote(Struct, frozen=True):
    """What is known of a dump: the fields of a `DumpRecord`, but for its entry."""

    engine: str
    database: str
    version: str = ""
    charset: str = ""
    back: tuple[str, ...] = ()
    tables: tuple[tuple[str, int, int], ...] = ()


@runtime_checkable
class NotedStream(OpenStream, Protocol):
    """The dump of a database that is being read; `note` is there once it has finished."""

    note: DumpNote | None


class Stream(Protocol):
    """A source that is not a tree."""

    @property
    def path(self) -> bytes:
        """Its path in the snapshot, below `/.streams`."""
        ...

    def open(self, stop: Stop) -> AbstractContextManager[OpenStream]:
        """Begin to read; `FileUnreadableError` if that is impossible."""
        ...


class StreamList(Protocol):
    """Streams that are listed when a run begins; their paths are at or below `path`."""

    @property
    def path(self) -> bytes:
        """The path of its one stream, or the directory of all."""
        ...

    def streams(self, stop: Stop) -> Sequence[Stream]:
        """List them; `FileUnreadableError` if that is impossible."""
        ...


@dataclass(frozen=True, slots=True)
class Command:
    """A command's standard output, which must not be empty unless that is allowed.

    `timeout` in seconds, of waiting for it.
    """

    name: bytes
    run: tuple[str, ...]
    timeout: float
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    user: str | None = None
    allow_empty: bool = False

    @property
    def path(self) -> bytes:
        """Its path in the snapshot."""
        return TOP + b"/" + self.name

    def open(self, stop: Stop) -> AbstractContextManager[OpenStream]:
        """Start the command."""
        from backup.source.command import RunningCommand

        return RunningCommand(
            self.run, self.timeout, self.environment, self.user, stop, allow_empty=self.allow_empty
        )


class StandardInput(Struct, frozen=True):
    """Standard input, or another handle, read until it ends."""

    name: bytes
    handle: int = 0

    @property
    def path(self) -> bytes:
        """Its path in the snapshot."""
        return TOP + b"/" + self.name

    @contextmanager
    def open(self, stop: Stop) -> Iterator[OpenStream]:
        """Return the stream."""
        yield _Input(self.handle, stop)


class Device(Struct, frozen=True):
    """A block device, read as a file from its first byte to its last."""

    device: bytes

    @property
    def path(self) -> bytes:
        """Its path in the snapshot: the device's own path below `/.streams`."""
        return TOP + self.device

    @contextmanager
    def open(self, stop: Stop) -> Iterator[OpenStream]:
        """Open the device, through symlinks: LVM's names are symlinks."""
        try:
            handle = os.open(self.device, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise unreadable(error) from error
        try:
            if not stat.S_ISBLK(os.fstat(handle).st_mode):
                raise FileUnreadableError("it is no block device")
            try:
                size = os.lseek(handle, 0, os.SEEK_END)
                os.lseek(handle, 0, os.SEEK_SET)
            except OSError as error:
                raise unreadable(error) from error
            yield _Device(handle, size, stop)
        finally:
            os.close(handle)


class _Device(Struct):
    handle: int
    size: int
    stop: Stop
    read: int = 0

    def fill(self, view: memoryview) -> int:
        filled = _fill(self.handle, view, self.stop)
        self.read += filled
        return filled

    def finish(self) -> None:
        if not self.size:
            raise FileUnreadableError("it holds no byte: there is no medium in it, or nothing is attached")
        if self.read != self.size:
            raise FileUnreadableError(f"it ended after {self.read} of {self.size} bytes")


class _Input(Struct):
    handle: int
    stop: Stop
    size: int = _UNKNOWN
    is_empty: bool = True

    def fill(self, view: memoryview) -> int:
        filled = _fill(self.handle, view, self.stop)
        self.is_empty = self.is_empty and not filled
        return filled

    def finish(self) -> None:
        if self.is_empty:
            raise FileUnreadableError(
                "nothing came in on standard input: the program that should write it seems to have failed"
            )


def _fill(handle: int, view: memoryview, stop: Stop) -> int:
    filled = 0
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    try:
        while filled < len(view):
            while not poll.poll(_LOOK_MS):
                if stop():
                    raise InterruptedRunError("the backup was stopped while it waited for its input")
            got = os.readv(handle, [view[filled:]])
            if not got:
                break
            filled += got
    except OSError as error:
        raise unreadable(error) from error
    return filled
