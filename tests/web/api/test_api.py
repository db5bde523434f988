"""The API over HTTP: real answers against the OpenAPI document, and that against the routes."""

from __future__ import annotations

import itertools
import re
from urllib.parse import quote_from_bytes

import pytest
from starlette.routing import Route

from backup.web.api import API
from backup.web.api.openapi import openapi
from tests.support.pages import Client, Page
from tests.support.seeded_inventories import HUGE, snapshot_id
from tests.support.seeded_pages import SNAPSHOTS
from tests.web.api.schemas import violations

MIDDLE = snapshot_id(1, SNAPSHOTS // 2)
ASKED = {
    "/api/v1/overview": ("/api/v1/overview",),
    "/api/v1/runs": ("/api/v1/runs", "/api/v1/runs?job=web&outcome=partial&before=60"),
    "/api/v1/runs/{number}": ("/api/v1/runs/10", f"/api/v1/runs/{2 * SNAPSHOTS}"),
    "/api/v1/jobs/{job}/snapshots": ("/api/v1/jobs/web/snapshots", "/api/v1/jobs/db/snapshots?before=3"),
    "/api/v1/jobs/{job}/versions": (f"/api/v1/jobs/web/versions?path={HUGE.decode()}/Report-00000000.pdf",),
    "/api/v1/snapshots/{snapshot}/entries": (
        f"/api/v1/snapshots/{MIDDLE}/entries",
        f"/api/v1/snapshots/{MIDDLE}/entries?path=/srv/huge&after=TQ",
    ),
    "/api/v1/snapshots/{snapshot}/changes": (
        f"/api/v1/snapshots/{MIDDLE}/changes",
        f"/api/v1/snapshots/{snapshot_id(1, 1)}/changes?path=/srv/data",
    ),
    "/api/v1/snapshots/{snapshot}/quote": (
        f"/api/v1/snapshots/{MIDDLE}/quote?path=/srv/data/00001&path=/x%ff%00"[:-3],
    ),
    "/api/v1/search": ("/api/v1/search?q=report", "/api/v1/search"),
    "/api/v1/money": ("/api/v1/money",),
    "/api/v1/schedule": ("/api/v1/schedule",),
}


@pytest.fixture(scope="module")
def client(page: Page) -> Client:
    return page.login()


def test_the_document_is_equal_to_the_routes() -> None:
    told = {(path, method.upper()) for path, of in openapi()["paths"].items() for method in of}
    there = {
        (route.path, method)
        for route in API
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert told == {pair for pair in there if pair[0] != "/api/v1/openapi.json"}
    assert set(ASKED) == {path for path, method in told if method == "GET"}
    for path, of in openapi()["paths"].items():
        for operation in of.values():
            named = [parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"]
            assert named == re.findall(r"\{([a-z]+)\}", path)


@pytest.mark.parametrize(("path", "asked"), [(path, query) for path, some in ASKED.items() for query in some])
def test_real_answers_are_as_the_document_says(client: Client, path: str, asked: str) -> None:
    answer = client.get(asked)
    assert answer.status == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    told = client.get("/api/v1/openapi.json").json()
    schema = told["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert list(violations(answer.json(), schema, told["components"]["schemas"])) == []


def test_a_stranger_gets_an_error_as_json(page: Page) -> None:
    for path in itertools.chain.from_iterable(ASKED.values()):
        answer = page.stranger().get(path)
        assert answer.status == 401
        assert set(answer.json()["error"]) == {"kind", "message", "advice"}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/nothing", 404),
        ("/api/v1/runs/99999999", 404),
        ("/api/v1/runs/x", 400),
        ("/api/v1/runs?before=-1", 400),
        ("/api/v1/runs?colour=red", 400),
        ("/api/v1/runs?kind=x", 400),
        ("/api/v1/jobs/nobody/snapshots", 404),
        ("/api/v1/jobs/%00/snapshots", 400),
        ("/api/v1/snapshots/latest/entries", 400),
        ("/api/v1/snapshots/ffffffff/entries", 404),
        (f"/api/v1/snapshots/{MIDDLE}/entries?path=/none", 404),
        (f"/api/v1/snapshots/{MIDDLE}/entries?path=..", 400),
        (f"/api/v1/snapshots/{MIDDLE}/entries?after=!!", 400),
        (f"/api/v1/snapshots/{MIDDLE}/changes?older={snapshot_id(2, 1)}", 400),
        (f"/api/v1/snapshots/{MIDDLE}/quote", 400),
        ("/api/v1/search?q=" + "x" * 300, 400),
        ("/api/v1/search?q=%ff", 400),
        ("/api/v1/search?" + "q=1&" * 300, 400),
    ],
)
def test_what_cannot_be_asked_is_an_error_as_json(client: Client, path: str, status: int) -> None:
    answer = client.get(path)
    assert (answer.status, set(answer.json()["error"])) == (status, {"kind", "message", "advice"})


HOSTILE = [
    b"", b"\0", b"\xff\xfe", b"'", b"%", b"_", b"../../etc/passwd", b"/" * 3000, b"9" * 400, b"-1", b"nan",
    "\u202e\U0001f4a9".encode(), b"<script>", b"\r\nX: y", b"A" * 5000, b"*" * 50, b"\\", b".", b"0.AA",
]  # fmt: skip


@pytest.mark.parametrize("value", HOSTILE)
def test_no_parameter_makes_a_fault(client: Client, value: bytes) -> None:
    sent = quote_from_bytes(value, safe="")
    for path, of in openapi()["paths"].items():
        for method, operation in of.items():
            if method != "get":
                continue
            names = [parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "query"]
            whole = path.format(number=10, job="web", snapshot=MIDDLE)
            targets = [f"{whole}?{name}={sent}" for name in names]
            if "{" in path:
                targets.append(path.format(number=sent, job=sent, snapshot=sent))
            for target in targets:
                assert client.get(target).status in {200, 400, 404, 414}, target


def test_names_that_are_no_utf8_come_back_as_they_are(client: Client) -> None:
    found = client.get(f"/api/v1/snapshots/{MIDDLE}/quote?path=/a%ff").json()
    assert found["missing"] == [{"text": "/a\\xff", "path": "/a\ufffd", "path_b64": "L2H/"}]


def test_metrics_are_those_of_the_inventory(client: Client) -> None:
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'nightvault_archives{vault="cold"}' in answer.text


def test_only_operators_act_and_the_daemon_is_asked(page: Page, client: Client) -> None:
    viewer = page.login("vi")
    answer = viewer.post("/api/v1/jobs/web/run")
    assert (answer.status, answer.json()["error"]["kind"]) == (403, "denied")
    answer = client.post("/api/v1/jobs/web/run")
    assert answer.status == 503, "there is no daemon"
    assert client.post("/api/v1/jobs/web/run", Sec_Fetch_Site="cross-site").status == 403
    answer = client.post("/api/v1/jobs/web/pause", Content_Type="text/plain")
    assert (answer.status, answer.json()["error"]["kind"]) == (400, "bad-parameter")
    assert client.get("/api/v1/jobs/web/run").status == 405
    assert client.post("/api/v1/jobs/web/forget").status == 404
