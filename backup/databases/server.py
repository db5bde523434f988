"""Runs the clients of a server of databases: no shell, and no password on a command line or in a message."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import RawIOBase
from subprocess import DEVNULL
from typing import Final, Protocol

from msgspec import Struct, field

from backup.errors import ConfigError
from backup.model import KIB, MIB
from backup.source.command import RunningCommand, in_memory
from backup.source.read import FileUnreadableError
from backup.source.streams import Stop

_PASSWORD_IN: Final[Mapping[str, str]] = {
    "postgresql": "PGPASSWORD",
    "mariadb": "MYSQL_PWD",
    "mysql": "MYSQL_PWD",
    "redis": "REDISCLI_AUTH",
}
_MOST: Final = 64 * MIB  # of an answer


class HiddenText(Protocol):
    """A secret that can be taken out of texts."""

    def reveal(self) -> str:
        """The text itself."""
        ...

    def hidden_in(self, text: str) -> str:
        """A text without it."""
        ...


class Server(Struct, frozen=True, kw_only=True):
    """A server, and how its clients are run; of kind sqlite a file, `path`, and `spool` for its copies.

    `host` that begins with a slash is a socket, or its directory. `password` is called for each client.
    """

    kind: str
    host: str = ""
    port: int | None = None
    user: str = ""
    password: Callable[[], HiddenText] | None = None
    container: str = ""
    run_as: str | None = None
    programs: str = ""
    path: str = ""
    spool: str = ""
    timeout: float = 43_200
    variables: Mapping[str, str] = field(default_factory=dict)

    def words(self, program: str, *words: str) -> tuple[str, ...]:
        """A command line; a client in a container is run there."""
        line = (os.path.join(self.programs, program), *words)
        if not self.container:
            return line
        names = [*self.variables, *([_PASSWORD_IN[self.kind]] if self.password else [])]
        given = [word for name in names for word in ("--env", name)]
        as_user = ["--user", self.run_as] if self.run_as else []
        runtime = "docker" if shutil.which("docker") else "podman"
        return (runtime, "exec", "--interactive", *as_user, *given, self.container, *line)

    @contextmanager
    def running(
        self, words: Sequence[str], stop: Stop, *, stdin: int = DEVNULL, allow_empty: bool = False
    ) -> Iterator[RunningCommand]:
        """Run a client; `FileUnreadableError` in its words, without the password, where it fails."""
        try:
            secret = self.password() if self.password else None
        except ConfigError as error:
            raise FileUnreadableError(str(error)) from error
        added = {**self.variables, **({_PASSWORD_IN[self.kind]: secret.reveal()} if secret else {})}
        user = None if self.container else self.run_as
        with RunningCommand(
            words,
            self.timeout,
            added,
            user,
            stop,
            allow_empty=allow_empty,
            stdin=stdin,
            hidden_in=secret.hidden_in if secret else str,
        ) as command:
            yield command

    def ask(self, words: Sequence[str], typed: str, stop: Stop) -> bytes:
        """Return what a client prints that is given `typed` as its input."""
        stdin = in_memory(os.fsencode(typed))
        answer = memoryview(bytearray(_MOST))
        try:
            with self.running(words, stop, stdin=stdin, allow_empty=True) as command:
                length = command.fill(answer)
                if length == _MOST:
                    raise FileUnreadableError(f"{words[0]} answers with more than {_MOST // MIB} MiB")
                command.finish()
        finally:
            os.close(stdin)
        return bytes(answer[:length])

    @contextmanager
    def conversing(self, words: Sequence[str], stop: Stop) -> Iterator[Conversation]:
        """Run a client that is asked one thing after the other."""
        theirs, ours = os.pipe()
        with (
            open(ours, "wb", buffering=0) as typed,
            open(theirs, "rb", buffering=0) as read,
            self.running(words, stop, stdin=theirs, allow_empty=True) as command,
        ):
            read.close()
            yield Conversation(command, typed)


class Conversation:
    """A client that is asked one thing after the other."""

    def __init__(self, command: RunningCommand, typed: RawIOBase) -> None:
        self._command = command
        self._typed = typed
        self._buffer = memoryview(bytearray(64 * KIB))

    def ask(self, text: str, end: bytes) -> bytes:
        """Type something that is answered up to `end`, which is cut off; `FileUnreadableError`."""
        answer = bytearray()
        with suppress(BrokenPipeError):  # its last words are read
            self._typed.write(os.fsencode(text))
        while not answer.endswith(end):
            got = self._command.some(self._buffer)
            if not got:
                self._command.finish()
                raise FileUnreadableError("the server's client ended before it had answered")
            answer += self._buffer[:got]
        return bytes(answer[: -len(end)])
