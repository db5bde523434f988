"""`[web]`: the address of the page, its names, who may use it, and how long a login lasts."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from backup.config.shapes import shape

_Path = Annotated[str, shape(r"[^\x00]+", "must not be empty, nor hold a NUL")]
_Listen = Annotated[
    str,
    shape(
        r"(unix:/[^\x00]+|([0-9.]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5})",
        "must be an address and a port such as 127.0.0.1:8484, or unix:/PATH",
    ),
]
_Host = Annotated[
    str,
    shape(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", "must be a host name such as backup.example.org"),
]
_Url = Annotated[
    str, shape(r"https?://[A-Za-z0-9.:\[\]-]+", "must be https://HOST or https://HOST:PORT, without a path")
]
_Header = Annotated[str, shape("[A-Za-z][A-Za-z0-9-]{0,63}", "must be the name of a header: X-Remote-User")]
_Group = Annotated[str, shape("[a-z_][a-z0-9_-]{0,31}", "must be the name of a group on this machine")]

DEFAULT_LISTEN = "127.0.0.1:8484"


class WebSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[web]`: `listen` is an address and port, or `unix:PATH`; `url` is what people type.

    `hosts`: further names. `certificate` and `private_key`: files for TLS. `user_header`: the header by which
    the proxy before a Unix socket says who logged in there. `group` may read the copy and ask for what
    the page offers; `accounts` is the page's own file. A session ends `idle_end` seconds after its last
    request, and `absolute_end` seconds after its login.
    """

    listen: _Listen = DEFAULT_LISTEN
    url: _Url | None = None
    hosts: tuple[_Host, ...] = ()
    certificate: _Path | None = None
    private_key: _Path | None = None
    behind_proxy: bool = False
    user_header: _Header | None = None
    group: _Group = "nightvault-web"
    accounts: _Path | None = None
    idle_end: Annotated[int, Meta(ge=60, le=2_592_000)] = 7200
    absolute_end: Annotated[int, Meta(ge=300, le=7_776_000)] = 86_400

    @property
    def is_unix(self) -> bool:
        """Whether the page listens on a Unix socket."""
        return self.listen.startswith("unix:")

    @property
    def has_tls(self) -> bool:
        """Whether browsers reach the page by TLS: its own, or that of the proxy before it."""
        if self.url is not None:
            return self.url.startswith("https://")
        return self.certificate is not None or self.behind_proxy or self.is_unix
