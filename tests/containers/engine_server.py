"""An engine of containers for tests: a bounded API of Docker's kind, over HTTP at a real Unix socket.

with EngineServer(tmp_path / "engine") as engine:
    engine.volume("shop", labels={"nightvault.volumes": "true"})
    engine.container("db", mounts=["shop"])
    engine.asked                       # "POST /containers/db/stop", …
"""

from __future__ import annotations

import json
import re
import socketserver
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

NEVER = "0001-01-01T00:00:00Z"


@dataclass
class FakeContainer:
    """A container; `health` holds what it says at each look, the last one for ever."""

    id: str
    name: str
    labels: dict[str, str]
    mounts: list[dict[str, Any]]
    is_running: bool = True
    started_at: str = ""
    finished_at: str = NEVER
    health: list[str] = field(default_factory=list)
    is_removed_at_its_end: bool = False
    does_not_start: bool = False
    starts_itself: bool = False


class EngineServer:
    """The engine with its socket; `newest` and `oldest` are the versions of the API that it speaks.

    `on_request` is called with each request before it is carried out. `is_read_only`: as behind a proxy that
    passes no POST.
    """

    def __init__(self, folder: Path, *, oldest: str = "1.24", newest: str = "1.41") -> None:
        self.folder = folder
        self.socket = folder / "engine.sock"
        self.oldest, self.newest = oldest, newest
        self.containers: dict[str, FakeContainer] = {}
        self.volumes: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.commands: list[tuple[str, list[str], bool]] = []
        self.run: Callable[[str, Sequence[str]], tuple[int, bytes]] = lambda *_: (0, b"")
        self.on_request: Callable[[str], None] = lambda _: None
        self.is_read_only = False
        self.is_endless = False  # commands print, and do not end
        self.versions: set[str] = set()
        self._ended: dict[str, tuple[int, bytes]] = {}
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def address(self) -> str:
        """As the config names it."""
        return f"unix://{self.socket}"

    def __enter__(self) -> Self:
        self._server = _Server(str(self.socket), _handler_of(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.is_endless = False
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self.socket.unlink()

    def volume(self, name: str, *, labels: Mapping[str, str] | None = None, **more: Any) -> Path:
        """Make a volume; where its files are."""
        place = self.folder / "volumes" / name / "_data"
        place.mkdir(parents=True)
        row = {"Name": name, "Driver": "local", "Mountpoint": str(place), "Labels": dict(labels or {})}
        self.volumes[name] = row | {"Options": {}, "Scope": "local"} | more
        return place

    def move(self, name: str, folder: Path) -> Path:
        """Move a volume to another root of the engine's."""
        place = folder / name / "_data"
        place.parent.mkdir(parents=True)
        Path(self.volumes[name]["Mountpoint"]).rename(place)
        self.volumes[name]["Mountpoint"] = str(place)
        return place

    def container(
        self,
        name: str,
        *,
        mounts: Sequence[str | Path] = (),
        labels: Mapping[str, str] | None = None,
        **more: Any,
    ) -> FakeContainer:
        """Make a container that runs, with volumes by name and directories by path."""
        rows = [_mount(self, mount) for mount in mounts]
        made = FakeContainer(f"{len(self.containers) + 1:064x}", name, dict(labels or {}), rows, **more)
        made.started_at = made.started_at or _now()
        self.containers[made.id] = made
        return made

    def running(self) -> set[str]:
        """The names of those that run."""
        return {found.name for found in self.containers.values() if found.is_running}

    def changes(self) -> list[str]:
        """The stops, starts and commands that were asked for."""
        return [line.removeprefix("POST ") for line in self.asked if line.startswith("POST")]

    # What a request does.

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """The status and the document of an answer."""
        version = re.match(r"/v(\d+)\.(\d+)(?=/)", path)
        if version:
            path = path[version.end() :]
            wanted = int(version[1]), int(version[2])
            self.versions.add(version[0][2:])
            for bound, is_worse, word in (
                (self.newest, wanted > _numbers(self.newest), "new"),
                (self.oldest, wanted < _numbers(self.oldest), "old"),
            ):
                if is_worse:
                    return 400, {"message": f"client version {version[0][2:]} is too {word}: {bound}"}
        path = path.partition("?")[0]
        self.asked.append(f"{method} {self._named(path)}")
        self.on_request(self.asked[-1])
        if self.is_read_only and method == "POST":
            return 403, {"message": "Forbidden"}
        return self._carried_out(method, path, body)

    def _carried_out(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        match method, path.strip("/").split("/"):
            case "GET", ["containers", "json"]:
                return 200, [{"Id": found.id, "Names": [f"/{found.name}"]} for found in self._all()]
            case "GET", ["volumes"]:
                return 200, {"Volumes": list(self.volumes.values()) or None, "Warnings": None}
            case "GET", ["volumes", name]:
                found = self.volumes.get(unquote(name))
                return (200, found) if found else (404, {"message": f"get {name}: no such volume"})
            case _, ["containers", name, what]:
                container = self._one(unquote(name))
                if container is None:
                    return 404, {"message": f"No such container: {name}"}
                return self._of_container(container, what, body)
            case "GET", ["exec", number, "json"]:
                return 200, {"Running": False, "ExitCode": self._ended[number][0]}
            case "POST", ["exec", number, "start"]:
                return 200, self._ended[number][1]
        return 404, {"message": "page not found"}

    def _of_container(self, container: FakeContainer, what: str, body: Any) -> tuple[int, Any]:
        if what == "json":
            return 200, _inspected(container)
        if what == "exec":
            if not container.is_running:
                return 409, {"message": f"container {container.name} is not running"}
            self.commands.append((container.name, body["Cmd"], container.is_running))
            number = str(len(self._ended))
            self._ended[number] = self.run(container.name, body["Cmd"])
            return 201, {"Id": number}
        is_running = what == "start"
        if container.is_running == is_running:
            return 304, None
        if is_running and container.does_not_start:
            return 500, {"message": "driver failed programming external connectivity"}
        container.is_running = is_running or container.starts_itself
        if is_running:
            container.started_at = _now()
        else:
            container.finished_at = _now()
            if container.is_removed_at_its_end:
                del self.containers[container.id]
        return 204, None

    def _all(self) -> list[FakeContainer]:
        return list(self.containers.values())

    def _one(self, name: str) -> FakeContainer | None:
        return next((found for found in self._all() if name in {found.id, found.name}), None)

    def _named(self, path: str) -> str:
        for container in self._all():
            path = path.replace(container.id, container.name)
        return path


def _inspected(container: FakeContainer) -> dict[str, Any]:
    state: dict[str, Any] = {
        "Running": container.is_running,
        "Paused": False,
        "StartedAt": container.started_at,
        "FinishedAt": container.finished_at,
    }
    if container.health:
        state["Health"] = {"Status": container.health[0]}
        if len(container.health) > 1:
            container.health.pop(0)
    return {
        "Id": container.id,
        "Name": f"/{container.name}",
        "State": state,
        "Mounts": container.mounts,
        "HostConfig": {"AutoRemove": container.is_removed_at_its_end},
        "Config": {"Labels": container.labels or None},
    }


def _mount(engine: EngineServer, mount: str | Path) -> dict[str, Any]:
    if isinstance(mount, Path):
        return {"Type": "bind", "Source": str(mount), "Destination": "/host"}
    return {"Type": "volume", "Name": mount, "Source": engine.volumes[mount]["Mountpoint"], "Driver": "local"}


def _numbers(version: str) -> tuple[int, int]:
    major, _, minor = version.partition(".")
    return int(major), int(minor)


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "123Z")  # nanoseconds


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no trouble of the engine's."""


def _handler_of(engine: EngineServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def _answer(self) -> None:
            self.close_connection = True
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            if self.path == "/_ping":
                self._send(200, b"OK", ("Api-Version", engine.newest))
                return
            status, found = engine.answer(self.command, self.path, body)
            if isinstance(found, bytes):
                self._stream(found)
                return
            self._send(status, b"" if found is None else json.dumps(found).encode())

        def _send(self, status: int, data: bytes, *headers: tuple[str, str]) -> None:
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            if status not in {204, 304}:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            with suppress(BrokenPipeError):
                self.wfile.write(data)

        def _stream(self, text: bytes) -> None:
            """Output in two pieces, the second cut, as a socket may do; it ends with the connection."""
            self.send_response(200)
            self.send_header("Content-Type", "application/vnd.docker.raw-stream")
            self.end_headers()
            for number, part in enumerate((text[:3], text[3:]), 1):
                data = bytes([number, 0, 0, 0]) + len(part).to_bytes(4, "big") + part
                for some in (data[:5], data[5:]):
                    self.wfile.write(some)
                    self.wfile.flush()
            while engine.is_endless:
                time.sleep(0.05)

        def log_message(self, *_: Any) -> None:
            """Nothing is logged."""

    return Handler
