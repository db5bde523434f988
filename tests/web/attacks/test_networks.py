"""From other machines: only by TLS, whose cookies are for this host alone."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import msgspec
import pytest

from backup.cli.support.page_setup import page_settings
from backup.config import load_config
from backup.config.web import WebSettings
from backup.errors import ConfigError
from tests.support.identities import server_certificate
from tests.support.pages import NAME, PASSWORD, running_page
from tests.support.servers import Server


@pytest.mark.parametrize("listen", ["0.0.0.0:1", "192.0.2.1:1", "[::]:1"])
def test_other_machines_need_tls(one_backup: Server, listen: str) -> None:

    config = load_config(str(one_backup.config))
    with pytest.raises(ConfigError, match="in clear"):
        page_settings(config, listen=listen, behind_proxy=False)
    assert page_settings(config, listen=listen, behind_proxy=True).has_tls


def test_with_tls_cookies_are_for_this_host_alone(one_backup: Server, tmp_path: Path) -> None:
    certificate, key = server_certificate(tmp_path)
    web = WebSettings(
        certificate=str(certificate), private_key=str(key), accounts=str(tmp_path / "web" / "accounts.sqlite")
    )
    config = msgspec.structs.replace(load_config(str(one_backup.config)), web=web)
    trusted = ssl.create_default_context(cafile=str(certificate))
    trusted.check_hostname = False  # it is made for a name, and asked by address
    with running_page(config, clock=one_backup.clock, tls=trusted) as page:
        stranger = page.stranger()
        answer = stranger.post("/login", {"name": NAME, "password": PASSWORD})
        assert answer.status == 303
        assert len(answer.cookies) == 2
        for cookie in answer.cookies:
            name, _, rest = cookie.partition("=")
            assert name.startswith("__Host-nightvault")
            assert {"Secure", "HttpOnly", "SameSite=strict", "Path=/"} <= set(rest.split("; "))
            assert "Domain" not in rest
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
        assert stranger.get("/").status == 200
        bare = {name.removeprefix("__Host-"): value for name, value in stranger.cookies.items()}
        stranger.cookies = bare
        assert stranger.get("/").status == 303
        with pytest.raises(ConnectionError):
            in_clear(page.host, page.port)


def in_clear(host: str, port: int) -> None:
    """Speak without TLS where there is TLS."""
    with socket.create_connection((host, port), timeout=10) as sock:
        sock.sendall(b"GET /login HTTP/1.1\r\nHost: localhost\r\n\r\n")
        said = sock.recv(100)
        assert not said.startswith(b"HTTP")
        raise ConnectionError("nothing of the page was told")
