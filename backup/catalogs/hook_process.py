"""A process of the user's, waited for, its output passed on; ended with its whole group when time is up."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

_LOOK_SECONDS = 0.1
_LONGEST_LINE = 4096
_BLOCK = 65536
_MOST_AFTER_END = 20  # blocks read once it has ended: more than a pipe holds, and a child may write for ever


class Watched:
    """A process whose output is passed on line by line; ended with its whole group, unless it ends itself."""

    def __init__(
        self,
        words: Sequence[str],
        environment: Mapping[str, str],
        grace: float,
        say: Callable[[str], None],
    ) -> None:
        """Start the program in `/`. `OSError`, `ValueError` if it cannot be started.

        `grace`: the seconds between SIGTERM and SIGKILL, where it must be ended.
        """
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=environment,
            start_new_session=True,
        )
        self._grace = grace
        self._say = say
        self._held = b""
        self._last = ""

    @property
    def returncode(self) -> int | None:
        """Its exit code, or the number of the signal that ended it, negative; None while it runs."""
        return self._process.returncode

    @property
    def last_words(self) -> str:
        """The last line of output, formatted as the end of a sentence."""
        return f": {self._last}" if self._last else ""

    def wait(self, deadline: float, stop: Callable[[], bool] | None) -> None:
        """Wait until it ends. `TimeoutError`, `InterruptedError` when it had to be ended.

        A child that it leaves behind may go on, and what that writes is not waited for.
        """
        try:
            self._follow(deadline, stop)
        except BaseException:
            self._end_group()
            raise
        finally:
            if self._process.stdout is not None:
                self._process.stdout.close()
        self._pass_on(b"\n" if self._held else b"")

    def _follow(self, deadline: float, stop: Callable[[], bool] | None) -> None:
        assert self._process.stdout is not None  # noqa: S101 (Popen was asked for it)
        output = self._process.stdout.fileno()
        os.set_blocking(output, False)
        poll = select.poll()
        poll.register(output, select.POLLIN)
        is_open, left = True, _MOST_AFTER_END
        while True:
            ended = self._process.poll() is not None
            ready = is_open and bool(poll.poll(0 if ended else int(_LOOK_SECONDS * 1000)))
            if ready:
                data = os.read(output, _BLOCK)
                is_open = bool(data)
                self._pass_on(data)
            elif not is_open and not ended:
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(_LOOK_SECONDS)
            if ended:
                left -= 1
                if not ready or not left:
                    return
                continue
            if stop is not None and stop():
                raise InterruptedError
            if time.monotonic() >= deadline:
                raise TimeoutError

    def _pass_on(self, data: bytes) -> None:
        *lines, self._held = (self._held + data).split(b"\n")
        if len(self._held) > _LONGEST_LINE:
            lines, self._held = [*lines, self._held], b""
        for line in lines:
            text = line[:_LONGEST_LINE].decode(errors="replace").rstrip()
            if text:
                self._last = text
                self._say(text)

    def _end_group(self) -> None:
        for number, seconds in ((signal.SIGTERM, self._grace), (signal.SIGKILL, None)):
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
