"""`nightvault serve`: hand out keys on loopback as an EC2 instance's metadata service does."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import click

from backup.cli.context import Cli, pass_cli
from backup.cli.identity_flags import (
    Flags,
    identity_of,
    options_of,
    session_flags,
    source_of,
    warn_of_expiry,
)
from backup.errors import UsageError

if TYPE_CHECKING:
    from backup.credentials.imds import Imds

PORT = 9911
HOPS = 64
IDLE_SECONDS = 30


@click.command()
@session_flags
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, metavar="N", help="9911, if not given.")
@click.option(
    "--hop-limit", type=click.IntRange(1, 255), default=HOPS, metavar="N", help="Hops of answers (64)."
)
@pass_cli
def serve(cli: Cli, /, port: int, hop_limit: int, **given: Any) -> None:
    """Answer on 127.0.0.1 as IMDSv2 does, until interrupted.

    Tools find it by AWS_EC2_METADATA_SERVICE_ENDPOINT, which is printed. Keys are fetched before the first
    question, so that a mistake is told at once; later failures keep the keys that work. The flags are those
    of aws_signing_helper.
    """
    from backup.credentials.imds import Imds

    flags = Flags(**given)
    files = identity_of(cli, flags)
    options = options_of(cli, flags)
    warn_of_expiry(cli, files, 14)
    source = source_of(cli, flags, files, options)
    source.credentials()
    imds = Imds(source, options.role_arn.rpartition("/")[2], cli.clock)
    logging.basicConfig(stream=sys.stderr, format="nightvault: %(message)s")
    with make_server(imds, port, hop_limit) as server:
        where = f"http://127.0.0.1:{server.server_address[1]}"
        click.echo(f"export AWS_EC2_METADATA_SERVICE_ENDPOINT={where}")
        sys.stdout.flush()
        server.serve_forever(poll_interval=0.2)


def make_server(imds: Imds, port: int, hop_limit: int) -> ThreadingHTTPServer:
    """A server on 127.0.0.1 that asks `imds`; `UsageError` when the port is taken."""
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), _handler(imds.answer))
    except OSError as error:
        raise UsageError(
            f"port {port} of 127.0.0.1 cannot be had: {error.strerror}", advice="choose another --port"
        ) from error
    server.daemon_threads = True
    server.socket.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hop_limit)  # connections inherit it
    return server


def _handler(answer: Callable[..., Any]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version = "nightvault"
        sys_version = ""
        timeout = IDLE_SECONDS

        def _reply(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
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
            """Say nothing: a token stands in requests."""

    return Handler
