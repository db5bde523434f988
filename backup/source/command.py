"""A command whose output is read: no shell, no zombie, no dead-lock, and it is ended if our process dies."""

from __future__ import annotations

import fcntl
import os
import pwd
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from backup.errors import InterruptedRunError
from backup.model import KIB, MIB
from backup.source.read import FileUnreadableError, unreadable

_GUARD: Final = os.path.join(os.path.dirname(__file__), "process_guard.py")
_PASSED_ON: Final = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "HOME", "USER", "LOGNAME")
_KEPT: Final = 8 * KIB  # of its standard error
_LINES: Final = 5
_LOOK: Final = 0.2  # seconds until a stop is seen


class RunningCommand:
    """One run of a command, as an `OpenStream`. Leaving its context ends whatever still runs of it.

    It gets the part of our environment that finds programs and homes, never keys. `environment` is added to
    that of the command alone, not of the guard: it may hold a password. `stdin`: a handle that it reads.
    `hidden_in`: what takes the password out of its words.
    """

    size = 2**40

    def __init__(
        self,
        run: Sequence[str],
        timeout: float,
        environment: Mapping[str, str],
        user: str | None,
        stop: Callable[[], bool],
        *,
        allow_empty: bool = False,
        stdin: int = subprocess.DEVNULL,
        hidden_in: Callable[[str], str] = str,
    ) -> None:
        self._run = run
        self._hidden_in = hidden_in
        self._stdin = stdin
        self._is_enough = allow_empty  # what came of it so far
        self._left = timeout
        self._timeout = timeout
        self._environment = environment
        self._user = user
        self._stop = stop
        self._said = bytearray()
        self._is_over = False  # its output

    def __enter__(self) -> Self:
        uid, gid, environment = self._identity()
        ours, theirs = socket.socketpair()
        added = in_memory(
            b"\0".join(os.fsencode(f"{name}={value}") for name, value in self._environment.items())
        )
        handles = (theirs.fileno(), added)
        words = [sys.executable, "-I", "-S", _GUARD, *map(str, (*handles, uid, gid)), *self._run]
        try:
            self._guard = subprocess.Popen(
                words,
                stdin=self._stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=handles,
                env=environment,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            raise unreadable(error) from error
        finally:
            theirs.close()
            os.close(added)
        self._socket = ours
        assert self._guard.stdout is not None  # noqa: S101
        assert self._guard.stderr is not None  # noqa: S101
        self._out, self._err = self._guard.stdout.fileno(), self._guard.stderr.fileno()
        os.set_blocking(self._err, False)
        with suppress(OSError):
            fcntl.fcntl(self._out, fcntl.F_SETPIPE_SZ, MIB)
        self._poll = select.poll()
        self._poll.register(self._out, select.POLLIN)
        self._poll.register(self._err, select.POLLIN)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        self._guard.wait()
        for pipe in (self._guard.stdout, self._guard.stderr):
            if pipe is not None:
                pipe.close()

    def fill(self, view: memoryview) -> int:
        """Fill the view with the command's output."""
        filled = 0
        while filled < len(view) and (got := self.some(view[filled:])):
            filled += got
        return filled

    def some(self, view: memoryview) -> int:
        """Wait for output, and take as much as fits and is there; 0 at its end."""
        if self._is_over:
            return 0
        self._wait(self._out)
        try:
            got = os.readv(self._out, [view])
        except OSError as error:
            raise unreadable(error) from error
        if not got:
            self._poll.unregister(self._out)
            self._is_over = True
        self._is_enough = self._is_enough or got > 0
        return got

    @property
    def has_ended(self) -> bool:
        """Whether the command has ended."""
        return bool(select.select([self._socket], [], [], 0)[0])

    def hear(self) -> None:
        """Take what the command has to say now, and throw its output away: so it can read on."""
        ready = [handle for handle, _ in self._poll.poll(0)]
        if self._err in ready:
            self._listen()
        if self._out in ready:
            self.some(memoryview(bytearray(64 * KIB)))
        if self._stop():
            raise InterruptedRunError(f"{self._run[0]} was ended: it was asked to stop")

    def finish(self) -> None:
        """Check that the command ended successfully, and printed something unless it need not."""
        self._poll.register(self._socket.fileno(), select.POLLIN)
        self._wait(self._socket.fileno())
        answer = self._socket.recv(16)
        self._listen()
        status = int(answer) if answer else 127
        if status:
            how = f"signal {-status}" if status < 0 else f"status {status}"
            raise FileUnreadableError(f"{self._run[0]} ended with {how}{self._last_words()}")
        if not self._is_enough:
            raise FileUnreadableError(
                f"{self._run[0]} printed nothing{self._last_words()}; "
                "if that is right, set allow_empty = true"
            )

    def _wait(self, end: int) -> None:
        """Wait until `end` is readable; only this time counts for the timeout, not our own work."""
        while True:
            before = time.monotonic()
            ready = [handle for handle, _ in self._poll.poll(1000 * min(_LOOK, max(self._left, 0)))]
            self._left -= time.monotonic() - before
            if self._err in ready:
                self._listen()
            if end in ready:
                return
            if self._stop():
                raise InterruptedRunError(f"the backup was stopped while {self._run[0]} ran")
            if self._left <= 0:
                after = f"{self._run[0]} was ended: it took more than {self._timeout:.0f} s"
                raise FileUnreadableError(after + self._last_words())

    def _listen(self) -> None:
        """Read the command's standard error, and keep the last part."""
        with suppress(BlockingIOError):
            while self._err is not None:
                said = os.read(self._err, 64 * KIB)
                if not said:
                    with suppress(KeyError):
                        self._poll.unregister(self._err)
                    return
                self._said = (self._said + said)[-_KEPT:]

    def _last_words(self) -> str:
        text = self._hidden_in(self._said.decode("utf-8", "backslashreplace"))
        shown = "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in text)
        lines = [line.strip() for line in shown.splitlines() if line.strip()]
        return ": " + " | ".join(lines[-_LINES:]) if lines else ", and said nothing"

    def _identity(self) -> tuple[int, int, dict[str, str]]:
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        if self._user is None:
            return -1, -1, environment
        try:
            user = pwd.getpwnam(self._user)
        except KeyError as error:
            raise FileUnreadableError(f"this machine has no user {self._user}") from error
        if user.pw_uid != os.geteuid() and os.geteuid() != 0:
            raise FileUnreadableError(f"only root may run a command as {self._user}")
        home = {"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name}
        uid = user.pw_uid if user.pw_uid != os.geteuid() else -1
        return uid, user.pw_gid, environment | home


def in_memory(data: bytes) -> int:
    """Return the handle of a file without a name, in memory alone, which is read from its beginning."""
    handle = os.memfd_create("input", os.MFD_CLOEXEC)
    left = memoryview(data)
    while left:
        left = left[os.write(handle, left) :]
    os.lseek(handle, 0, os.SEEK_SET)
    return handle
