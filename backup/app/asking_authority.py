"""Asking the authority for a certificate: a command, or ssh, gets the request and prints the answer."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress

from backup.archiver.hooks import passed_on
from backup.config import RenewSettings
from backup.credentials.places import MOST_FILE
from backup.errors import IdentityError

Ask = Callable[[bytes], bytes]
"""Takes a request and returns certificates, both in PEM. `IdentityError` if there is no answer."""

_SSH = ("ssh", "-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=30", "--")
_LONGEST_REASON = 300
_OURS = "nightvault: "


def way_of(renew: RenewSettings) -> str:
    """A text for people that names the way in which the certificate is renewed."""
    if renew.ssh is not None:
        return f"by ssh from {renew.ssh}"
    return "by another program" if renew.command is None else f"by {renew.command[0]}"


def asking(renew: RenewSettings) -> Ask:
    """The way that the config names; not for files."""
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
        output, errors = process.communicate(request, timeout)
    except subprocess.TimeoutExpired as error:
        raise IdentityError(f"{what} gave no answer within {timeout} s", advice="see its timeout") from error
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode:
        how = f"exit code {process.returncode}" if process.returncode > 0 else f"signal {-process.returncode}"
        raise IdentityError(f"{what} failed with {how}{_last_words(errors)}")
    if len(output) > MOST_FILE:
        raise IdentityError(f"{what} printed {len(output)} bytes: that is no certificate")
    return output


def _last_words(errors: bytes) -> str:
    """Why it failed: our own sentence with its advice, if the program at the other end is ours; else the last
    line, which is where most programs say so."""
    lines = [line for line in errors.decode(errors="replace").splitlines() if line.strip()]
    ours = [number for number, line in enumerate(lines) if line.startswith(_OURS)]
    said = " ".join(lines[ours[-1] :]).removeprefix(_OURS) if ours else "".join(lines[-1:])
    return f": {' '.join(said.split())[:_LONGEST_REASON]}" if said else ""
