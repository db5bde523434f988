"""What is typed: paths and targets that lead out, markup, and line ends in headers."""

from __future__ import annotations

import pytest

from tests.support.pages import PASSWORD, Client, Page


@pytest.mark.parametrize(
    "path",
    [
        *("/static/../../../etc/passwd", "/static/%2e%2e/%2e%2e/config.toml", "//etc/passwd"),
        *("/static/..%2f..%2fapp.py", "/static/%00", "/static//etc/passwd"),
    ],
)
def test_09_no_path_leads_out(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status in {400, 404}
    assert "root:" not in answer.text


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example", "/\\evil.example", "\\\\evil", "/\r\nX: y"]
)
def test_09_a_login_leads_nowhere_else(web_page: Page, target: str) -> None:
    fields = {"name": "ada", "password": PASSWORD, "next": target}
    answer = web_page.stranger().post("/login", fields)
    assert (answer.status, answer.headers["location"]) == (303, "/")
    assert "X" not in answer.headers


def test_11_what_is_shown_is_escaped(web_page: Page) -> None:
    hostile = '"><script>alert(1)</script>'
    client = web_page.login()
    for answer in (
        web_page.stranger().post("/login", {"name": hostile, "password": "x", "next": "/" + hostile}),
        client.get("/welcome?link=%22%3E%3Cscript%3Ealert(1)%3C/script%3E"),
        client.post("/schedule/run", {"job": hostile}),
    ):
        assert "<script>alert" not in answer.text


def test_13_no_header_is_made_of_what_was_asked(client: Client) -> None:
    for path in ("/nothing%0d%0aX-Evil:1", "/?a=%0d%0aX-Evil:1", "/login?next=/%0d%0aX-Evil:1"):
        assert "X-Evil" not in client.get(path).headers
