"""Strangers are sent to the login; who logs in sees the page."""

from __future__ import annotations

from tests.support.pages import Client, Page


def test_a_stranger_is_sent_to_the_login_and_comes_back(web_page: Page) -> None:
    stranger = web_page.stranger()
    answer = stranger.get("/runs?job=main")
    assert (answer.status, answer.headers["location"]) == (303, "/login?next=%2Fruns%3Fjob%3Dmain")
    assert stranger.get("/healthz").body == b"ok\n"


def test_who_logs_in_sees_the_page(client: Client) -> None:
    answer = client.get("/")
    assert answer.status == 200
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert answer.headers["Cache-Control"] == "no-store"
    assert client.post("/logout").status == 303
    assert client.get("/").status == 303
