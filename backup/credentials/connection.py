"""The HTTPS connection for CreateSession, with TLS trust and proxies configured as the AWS tools do it."""

from __future__ import annotations

import base64
import logging
import os
import ssl
from collections.abc import Mapping
from typing import Any

import urllib3
from msgspec import Struct
from urllib3.exceptions import HTTPError, InsecureRequestWarning

from backup.answers_in_time import in_time
from backup.credentials.options import RolesAnywhereOptions
from backup.errors import ConfigError

log = logging.getLogger(__name__)


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = in_time(urllib3.connection.HTTPConnection)


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = in_time(urllib3.connection.HTTPSConnection)


_POOLS = {"http": _Pool, "https": _TlsPool}


class Connection(Struct, frozen=True):
    """Trust and proxy settings; `ca_bundle` is a PEM file, by default that of `SSL_CERT_FILE` or the
    system's."""

    proxies: bool = True
    verify: bool = True
    ca_bundle: str | None = None

    @classmethod
    def of_environment(
        cls, environment: Mapping[str, str], *, proxies: bool = True, verify: bool = True
    ) -> Connection:
        """The settings in environment variables; `AWS_CA_BUNDLE` overrides the system's authorities."""
        return cls(proxies, verify, environment.get("AWS_CA_BUNDLE") or None)


def open_pool(options: RolesAnywhereOptions, connection: Connection) -> urllib3.PoolManager:
    """A connection pool for the URL; nothing is sent yet. `ConfigError` for an unusable proxy or bundle."""
    if not connection.verify:
        log.warning("%s need not prove who it is: no TLS certificate is checked", options.host)
        urllib3.disable_warnings(InsecureRequestWarning)  # said once is enough
    tls: dict[str, Any] = {} if options.base_url.startswith("http://") else {"ssl_context": _tls(connection)}
    proxy = _proxy(options) if connection.proxies else None
    try:
        if proxy is None:
            pool = urllib3.PoolManager(**tls)
        else:
            bare, headers = _without_password(proxy)
            pool = urllib3.ProxyManager(bare, proxy_headers=headers, **tls)
        pool.pool_classes_by_scheme = _POOLS
        return pool
    except (HTTPError, ValueError) as error:
        raise ConfigError("the proxy of HTTPS_PROXY or HTTP_PROXY is no URL of a proxy") from error


def _without_password(proxy: str) -> tuple[str, Mapping[str, str] | None]:
    """The proxy's URL without user and password, and the header that carries them; `ValueError` for no
    URL."""
    from urllib.parse import unquote, urlsplit, urlunsplit

    parts = urlsplit(proxy)
    if parts.username is None:
        return proxy, None
    known = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    coded = base64.b64encode(known.encode()).decode()
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return bare, {"proxy-authorization": f"Basic {coded}"}


def _tls(connection: Connection) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=connection.ca_bundle)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"AWS_CA_BUNDLE {connection.ca_bundle} cannot be used: {error}",
            advice="it must be a PEM file of certificate authorities",
        ) from error
    if not connection.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _proxy(options: RolesAnywhereOptions) -> str | None:
    """The proxy for the host by `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`; None without one."""
    names = {name.lower() for name, value in os.environ.items() if value}
    if names.isdisjoint({"https_proxy", "http_proxy", "all_proxy"}):
        return None
    from urllib.request import getproxies_environment, proxy_bypass

    if proxy_bypass(options.host):
        return None
    found = getproxies_environment()
    scheme = options.base_url.partition(":")[0]
    proxy = found.get(scheme) or found.get("all")
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy
