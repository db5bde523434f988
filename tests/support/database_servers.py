"""Real servers of databases for a test: an ordinary user's, in a folder of their own, by a socket alone."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PASSWORD = f"kestrel-Umbra {os.urandom(4).hex()}'\\"
"""The password of each of their accounts; another test may run beside this one."""
_PATIENCE = 60.0


def newest_postgresql() -> Path | None:
    """The folder of the newest PostgreSQL's programs that is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    return found[-1].parent if found else None


def has(*programs: str) -> bool:
    """Whether these programs are installed."""
    return all(shutil.which(program, path=_path()) for program in programs)


def _path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


@dataclass(frozen=True)
class RunningServer:
    """A server that runs: its folder, the socket's host word, and its process."""

    folder: Path
    host: str
    process: subprocess.Popen[bytes]

    @property
    def password_file(self) -> Path:
        """A file with the password."""
        return self.folder / "password"

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait()


@contextmanager
def postgresql(programs: Path, *, is_durable: bool = False) -> Iterator[RunningServer]:
    """A server of PostgreSQL; its superuser is `postgres`, and it wants a password."""
    with _folder() as folder:
        (folder / "password").write_text(PASSWORD)
        _made(folder, "password")
        _done(
            [
                *(programs / "initdb", "--username=postgres", "--auth=scram-sha-256", "--no-sync"),
                *(f"--pwfile={folder}/password", "--encoding=UTF8", "--locale=C.UTF-8", folder / "data"),
            ]
        )
        words = [programs / "postgres", "-D", folder / "data", "-k", folder, "-c", "listen_addresses="]
        with _running([*words, "-c", f"fsync={'on' if is_durable else 'off'}"], folder) as process:
            ready = [str(programs / "pg_isready"), f"--host={folder}", "--quiet"]
            _wait(process, lambda: subprocess.run(ready, check=False).returncode == 0)
            yield RunningServer(folder, str(folder), process)


@contextmanager
def standby(programs: Path, primary: RunningServer) -> Iterator[RunningServer]:
    """A server that follows another one of PostgreSQL, and answers; by itself it stays behind."""
    with _folder() as folder:
        (folder / "pgpass").write_text(f"*:*:*:postgres:{PASSWORD.replace(chr(92), chr(92) * 2)}\n")
        _made(folder, "pgpass")
        where = f"host={primary.host} user=postgres passfile={folder}/pgpass"
        base = (f"--dbname={where}", f"--pgdata={folder}/data", "--write-recovery-conf", "--no-sync")
        _done([programs / "pg_basebackup", *base, "--checkpoint=fast", "--wal-method=stream"])
        words = [programs / "postgres", "-D", folder / "data", "-k", folder, "-c", "listen_addresses="]
        with _running([*words, "-c", "fsync=off"], folder) as process:
            ready = [str(programs / "pg_isready"), f"--host={folder}", "--quiet"]
            _wait(process, lambda: subprocess.run(ready, check=False).returncode == 0)
            yield RunningServer(folder, str(folder), process)


@contextmanager
def pgbouncer(server: RunningServer, database: str, user: str, password: str, *, pool: int) -> Iterator[Path]:
    """A pooler in transaction mode before a database, with so many connections to it; its socket's folder."""
    with _folder() as folder:
        (folder / "pgbouncer.ini").write_text(
            f"[databases]\n{database} = host={server.host} user={user} password={password}\n[pgbouncer]\n"
            f"unix_socket_dir = {folder}\nlisten_port = 6432\nauth_type = any\npool_mode = transaction\n"
            f"default_pool_size = {pool}\nserver_round_robin = 1\n"
        )
        _made(folder, "pgbouncer.ini")
        program = shutil.which("pgbouncer", path=_path())
        with _running([program, folder / "pgbouncer.ini"], folder) as process:
            _wait(process, (folder / ".s.PGSQL.6432").exists)
            yield folder


@contextmanager
def slow_way(server: RunningServer, seconds: float) -> Iterator[Path]:
    """A socket's folder by which each message to a PostgreSQL comes so many seconds later."""
    with _folder() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/.s.PGSQL.5432")
        listener.listen()

        def relay(source: socket.socket, target: socket.socket, pause: float) -> None:
            with suppress(OSError), source, target:
                while data := source.recv(1 << 16):
                    time.sleep(pause)
                    target.sendall(data)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    there = socket.socket(socket.AF_UNIX)
                    there.connect(f"{server.host}/.s.PGSQL.5432")
                    for ends in ((client, there, seconds), (there, client, 0.0)):
                        threading.Thread(target=relay, args=ends, daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield folder
        listener.shutdown(socket.SHUT_RDWR)


@contextmanager
def mariadb() -> Iterator[RunningServer]:
    """A server of MariaDB, whose `root` has the password."""
    with _folder() as folder:
        (folder / "password").write_text(PASSWORD)
        _made(folder, "password")
        _done(
            [
                *("mariadb-install-db", "--no-defaults", f"--datadir={folder}/data", "--skip-test-db"),
                "--auth-root-authentication-method=normal",
            ]
        )
        socket = folder / "socket"
        words = ["mariadbd", "--no-defaults", f"--datadir={folder}/data", f"--socket={socket}"]
        words += ["--skip-networking", f"--pid-file={folder}/pid", "--innodb-flush-log-at-trx-commit=0"]
        with _running(words, folder) as process:
            client = ["mariadb", "--no-defaults", f"--socket={socket}", "--user=root"]
            _wait(
                process,
                lambda: subprocess.run([*client, "-e", "SELECT 1"], check=False, **_SILENT).returncode == 0,
            )
            quoted = PASSWORD.replace("\\", "\\\\").replace("'", "\\'")
            sql = f"ALTER USER root@localhost IDENTIFIED BY '{quoted}'"
            subprocess.run(client, input=sql.encode(), check=True)
            yield RunningServer(folder, str(socket), process)


@contextmanager
def redis(dump: Path | None = None) -> Iterator[RunningServer]:
    """A server of Redis, which wants a password; with what a dump holds."""
    with _folder() as folder:
        (folder / "password").write_text(PASSWORD)
        _made(folder, "password")
        quoted = PASSWORD.replace("\\", "\\\\")
        (folder / "redis.conf").write_text(
            f'port 0\nunixsocket {folder}/socket\nunixsocketperm 700\ndir {folder}\nrequirepass "{quoted}"\n'
            "repl-diskless-sync-delay 0\n"
        )
        _made(folder, "redis.conf")
        if dump:
            shutil.copy(dump, folder / "dump.rdb")
            _made(folder, "dump.rdb")
        with _running(["redis-server", str(folder / "redis.conf")], folder) as process:
            ping = ["redis-cli", "-s", str(folder / "socket"), "PING"]
            given = {"PATH": _path(), "REDISCLI_AUTH": PASSWORD}
            _wait(
                process,
                lambda: subprocess.run(ping, env=given, check=False, capture_output=True).stdout == b"PONG\n",
            )
            yield RunningServer(folder, str(folder / "socket"), process)


_SILENT: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
_USER = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())


def _as_user() -> dict[str, Any]:
    """How a process is started as an ordinary user."""
    return {"user": _USER.pw_uid, "group": _USER.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="nv-db-", dir="/tmp", ignore_cleanup_errors=True) as name:
        _made(Path(name))
        yield Path(name)


def _made(folder: Path, name: str = "") -> None:
    if os.geteuid() == 0:
        os.chown(folder / name, _USER.pw_uid, _USER.pw_gid)
    os.chmod(folder / name, 0o600 if name else 0o700)


def _done(words: Sequence[object]) -> None:
    environment = {"PATH": _path(), "HOME": "/", "LANG": "C.UTF-8"}
    done = subprocess.run(
        [str(word) for word in words],
        env=environment,
        capture_output=True,
        check=False,
        cwd="/",
        **_as_user(),
    )
    assert done.returncode == 0, done.stderr.decode()


@contextmanager
def _running(words: Sequence[object], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = {"PATH": _path(), "HOME": "/", "LANG": "C.UTF-8"}
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [str(word) for word in words],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            **_as_user(),
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], is_ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not is_ready():
        assert process.poll() is None, "the server has ended"
        assert time.monotonic() < deadline, "the server does not answer"
        time.sleep(0.1)
