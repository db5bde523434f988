"""Emulators as forks of one process that has imported their modules: that is paid for once, not by each.

`Fork(words, environment)` is to its user what a `Popen` of `python -m backup.emulator WORDS` is. The process
that forks ends with the one that asked it to, and takes its forks along.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

_REPOSITORY = Path(__file__).resolve().parents[2]
_MOST = 1 << 20  # bytes of a request: an environment and a few words


class Fork:
    """A running emulator; what it prints is read from `stdout`."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str]) -> None:
        ours, theirs = os.pipe()
        try:
            asked = {"words": list(words), "environment": dict(environment)}
            self.pid: int = _ask(asked, (theirs, 2))
        finally:
            os.close(theirs)
        self.stdout = os.fdopen(ours, "r")

    def send_signal(self, how: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, how)  # its number stays its own until `wait` has asked for it

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def wait(self, seconds: float = 60.0) -> int:
        """Its exit code when it has ended; `TimeoutExpired` if it does not in time."""
        code: int | None = _ask({"wait": self.pid, "seconds": seconds})
        if code is None:
            raise subprocess.TimeoutExpired("emulator", seconds)
        return code


_lock = threading.Lock()
_running: list[tuple[int, socket.socket]] = []  # of which process the other end is the helper


def _ask(request: Mapping[str, object], fds: Sequence[int] = ()) -> Any:
    with _lock:
        if not _running or _running[-1][0] != os.getpid():
            _running.append((os.getpid(), _start()))
        connection = _running[-1][1]
        socket.send_fds(connection, [json.dumps(request).encode()], list(fds))
        return json.loads(connection.recv(_MOST))


def _start() -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        helper = subprocess.Popen(
            [sys.executable, "-m", "tests.support.emulator_forks", str(theirs.fileno())],
            cwd=_REPOSITORY,
            pass_fds=(theirs.fileno(),),
        )
    atexit.register(_finish, os.getpid(), ours, helper)
    return ours


def _finish(owner: int, connection: socket.socket, helper: subprocess.Popen[bytes]) -> None:
    if os.getpid() == owner:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)  # a child of ours may hold it open, too
        connection.close()
        try:
            helper.wait(20)
        except subprocess.TimeoutExpired:
            helper.kill()
            helper.wait()


def _serve(connection: socket.socket) -> None:
    """Fork and wait as asked, until whoever asks is gone."""
    import backup.emulator.__main__  # noqa: F401  what the forks need not read again

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    forks: set[int] = set()
    while True:
        data, fds, _, _ = socket.recv_fds(connection, _MOST, 2)
        if not data:
            break
        asked = json.loads(data)
        if "wait" in asked:
            answer = _wait_for(asked["wait"], asked["seconds"])
            if answer is not None:
                forks.discard(asked["wait"])
        else:
            answer = os.fork()
            if answer == 0:
                connection.close()
                _become_emulator(asked["words"], asked["environment"], fds)
            forks.add(answer)
            for fd in fds:
                os.close(fd)
        connection.send(json.dumps(answer).encode())
    for pid in forks:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _wait_for(pid: int, seconds: float) -> int | None:
    end = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            return None
        time.sleep(0.002)


def _become_emulator(words: list[str], environment: dict[str, str], fds: list[int]) -> NoReturn:
    from backup.emulator.__main__ import main

    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, fd in enumerate(fds, start=1):
            os.dup2(fd, number)
            os.close(fd)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = ["backup.emulator", *words]
        code = main()
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as asking:
        _serve(asking)
