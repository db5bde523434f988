"""A server for a drill: an ordinary user's, from the distribution's binaries, in a folder that goes with it.

It listens to a socket in that folder alone, which only its user and root can enter. If our process dies,
the guard of its process ends it; the folder is removed when the next one is made.
"""

from __future__ import annotations

import glob
import hashlib
import os
import pwd
import select
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final, TypeVar

from msgspec.structs import replace

from backup.databases.dumps import engine_of
from backup.databases.engine import Rows
from backup.databases.loading import LoadFailedError, Wish, telling
from backup.databases.server import Server
from backup.errors import NightvaultError
from backup.model import MIB
from backup.source.command import RunningCommand
from backup.source.read import FileUnreadableError
from backup.source.streams import Stop

# A socket's path is short, and the user of the server cannot enter the state directory.
_BELOW: Final = "/var/tmp"  # noqa: S108
_USERS: Final[Mapping[str, str]] = {"postgresql": "postgres", "mariadb": "mysql", "redis": "redis"}
_NAME: Final = "drill"  # of the database
_PATIENCE: Final = 60.0  # seconds until it answers
_SCARCE: Final = 32 * MIB  # left on a disk: PostgreSQL takes half of that at a time for its log
_FULL: Final = ("no space left", "is full", "errno: 28", "disk full")  # how servers say it
_PAUSE: Final = 0.1
_PLACES: Final = f"{os.defpath}:/usr/local/sbin:/usr/sbin:/sbin"


_Answer = TypeVar("_Answer")


class NoServerError(NightvaultError):
    """This machine has no programs of a server to start, or no room for it."""


def load(dump: int, kind: str, charset: str, *, state: str, programs: str, stop: Stop) -> Rows:
    """Load the dump in an open file into a new server; return its tables with their rows.

    `NoServerError`; `LoadFailedError` if the server, or what it was given, is not as it should be.
    """
    if kind not in _USERS:
        raise NoServerError(f"a drill starts no server of {kind}")
    user = _USERS[kind] if os.geteuid() == 0 else None
    server = Server(kind=kind, run_as=None if user is None else _user(user), programs=programs)
    with _folder(state, server.run_as) as folder:
        try:
            return _LOADERS[kind](server, folder, dump, charset, stop)
        except FileUnreadableError as error:
            raise NoServerError(f"no server could be started in {folder}: {error}") from error
        except (LoadFailedError, OSError) as error:
            if isinstance(error, LoadFailedError) and not _is_full(folder, str(error).lower()):
                raise
            raise NoServerError(
                f"the server that was started for it has no room in {folder}: {error}"
            ) from error


def _is_full(folder: str, said: str) -> bool:
    """Whether there was no room, by what a server says, or by what is left after it broke off."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize < _SCARCE or any(word in said for word in _FULL)


def _postgresql(server: Server, folder: str, dump: int, charset: str, stop: Stop) -> Rows:
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[4] or 0))
    programs = server.programs or (found[-1] if found else "")
    data, words = (
        f"{folder}/data",
        (f"-k{folder}", "-clisten_addresses=", "-cfsync=off", "-clogging_collector=on"),
    )
    made = (
        f"--pgdata={data}",
        "--auth=trust",
        "--username=drill",
        "--no-sync",
        "--locale=C",
        "--encoding=UTF8",
    )
    server = replace(server, programs=programs, host=folder, user="drill")
    server.ask((_program("initdb", programs), *made), "", stop)
    with server.running((_program("postgres", programs), f"-D{data}", *words), stop) as process:
        return _loaded(server, process, dump, charset, stop)


def _mariadb(server: Server, folder: str, dump: int, charset: str, stop: Stop) -> Rows:
    data, places = f"--datadir={folder}/data", server.programs
    made = ("--no-defaults", data, "--auth-root-authentication-method=normal", "--skip-test-db")
    words = (
        "--no-defaults",
        data,
        f"--socket={folder}/s",
        f"--pid-file={folder}/pid",
        f"--log-error={folder}/log",
    )
    server.ask((_program("mariadb-install-db", places), *made), "", stop)
    server = replace(server, host=f"{folder}/s", user="root")
    with server.running((_program("mariadbd", places), *words, "--skip-networking"), stop) as process:
        return _loaded(server, process, dump, charset, stop)


def _redis(server: Server, folder: str, dump: int, charset: str, stop: Stop) -> Rows:  # noqa: ARG001
    with open(f"{folder}/dump.rdb", "xb") as file:
        file.writelines(_pieces(dump))
        if server.run_as is not None:
            os.fchown(file.fileno(), pwd.getpwnam(server.run_as).pw_uid, -1)
    options = {"port": "0", "unixsocket": f"{folder}/s", "dir": folder, "save": "", "appendonly": "no"}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    words += ["--logfile", f"{folder}/log"]
    server = replace(server, host=f"{folder}/s")
    running = server.running((_program("redis-server", server.programs), *words), stop)
    with running as process, telling():  # it reads the dump as it starts
        return _answered(process, lambda: engine_of(server).rows("", stop))


_LOADERS: Final[Mapping[str, Callable[[Server, str, int, str, Stop], Rows]]] = {
    "postgresql": _postgresql,
    "mariadb": _mariadb,
    "redis": _redis,
}


def _loaded(server: Server, process: RunningCommand, dump: int, charset: str, stop: Stop) -> Rows:
    """Load the dump once the server answers, and count."""
    engine = engine_of(server)
    _answered(process, lambda: engine.listed(stop))
    with telling():
        with engine.loading(_NAME, Wish(charset, is_bare=True), stop) as loading:
            for data in _pieces(dump):
                loading.write(data)
                process.hear()
            loading.finish()
        return engine.rows(_NAME, stop)


def _answered(process: RunningCommand, ask: Callable[[], _Answer]) -> _Answer:
    """Return the answer of a server that was just started; its own last words if it does not."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return ask()
        except FileUnreadableError as error:
            process.hear()
            if process.has_ended:
                process.finish()
            if process.has_ended or time.monotonic() >= deadline:
                raise FileUnreadableError(
                    f"the server that was started for it does not answer: {error}"
                ) from error
        select.select([], [], [], _PAUSE)


def _pieces(dump: int) -> Iterator[bytes]:
    offset = 0
    while data := os.pread(dump, MIB, offset):
        yield data
        offset += len(data)


@contextmanager
def _folder(state: str, user: str | None) -> Iterator[str]:
    """A new folder of the server's user; `NoServerError` if it cannot be made, or others' is there."""
    folder = folder_of(state)
    uid = os.geteuid() if user is None else pwd.getpwnam(user).pw_uid
    sweep(state)
    try:
        os.mkdir(folder, 0o700)
    except OSError as error:
        raise NoServerError(f"{folder} cannot be made for a drill: {error.strerror}") from error
    try:
        os.chown(folder, uid, -1)
        yield folder
    finally:
        sweep(state)


def folder_of(state: str) -> str:
    """The folder for servers of the drills of this state directory."""
    name = hashlib.sha256(os.fsencode(os.path.realpath(state))).hexdigest()[:12]
    return f"{_BELOW}/nightvault-load-{name}"


def sweep(state: str) -> None:
    """Remove the folder that a drill of this state directory left, if it is ours or our servers'."""
    folder = folder_of(state)
    owners = {
        os.geteuid(),
        *(pwd.getpwnam(_user(user)).pw_uid for user in _USERS.values() if os.geteuid() == 0),
    }
    with suppress(FileNotFoundError):
        found = os.lstat(folder)
        if stat.S_ISDIR(found.st_mode) and found.st_uid in owners:
            shutil.rmtree(folder, ignore_errors=True)


def _user(name: str) -> str:
    """The user that the distribution has for a server; `nobody` where there is none."""
    with suppress(KeyError):
        return pwd.getpwnam(name).pw_name
    return "nobody"


def _program(name: str, programs: str) -> str:
    """The path of a server's program. `NoServerError`."""
    found = shutil.which(name, path=programs) if programs else shutil.which(name, path=_PLACES)
    if found is None:
        raise NoServerError(f"{name} is not installed, so no server can be started to load it")
    return found
