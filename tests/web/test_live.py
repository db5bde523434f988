"""What runs is shown while it runs, without a new page: one stream for all tabs of a browser."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from backup.app.base.clock import SystemClock
from backup.daemon.client import ask
from backup.errors import DaemonAwayError
from backup.web.guard.users import Role
from tests.support.browsers import browser, needs_browser
from tests.support.pages import Client, Page, running_page
from tests.support.real_daemons import running
from tests.support.servers import Server


class Told:
    """A daemon whose backup of `main` is as far as the test says."""

    def __init__(self) -> None:
        self.state, self.done = "running", 1

    def __call__(self, _request: dict[str, object]) -> dict[str, Any]:
        if self.state == "away":
            raise DaemonAwayError("it is away")
        progress = {"title": f"step {self.done}", "done": self.done, "total": 10, "seconds_left": 120.0}
        task = {
            "kind": "backup",
            "name": "main",
            "text": "backup of main",
            "vault": "cold",
            "state": self.state,
            "last": "done" if self.state == "idle" else "new",
            "run": "r1" if self.state == "running" else None,
            "progress": progress if self.state == "running" else None,
        }
        return {"as_of": "2026-11-26T00:00:00+00:00", "waits_for_clock": False, "tasks": [task]}


def stream(client: Client, timeout: float = 20.0) -> socket.socket:
    """A stream that was granted; a refused one is an error."""
    jar = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    sock = socket.create_connection((client.host, client.port), timeout=timeout)
    head = f"GET /events HTTP/1.1\r\nHost: {client.authority}\r\nConnection: close\r\nCookie: {jar}\r\n\r\n"
    sock.sendall(head.encode())
    said = sock.recv(12)
    if said != b"HTTP/1.1 200":
        sock.close()
        raise AssertionError(said)
    return sock


def news(sock: socket.socket) -> Iterator[dict[str, Any]]:
    """What a stream tells."""
    data = b""
    while piece := sock.recv(65536):
        data += piece
        while b"\n\n" in data:
            one, _, data = data.partition(b"\n\n")
            for line in one.splitlines():
                if line.startswith(b"data: "):
                    yield json.loads(line.removeprefix(b"data: "))


def until(told: Iterator[dict[str, Any]], wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first news that is so."""
    for count, event in enumerate(told):
        if wanted(event):
            return event
        assert count < 200
    raise AssertionError("the stream ended")


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def web_page(one_backup: Server, told: Told) -> Iterator[Page]:
    with running_page(one_backup, clock=SystemClock(), ask=told) as page:  # type: ignore[arg-type]
        yield page


def test_a_stream_tells_how_far_a_task_is_and_when_it_ended(web_page: Page, told: Told) -> None:
    client = web_page.login()
    with stream(client) as sock:
        found = news(sock)
        first = next(found)
        assert first["running"] == [
            {"task": "backup:main", "told": "step 1 · 2 min left", "done": 1, "total": 10}
        ]
        assert f'data-seen="{first["seen"]}"' in client.get("/").text
        told.done = 7
        second = next(found)
        assert (second["running"][0]["done"], second["seen"]) == (7, first["seen"])
        told.state = "idle"
        third = next(found)
        assert third["running"] == []
        assert len({event["seen"] for event in (first, second, third)}) == 2
        assert f'data-seen="{third["seen"]}"' in client.get("/").text


def test_a_daemon_that_goes_away_is_told(web_page: Page, told: Told) -> None:
    with stream(web_page.login()) as sock:
        found = news(sock)
        assert not next(found)["away"]
        told.state = "away"
        assert next(found)["away"]


def test_a_stream_ends_with_its_session_and_its_user(web_page: Page) -> None:
    accounts, clock = web_page.context.accounts, web_page.context.clock
    accounts.add_user("eve", Role.VIEWER, None, clock.now())
    ends = (
        lambda client: client.post("/logout"),
        lambda _client: accounts.remove_user("eve"),
    )
    for end in ends:
        client = web_page.login()
        client.cookies["nightvault"] = accounts.open_session("eve", clock.now())
        with stream(client) as sock:
            found = news(sock)
            next(found)
            end(client)
            assert list(found) == []


def test_a_stream_of_a_real_daemon_tells_of_a_run_that_was_asked_for_here(one_backup: Server) -> None:
    with running(one_backup.config) as daemon:
        daemon.wait_for("started with")
        asks = partial(ask, str(one_backup.state))
        with running_page(one_backup, clock=SystemClock(), ask=asks) as page:
            client = page.login()
            with stream(client, 60) as sock:
                found = news(sock)
                before = next(found)
                assert not before["away"]
                assert client.post("/schedule/run", {"job": "main"}).status == 303
                after = until(found, lambda event: bool(event["seen"] != before["seen"]))
                assert not after["away"]
                daemon.wait_for("job main: done")
        daemon.stop()


@needs_browser
@pytest.mark.slow
@pytest.mark.real
def test_six_tabs_move_by_one_stream(
    web_page: Page, told: Told, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with browser(tmp_path_factory.mktemp("browser")) as chromium:
        client = web_page.login()
        chromium.get(web_page.url + "/login")
        for name, value in client.cookies.items():
            chromium.add_cookie({"name": name, "value": value})
        tabs = []
        for count in range(6):
            if count:
                chromium.switch_to.new_window("tab")
            chromium.get(web_page.url)
            tabs.append(chromium.current_window_handle)
        told.done = 9
        for tab in tabs:
            chromium.switch_to.window(tab)
            WebDriverWait(chromium, 20).until(lambda _: shown(chromium) == ("step 9 · 2 min left", "9"))
            assert not banner(chromium).is_displayed()
        with ExitStack() as held:
            for _ in range(3):  # a session may have four: the six tabs share one
                held.enter_context(stream(client))
            assert client.get("/events").status == 204
        told.state = "queued"  # it is asked every two seconds still
        for tab in tabs:
            chromium.switch_to.window(tab)
            WebDriverWait(chromium, 20).until(lambda _: banner(chromium).is_displayed())
            assert not banner(chromium, "ended").is_displayed()
        client.post("/logout")
        for tab in tabs:
            chromium.switch_to.window(tab)
            WebDriverWait(chromium, 40).until(lambda _: banner(chromium, "ended").is_displayed())


def shown(chromium: Chrome) -> tuple[str, str | None]:
    """What the page says of the backup, and where its bar stands."""
    text = chromium.find_element(By.CSS_SELECTOR, "[data-live='backup:main']").text
    return text, chromium.find_element(By.TAG_NAME, "progress").get_dom_attribute("value")


def banner(chromium: Chrome, name: str = "news") -> Any:
    """The line that says that something has changed, or that the page is not kept up to date any more."""
    return chromium.find_element(By.CSS_SELECTOR, f"[data-{name}]")
