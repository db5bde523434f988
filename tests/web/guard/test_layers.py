"""Each condition of the layers that every request goes through: hosts, origins, headers, bounds, faults."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from types import SimpleNamespace

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Message, Receive, Scope, Send

from backup.config.web import WebSettings
from backup.errors import NightvaultError, UsageError
from backup.web.app import local_name
from backup.web.guard.bounds import LARGEST_HEAD, LONGEST_BODY, LONGEST_TARGET, Bounds, read_form
from backup.web.guard.faults import BadParameterError, Faults, NotThereError
from backup.web.guard.headers import HEADERS, SafeHeaders
from backup.web.guard.origins import Origins, host_of
from tests.web.guard.asking import Answer, Below, ask

OURS = "backup.example.org"


def origins(*headers: tuple[str, str], method: str = "GET", host: str = OURS) -> Answer:
    below = Below()
    layer = Origins(below, frozenset({OURS}))
    return ask(layer, below, method=method, headers=[("host", host), *headers])


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (OURS, 200), (OURS + ":8484", 200), (OURS.upper(), 200), (OURS + ".", 200), ("127.0.0.1:1", 200),
        ("[::1]", 200),
        ("127.9.9.9", 200), ("evil.example", 421), ("localhost", 421), ("10.0.0.1", 421), ("", 421),
        (":80", 421),
        (f"a@{OURS}", 421), (f"{OURS}/x", 421), (f"{OURS}?x", 421), (f"{OURS}:http", 421),
        (f"{OURS}:99999", 421),
        (f"{OURS}.evil.example", 421),
    ],
)  # fmt: skip
def test_only_our_own_names(host: str, status: int) -> None:
    assert origins(host=host).status == status


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost:8484", 200), ("LOCALHOST:8484", 200), ("localhost:8485", 421), ("localhost", 421),
     ("localhost.:8484", 421), ("localhost:08484", 421), ("xlocalhost:8484", 421)],
)  # fmt: skip
def test_localhost_with_the_very_port_is_this_machine(host: str, status: int) -> None:
    below = Below()
    layer = Origins(below, frozenset({OURS}), "localhost:8484")
    assert ask(layer, below, headers=[("host", host)]).status == status


@pytest.mark.parametrize(
    ("listen", "name"),
    [("127.0.0.1:8484", "localhost:8484"), ("[::1]:9", "localhost:9"), ("127.0.0.1:80", "localhost"),
     ("10.0.0.1:8484", ""), ("0.0.0.0:8484", ""), ("unix:/run/page.sock", "")],
)  # fmt: skip
def test_only_a_page_of_this_machine_has_a_local_name(listen: str, name: str) -> None:
    context = SimpleNamespace(settings=WebSettings(listen=listen))
    assert local_name(context) == name  # type: ignore[arg-type]


def test_one_host_and_no_more() -> None:
    assert origins(("host", OURS)).status == 421
    below = Below()
    assert ask(Origins(below, frozenset({OURS})), below).status == 421


def test_what_is_no_host_is_none() -> None:
    assert host_of("[") is None
    assert host_of("[::1]evil") is None
    assert host_of("[::1]evil:80") is None
    assert host_of("[::1]:80") == host_of("[::1]") == "::1"
    assert host_of("a b") == "a b"  # known to nobody


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "get"])
def test_two_methods_and_head(method: str) -> None:
    assert origins(("sec-fetch-site", "same-origin"), method=method).status == 405
    assert origins(method="HEAD").status == origins(method="GET").status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "none"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "cross-site", "origin": f"https://{OURS}"}, 403),
        ({"origin": f"https://{OURS}"}, 200),
        ({"origin": f"https://{OURS}:1"}, 403),
        ({"origin": "null"}, 403),
        ({}, 403),
    ],
)
def test_a_form_of_our_own_pages_alone(headers: Mapping[str, str], status: int) -> None:
    assert origins(*headers.items(), method="POST").status == status
    assert origins(*headers.items(), method="GET").status == 200


def safe_headers(path: str = "/", *, tls: bool = False, status: int = 200) -> Answer:
    below = Below(status)
    return ask(SafeHeaders(below, has_tls=tls), below, path)


def test_every_answer_has_every_header() -> None:
    for path in ("/", "/static/page.css", "/api/v1/runs"):
        for status in (200, 303, 404, 500):
            found = safe_headers(path, status=status).headers
            assert {name: found[name] for name in HEADERS} == HEADERS
    names = {name.lower() for name in HEADERS}
    assert names == {
        *("content-security-policy", "x-content-type-options", "x-frame-options", "referrer-policy"),
        *("cross-origin-opener-policy", "cross-origin-resource-policy", "cross-origin-embedder-policy"),
        *("permissions-policy", "x-robots-tag"),
    }
    assert HEADERS["Content-Security-Policy"].split("; ") == [
        *(
            "default-src 'none'",
            "style-src 'self'",
            "script-src 'self'",
            "img-src 'self'",
            "connect-src 'self'",
        ),
        *("form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"),
    ]
    assert HEADERS["X-Content-Type-Options"] == "nosniff"
    assert (HEADERS["X-Frame-Options"], HEADERS["Referrer-Policy"]) == ("DENY", "no-referrer")
    assert HEADERS["Cross-Origin-Resource-Policy"] == HEADERS["Cross-Origin-Opener-Policy"] == "same-origin"


def test_nothing_but_style_and_script_is_kept() -> None:
    assert safe_headers("/static/page.css").headers["cache-control"] == "private, max-age=3600"
    assert safe_headers("/static/no.css", status=404).headers["cache-control"] == "no-store"
    assert safe_headers("/").headers["cache-control"] == "no-store"


def test_tls_is_asked_for_where_there_is_tls() -> None:
    assert "strict-transport-security" in safe_headers(tls=True).headers
    assert "strict-transport-security" not in safe_headers().headers


@pytest.mark.parametrize(
    ("headers", "path", "query", "status"),
    [
        ({"x": "a" * LARGEST_HEAD}, "/", "", 431),
        ({"x": "a" * (LARGEST_HEAD - 1)}, "/", "", 200),
        ({}, "/" + "a" * LONGEST_TARGET, "", 414),
        ({}, "/", "a" * LONGEST_TARGET, 414),
        ({}, "/", "a" * (LONGEST_TARGET - 1), 200),
        ({"content-length": str(LONGEST_BODY + 1)}, "/", "", 413),
        ({"content-length": str(LONGEST_BODY)}, "/", "", 200),
        ({"content-length": "x"}, "/", "", 200),
        ({"content-length": "9" * 30}, "/", "", 200),  # h11 refuses it
    ],
)
def test_the_bounds_of_a_request(headers: Mapping[str, str], path: str, query: str, status: int) -> None:
    below = Below()
    answer = ask(Bounds(below), below, path, query=query, headers=headers)
    assert (answer.status, answer.scope is None) == (status, status != 200)


def test_who_takes_nothing_is_given_up() -> None:
    async def never(_message: Message) -> None:
        await asyncio.sleep(30)

    below = Below()
    scope: Scope = {"type": "http", "raw_path": b"/", "query_string": b"", "headers": []}
    with pytest.raises(TimeoutError):
        asyncio.run(Bounds(below, seconds=0.05)(scope, nothing, never))


async def nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


def form(body: bytes, kind: str = "application/x-www-form-urlencoded", *, pieces: int = 1) -> dict[str, str]:
    """The fields of a body that comes in pieces."""
    size = max(1, -(-len(body) // pieces))
    rest = [body[at : at + size] for at in range(0, max(1, len(body)), size)]

    async def receive() -> Message:
        piece = rest.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(rest)}

    headers = [(b"content-type", kind.encode())]
    request = Request({"type": "http", "method": "POST", "headers": headers}, receive)
    return asyncio.run(read_form(request))


def test_the_fields_of_a_form() -> None:
    assert form(b"a=b&c=&a=d", "application/x-www-form-urlencoded; charset=utf-8") == {"a": "d", "c": ""}
    assert form(b"a=" + b"b" * (LONGEST_BODY - 2), pieces=9)["a"]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"a=b", "application/json"),
        (b"a=b", "multipart/form-data; boundary=x"),
        (b"a=b", "text/plain"),
        (b"a=" + b"b" * LONGEST_BODY, "application/x-www-form-urlencoded"),
        (b"&".join([b"a=b"] * 65), "application/x-www-form-urlencoded"),
        (b"a=%ff", "application/x-www-form-urlencoded"),
        (b"\xff=b", "application/x-www-form-urlencoded"),
    ],
)
def test_what_is_no_form(body: bytes, kind: str) -> None:
    with pytest.raises(BadParameterError):
        form(body, kind, pieces=3)


def faults(error: Exception, path: str = "/", *, late: bool = False) -> Answer:
    """What is answered when the application raises."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        if late:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"begun"})
        raise error

    def problem(_request: Request, status: int, sentence: str, advice: str) -> Response:
        return PlainTextResponse(f"{sentence} {advice}", status)

    return ask(Faults(app, problem), Below(), path)


def test_an_error_is_a_sentence_and_a_mistake_is_none(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    assert faults(UsageError("there is no s3cr3t")).status == 404
    assert faults(NotThereError("there is no s3cr3t")).status == 404
    assert faults(BadParameterError("s3cr3t is no number")).status == 400
    assert faults(NightvaultError("s3cr3t", advice="")).status == 503
    mistake = faults(RuntimeError("s3cr3t"))
    assert mistake.status == 500
    assert b"s3cr3t" not in mistake.body
    assert faults(RuntimeError("s3cr3t"), "/api/v1/runs").headers["content-type"] == "application/json"
    assert "s3cr3t" not in caplog.text
    assert "RuntimeError" in caplog.text


def test_what_has_begun_is_left(caplog: pytest.LogCaptureFixture) -> None:
    assert faults(RuntimeError("x"), late=True).body == b"begun"
    assert "Traceback" not in caplog.text
