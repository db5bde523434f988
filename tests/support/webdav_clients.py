"""`nightvault serve-files` as a process of its own, and what clients of WebDAV see of it.

with serving(server) as files:
    files.ask("GET", "/snapshots/").status
    files.tree("/snapshots/latest/main/srv")
"""

from __future__ import annotations

import base64
import http.client
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from email.message import Message
from typing import NamedTuple
from urllib.parse import quote_from_bytes, unquote_to_bytes, urlsplit
from xml.etree import ElementTree as ET

from tests.support.servers import SCRIPT, Server


class Answer(NamedTuple):
    """An answer of the server."""

    status: int
    headers: Message
    body: bytes


class Files(NamedTuple):
    """A client: address, user and password as they were printed."""

    url: str
    user: str
    password: str
    process: subprocess.Popen[str]

    def ask(
        self, method: str, path: str | bytes, body: bytes = b"", *, user: str = "", **headers: str
    ) -> Answer:
        """Ask for a path, which is bytes, or a link as it stands; `_` in a header's name is a dash."""
        word = base64.b64encode((user or f"{self.user}:{self.password}").encode()).decode()
        sent = {"Authorization": f"Basic {word}"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        link = path if isinstance(path, str) else quote_from_bytes(path, safe=b"/")
        connection.request(method, link, body=body or None, headers=sent)
        answer = connection.getresponse()
        read = Answer(answer.status, answer.headers, answer.read())
        connection.close()
        return read

    def rclone_remote(self, path: str) -> str:
        """A path as a remote of rclone's, which is installed."""
        words = ["rclone", "obscure", self.password]
        obscured = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
        return f":webdav,url='{self.url}',vendor=other,user={self.user},pass={obscured}:{path}"

    def below(self, link: str) -> list[tuple[str, Mapping[str, str | None]]]:
        """The links of a collection's entries with their properties, by their local names."""
        answer = self.ask("PROPFIND", link, Depth="1")
        assert answer.status == 207, answer
        found: list[tuple[str, Mapping[str, str | None]]] = []
        for response in ET.fromstring(answer.body):
            href = response.findtext("{DAV:}href") or ""
            properties = response.iterfind("{DAV:}propstat/{DAV:}prop/*")
            found.append((href, {each.tag.rpartition("}")[2]: each.text for each in properties}))
        assert found[0][0] == link
        return found[1:]

    def tree(self, link: str) -> dict[bytes, bytes | None]:
        """Everything below a collection: the content of files, None of collections."""
        found: dict[bytes, bytes | None] = {}
        left = [link]
        while left:
            for href, properties in self.below(left.pop()):
                name = unquote_to_bytes(href.removeprefix(link))
                if href.endswith("/"):
                    found[name.rstrip(b"/")] = None
                    left.append(href)
                else:
                    answer = self.ask("GET", href)
                    assert answer.status == 200
                    assert properties["getcontentlength"] == str(len(answer.body))
                    found[name] = answer.body
        return found


@contextmanager
def serving(server: Server, *words: object, program: Sequence[str] = (SCRIPT,)) -> Iterator[Files]:
    """Serve the server's tree; ended by the test, or by this."""
    words = ("serve-files", "--key", server.key_file, *words)
    with server.process(*words, program=program) as process:
        assert process.stdout is not None
        said = [word for _ in range(3) for word in process.stdout.readline().split()]
        assert said[::2] == ["url", "user", "password"], (said, process.communicate(timeout=5))
        try:
            yield Files(said[1], said[3], said[5], process)
        finally:
            process.terminate()
            process.wait(20)
