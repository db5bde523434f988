"""Requests a certificate from the authority: a command, or ssh, gets the request and prints the answer."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Thread
from typing import IO

from backup.catalogs.hooks import passed_on
from backup.config import RenewSettings
from backup.credentials.identity_paths import MOST_FILE
from backup.errors import IdentityError

Ask = Callable[[bytes], bytes]
"""Takes a request and returns certificates, both in PEM. `IdentityError` if there is no answer."""

_SSH = ("ssh", "-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=30", "--")
_LONGEST_REASON = 300
_OURS = "nightvault: "
_LAST_BYTES = 2.0
"""Seconds in which what a process printed before its end is read."""


def way_of(renew: RenewSettings) -> str:
    """Return a phrase for people that says how the certificate is renewed."""
    if renew.ssh is not None:
        return f"by ssh from {renew.ssh}"
    return "by another program" if renew.command is None else f"by {renew.command[0]}"


def asking(renew: RenewSettings) -> Ask:
    """Return the function that requests a certificate as the config says; not for `files`."""
    words = (*_SSH, renew.ssh) if renew.ssh is not None else tuple(renew.command or ())
    return lambda request: _run(words, request, renew.timeout)


def _run(words: Sequence[str], request: bytes, timeout: int) -> bytes:
    """The output of a command that gets the request; it and its children are ended when time is up."""
    what = f"the command {words[0]} that renews the certificate"
    environ = passed_on(os.environ)
    if agent := os.environ.get("SSH_AUTH_SOCK"):
        environ["SSH_AUTH_SOCK"] = agent
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env=environ,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise IdentityError(f"{what} cannot be started: {error}", advice="see [identity.renew]") from error
    try:
        output, errors = _exchange(process, request, timeout)
    except subprocess.TimeoutExpired as error:
        raise IdentityError(f"{what} gave no answer within {timeout} s", advice="see its timeout") from error
    if process.returncode:
        how = f"exit code {process.returncode}" if process.returncode > 0 else f"signal {-process.returncode}"
        raise IdentityError(f"{what} failed with {how}{_last_words(errors)}")
    if len(output) > MOST_FILE:
        raise IdentityError(f"{what} printed more than {MOST_FILE} bytes: that is no certificate")
    return output


def _exchange(process: subprocess.Popen[bytes], request: bytes, timeout: int) -> tuple[bytes, bytes]:
    """Send the request to a process; returns its output until it ends, up to a limit.

    `subprocess.TimeoutExpired` when time is up. Its children are ended with it. What left its session and
    holds a pipe open, as ssh's shared connection does, is not waited for.
    """
    output, errors = (
        _BoundedStream(process.stdout, MOST_FILE + 1),
        _BoundedStream(process.stderr, MOST_FILE, newest=True),
    )
    threads = [Thread(target=work, daemon=True) for work in (output.read, errors.read)]
    threads.append(Thread(target=_give, args=(process.stdin, request), daemon=True))
    for thread in threads:
        thread.start()
    try:
        process.wait(timeout)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for thread in threads:
            thread.join(_LAST_BYTES)
    return bytes(output.data), bytes(errors.data)


@dataclass(slots=True)
class _BoundedStream:
    """The first bytes of a stream, or its newest; the others are read and let go."""

    stream: IO[bytes] | None
    most: int
    newest: bool = False
    data: bytearray = field(default_factory=bytearray)

    def read(self) -> None:
        """Read the output to its end."""
        assert self.stream is not None  # noqa: S101
        with self.stream as stream:
            while more := os.read(stream.fileno(), 1 << 16):
                if self.newest:
                    self.data = (self.data + more)[-self.most :]
                else:
                    self.data += more[: self.most - len(self.data)]


def _give(stream: IO[bytes] | None, request: bytes) -> None:
    assert stream is not None  # noqa: S101
    with suppress(BrokenPipeError), stream:
        stream.write(request)


def _last_words(errors: bytes) -> str:
    """Why it failed: our own sentence with its advice, if the program at the other end is ours; else the last
    line, which is where most programs say so."""
    lines = [line for line in errors.decode(errors="replace").splitlines() if line.strip()]
    ours = [number for number, line in enumerate(lines) if line.startswith(_OURS)]
    said = " ".join(lines[ours[-1] :]).removeprefix(_OURS) if ours else "".join(lines[-1:])
    return f": {' '.join(said.split())[:_LONGEST_REASON]}" if said else ""
