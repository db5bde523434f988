"""What attacks have in common: a daemon that remembers, the ways to act, and requests byte by byte."""

from __future__ import annotations

import socket

from starlette.routing import Route

from backup.web.app import build
from tests.support.pages import Client, Page


class Daemon:
    """A daemon that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, object]] = []

    def __call__(self, request: dict[str, object]) -> dict[str, object]:
        self.asked.append(dict(request))
        return {"tasks": [], "job": request.get("job"), "queued": True}

    @property
    def done(self) -> list[object]:
        """What it was asked to change."""
        return [request["do"] for request in self.asked if request["do"] != "status"]


RUN = {"job": "main"}
ACTING = ("/schedule/run", "/schedule/pause", "/schedule/resume")
API_ACTING = tuple(f"/api/v1/jobs/{{job}}/{verb}" for verb in ("run", "pause", "resume"))
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
OWN = {"Sec-Fetch-Site": "same-origin"}


def routes(page: Page) -> list[Route]:
    return [route for route in build(page.context).routes if isinstance(route, Route)]


def raw(client: Client, text: str, *, wait: float = 5.0) -> bytes:
    """What comes back for these bytes."""
    with socket.create_connection((client.host, client.port), timeout=wait) as sock:
        sock.sendall(text.encode())
        sock.shutdown(socket.SHUT_WR)
        said = b""
        while piece := sock.recv(65536):
            said += piece
        return said


def head(client: Client, path: str) -> bytes:
    """The head of a request of somebody who is logged in."""
    jar = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    return f"GET {path} HTTP/1.1\r\nHost: {client.authority}\r\nCookie: {jar}\r\n\r\n".encode()
