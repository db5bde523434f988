"""`nightvault serve`: serves AWS keys on loopback, as an EC2 instance or a container gets them."""

from __future__ import annotations

import logging
import os
import secrets
import shlex
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import click

from backup.cli.keys.identity_flags import (
    Flags,
    identity_of,
    options_of,
    session_flags,
    source_of,
    warn_of_expiry,
)
from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.error_stream import write_unread
from backup.errors import UsageError

if TYPE_CHECKING:
    from email.message import Message

    from backup.credentials.serving.local_requests import Reply
    from backup.protocols import Clock, CredentialSource

    Answer = Callable[[str, str, Mapping[str, str]], Reply]
PORT = 9911
HOPS = 64
MOST_CONNECTIONS = 64
HEAD_SECONDS = 15.0  # from a connection's beginning, or its last answer, to the end of the next head


@click.command()
@session_flags
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, metavar="N", help="9911, if not given.")
@click.option(
    "--hop-limit", type=click.IntRange(1, 255), default=HOPS, metavar="N", help="Hops of answers (64)."
)
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Hand out keys as containers get them, to those who can read FILE: it gets a new token (0600).",
)
@pass_cli
def serve(cli: Cli, /, port: int, hop_limit: int, token_file: str | None, **given: Any) -> None:
    """Answer on 127.0.0.1 as IMDSv2 does, or a container's credentials, until interrupted.

    Tools find it by the variables that are printed. As IMDSv2 every user of this machine can ask it; with
    --token-file only who can read that file. Keys are fetched before the first question, so that a mistake
    is told at once; later failures keep the keys that work. The flags are those of aws_signing_helper, but
    for --token-file.
    """
    flags = Flags(**given)
    files = identity_of(cli, flags)
    options = options_of(cli, flags)
    warn_of_expiry(cli, files, 14)
    source = source_of(cli, flags, files, options)
    source.credentials()
    write_unread()
    logging.basicConfig(stream=sys.stderr, format="nightvault: %(message)s")
    token = None if token_file is None else secrets.token_urlsafe(48)
    with make_server(_answering(source, options.role_arn, cli.clock, token), port, hop_limit) as server:
        where = f"http://127.0.0.1:{server.server_address[1]}"
        if token is None or token_file is None:
            # The AWS CLI 2 wants the slash: it joins a path to it as it stands.
            click.echo(f"export AWS_EC2_METADATA_SERVICE_ENDPOINT={where}/")
        else:
            _publish(token, os.path.abspath(token_file), where)
        sys.stdout.flush()
        server.serve_forever(poll_interval=0.2)


def _answering(source: CredentialSource, role_arn: str, clock: Clock, token: str | None) -> Answer:
    """The function that answers requests: a container's service if there is a token, else IMDSv2."""
    from backup.credentials.serving.container import ContainerKeys
    from backup.credentials.serving.imds import Imds

    if token is None:
        return Imds(source, role_arn.rpartition("/")[2], clock).answer
    return ContainerKeys(source, role_arn, clock, token).answer


def _publish(token: str, path: str, where: str) -> None:
    """Write the token, without a newline, which no header may hold, and print the variables for tools."""
    from backup.credentials.serving.container import CREDENTIALS_PATH
    from backup.files import write_durably

    if os.path.lexists(path) and not os.path.isfile(path):
        raise UsageError(
            f"{path} is no file that a token could replace",
            advice="name a file that --token-file may make anew",
        )
    try:
        write_durably(path, token.encode())
    except OSError as error:
        raise UsageError(
            f"cannot write the token to {path}: {error.strerror}",
            advice="name a file in a directory that exists and that this user may write to",
        ) from error
    click.echo(f"export AWS_CONTAINER_CREDENTIALS_FULL_URI={where}{CREDENTIALS_PATH}")
    click.echo(f"export AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE={shlex.quote(path)}")


class LocalServer(ThreadingHTTPServer):
    """An HTTP server on loopback that a slow or greedy client cannot block.

    The number of connections is limited: a new one replaces the one that has been idle longest. A
    connection that does not send a whole request head in time is closed.
    """

    daemon_threads = True
    request_queue_size = 128
    most, head_seconds = MOST_CONNECTIONS, HEAD_SECONDS

    def __init__(self, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self._waiting: dict[socket.socket, float] = {}  # since when, the oldest first
        self._answering: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", port), handler)

    def verify_request(self, request: Any, _client: Any) -> bool:
        """Accept a connection, if necessary in place of an idle one; False if all others are busy."""
        with self._lock:
            if len(self._waiting) + len(self._answering) >= self.most:
                oldest = next(iter(self._waiting), None)
                if oldest is None:
                    return False
                self._cut(oldest)
            self._waiting[request] = time.monotonic()
        return True

    def shutdown_request(self, request: Any) -> None:
        """Close a connection, and remove it from the list."""
        with self._lock:
            self._waiting.pop(request, None)
            self._answering.discard(request)
            super().shutdown_request(request)

    def service_actions(self) -> None:
        """Close connections that have exceeded their time."""
        until = time.monotonic() - self.head_seconds
        with self._lock:
            for request in [request for request, since in self._waiting.items() if since < until]:
                self._cut(request)

    def is_answered(self, request: socket.socket) -> bool:
        """Note that a whole request head has arrived; False if the connection was closed meanwhile."""
        with self._lock:
            if self._waiting.pop(request, None) is None:
                return False
            self._answering.add(request)
            return True

    def waits(self, request: socket.socket) -> None:
        """Note that a request was answered, so that the connection is idle again."""
        with self._lock:
            self._answering.discard(request)
            self._waiting[request] = time.monotonic()

    def handle_error(self, *_: Any) -> None:
        """Do nothing: a client that closed its connection is no error."""

    def _cut(self, request: socket.socket) -> None:
        """End a connection: its thread, which waits for bytes, then closes it."""
        del self._waiting[request]
        with suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)


def make_server(answer: Answer, port: int, hop_limit: int) -> LocalServer:
    """Return a server on 127.0.0.1 that answers requests with `answer`. `UsageError` if the port is taken."""
    try:
        server = LocalServer(port, _handler(answer))
    except OSError as error:
        raise UsageError(
            f"port {port} of 127.0.0.1 cannot be had: {error.strerror}", advice="choose another --port"
        ) from error
    server.socket.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hop_limit)  # connections inherit it
    return server


def _by_name(headers: Message) -> dict[str, str]:
    """Headers by lower-case name; what is sent more than once is joined, and so is no host and no token."""
    found: dict[str, str] = {}
    for name, value in headers.items():
        lower = name.lower()
        found[lower] = f"{found[lower]}, {value}" if lower in found else value
    return found


def _handler(answer: Answer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version = "nightvault"
        sys_version = ""
        timeout = HEAD_SECONDS
        server: LocalServer

        def _reply(self) -> None:
            if not self.server.is_answered(self.connection):
                self.close_connection = True
                return
            self._answer()
            self.wfile.flush()
            self.server.waits(self.connection)

        def _answer(self) -> None:
            headers = _by_name(self.headers)
            reply = answer(self.command, self.path, headers)
            body = reply.body.encode()
            self.send_response(reply.status)
            for name, value in {"Content-Type": "text/plain", **reply.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
                self.send_header("Connection", "close")  # a body that nobody asked for is not read
                self.close_connection = True
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_PATCH = do_OPTIONS = _reply  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class names it so
            """Do nothing: request lines are not logged, as requests carry a token."""

    return Handler
