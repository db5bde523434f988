"""The API of an engine of containers, Docker's or Podman's, at a Unix socket; what of it is needed.

Source: the reference of Docker's Engine API, 1.41 to 1.44, which Podman's service answers as well.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from msgspec import Struct

from backup.errors import NightvaultError

_NEWEST: Final = (1, 44)  # of the API that this speaks; an engine of 2025 takes none older than that
_MOST_BYTES: Final = 64 * 1024 * 1024
_SECONDS: Final = 60.0
_TAIL: Final = 4096  # bytes of a command's output that are kept
_FRAME: Final = 8  # bytes before each piece of a command's output: which stream, and the length
_FORBIDDEN: Final = 403
READ_ONLY: Final = (
    "a read-only socket proxy cannot stop or start containers, nor run commands in them: let it pass POST "
    "to /containers and /exec, or name the engine's own socket (docs/containers.md)"
)


class ContainersError(NightvaultError):
    """The engine of containers does not answer, or refuses."""

    advice = "is the engine running, and is `socket` of [job.containers] right? docs/containers.md"


class Mount(Struct, frozen=True):
    """A mount of a container: a volume by its name, or a directory of the host (no name)."""

    name: str
    place: str
    is_volume: bool


class Volume(Struct, frozen=True):
    """A named volume; `is_plain`: its files lie in `place` whether a container uses it or not."""

    name: str
    place: str
    labels: Mapping[str, str]
    is_plain: bool


class Container(Struct, frozen=True):
    """A container as it is now; `grace`: the seconds that the engine lets it end by itself.

    `health` is empty without a health check. `goes_with_its_end`: it is removed when it ends.
    """

    id: str
    name: str
    labels: Mapping[str, str]
    mounts: Sequence[Mount]
    is_running: bool
    started_at: datetime
    finished_at: datetime
    grace: int
    health: str
    goes_with_its_end: bool


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class ContainerEngine:
    """An engine of containers at its socket; every method may raise `ContainersError`."""

    def __init__(self, address: str) -> None:
        """`address`: `unix:///PATH`."""
        self.address = address
        self._path = address.removeprefix("unix://")
        self._prefix = ""

    def containers(self) -> list[Container]:
        """All containers, running or not; one that is removed meanwhile is left out."""
        found = (self.container(row["Id"]) for row in self._get("/containers/json?all=1") or ())
        return [container for container in found if container is not None]

    def container(self, number: str) -> Container | None:
        """The container of that id or name; None if there is none."""
        found = self._get(f"/containers/{quote(number, safe='')}/json")
        return None if found is None else self._read(_container, found)

    def volumes(self) -> list[Volume]:
        """All volumes."""
        found = self._get("/volumes") or {}
        return [self._read(_volume, row) for row in found.get("Volumes") or ()]

    def volume(self, name: str) -> Volume | None:
        """The volume of that name; None if there is none."""
        found = self._get(f"/volumes/{quote(name, safe='')}")
        return None if found is None else self._read(_volume, found)

    def stop(self, container: Container) -> bool:
        """Stop a container, as gently as it is configured; False if it did not run, or is gone."""
        return self._post(f"/containers/{container.id}/stop", seconds=container.grace + _SECONDS) == 204

    def start(self, number: str) -> bool:
        """Start a container; False if it is gone. One that runs stays as it is."""
        return self._post(f"/containers/{number}/start") != 404

    def run(self, container: Container, words: Sequence[str], seconds: float) -> tuple[int, str]:
        """Run a command in a container; its exit code and the last of its output."""
        body = {"AttachStdout": True, "AttachStderr": True, "Cmd": list(words)}
        made = self._json(self._asked("POST", f"/containers/{container.id}/exec", body)[1])
        path = f"/exec/{made['Id']}"
        output = self._output(f"{path}/start", seconds)
        ended = self._get(f"{path}/json") or {}
        return int(ended.get("ExitCode") or 0), output.decode(errors="replace").strip()

    def _get(self, path: str) -> Any:
        """The answer as JSON; None if there is no such thing."""
        status, body = self._asked("GET", path)
        return None if status == 404 else self._json(body)

    def _post(self, path: str, *, seconds: float = _SECONDS) -> int:
        return self._asked("POST", path, seconds=seconds)[0]

    def _asked(
        self, method: str, path: str, body: object = None, *, seconds: float = _SECONDS
    ) -> tuple[int, bytes]:
        """Status and body of an answer; 404 and 304 are answers, other refusals are errors."""
        with closing(self._connection(seconds)) as connection:
            try:
                response = self._sent(connection, method, path, body)
                data = response.read(_MOST_BYTES + 1)
            except (OSError, http.client.HTTPException) as error:
                raise ContainersError(f"{self.address} does not answer: {error}") from error
        if len(data) > _MOST_BYTES:
            raise ContainersError(f"{self.address} answers {method} {path} with more than this program reads")
        if response.status >= 400 and response.status != 404:
            raise self._refusal(method, path, response.status, data)
        return response.status, data

    def _sent(
        self, connection: _Connection, method: str, path: str, body: object
    ) -> http.client.HTTPResponse:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Connection": "close"} | ({} if data is None else {"Content-Type": "application/json"})
        connection.request(method, self._prefix + path, data, headers)
        return connection.getresponse()

    def _connection(self, seconds: float) -> _Connection:
        """A connection; with the first one the version is found that both sides speak."""
        if not self._prefix:
            with closing(_Connection(self._path, seconds)) as connection:
                try:
                    answer = self._sent(connection, "GET", "/_ping", None)
                    answer.read(_TAIL)
                except (OSError, http.client.HTTPException) as error:
                    raise ContainersError(f"{self.address} does not answer: {error}") from error
            major, minor = min(_NEWEST, _version(answer.headers.get("Api-Version", "")))
            self._prefix = f"/v{major}.{minor}"
        return _Connection(self._path, seconds)

    def _output(self, path: str, seconds: float) -> bytes:
        """The last of what a command prints, once it has ended."""
        deadline, tail, left = time.monotonic() + seconds, b"", b""
        with closing(self._connection(_SECONDS)) as connection:
            try:
                connection.connect()
                line = connection.sock
                response = self._sent(connection, "POST", path, {"Detach": False, "Tty": False})
                if response.status >= 400:
                    raise self._refusal("POST", path, response.status, response.read(_TAIL))
                while True:
                    line.settimeout(max(0.001, deadline - time.monotonic()))
                    if not (piece := response.read1(65536)):
                        return tail
                    text, left = _unframed(left + piece)
                    tail = (tail + text)[-_TAIL:]
            except TimeoutError as error:
                told = f"a command took longer than {seconds:g} s, and goes on in its container"
                raise ContainersError(told) from error
            except (OSError, http.client.HTTPException) as error:
                raise ContainersError(f"{self.address} does not answer: {error}") from error

    def _refusal(self, method: str, path: str, status: int, data: bytes) -> ContainersError:
        try:
            said = str(json.loads(data)["message"])
        except (ValueError, KeyError, TypeError):
            said = data[:200].decode(errors="replace")
        text = f"{self.address} refuses {method} {path} ({status}): {' '.join(said.split())}"
        is_denied = status in {_FORBIDDEN, 405} and method == "POST"
        return ContainersError(text, advice=READ_ONLY if is_denied else "")

    def _json(self, data: bytes) -> Any:
        try:
            return json.loads(data)
        except ValueError as error:
            raise ContainersError(f"{self.address} answers with something that is not JSON") from error

    def _read(self, read: Any, row: Any) -> Any:
        try:
            return read(row)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ContainersError(f"{self.address} answers with something unknown: {error!r}") from error


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else _NEWEST


def _container(row: Mapping[str, Any]) -> Container:
    state, config = row["State"], row["Config"]
    health = (state.get("Health") or {}).get("Status") or ""
    grace = config.get("StopTimeout")
    return Container(
        id=str(row["Id"]),
        name=str(row["Name"]).removeprefix("/"),
        labels=dict(config.get("Labels") or {}),
        mounts=[mount for found in row.get("Mounts") or () if (mount := _mount(found)) is not None],
        is_running=bool(state["Running"]) and not state.get("Paused"),
        started_at=_moment(state["StartedAt"]),
        finished_at=_moment(state["FinishedAt"]),
        grace=10 if grace is None else int(grace),
        health="" if health == "none" else str(health),
        goes_with_its_end=bool((row.get("HostConfig") or {}).get("AutoRemove")),
    )


def _mount(row: Mapping[str, Any]) -> Mount | None:
    """A mount of files; None for what is in memory, or of another kind."""
    if row.get("Type") not in {"volume", "bind"}:
        return None
    is_volume = row["Type"] == "volume"
    return Mount(str(row.get("Name") or "") if is_volume else "", str(row.get("Source") or ""), is_volume)


def _volume(row: Mapping[str, Any]) -> Volume:
    options = row.get("Options") or {}
    is_plain = row.get("Driver") == "local" and not options.keys() & {"type", "device"}
    return Volume(str(row["Name"]), str(row.get("Mountpoint") or ""), dict(row.get("Labels") or {}), is_plain)


def _moment(text: str) -> datetime:
    """A time of the engine's, which has nanoseconds; year 1 where there is none."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _unframed(data: bytes) -> tuple[bytes, bytes]:
    """The text of whole pieces of output, and the beginning of the next piece."""
    texts = []
    while len(data) >= _FRAME:
        end = _FRAME + int.from_bytes(data[4:_FRAME])
        if len(data) < end:
            break
        texts.append(data[_FRAME:end])
        data = data[end:]
    return b"".join(texts), data
