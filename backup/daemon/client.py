"""The client of the daemon's control socket."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping
from typing import Any

import msgspec

from backup.daemon.local_socket import SOCKET, LineTooLongError, read_line, short_path, write_line
from backup.errors import DaemonAwayError, ExitCode, NightvaultError, StateDeniedError

_MOST = 16 * 1024 * 1024
_SECONDS = 10.0
_DENIED = {errno.EACCES, errno.EPERM}


class DaemonError(NightvaultError):
    """An error that the daemon answered; it is shown with the daemon's kind, message and exit code."""

    def __init__(self, kind: str, message: str, advice: str, exit_code: int) -> None:
        super().__init__(message, advice=advice)
        self.exit_code = ExitCode(exit_code)
        self._kind = kind

    @property
    def kind(self) -> str:
        """The stable word for the error, as the daemon sent it."""
        return self._kind


def ask(
    directory: str, request: Mapping[str, object], *, seconds: float = _SECONDS, name: str = SOCKET
) -> dict[str, Any]:
    """Send a request and return the daemon's answer. `DaemonAwayError`, `StateDeniedError`, `DaemonError`."""
    try:
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection,
            short_path(directory, name) as path,
        ):
            connection.settimeout(seconds)
            connection.connect(path)
            write_line(connection, msgspec.json.encode(request), seconds)
            line = read_line(connection, _MOST, seconds)
        answer = msgspec.json.decode(line, type=dict[str, Any])
    except OSError as error:
        if error.errno in _DENIED:
            sentence = f"the daemon's socket in {directory} may not be used by this user"
            raise StateDeniedError(sentence) from error
        raise _away(directory) from error
    except (LineTooLongError, msgspec.MsgspecError) as error:
        raise _away(directory) from error
    if (told := answer.get("error")) is not None:
        raise DaemonError(told["kind"], told["message"], told["advice"], told["exit_code"])
    return answer


def _away(directory: str) -> DaemonAwayError:
    return DaemonAwayError(
        f"the daemon gives no answer on its socket in {directory}",
        advice="look whether it runs: `nightvault status`, `systemctl status nightvault`",
    )
