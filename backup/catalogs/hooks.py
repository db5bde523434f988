"""The user's commands around a backup: before, after, on_failure, finally.

All run under the backup lock, one after the other, each in a process group of its own, which is ended after
its timeout or when the run is asked to stop. Commands after a run are not ended by a stop, as they clean up.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from functools import partial

from msgspec import Struct, field

from backup.catalogs.report import BackupReport
from backup.errors import HookError, InterruptedRunError
from backup.kinds import Outcome
from backup.protocols import Progress

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
        """The exit code, or the negative number of the signal that ended it; None while it runs."""
        return self._process.returncode

    @property
    def last_words(self) -> str:
        """The last line of output, formatted as the end of a sentence."""
        return f": {self._last}" if self._last else ""

    def wait(self, deadline: float, stop: Callable[[], bool] | None) -> None:
        """Wait until it ends. `TimeoutError`, `InterruptedError` when it had to be ended.

        A child process left behind may go on; its output is not waited for.
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


_PASSED_ON = frozenset({"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR"})


class Hook(StrEnum):
    """The moments at which commands run: `before` anything is read, `after` a snapshot, and so on."""

    BEFORE = "before"
    AFTER = "after"
    ON_FAILURE = "on_failure"
    FINALLY = "finally"


class Command(Struct, frozen=True):
    """A program with its arguments, found on PATH if it has no slash, and its timeout in seconds.

    `grace`: the seconds between SIGTERM and SIGKILL, if it must be ended.
    """

    words: tuple[str, ...]
    timeout: float
    grace: float = 10.0


class Hooks(Struct, frozen=True):
    """A job's commands, and the environment that all of them get."""

    commands: Mapping[Hook, Sequence[Command]] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


def passed_on(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the part of our environment that a hook gets: paths and locale, no keys, no secrets."""
    return {name: value for name, value in environ.items() if name in _PASSED_ON or name.startswith("LC_")}


class HookRun:
    """The hooks of one run; used from the run's own thread."""

    def __init__(self, hooks: Hooks, *, progress: Progress, stop: Callable[[], bool]) -> None:
        self._hooks = hooks
        self._progress = progress
        self._stop = stop
        self._variables = {"OUTCOME": "", "RUN": "", "SNAPSHOT": "", "ERROR": ""}

    def begun(self, run: int) -> None:
        """Remember the run's number."""
        self._variables["RUN"] = str(run)

    def before(self) -> None:
        """Run `before`. `HookError` at the first failure, `InterruptedRunError` when asked to stop."""
        for command in self._hooks.commands.get(Hook.BEFORE, ()):
            self._run(Hook.BEFORE, command, self._stop)

    def after(self, report: BackupReport) -> list[str]:
        """Run `after`, then `finally`, as a snapshot was made; returns a sentence for each failure."""
        self._variables |= {"OUTCOME": str(report.outcome), "SNAPSHOT": report.snapshot}
        failed = self._try(Hook.AFTER)
        if failed:
            self._variables |= {"OUTCOME": str(Outcome.PARTIAL), "ERROR": failed[0]}
        return failed + self._try(Hook.FINALLY)

    def failed(self, error: BaseException) -> None:
        """Run `on_failure`, then `finally`, as no snapshot was made; failures are only noted."""
        if not isinstance(error, (Exception, KeyboardInterrupt)):
            return
        stopped = isinstance(error, (InterruptedRunError, KeyboardInterrupt))
        outcome = Outcome.INTERRUPTED if stopped else Outcome.FAILED
        self._variables |= {"OUTCOME": str(outcome), "ERROR": " ".join(str(error).split())}
        for sentence in self._try(Hook.ON_FAILURE) + self._try(Hook.FINALLY):
            self._progress.note(sentence)

    def _try(self, hook: Hook) -> list[str]:
        """Run all commands, also after one that failed."""
        failed = []
        for command in self._hooks.commands.get(hook, ()):
            try:
                self._run(hook, command, stop=None)
            except HookError as error:
                failed.append(str(error))
        return failed

    def _run(self, hook: Hook, command: Command, stop: Callable[[], bool] | None) -> None:
        variables = {f"NIGHTVAULT_{name}": value for name, value in self._variables.items()}
        environment = {**self._hooks.environment, **variables, "NIGHTVAULT_HOOK": str(hook)}
        what = f"the hook {hook} ({command.words[0]})"
        try:
            watched = Watched(command.words, environment, command.grace, partial(self._say, hook))
        except (OSError, ValueError) as error:
            raise HookError(f"{what} cannot be started: {error}") from error
        try:
            watched.wait(time.monotonic() + command.timeout, stop)
        except TimeoutError as error:
            raise HookError(f"{what} took longer than {command.timeout:g} s and was ended") from error
        except InterruptedError as error:
            raise InterruptedRunError(f"{what} was ended: the run was asked to stop") from error
        if code := watched.returncode:
            raise HookError(f"{what} {_how(code)}{watched.last_words}")

    def _say(self, hook: Hook, line: str) -> None:
        self._progress.note(f"{hook}: {line}")


def _how(code: int) -> str:
    return f"failed with exit code {code}" if code > 0 else f"was ended by signal {-code}"
