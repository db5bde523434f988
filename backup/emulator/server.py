"""Run the emulator: one process with a port for all services but S3 and for the admin interface, and one for
S3."""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import FrameType

import uvicorn
from msgspec import Struct, field
from starlette.applications import Starlette
from starlette.routing import Route

from backup.emulator.core.access.accounts_file import AccountsFile
from backup.emulator.core.errors import DISK_ERRORS, EmulatorError, describe_disk
from backup.emulator.core.http.endpoint import Scope, Send
from backup.emulator.core.http.faults import FaultPlan, read_faults
from backup.emulator.core.http.protocol import EmulatorProtocol
from backup.emulator.core.http.receive import Receive
from backup.emulator.core.state.messages import Webhook
from backup.emulator.core.state.settings import Settings, SettingsInForce
from backup.emulator.core.state.store import Store
from backup.emulator.glacier.service import GlacierService
from backup.emulator.iam.service import IamService
from backup.emulator.rolesanywhere.control import ControlService
from backup.emulator.rolesanywhere.operations import FIRST_WORDS
from backup.emulator.rolesanywhere.sessions import SessionService
from backup.emulator.s3.service import S3Service, bad_request

from .admin import OPERATIONS, Admin
from .duties import DUTIES

HEADER_LIMIT = 256 * 1024  # a post-quantum chain fills tens of KiB
KEEP_ALIVE_SECONDS = 75
GRACE_SECONDS = 3
FASTEST = 1_000_000

Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class EmulatorOptions(Struct, frozen=True):
    """The options of the emulator: port 0 means a free one; `speed` is emulated seconds for each real second.

    A body that stalls for `idle_seconds` (real) is answered with 408.
    """

    state: Path
    accounts: Path
    host: str = "127.0.0.1"
    port: int = 0
    speed: float = 1.0
    tls_cert: Path | None = None
    tls_key: Path | None = None
    idle_seconds: float = 60.0
    faults: Path | None = None
    settings: Settings = field(default_factory=Settings)
    s3_port: int = 0


class _AnnouncingServer(uvicorn.Server):
    """A server that announces its URLs once it listens, and ends without passing the signal on."""

    def __init__(self, config: uvicorn.Config, url: str, s3_url: str) -> None:
        super().__init__(config)
        self._urls = (url, s3_url)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        announce(*self._urls)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.force_exit = self.should_exit
        self.should_exit = True


def announce(url: str, s3_url: str) -> None:
    """Print the URLs: one JSON line on stdout, export lines for a shell on stderr."""
    named = {"glacier": url, "rolesanywhere": url, "s3": s3_url, "iam": url, "sts": url}
    print(json.dumps({**named, "admin": url}), flush=True)  # noqa: T201
    lines = (f"export AWS_ENDPOINT_URL_{name.upper()}={where}" for name, where in named.items())
    print(*lines, sep="\n", file=sys.stderr, flush=True)  # noqa: T201


def warn_of_others(host: str) -> None:
    """Warn on stderr if other machines can reach the emulator."""
    if ipaddress.ip_address(host.partition("%")[0]).is_loopback:
        return
    lines = (
        "!" * 78,
        f"The emulator listens on {host}: every machine that reaches this one can use it.",
        "Its admin calls ask for no signature: anyone may step its clock and plan faults.",
        "!" * 78,
    )
    print(*lines, sep="\n", file=sys.stderr, flush=True)  # noqa: T201


def application(
    options: EmulatorOptions,
    store: Store,
    accounts: AccountsFile,
    settings: SettingsInForce,
    s3_port: int,
) -> Application:
    """The ASGI application: S3 by its port, the others by the path; the rest is the vault service's."""
    faults = FaultPlan([] if options.faults is None else read_faults(options.faults, OPERATIONS))
    sessions = SessionService(store, accounts, faults, options.idle_seconds)
    glacier = GlacierService(store, accounts, faults, settings, options.idle_seconds)
    control = ControlService(store, accounts, faults, options.idle_seconds)
    iam = IamService(store, accounts, faults, settings, options.idle_seconds)
    s3 = S3Service(store, accounts, faults, settings, options.idle_seconds)
    admin = Starlette(
        routes=[*Admin(store, faults, settings).routes(), Route("/sessions", endpoint=sessions)]
    )

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["server"][1] == s3_port:
            await s3(scope, receive, send)
            return
        first = scope["path"].lstrip("/").partition("/")[0]
        if first in FIRST_WORDS:
            await control(scope, receive, send)
        elif (scope["method"], scope["path"]) == ("POST", "/"):
            await iam(scope, receive, send)
        else:
            await (admin if first in ("sessions", "_admin") else glacier)(scope, receive, send)

    return dispatch


def serve(options: EmulatorOptions) -> None:
    """Run the emulator until SIGTERM or SIGINT; EmulatorError with one sentence if it cannot start."""
    if not 0 < options.speed <= FASTEST:
        raise EmulatorError(f"The speed must be greater than 0 and at most {FASTEST}.")
    if (options.tls_cert is None) != (options.tls_key is None):
        raise EmulatorError("TLS needs both a certificate and its key.")
    accounts = AccountsFile(options.accounts)
    os.umask(0o077)
    try:
        store = Store(options.state, speed=options.speed, duties=DUTIES)
    except DISK_ERRORS as error:
        raise EmulatorError(
            f"Cannot use the state directory {options.state}. {describe_disk(error)}"
        ) from error
    settings = SettingsInForce(options.settings)
    webhook = Webhook(store, settings)
    try:
        listeners = [_listen(options.host, port) for port in (options.port, options.s3_port)]
        s3_port = listeners[1].getsockname()[1]
        webhook.start()
        _run(options, application(options, store, accounts, settings, s3_port), listeners)
    finally:
        webhook.stop()
        store.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, proto)  # asyncio spares TCP its delays only if proto says TCP
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise EmulatorError(f"Cannot listen on {host} port {port}: {error}.") from error
    return listener


def _run(options: EmulatorOptions, app: Application, listeners: list[socket.socket]) -> None:
    urls = [_url(options, listener) for listener in listeners]
    s3_port = listeners[1].getsockname()[1]
    config = uvicorn.Config(
        app,
        http=type(EmulatorProtocol.__name__, (EmulatorProtocol,), {"refusals": {s3_port: bad_request}}),
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        date_header=False,  # each service gives its own
        proxy_headers=False,  # a client's word on where and how it came counts for nothing
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        h11_max_incomplete_event_size=HEADER_LIMIT,
        ssl_certfile=options.tls_cert,
        ssl_keyfile=None if options.tls_key is None else str(options.tls_key),
    )
    try:
        config.load()
    except (OSError, ValueError) as error:
        raise EmulatorError(f"Cannot use the TLS certificate and key: {error}.") from error
    warn_of_others(listeners[0].getsockname()[0])
    _AnnouncingServer(config, *urls).run(sockets=listeners)


def _url(options: EmulatorOptions, listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    scheme = "http" if options.tls_cert is None else "https"
    return f"{scheme}://{shown}:{port}"
