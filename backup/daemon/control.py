"""The control socket: a line of JSON asks for something, a line of JSON answers; nothing listens on TCP.

    {"do": "run", "job": "main"}          {"job": "main", "queued": true}
    {"do": "cancel", "run": "x"}          {"error": {"kind": "usage", "message": …, "advice": …}}

Only its owner may use the socket (0600). The kernel says who connects: only root and the daemon's own user
are answered, other connections are closed unread. A socket with a group (0660), that of the page, admits
the members of the group, too, and has fewer verbs. A request is short and must arrive quickly; slow or many
clients do not block others.
"""

from __future__ import annotations

import logging
import os
import socket
import stat
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec

from backup.daemon.local_socket import (
    LONGEST_REQUEST,
    SOCKET,
    LineTooLongError,
    groups_of,
    peer_of,
    read_line,
    short_path,
    write_line,
)
from backup.errors import NightvaultError, UsageError
from backup.owners import set_mode

Verb = Callable[[Mapping[str, object]], Mapping[str, Any]]
"""Does what a request asks for; its answer is sent as JSON, an error of ours as such."""

_MOST_CLIENTS, _MOST_WAITING = 16, 128
_SECONDS = 5.0
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class ControlServer:
    """The server of a socket in `directory`; it answers requests with `verbs`, each on its own thread."""

    directory: str
    verbs: Mapping[str, Verb]
    name: str = SOCKET
    seconds: float = _SECONDS
    group: int | None = None  # whose members may ask, too
    _socket: socket.socket | None = field(default=None, init=False)
    _room: threading.BoundedSemaphore = field(init=False)

    def __post_init__(self) -> None:
        self._room = threading.BoundedSemaphore(_MOST_CLIENTS)

    def start(self) -> None:
        """Start listening. `OSError` if that fails. The caller must hold the daemon's lock."""
        self._remove_old()
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            os.fchmod(listening.fileno(), 0o600)  # so it never is open to others, not for a moment
            with short_path(self.directory, self.name) as path:
                listening.bind(path)
                if self.group is not None:
                    os.chown(path, -1, self.group, follow_symlinks=False)
                set_mode(path, 0o600 if self.group is None else 0o660)
            listening.listen(_MOST_WAITING)
        except OSError:
            listening.close()
            raise
        self._socket = listening
        threading.Thread(target=self._accept, args=[listening], name="control", daemon=True).start()

    def close(self) -> None:
        """Stop listening, and remove the socket."""
        if self._socket is None:
            return
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes up who waits in `accept`
        self._socket.close()
        self._socket = None
        with suppress(OSError):
            os.unlink(os.path.join(self.directory, self.name))

    def _remove_old(self) -> None:
        """Remove the socket that a process left which was killed; nothing else that lies there."""
        path = os.path.join(self.directory, self.name)
        with suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.lstat(path).st_mode):
                os.unlink(path)

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                if self._socket is None:
                    return
                threading.Event().wait(0.1)  # no descriptors left, as a rule: it passes
                continue
            if not self._may_ask(connection) or not self._room.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(target=self._serve, args=[connection], name="control", daemon=True).start()

    def _may_ask(self, connection: socket.socket) -> bool:
        try:
            user = peer_of(connection)
            if user in {0, os.geteuid()} or (self.group is not None and self.group in groups_of(connection)):
                return True
        except OSError:
            return False
        _log.warning("%s: a connection of user %d was refused", self.name, user)
        return False

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                answer = self._answer(read_line(connection, LONGEST_REQUEST, self.seconds))
                write_line(connection, msgspec.json.encode(answer), self.seconds)
        except (OSError, LineTooLongError):
            _log.debug("control socket: a client was too slow, and was disconnected")
        except Exception as error:  # noqa: BLE001  a request must not end the daemon
            _log.error("control socket: unexpected %s: %s", type(error).__name__, error)
        finally:
            self._room.release()

    def _answer(self, line: bytes) -> Mapping[str, Any]:
        try:
            request = msgspec.json.decode(line, type=dict[str, object])
        except (msgspec.MsgspecError, RecursionError):
            return _error_document(UsageError('a request is a line of JSON such as {"do": "status"}'))
        verb = self.verbs.get(str(request.get("do")))
        try:
            if verb is None:
                known = ", ".join(self.verbs)
                raise UsageError(f"this socket does not do {request.get('do')!r}: it does {known}")
            return verb(request)
        except NightvaultError as error:
            return _error_document(error)


def _error_document(error: NightvaultError) -> dict[str, Any]:
    return {
        "error": {
            "kind": error.kind,
            "message": str(error),
            "advice": error.advice,
            "exit_code": int(error.exit_code),
        }
    }
