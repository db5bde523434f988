"""Commands on a terminal of 24 lines: what they show, typed answers, Ctrl-C."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from contextlib import suppress

from tests.support.servers import SCRIPT


def take_terminal() -> None:
    """In the child: make standard input its terminal, so that Ctrl-C is a signal."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, *words: object, columns: int = 80, **environ: object) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.process = subprocess.Popen(
            [SCRIPT, *map(str, words)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=take_terminal,  # noqa: PLW1509  no thread runs here
            env={
                **os.environ,
                "COLUMNS": str(columns),
                "TERM": "dumb",
                **{name: str(value) for name, value in environ.items()},
            },
        )
        os.close(slave)
        self.text = ""

    def wait_for(self, text: str, seconds: float = 20) -> None:
        """Read until it says so."""
        deadline = time.monotonic() + seconds
        while text not in self.text:
            assert time.monotonic() < deadline, self.text
            if not self._read():
                break
        assert text in self.text, self.text

    def answer(self, text: str) -> None:
        """Type a line."""
        os.write(self._master, text.encode() + b"\n")

    def interrupt(self) -> int:
        """Press Ctrl-C, again if nothing comes of it, as a person does; the exit code.

        Python drops one that strikes while it calls back from freeing an object.
        """
        for _ in range(3):
            self.answer("\x03")
            while self._read(5):
                pass
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(2)
                return self.end()
        raise AssertionError(self.text)

    def end_with(self, text: str) -> int:
        """Type a line, and read to the end; the exit code. Ctrl-D alone is no line, but the end of input."""
        os.write(self._master, text.encode() + (b"" if text == "\x04" else b"\n"))
        return self.end()

    def end(self) -> int:
        """Read to the end; the exit code."""
        while self._read():
            pass
        try:
            return self.process.wait(20)
        finally:
            os.close(self._master)  # not before it has ended: a terminal that goes away is a signal

    def _read(self, seconds: float = 20) -> bool:
        if not select.select([self._master], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # the last writer has gone
            return False
        self.text += data.decode().replace("\r\n", "\n")
        return bool(data)
