"""The stage of the demos: a server with its keys, an emulated AWS, commands as users type them."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from backup.cli.trying.demonstration.local_aws import (
    SERVICES,
    environment,
    running_emulator,
    write_accounts,
    write_config,
)
from backup.errors import NightvaultError

Say = Callable[[str], None]


class Stage:
    """A directory to play in, with a server's config; a story is a subclass."""

    def __init__(self, source: str, work: str, program: Sequence[str], say: Say, vault: str) -> None:
        self._vault = vault
        self._source = source
        self._work = work
        self._program = list(program)
        self._say = say
        self._config = self._path("config.toml")
        self._copy = self._path("copy")
        self._urls: Mapping[str, str] = {}

    @contextmanager
    def _running(self, *set_up: str, speed: int = 7200) -> Iterator[None]:
        """A server that has its keys, and the AWS that it needs, until the body ends.

        `set_up` are more words for `setup aws`; at the usual speed a retrieval of four hours takes two
        seconds.
        """
        self._make_identity()
        accounts, service = self._path("accounts.toml"), SERVICES[self._vault]
        write_accounts(accounts)
        with running_emulator(self._path("aws"), accounts, self._path("emulator.log"), speed) as urls:
            endpoint = urls[service.lower()]
            self._say(f"\nan emulator of {service}, IAM and Roles Anywhere listens at {endpoint}")
            self._urls = urls
            self._set_up(endpoint, set_up)
            self._call("config", "check")
            self._call("identity", "show")
            self._call("init", "--non-interactive", "--key-file", self._path("recovery.key"))
            yield

    def _make_identity(self) -> None:
        ca = self._path("ca")
        self._call("ca", "create", "--dir", ca, "--name", "Demo Backup CA", "--organization", "Demo")
        self._call(
            *("ca", "issue", "demo-server", "--dir", ca, "--out", self._path("identity")),
            *("--organization", "Demo", "--unit", "Servers"),
        )

    def _set_up(self, endpoint: str, words: Sequence[str]) -> None:
        """Have AWS set up, as an admin: this command alone gets an admin's keys."""
        identity = self._path("identity")
        write_config(self._config, kind=self._vault, endpoint=endpoint, identity=identity, source=self._copy)
        self._say("\nwhat AWS needs is made by an admin, whose keys the server never has")
        ca = self._path("ca", "ca.pem")
        self._call("setup", "aws", "--apply", "--yes", "--ca", ca, *words, admin=True)

    def _run(self, *words: str) -> dict[str, Any]:
        """A command that makes a run, and its report."""
        self._call(*words)
        runs = json.loads(self._call("runs", "--limit", "1", "--json", shown=False))
        report: dict[str, Any] = runs[0]["report"]
        return report

    def _path(self, *parts: str) -> str:
        return os.path.join(self._work, *parts)

    def _call(
        self, *words: str, shown: bool = True, admin: bool = False, codes: Collection[int] = (0,)
    ) -> str:
        """Run a command as a user would; what it prints is shown, and given back.

        `NightvaultError` if it ends with another exit code than one of `codes`.
        """
        if shown:
            self._say(f"\n$ nightvault {shlex.join(words)}")
        done = subprocess.run(
            [*self._program, "--config", self._config, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if shown else subprocess.PIPE,
            check=False,
            env={**os.environ, **environment(self._urls, admin=admin)},
        )
        output = done.stdout.decode("utf-8", "replace")
        if shown or done.returncode not in codes:
            self._say(output.rstrip())
        if done.returncode not in codes:
            raise NightvaultError(f"nightvault {words[0]} ended with exit code {done.returncode}")
        return output
