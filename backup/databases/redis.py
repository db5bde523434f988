"""Redis: the server's own snapshot, by `redis-cli --rdb -`. It cannot be loaded into a server that runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from msgspec import Struct

from backup.databases.engine import CheckedDump, DumpChoice, Rows
from backup.databases.loading import Loading, Wish
from backup.databases.server import Server
from backup.errors import UsageError
from backup.source.read import FileUnreadableError
from backup.source.streams import DumpNote, NotedStream, Stop

_VERSION = re.compile(r"^(?:redis|valkey)_version:(\S+)", re.MULTILINE)
_KEYS = re.compile(r"^(db\d+):keys=(\d+),expires=(\d+)", re.MULTILINE)


class Redis(Struct, frozen=True):
    """A server of Redis, which has one dump of all."""

    server: Server
    choice: DumpChoice = DumpChoice()
    has_globals: bool = False

    def listed(self, stop: Stop) -> list[str]:  # noqa: ARG002
        """None: it has no databases with names of their own."""
        return []

    def shown(self, name: str) -> tuple[str, ...]:  # noqa: ARG002
        """The command that fetches its snapshot."""
        return self._client("--rdb", "-", *self.choice.options)

    def holds(self, name: str, stop: Stop) -> str:  # noqa: ARG002
        """Nothing is loaded into it, so it is not asked."""
        return ""

    def rows(self, name: str, stop: Stop) -> Rows:  # noqa: ARG002
        """The keys of each database by number, once all of them are loaded."""
        found = self._info(stop)
        if "\nloading:1" in found:
            raise FileUnreadableError("it still loads its snapshot")
        return tuple((name, int(keys), int(keys)) for name, keys, _ in _KEYS.findall(found))

    def loading(self, name: str, wish: Wish, stop: Stop) -> AbstractContextManager[Loading]:  # noqa: ARG002
        """`UsageError`: a server reads its snapshot when it starts, and only then."""
        raise UsageError(
            "a server of Redis reads its dump only when it starts",
            advice="--to-file dump.rdb makes the file: stop the server, put it into its directory, start it",
        )

    @contextmanager
    def dumping(self, name: str, stop: Stop) -> Iterator[NotedStream]:
        """Fetch the snapshot, and count keys before and after; those that may expire may be missing in it."""
        before = self._info(stop)
        found = _VERSION.search(before)
        version = found[1] if found else ""

        def noted() -> DumpNote:
            return DumpNote("redis", name, version, tables=_rows(before, self._info(stop)))

        with self.server.running(self.shown(name), stop) as dump:
            yield CheckedDump(dump, noted, begins=b"REDIS")

    def _info(self, stop: Stop) -> str:
        answer = self.server.ask(self._client("--no-raw", "INFO"), "", stop).decode("utf-8", "replace")
        if "redis_version" not in answer and "valkey_version" not in answer:
            raise FileUnreadableError(f"redis-cli: {answer.strip()[:500] or 'it said nothing'}")
        return answer.replace("\r", "")

    def _client(self, *words: str) -> tuple[str, ...]:
        at = self.server
        is_socket = at.host.startswith("/")
        places = {
            "-s": at.host if is_socket else "",
            "-h": "" if is_socket else at.host,
            "-p": str(at.port or ""),
            "--user": at.user,
        }
        given = [word for option, value in places.items() if value for word in (option, value)]
        return at.words("redis-cli", *given, "-e", "--no-auth-warning", *words)


def _rows(before: str, after: str) -> Rows:
    counts: dict[str, list[int]] = {}
    for name, keys, expires in _KEYS.findall(before) + _KEYS.findall(after):
        counts.setdefault(name, []).extend([int(keys), int(keys) - int(expires)])
    return tuple((name, min(numbers), max(numbers)) for name, numbers in counts.items())
