"""A worker, seen from both sides: `Worker` is what the first process has of it, `serve` what it runs itself.

    class ReaderProcess(Worker):            # says what is in a message
        module = "backup.source.reader"     # its `serve(connection, memory)` answers

A worker that dies, or sends an invalid message, is reported as `WorkerGoneError`, with its last output: the
caller does the work itself.
"""

from __future__ import annotations

import gc
import mmap
import os
import select
import socket
import subprocess
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from typing import ClassVar, Final, TypeVar

from msgspec import MsgspecError

from backup.errors import WorkerGoneError
from backup.workers.messages import close_all, receive, send
from backup.workers.process import start

_T = TypeVar("_T")
_HUNG_UP: Final = (EOFError, BrokenPipeError, ConnectionResetError)


class Worker:
    """A worker of one kind; for use from one thread. `OSError` if it cannot be started.

    `memory` is shared with it. `close` it whatever happened.
    """

    module: ClassVar[str]
    most_handles: ClassVar[int] = 0
    """Handles that come with a message of it."""
    patience: ClassVar[float] = 0.0
    """Seconds that it has to end by itself when it is closed."""

    def __init__(self, greeting: bytes, memory: int = 0) -> None:
        """`greeting` is the first message to it; `memory` is in bytes."""
        with ExitStack() as undo, open(os.memfd_create("nightvault"), "rb+", buffering=0) as shared:
            os.ftruncate(shared.fileno(), memory)
            self.memory = _mapped(shared.fileno())
            self._socket, theirs = socket.socketpair()
            undo.enter_context(self._socket)
            with theirs:
                self._process = start(self.module, theirs.fileno(), shared.fileno())
            undo.callback(self.close)
            self._poll = select.poll()
            self._poll.register(self._socket, select.POLLIN | select.POLLOUT)
            self._received: deque[tuple[bytearray, list[int]]] = deque()  # while a message was sent
            with suppress(OSError):  # it is gone already: that is told as soon as something is asked of it
                send(self._socket, greeting)
            undo.pop_all()

    def close(self) -> None:
        """End the process; pieces of its memory that still have views stay valid."""
        self._socket.close()
        if self.patience:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(self.patience)
        self._process.kill()
        self._process.wait()
        self._process.release()
        self.memory = memoryview(b"")

    def send(self, body: bytes, handles: Sequence[int] = ()) -> None:
        """Send a message, with handles that stay ours."""
        with self._death_told():
            send(self._socket, body, handles, self._wait_for_room)

    def receive(self, decode: Callable[[bytearray, list[int]], _T]) -> _T:
        """The next message as `decode` reads it, which takes over its handles unless it fails."""
        with self._death_told():
            body, handles = self._received.popleft() if self._received else self._message()
            try:
                return decode(body, handles)
            except BaseException:
                close_all(handles)
                raise

    @property
    def has_spoken(self) -> bool:
        """Whether `receive` would return at once: there is a message, or the worker has ended."""
        return bool(self._received or self._events(0) & ~select.POLLOUT)

    def _message(self) -> tuple[bytearray, list[int]]:
        return receive(self._socket, self.most_handles)

    def _wait_for_room(self) -> None:
        """Wait until it takes more of a message; receive one if it does not, else both wait for ever."""
        if not self._events(None) & select.POLLOUT:
            self._received.append(self._message())

    def _events(self, timeout: int | None) -> int:
        return next((events for _, events in self._poll.poll(timeout)), 0)

    @contextmanager
    def _death_told(self) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError, ValueError, LookupError, MsgspecError) as error:
            raise WorkerGoneError(self._process.ending(error)) from error


def serve(module: str, connection: int, memory: int) -> None:
    """Be a worker: run `serve` of a module until it is done, or the first process has gone or hung up."""
    gc.disable()  # no reference cycles here: memory is freed after each message
    shared = _mapped(memory)
    os.close(memory)
    with socket.socket(fileno=connection) as theirs, suppress(*_HUNG_UP):
        import_module(module).serve(theirs, shared)
    os._exit(0)


def _mapped(handle: int) -> memoryview:
    size = os.fstat(handle).st_size
    return memoryview(mmap.mmap(handle, size) if size else b"")
