"""Runs a command in its own process group, reports its exit, and kills the group if our process is gone.

A stand-alone program, run by `source/command.py`; it imports nothing of ours. Its arguments are a socket, a
file with variables for the command alone (NAME=VALUE, a NUL between), a uid and gid (-1: ours), and the
command's words. When the socket closes, or asks for it, the whole group is
ended, also after our process was killed, and also if the command changed its user. It sends the command's
status over the socket, and waits.
"""

from __future__ import annotations

import errno
import os
import pwd
import select
import signal
import sys
import time
from contextlib import suppress
from types import FrameType

_PATIENCE = 3.0  # seconds between asking and ending


def main(socket: int, added: int, uid: int, gid: int, words: list[str]) -> None:
    """Run the command until it and the socket have ended."""
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, _heard)
    child = os.fork()
    if not child:
        _become(socket, added, uid, gid, words)
    os.close(added)
    with suppress(OSError):
        os.setpgid(child, child)  # in parent and child, so that it is done whoever runs first
    nothing = os.open(os.devnull, os.O_RDWR)
    for ours in (0, 1, 2):
        os.dup2(nothing, ours)  # the ends of the pipes are the command's alone
    has_ended = False
    while True:
        ready, _, _ = select.select([socket, wake], [], [], 1)
        if socket in ready:
            break
        if not has_ended and _ended(child):
            has_ended = True
            with suppress(OSError):
                os.write(socket, b"%d" % _status(child))
        if wake in ready:
            os.read(wake, 64)
    _end(child)


def _heard(_number: int, _frame: FrameType | None) -> None:
    """A signal handler that does nothing; without one, the wake-up pipe would get no byte."""


def _become(socket: int, added: int, uid: int, gid: int, words: list[str]) -> None:
    try:
        os.close(socket)
        _take_environment(added)
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        if uid >= 0:
            os.initgroups(pwd.getpwuid(uid).pw_name, gid)
            os.setgid(gid)
            os.setuid(uid)
        _exec(words)
    except OSError as error:
        os.write(2, os.fsencode(f"{words[0]}: {error.strerror}\n"))
    finally:
        os._exit(127)


def _take_environment(added: int) -> None:
    with os.fdopen(added, "rb") as file:
        variables = [variable.partition(b"=") for variable in file.read().split(b"\0") if variable]
    os.environb.update({name: value for name, _, value in variables})


def _exec(words: list[str]) -> None:
    """Same as `execvp`, which imports modules that another user may not be allowed to read."""
    program = words[0]
    ways = os.environ.get("PATH", os.defpath).split(":")
    ways = [program] if "/" in program else [f"{way}/{program}" for way in ways if way]
    last = OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    for path in ways:
        try:
            os.execve(path, words, os.environ)  # noqa: S606  running the user's command is the point
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            last = error
    raise last


def _ended(child: int) -> bool:
    """Whether the child has ended, without reaping it: its pid is also its group's id."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


def _status(child: int) -> int:
    """The child's exit code, negative for the signal that ended it."""
    found = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert found is not None  # noqa: S101
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status


def _end(child: int) -> None:
    deadline = time.monotonic() + _PATIENCE
    with suppress(OSError):
        if not _ended(child):
            os.killpg(child, signal.SIGTERM)
        while not _ended(child) and time.monotonic() < deadline:
            select.select([], [], [], 0.02)
        os.killpg(child, signal.SIGKILL)
    with suppress(OSError):
        os.waitpid(child, 0)


if __name__ == "__main__":
    _socket, _added, _uid, _gid = map(int, sys.argv[1:5])
    main(_socket, _added, _uid, _gid, sys.argv[5:])
