"""A job's low priority for CPU and disk, set on a thread and inherited by all that it starts.

Linux keeps both for each thread, so jobs of one process may differ: `in_thread` gives a job a thread of its
own. They are only ever lowered; elsewhere nothing is set. Source: setpriority(2), ioprio_set(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from typing import Final, TypeVar

from msgspec import Struct

from backup.config import JobSettings
from backup.errors import ConfigError

T = TypeVar("T")

_BEST_EFFORT: Final = 2
_IDLE: Final = 3
_CLASS_SHIFT: Final = 13
_THREAD: Final = 1  # IOPRIO_WHO_PROCESS, which means a thread
_MIDDLE: Final = 4  # of the levels 0 to 7
_IOPRIO: Final = {  # ioprio_set, ioprio_get: the C library has no names for them
    "x86_64": (251, 252),
    "aarch64": (30, 31),
    "riscv64": (30, 31),
    "loongarch64": (30, 31),
    "ppc64le": (273, 274),
    "s390x": (282, 283),
}
_ADVICE = "leave it out of the job, or let what runs nightvault grant it"


class Priority(Struct, frozen=True):
    """A job's priority.

    `nice` is 0 to 19; `io` is class and level (0 is the most urgent), packed for ioprio_set. `nice` is 0 to
    19; `io` is class and level (0 is the most urgent), packed for ioprio_set.
    """

    nice: int | None = None
    io: int | None = None

    @classmethod
    def of(cls, job: JobSettings) -> Priority:
        """Return the priority that a job's settings ask for."""
        if job.ionice is None:
            return cls(job.nice)
        name, _, level = job.ionice.partition(":")
        kind = _IDLE if name == "idle" else _BEST_EFFORT
        return cls(job.nice, kind << _CLASS_SHIFT | int(level or 0))

    def set_here(self) -> None:
        """Lower this thread's priority to it, and that of all it starts.

        `ConfigError` if the system refuses.
        """
        if sys.platform != "linux":
            return
        if self.nice is not None:
            _set_nice(self.nice)
        if self.io is not None:
            _set_io(self.io)


def in_thread(priority: Priority, action: Callable[[], T]) -> T:
    """Run `action` in a thread of that priority, or in this thread if there is none; returns its result."""
    if priority == Priority():
        return action()
    done: Future[T] = Future()

    def run() -> None:
        try:
            priority.set_here()
            done.set_result(action())
        except BaseException as error:  # noqa: BLE001  the caller's, as it came
            done.set_exception(error)

    thread = threading.Thread(target=copy_context().run, args=[run], name="job")
    thread.start()
    thread.join()
    return done.result()


def _set_nice(wanted: int) -> None:
    me = threading.get_native_id()
    try:
        if os.getpriority(os.PRIO_PROCESS, me) < wanted:
            os.setpriority(os.PRIO_PROCESS, me, wanted)
    except OSError as error:
        raise ConfigError(f"cannot set nice = {wanted}: {error.strerror}", advice=_ADVICE) from error


def _set_io(wanted: int) -> None:
    numbers = _IOPRIO.get(os.uname().machine)
    if numbers is None or sys.maxsize < 2**32:
        return
    call, me = ctypes.CDLL(None, use_errno=True).syscall, threading.get_native_id()
    set_number, get_number = numbers
    now = call(ctypes.c_long(get_number), _THREAD, me)
    if now >= 0 and _urgency(now) >= _urgency(wanted):
        return
    if call(ctypes.c_long(set_number), _THREAD, me, wanted) < 0 and ctypes.get_errno() != errno.ENOSYS:
        reason = os.strerror(ctypes.get_errno())
        raise ConfigError(f"cannot set the job's ionice: {reason}", advice=_ADVICE)


def _urgency(packed: int) -> int:
    """A number that is larger for what is less urgent; a priority never set is best effort in the middle."""
    return packed if packed >> _CLASS_SHIFT else _BEST_EFFORT << _CLASS_SHIFT | _MIDDLE
