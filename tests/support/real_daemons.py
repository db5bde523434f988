"""`nightvault daemon` as a real process, whose log is read line by line.

with running(config) as daemon:
    daemon.wait_for("started with")
    daemon.stop()
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

SCRIPT = str(Path(sys.executable).parent / "nightvault")
PATIENCE = 60.0


@dataclass
class RealDaemon:
    """A daemon at work; `lines` is what it logged."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    _news: threading.Condition = field(default_factory=threading.Condition)

    def follow(self) -> None:
        """Take in the log until its end."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._news:
                self.lines.append(line.rstrip())
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def wait_for(self, text: str, count: int = 1) -> str:
        """The log, once it has that text so often."""

        def is_there() -> bool:
            return sum(text in line for line in self.lines) >= count or self.process.poll() is not None

        with self._news:
            self._news.wait_for(is_there, PATIENCE)
            said = "\n".join(self.lines)
        assert said.count(text) >= count, f"{text!r} is not in the log:\n{said}"
        return said

    def stop(self, number: int = signal.SIGTERM) -> float:
        """Ask it to stop; the seconds that it took. It has to end with 0."""
        began = time.monotonic()
        self.process.send_signal(number)
        assert self.process.wait(PATIENCE) == 0
        return time.monotonic() - began

    def kill(self) -> None:
        """End it as a power cut does."""
        self.process.kill()
        self.process.wait(PATIENCE)


@contextmanager
def running(
    config: Path, *, environ: Mapping[str, str] | None = None, words: Sequence[str] = ()
) -> Iterator[RealDaemon]:
    """A daemon on that config; it is ended if the test has not done so."""
    with following([SCRIPT, "--config", str(config), *words, "daemon"], environ or {}) as daemon:
        yield daemon


@contextmanager
def following(command: Sequence[str], environ: Mapping[str, str] | None = None) -> Iterator[RealDaemon]:
    """A command that is a daemon."""
    given = {**os.environ, **(environ or {})}
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, env=given
    ) as process:
        daemon = RealDaemon(process)
        follower = threading.Thread(target=daemon.follow)
        follower.start()
        try:
            yield daemon
        finally:
            if process.poll() is None:
                process.kill()
            follower.join(PATIENCE)
