"""Programs as forks of one process that has imported their modules: that is paid for once, not by each.

`Fork(words, environment)` is to its user what a `Popen` of `python -m backup.emulator WORDS` is, and
`run_command(words, environment)` what a `subprocess.run` of `nightvault WORDS` is: 0.01 s of CPU in place of
0.15 to 0.5. `place_command(path)` makes a program of it, for scripts of shells. The process that forks ends
with the one that asked it to, and takes its forks along. What is about a start itself (imports, locales, a
terminal, signals) starts the real program.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import marshal
import os
import pkgutil
import select
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

_REPOSITORY = Path(__file__).resolve().parents[2]
_MOST = 1 << 20  # bytes of a request: an environment and a few words
_EMULATOR, _COMMAND = "emulator", "command"
_READ = ("cli", "config", "credentials", "app", "vault")  # packages that commands read, of `backup`


class Fork:
    """A running emulator; what it prints is read from `stdout`."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str]) -> None:
        ours, theirs = os.pipe()
        nothing = os.open(os.devnull, os.O_RDONLY)
        try:
            self.pid: int = _fork(_EMULATOR, words, environment, (nothing, theirs, 2))
        finally:
            os.close(nothing)
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
        code: int | None = _ask(_EMULATOR, {"wait": self.pid, "seconds": seconds})
        if code is None:
            raise subprocess.TimeoutExpired("emulator", seconds)
        return code


def run_command(
    words: Sequence[str], environment: Mapping[str, str], *, seconds: float = 60.0
) -> subprocess.CompletedProcess[bytes]:
    """Run `nightvault WORDS` to its end, in a session of its own, with nothing on its standard input."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    pipes = [os.pipe(), os.pipe()]
    try:
        pid = _fork(_COMMAND, words, environment, (nothing, *(theirs for _, theirs in pipes)))
    finally:
        for handle in (nothing, *(theirs for _, theirs in pipes)):
            os.close(handle)
    said = _read_both([ours for ours, _ in pipes], time.monotonic() + seconds)
    if said is None:
        os.kill(pid, signal.SIGKILL)
    code: int | None = _ask(_COMMAND, {"wait": pid, "seconds": 10})
    if said is None or code is None:
        raise subprocess.TimeoutExpired(["nightvault", *words], seconds)
    return subprocess.CompletedProcess(["nightvault", *words], code, *said)


_CLIENT = """\
import _socket, marshal, os, signal, sys
mask = os.umask(0)
os.umask(mask)
connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
connection.connect({path!r})
handles = b"".join(handle.to_bytes(4, sys.byteorder) for handle in (0, 1, 2))
asked = marshal.dumps((sys.argv[1:], dict(os.environ), os.getcwd(), mask))
connection.sendmsg([asked], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, handles)])
pid = marshal.loads(connection.recv(64))
for name in ("SIGTERM", "SIGHUP", "SIGINT", "SIGUSR1", "SIGUSR2"):
    signal.signal(getattr(signal, name), lambda number, frame: os.kill(pid, number))
status = marshal.loads(connection.recv(64))
if os.WIFSIGNALED(status):
    signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
    os.kill(os.getpid(), os.WTERMSIG(status))
sys.exit(os.waitstatus_to_exitcode(status))
"""


def place_command(path: Path) -> None:
    """Make a program that is `nightvault` to those who start it: its handles, directory, mounts and signals.

    Only for root where these have other mounts, and not for a clock of libfaketime.
    """
    meeting = path.with_name(f"{path.name}.socket")
    _ask(_COMMAND, {"listen": str(meeting)})
    path.write_text(f"#!{sys.executable} -IS\n{_CLIENT.format(path=str(meeting))}")
    path.chmod(0o755)


def _read_both(handles: Sequence[int], end: float) -> list[bytes] | None:
    """All that comes until both end; None if they do not in time."""
    said = dict.fromkeys(handles, b"")
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as closing:
        for handle in handles:
            closing.callback(os.close, handle)
            selector.register(handle, selectors.EVENT_READ)
        while selector.get_map() and time.monotonic() < end:
            for key, _ in selector.select(end - time.monotonic()):
                more = os.read(key.fd, 1 << 16)
                said[key.fd] += more
                if not more:
                    selector.unregister(key.fd)
        return None if selector.get_map() else list(said.values())


_lock = threading.Lock()
_running: dict[tuple[int, str], socket.socket] = {}  # by this process and the program: the helper's other end


def _fork(program: str, words: Sequence[str], environment: Mapping[str, str], fds: Sequence[int]) -> int:
    asked = {"words": list(words), "environment": dict(environment), "folder": os.getcwd()}
    pid: int = _ask(program, asked, fds)
    return pid


def _ask(program: str, request: Mapping[str, object], fds: Sequence[int] = ()) -> Any:
    with _lock:
        ours = (os.getpid(), program)
        if ours not in _running:
            _running[ours] = _start(program)
        socket.send_fds(_running[ours], [json.dumps(request).encode()], list(fds))
        return json.loads(_running[ours].recv(_MOST))


def _start(program: str) -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        helper = subprocess.Popen(
            [sys.executable, "-m", "tests.support.program_forks", str(theirs.fileno()), program],
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


def _serve(connection: socket.socket, program: str) -> None:
    """Fork and wait as asked, until whoever asks is gone."""
    main = _emulator() if program == _EMULATOR else _command()
    gc.collect()
    gc.freeze()  # what the forks share
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    forks: set[int] = set()
    meetings: list[socket.socket] = []
    while True:
        ready, _, _ = select.select([connection, *meetings], [], [])
        for meeting in ready:
            if meeting is not connection:
                forks.add(_serve_one(main, meeting, [connection, *meetings]))
        if connection not in ready:
            continue
        data, fds, _, _ = socket.recv_fds(connection, _MOST, 3)
        if not data:
            break
        asked = json.loads(data)
        if "listen" in asked:
            meetings.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            meetings[-1].bind(asked["listen"])
            meetings[-1].listen(16)
            answer = None
        elif "wait" in asked:
            answer = _wait_for(asked["wait"], asked["seconds"])
            if answer is not None:
                forks.discard(asked["wait"])
        else:
            answer = os.fork()
            if answer == 0:
                connection.close()
                if program == _COMMAND:
                    os.setsid()
                    os.chdir(asked["folder"])
                _become(main, asked["words"], asked["environment"], fds)
            forks.add(answer)
            for fd in fds:
                os.close(fd)
        connection.send(json.dumps(answer).encode())
    for pid in forks:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL) if meetings else os.kill(pid, signal.SIGKILL)


def _serve_one(main: Callable[[], int], meeting: socket.socket, others: Sequence[socket.socket]) -> int:
    """A process that runs the command for the program that calls here, and tells it the end."""
    caller, _ = meeting.accept()
    with caller:
        warden = os.fork()
        if warden:
            return warden
        os.setsid()
        for other in others:
            other.close()
        asked, fds, _, _ = socket.recv_fds(caller, _MOST, 3)
        words, environment, folder, mask = marshal.loads(asked)
        peer, _, _ = struct.unpack("3i", caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        pid = os.fork()
        if pid == 0:
            caller.close()
            _enter(peer)
            os.chdir(folder)
            os.umask(mask)
            _become(main, words, environment, fds)
        for fd in fds:
            os.close(fd)
        caller.send(marshal.dumps(pid))
        _, status = os.waitpid(pid, 0)
        with contextlib.suppress(OSError):  # nobody waits any more
            caller.send(marshal.dumps(status))
        os._exit(0)


def _enter(pid: int) -> None:
    """See what is mounted as that process does."""
    if os.path.samefile(f"/proc/{pid}/ns/mnt", "/proc/self/ns/mnt"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/proc/{pid}/ns/mnt") as theirs:
        if libc.setns(theirs.fileno(), 0) != 0:
            raise OSError(ctypes.get_errno(), "setns")


def _emulator() -> Callable[[], int]:
    from backup.emulator.__main__ import main

    sys.argv = ["backup.emulator"]
    return main


def _command() -> Callable[[], int]:
    """The command, with all that commands read while they run."""
    import backup
    from backup.cli import main

    for package in _READ:
        for found in pkgutil.walk_packages([f"{backup.__path__[0]}/{package}"], f"backup.{package}."):
            with contextlib.suppress(ImportError):  # what is not installed here
                importlib.import_module(found.name)
    sys.argv = ["nightvault"]
    return main


def _wait_for(pid: int, seconds: float) -> int | None:
    end = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            return None
        time.sleep(0.002)


def _become(
    main: Callable[[], int], words: list[str], environment: dict[str, str], fds: list[int]
) -> NoReturn:
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, fd in enumerate(fds):
            os.dup2(fd, number)
            os.close(fd)
        sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False, buffering=1)
        sys.stderr = os.fdopen(2, "w", 1, encoding="utf-8", closefd=False, errors="backslashreplace")
        os.environ.clear()
        os.environ.update(environment)
        time.tzset()
        sys.argv = [*sys.argv, *words]
        code = main()
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        atexit._run_exitfuncs()  # as at any end; to clear the modules, too, would take 0.05 s
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as asking:
        _serve(asking, sys.argv[2])
