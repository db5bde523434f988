"""One request over HTTP to a receiver: TLS, proxies of the environment, no redirects, no secret in errors."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import urllib3
from msgspec import Struct
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

from backup import __version__
from backup.errors import ConfigError
from backup.notify.channel import AwayError, ConflictError, RefusedError
from backup.notify.channels.deadline import Deadline
from backup.notify.channels.secrets import Secret, read_secret
from backup.wording import escape

CONNECT_SECONDS, READ_SECONDS = 10.0, 20.0
_MOST_ANSWER = 64 * 1024
_SHOWN_ANSWER = 200
_COME_AGAIN = frozenset({408, 425, 429})


class Address(Struct, frozen=True):
    """A receiver's address: in the config, or secret in a file; `environ` leads to systemd's credentials.

    `ca_file`: a PEM file of authorities to trust instead of the system's.
    """

    environ: Mapping[str, str]
    url: str | None = None
    url_file: str | None = None
    ca_file: str | None = None

    def read(self) -> Secret:
        """The address. `ConfigError` if the file of a secret one does not hold a valid address."""
        if self.url is not None:
            return Secret(self.url)
        found = read_secret(self.url_file or "", self.environ)
        parts = urlsplit(found.reveal())
        is_here = parts.scheme == "http" and parts.hostname in {"127.0.0.1", "localhost", "::1"}
        if not (parts.scheme == "https" or is_here) or not parts.hostname or "@" in parts.netloc:
            raise ConfigError(f"what {self.url_file} holds must be an address as in https://HOST/…")
        return found


class Login(Struct, frozen=True):
    """The credentials for a receiver: a token, or a user with a password; secrets are in files."""

    environ: Mapping[str, str]
    token_file: str | None = None
    user: str | None = None
    password_file: str | None = None

    def token(self) -> Secret | None:
        """The token; None without one."""
        return None if self.token_file is None else read_secret(self.token_file, self.environ)

    def header(self) -> tuple[dict[str, str], list[Secret]]:
        """The header Authorization, if any, and the secrets in it."""
        token = self.token()
        if token is not None:
            return {"Authorization": f"Bearer {token.reveal()}"}, [token]
        if self.user is None or self.password_file is None:
            return {}, []
        password = read_secret(self.password_file, self.environ)
        known = f"{self.user}:{password.reveal()}"
        coded = base64.b64encode(known.encode()).decode()
        return {"Authorization": f"Basic {coded}"}, [Secret(known), password]


def post(
    url: str,
    body: bytes,
    *,
    headers: Mapping[str, str],
    secrets: Sequence[Secret],
    ca_file: str | None = None,
    tries: int = 1,
    seconds: float | None = None,
) -> str:
    """POST, and return the answer on one line. `AwayError`, `RefusedError`; secrets are in neither.

    Up to `tries` attempts follow each other at once, for requests that may be repeated; together they take at
    most `seconds`.
    """
    host, outer, deadline = urlsplit(url).netloc, sys.exception(), Deadline(seconds)
    about = {"User-Agent": f"nightvault/{__version__}"}
    try:
        with deadline, _pool(url, ca_file, deadline) as pool:
            answer = pool.request(
                "POST",
                url,
                body=body,
                headers={**about, **headers},
                redirect=False,
                preload_content=False,
                timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
                retries=urllib3.Retry(
                    total=tries - 1,
                    redirect=0,
                    allowed_methods=None,
                    status_forcelist=[500, 502, 503, 504],
                    raise_on_status=False,
                    raise_on_redirect=False,
                    respect_retry_after_header=False,
                    backoff_factor=0.5,
                ),
            )
            status, data = answer.status, b""
            with suppress(HTTPError):  # the status says whether it was taken
                data = answer.read(_MOST_ANSWER)
            answer.close()
    except HTTPError as error:
        why = deadline.text() if deadline.is_over else _why(error, outer)
        raise AwayError(f"{host} cannot be reached: {why}") from None  # its text has the whole address
    text = _shown(data, [*secrets, Secret(url)])
    if 200 <= status < 300:
        return f"{status} {text}".strip()
    told = f"{host} answered {status}{': ' if text else ''}{text}"
    if status >= 500 or status in _COME_AGAIN:
        raise AwayError(told)
    kind = ConflictError if status == 409 else RefusedError
    raise kind(told, advice=_advice(status))


def post_json(url: str, document: Mapping[str, Any], **more: Any) -> str:
    """`post` of a document as JSON."""
    more["headers"] = {"Content-Type": "application/json", **more["headers"]}
    return post(url, json.dumps(document).encode(), **more)


def _advice(status: int) -> str:
    if status in {401, 403}:
        return "look at the token or password of this channel, and at what it may do there"
    if status in {301, 302, 303, 307, 308}:
        return "it sends us elsewhere: give the address that it names"
    return "look at the address of this channel" if status in {404, 409, 410} else ""


def _shown(data: bytes, secrets: Sequence[Secret]) -> str:
    text = " ".join(data.decode("utf-8", "replace").split())
    for secret in secrets:
        text = secret.hidden_in(text)
    return escape(text[:_SHOWN_ANSWER])


def _why(error: HTTPError, outer: BaseException | None) -> str:
    """The innermost cause, without the address that the outer ones have.

    `outer` is what we are telling of, such as a backup's error: no cause of ours.
    """
    cause: BaseException = error
    while (inner := getattr(cause, "reason", None) or cause.__cause__ or cause.__context__) is not None:
        if not isinstance(inner, BaseException) or inner is outer:
            break
        cause = inner
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {cause.verify_message}"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return "no answer in time" if "imeout" in type(cause).__name__ else type(cause).__name__


def _pool(url: str, ca_file: str | None, deadline: Deadline) -> urllib3.PoolManager:
    """A pool whose connections end with the deadline."""
    pool = _plain_pool(url, ca_file)
    pool.pool_classes_by_scheme = _watched_pools(deadline)
    return pool


class _OverError(HTTPError):
    """The time is over: nothing is tried again."""


def _watched(connect: Callable[[], socket.socket], deadline: Deadline) -> socket.socket:
    if deadline.is_over:
        raise _OverError
    made = connect()
    deadline.watch(made)
    return made


def _watched_pools(deadline: Deadline) -> dict[str, type[HTTPConnectionPool]]:
    class Plain(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return _watched(super()._new_conn, deadline)

    class Secured(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return _watched(super()._new_conn, deadline)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecuredPool(HTTPSConnectionPool):
        ConnectionCls = Secured

    return {"http": PlainPool, "https": SecuredPool}


def _plain_pool(url: str, ca_file: str | None) -> urllib3.PoolManager:
    tls: dict[str, Any] = {} if url.startswith("http://") else {"ssl_context": tls_context(ca_file)}
    proxy = _proxy(url)
    if proxy is None:
        return urllib3.PoolManager(**tls)
    parts = urlsplit(proxy)
    headers = None
    if parts.username is not None:
        from urllib.parse import unquote

        known = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers = urllib3.make_headers(proxy_basic_auth=known)
        proxy = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    try:
        return urllib3.ProxyManager(proxy, proxy_headers=headers, **tls)
    except (HTTPError, ValueError):
        raise ConfigError("the proxy of HTTPS_PROXY or HTTP_PROXY is no address of a proxy") from None


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """The TLS context: it trusts the system's authorities, or those of a file. `ConfigError`."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"ca_file {ca_file} cannot be used: {error}", advice="it must be a PEM file of authorities"
        ) from error


def _proxy(url: str) -> str | None:
    """The proxy for an address by `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`; None without one."""
    from urllib.request import getproxies_environment, proxy_bypass

    parts, found = urlsplit(url), getproxies_environment()
    proxy = found.get(parts.scheme) or found.get("all")
    if not proxy or proxy_bypass(parts.hostname or ""):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"
