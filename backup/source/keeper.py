"""Keep a command: start it in a group of its own, tell its end, and see that nothing of it outlives us.

A program by itself, run by the way of `source/command.py`; it imports nothing of ours. It gets a socket, a
uid and gid (-1: ours), and the command's words. The socket tells it that we are gone or want no more of it:
then the whole group is ended, also after a kill of our process, and also if the command changed its user. It
sends the command's status over it, and waits.
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

_WAYS = os.environ.get("PATH", os.defpath).split(":")
_PATIENCE = 3.0  # seconds between asking and ending


def main(socket: int, uid: int, gid: int, words: list[str]) -> None:
    """Run the command until it and the socket have ended."""
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, _heard)
    child = os.fork()
    if not child:
        _become(socket, uid, gid, words)
    with suppress(OSError):
        os.setpgid(child, child)  # here and there, so that it is done whoever comes first
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
    """The wake-up pipe tells; without a handler, there would be no wake-up."""


def _become(socket: int, uid: int, gid: int, words: list[str]) -> None:
    try:
        os.close(socket)
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


def _exec(words: list[str]) -> None:
    """As `execvp`, which imports what another user may not be allowed to read."""
    program = words[0]
    ways = [program] if "/" in program else [f"{way}/{program}" for way in _WAYS if way]
    last = OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    for path in ways:
        try:
            os.execve(path, words, os.environ)  # noqa: S606  that is the point
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            last = error
    raise last


def _ended(child: int) -> bool:
    """Whether it has, without letting go of its number, which is its group's."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


def _status(child: int) -> int:
    """Its exit code, negative for the signal that ended it."""
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
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
