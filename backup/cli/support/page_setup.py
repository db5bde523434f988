"""Starts the web page as a process: its address, TLS, and its file of accounts."""

from __future__ import annotations

import ipaddress
import os
import pwd
import re
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from backup.app.base.priority import Priority
from backup.app.machine.page_access import PAGE_SOCKET
from backup.config import Config
from backup.config.shapes import NAME, NAME_SENTENCE
from backup.config.web import WebSettings
from backup.daemon.client import ask
from backup.errors import ConfigError, NightvaultError, StateDeniedError, UsageError
from backup.owners import foreign_link, hazard_of, set_mode
from backup.protocols import Clock
from backup.safe_paths import make_folders

if TYPE_CHECKING:
    from backup.web.guard.accounts import Accounts

_LISTEN = re.compile(r"unix:/[^\x00]+|(?:[0-9.]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")
_USER = "nightvault-web"
_AS_ROOT = (
    "warning: this page runs as root: whoever breaks into it has all rights here. For longer than a first"
    f" look let systemd run it as the user {_USER}: docs/web.md"
)
_BEHIND_BACKUPS = Priority(nice=19)


def serve(
    config: Config, clock: Clock, *, listen: str | None, behind_proxy: bool, say: Callable[[str], None]
) -> None:
    """Serve the page until a signal. `ConfigError` or `NightvaultError` if it cannot be served.

    A backup has priority: when all cores are busy, this process gets about 1/70 of one core.
    """
    from backup.web.app import build
    from backup.web.context import WebContext
    from backup.web.server import run, server_options

    settings = page_settings(config, listen=listen, behind_proxy=behind_proxy)
    config = msgspec.structs.replace(config, web=settings)
    _require_own(config)
    context = WebContext.of(config, clock, partial(ask, config.state_dir, name=PAGE_SOCKET, seconds=5.0))
    try:
        with suppress(ConfigError):  # its unit forbids that, and has a weight instead
            _BEHIND_BACKUPS.set_here()
        if not context.accounts.users():
            say("nobody may log in yet: `nightvault web user add NAME`")
        options = server_options(build(context), **_tls(settings))
        with listening(settings.listen, 0o660) as sock:  # the proxy is of the socket's group
            if os.geteuid() == 0:
                say(_AS_ROOT)
            say(f"the page listens on {settings.url or address_of(sock, has_tls=bool(settings.certificate))}")
            run(options, sock)
    finally:
        context.close()


def page_settings(config: Config, *, listen: str | None, behind_proxy: bool) -> WebSettings:
    """Return the page's settings in force. `ConfigError` if passwords would cross a network unencrypted."""
    settings = config.web or WebSettings()
    if listen is not None:
        require_address(listen)
        settings = msgspec.structs.replace(settings, listen=listen)
    if behind_proxy:
        settings = msgspec.structs.replace(settings, behind_proxy=True)
    if (settings.certificate is None) != (settings.private_key is None):
        raise ConfigError("web: TLS needs both certificate and private_key")
    if settings.user_header is not None and not settings.is_unix:
        raise ConfigError(
            "web.user_header: whoever reaches the port could send that header",
            advice='listen on a Unix socket that the proxy alone may use: listen = "unix:/PATH"',
        )
    safe = settings.is_unix or settings.behind_proxy or settings.certificate is not None
    if not safe and not is_loopback(settings.listen):
        raise ConfigError(
            f"web.listen: others reach {settings.listen}, and passwords would cross the network in clear",
            advice="set certificate and private_key in [web]; or, with a proxy before it, say --behind-proxy",
        )
    return settings


def require_address(listen: str) -> None:
    """`UsageError` unless that is an address to listen on."""
    if not _LISTEN.fullmatch(listen):
        raise UsageError(f"--listen {listen}: must be like 127.0.0.1:8484, or unix:/PATH")


def is_loopback(listen: str) -> bool:
    """Return whether ADDRESS:PORT is reached from this machine alone. `ConfigError`."""
    try:
        return ipaddress.ip_address(listen.rpartition(":")[0].strip("[]")).is_loopback
    except ValueError as error:
        raise ConfigError(f"web.listen: {listen} has no address of a machine") from error


def _tls(settings: WebSettings) -> dict[str, Any]:
    if settings.certificate is None:
        return {}
    return {"ssl_certfile": settings.certificate, "ssl_keyfile": settings.private_key}


@contextmanager
def listening(listen: str, mode: int) -> Iterator[socket.socket]:
    """Listen on an address; a Unix socket has that mode, and is removed at the end. `NightvaultError`."""
    path = listen.removeprefix("unix:") if listen.startswith("unix:") else None
    family = socket.AF_UNIX if path else socket.AF_INET6 if listen.startswith("[") else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if path is not None:
            _remove_socket(path)
            os.fchmod(sock.fileno(), mode)
            sock.bind(path)
            set_mode(path, mode)
        else:
            host, _, port = listen.rpartition(":")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host.strip("[]"), int(port)))
        sock.listen(128)
    except (OSError, OverflowError) as error:
        sock.close()
        reason = error.strerror or error if isinstance(error, OSError) else "a port is at most 65535"
        raise NightvaultError(
            f"cannot listen on {listen}: {reason}", advice="choose another --listen"
        ) from error
    try:
        yield sock
    finally:
        sock.close()
        if path is not None:
            with suppress(OSError):
                os.unlink(path)


def _remove_socket(path: str) -> None:
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)


def address_of(sock: socket.socket, *, has_tls: bool = False) -> str:
    """Return the address of a listening socket, as clients need it."""
    if sock.family == socket.AF_UNIX:
        return f"unix:{sock.getsockname()}"
    host, port = sock.getsockname()[:2]
    return f"{'https' if has_tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def link_address(config: Config, secret: str) -> str:
    """Return the URL of a link with which a user sets the password."""
    settings = config.web or WebSettings()
    scheme = "https" if settings.certificate else "http"
    base = settings.url or f"{scheme}://{settings.listen}"
    return f"{base}/welcome?link={secret}"


def check_name(name: str) -> None:
    """Raise `UsageError` for a user name with characters that cannot be shown everywhere."""
    if not re.fullmatch(NAME, name):
        raise UsageError(f"{name!r}: a name {NAME_SENTENCE}")


@contextmanager
def accounts(config: Config) -> Iterator[Accounts]:
    """Open the file of accounts. Root owns it first: links of other users must not trick root."""
    from backup.web.context import accounts_path
    from backup.web.guard.accounts import Accounts

    path, settings = accounts_path(config), config.web or WebSettings()
    _require_own(config)
    _become_owner(os.path.dirname(path))
    file = Accounts(
        path,
        idle=timedelta(seconds=settings.idle_end),
        absolute=timedelta(seconds=settings.absolute_end),
    )
    try:
        yield file
    finally:
        file.close()


def _require_own(config: Config) -> None:
    """Refuse a directory of accounts that others can change: they log in as anyone. `StateDeniedError`.

    It may belong to the page's own user, and to whom the state directory belongs.
    """
    from backup.web.context import accounts_path

    folder, owners = os.path.dirname(accounts_path(config)), []
    with suppress(OSError):
        owners.append(os.stat(config.state_dir).st_uid)
    with suppress(KeyError):
        owners.append(pwd.getpwnam(_USER).pw_uid)
    hazard = None
    with suppress(OSError):  # what cannot be looked at cannot be opened, either
        hazard = foreign_link(folder) or hazard_of(folder, os.stat(folder), owners=owners)
    if hazard is not None:
        raise StateDeniedError(
            f"the directory of accounts {folder} is not used: {hazard.why}", advice=hazard.command
        )


def _become_owner(folder: str) -> None:
    if os.geteuid() != 0:
        return
    try:
        if not os.path.lexists(folder):
            make_folders(folder)
            with suppress(KeyError):
                owner = pwd.getpwnam(_USER)
                os.chown(folder, owner.pw_uid, owner.pw_gid)
        found = os.stat(folder)
        if found.st_uid:
            os.setgroups([])
            os.setgid(found.st_gid)
            os.setuid(found.st_uid)
    except OSError as error:
        raise StateDeniedError(
            f"the directory of accounts {folder} cannot be used: {error.strerror}"
        ) from error
