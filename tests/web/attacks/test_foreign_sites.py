"""Other sites: forged requests, names that were made to point here, frames, scripts of others."""

from __future__ import annotations

import pytest

from tests.support.pages import Client
from tests.web.attacks.asking import ACTING, FORM, Daemon, raw


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {},
    ],
)
def test_01_another_site_changes_nothing(client: Client, daemon: Daemon, headers: dict[str, str]) -> None:
    for path in (*ACTING, "/logout", "/login", "/welcome"):
        answer = client.send("POST", path, headers=FORM | headers, body=b"job=main")
        assert answer.status == 403
    for path in (f"{path}?job=main" for path in ACTING):
        assert client.get(path).status == 405
    assert daemon.done == []
    own = {"Origin": f"http://{client.authority}"}
    assert client.send("POST", "/schedule/run", headers=FORM | own, body=b"job=main").status == 303
    assert daemon.done == ["run"]


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost", "127.0.0.1.evil.example", "a@127.0.0.1", "", "10.0.0.1"]
)
def test_02_a_name_of_an_attacker_is_refused(client: Client, host: str) -> None:
    answer = client.get("/", Host=host)
    assert answer.status == 421
    assert "main" not in answer.text


def test_02_two_hosts_are_refused(client: Client) -> None:
    said = raw(client, f"GET /healthz HTTP/1.1\r\nHost: {client.authority}\r\nHost: evil.example\r\n\r\n")
    assert b" 200 " not in said.partition(b"\r\n")[0]


def test_02_two_lengths_are_refused_and_the_connection_ends(client: Client) -> None:
    """A proxy that goes by the other one would take what follows for a request of somebody else."""
    begin = f"POST /login HTTP/1.1\r\nHost: {client.authority}\r\nSec-Fetch-Site: same-origin\r\n"
    both = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    second = f"GET /healthz HTTP/1.1\r\nHost: {client.authority}\r\n\r\n"
    said = raw(client, begin + both + second)
    assert said.startswith(b"HTTP/1.1 400 ")
    assert said.count(b"HTTP/1.1 ") == 1


def test_12_no_frame_no_foreign_script_no_other_origin(client: Client) -> None:
    for path in ("/", "/login", "/nothing", "/healthz", "/api/v1/none"):
        headers = client.get(path, Origin="http://evil.example").headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "*" not in policy
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"
        assert not [name for name in headers if name.lower().startswith("access-control-")]
