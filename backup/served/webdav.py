"""The tree over WebDAV (RFC 4918, class 1): read-only, but for the control file that asks for what is cold.

WebDAV knows files and collections alone: the tree's own symlinks are shown as what they lead to, saved
symlinks, devices and pipes not at all, as programs skip them that copy from a disk (`rclone`).
"""

from __future__ import annotations

import base64
import errno
import hmac
import os
import re
from collections.abc import Callable, Iterator
from typing import Final
from urllib.parse import unquote_to_bytes

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from backup.browser.contents import OpenFile
from backup.browser.node import Node
from backup.model import EntryKind
from backup.served.control import LARGEST_REQUEST, ControlFiles
from backup.served.look import COLD, CONTROL, Look
from backup.served.multistatus import Resource, multistatus, wanted_of

USER: Final = "nightvault"
_READS: Final = "OPTIONS, GET, HEAD, PROPFIND"
_PIECE: Final = 1 << 20
_LARGEST_QUESTION: Final = 64 * 1024
_RANGE: Final = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")
_STATUS: Final = {
    errno.ENOENT: 404,
    errno.ENOTDIR: 404,
    errno.EINVAL: 404,  # a pipe or a device
    COLD: 403,
    errno.EPERM: 403,
    errno.EROFS: 405,
    errno.E2BIG: 413,
}
_IS_COLD: Final = "it is cold, and nothing was asked for: /.nightvault/README says how that is done"
# What was saved may be a page with a script, which would read all else as whoever looks at it.
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "X-Content-Type-Options": "nosniff",
}


class Webdav:
    """The application: the entries of a tree, and its control files."""

    def __init__(self, look: Look, control: ControlFiles) -> None:
        self._look = look
        self._control = control

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        request = Request(scope, receive)
        try:
            answer = await self._answer(request)
        except OSError as error:
            text = _IS_COLD if error.errno == COLD else error.strerror
            answer = PlainTextResponse(f"{text}\n", _STATUS.get(error.errno or 0, 500))
        answer.headers.update(_HEADERS)
        await answer(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        steps = [step for step in unquote_to_bytes(_raw_path(request)).split(b"/") if step]
        path = b"/" + b"/".join(steps)
        match request.method:
            case "OPTIONS":
                return Response(headers={"DAV": "1", "Allow": _READS})
            case "PROPFIND":
                return await self._propfind(request, path)
            case "GET" | "HEAD":
                return await run_in_threadpool(self._get, request, path)
            case "PUT" if self._control.is_file(path):
                data = await _body(request, LARGEST_REQUEST)
                await run_in_threadpool(self._control.write, path, data)
                return Response(status_code=204)
        return PlainTextResponse("nothing can be changed here\n", 405, headers={"Allow": _READS})

    async def _propfind(self, request: Request, path: bytes) -> Response:
        depth = request.headers.get("depth", "infinity").lower()
        try:
            wanted = wanted_of(await _body(request, _LARGEST_QUESTION))
        except ValueError as error:
            return PlainTextResponse(f"{error}\n", 400)
        if depth not in {"0", "1"}:
            finite = '<D:error xmlns:D="DAV:"><D:propfind-finite-depth/></D:error>\n'
            return Response(finite, 403, media_type="application/xml")
        here = await run_in_threadpool(self._resource, path)
        below = self._below(here) if depth == "1" and here.is_collection else iter(())

        def resources() -> Iterator[Resource]:
            yield here
            yield from below

        return StreamingResponse(multistatus(resources(), wanted), 207, media_type="application/xml")

    def _get(self, request: Request, path: bytes) -> Response:
        """A file, a part of it, or the links in a collection."""
        here = self._resource(path)
        if here.is_collection:
            return StreamingResponse(
                (f"{entry.address}\n" for entry in self._below(here)), media_type="text/plain; charset=utf-8"
            )
        if self._control.is_file(path):
            return Response(self._control.read(path), media_type="text/plain; charset=utf-8")
        headers = {
            "Accept-Ranges": "bytes",
            "Content-Disposition": "attachment",
            "ETag": f'"{here.tag}"',
            "Last-Modified": here.modified,
        }
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        try:
            start, end = _wanted_range(request, here)
        except ValueError:
            return Response(status_code=416, headers={"Content-Range": f"bytes */{here.size}"})
        status = 200
        if end - start < here.size:
            status, headers["Content-Range"] = 206, f"bytes {start}-{end - 1}/{here.size}"
        headers["Content-Length"] = str(end - start)
        content = "application/octet-stream"
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers, media_type=content)
        path = self._plain(path)
        file = self._look.open(path)
        return StreamingResponse(self._pieces(path, file, start, end), status, headers, content)

    def _pieces(self, path: bytes, file: OpenFile, start: int, end: int) -> Iterator[bytes]:
        for offset in range(start, end, _PIECE):
            yield self._look.read(path, file, offset, min(_PIECE, end - offset))

    def _resource(self, path: bytes) -> Resource:
        """The entry at a path. `ENOENT`, also for one that WebDAV cannot show."""
        if self._control.is_file(path):
            return Resource(path, False, len(self._control.read(path)), 0, False, "")
        if path == CONTROL:
            return Resource(path, True, 0, 0, False, "")
        found = _shown(path, self._look.node(self._plain(path)))
        if found is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return found

    def _below(self, here: Resource) -> Iterator[Resource]:
        if here.path == CONTROL:
            yield from (self._resource(CONTROL + b"/" + name) for name in self._control.names)
            return
        for name, node in self._look.entries(self._plain(here.path)):
            found = _shown(here.path.rstrip(b"/") + b"/" + name, node)
            if found is not None:
                yield found

    def _plain(self, path: bytes) -> bytes:
        """The path to which the tree's own symlinks lead."""
        return self._look.tree.plain(path)


def _shown(path: bytes, node: Node) -> Resource | None:
    """An entry as WebDAV has it; None for what it knows not."""
    is_alias = node.kind == EntryKind.SYMLINK and not node.entry
    if node.kind not in {EntryKind.FILE, EntryKind.DIRECTORY} and not is_alias:
        return None
    is_collection = node.kind != EntryKind.FILE
    tag = f"{node.inode:x}-{node.mtime_ns:x}-{node.size:x}"
    return Resource(path, is_collection, node.size, node.mtime_ns, bool(node.mode & 0o100), tag)


def _raw_path(request: Request) -> bytes:
    raw: bytes = request.scope.get("raw_path") or request.url.path.encode()
    return raw.partition(b"?")[0]


async def _body(request: Request, most: int) -> bytes:
    """The body of a request. `E2BIG`."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > most:
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
    return body


def _wanted_range(request: Request, file: Resource) -> tuple[int, int]:
    """The part of a file that is asked for: all of it, unless one range is. `ValueError` if outside."""
    asked = _RANGE.fullmatch(request.headers.get("range", ""))
    is_same = request.headers.get("if-range", f'"{file.tag}"') in {f'"{file.tag}"', file.modified}
    if asked is None or not is_same or asked[0] == "bytes=-":
        return 0, file.size
    start = int(asked[1]) if asked[1] else max(0, file.size - int(asked[2]))
    end = min(int(asked[2]) + 1, file.size) if asked[1] and asked[2] else file.size
    if start >= end:
        raise ValueError(asked[0])
    return start, end


class Guard:
    """Lets nobody in but with the password; knows for how long nobody has asked for anything.

    `seconds` is a clock that never goes back.
    """

    def __init__(self, app: ASGIApp, password: str, seconds: Callable[[], float]) -> None:
        self._app = app
        self._word = b"Basic " + base64.b64encode(f"{USER}:{password}".encode())
        self._seconds = seconds
        self._under_way = 0
        self._last = seconds()

    def idle(self) -> float:
        """For so many seconds nothing has been asked for."""
        return 0.0 if self._under_way else self._seconds() - self._last

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        given = dict(scope["headers"]).get(b"authorization", b"")
        if not hmac.compare_digest(given, self._word):
            wants = {"WWW-Authenticate": f'Basic realm="{USER}", charset="UTF-8"'}
            await Response(status_code=401, headers=wants)(scope, receive, send)
            return
        self._under_way += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._under_way -= 1
            self._last = self._seconds()
