"""What the page costs: answers with many viewers, pages that stay open, and a backup beside it.

    python -m tests.bench.page viewers     NIGHTVAULT_PAGE_ENTRIES, NIGHTVAULT_PAGE_SNAPSHOTS: the inventory
    python -m tests.bench.page open        50 pages stay open for two minutes
    python -m tests.bench.page backup      backups alone, beside 50 open pages, beside 50 who look every 10 s,
                                           beside 50 who ask without a pause

The page is a process of its own, as `nightvault web` starts it; viewers are threads of this one. CPU is
that of processes, as the kernel has counted it: it hardly depends on what else a machine does.

As root on a machine with the cgroup controller `cpu`, the page has the weight that its unit gives it
(`CPUWeight=2`, the backup has 100), and the viewers, who are elsewhere in truth, no more.
"""

from __future__ import annotations

import http.client
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

from backup.app.base.clock import SystemClock
from backup.config import load_config
from backup.web.context import WebContext
from backup.web.daemon_desk import away
from tests.support.pages import add_users
from tests.support.real_daemons import running
from tests.support.seeded_inventories import HUGE, seeded, snapshot_id
from tests.support.seeded_pages import CONFIG, ENTRIES, SNAPSHOTS
from tests.support.servers import SCRIPT, Server, directory_server

VIEWERS, ROUNDS = 50, 6
SIZE = 4 << 30  # bytes of a backup
WEIGHTS = {"backup": 100, "page": 2, "viewers": 1}  # as CPUWeight= counts
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Running:
    """A page's process, where it listens, and a cookie for each viewer."""

    process: subprocess.Popen[str]
    port: int
    cookies: list[str]

    @property
    def cpu(self) -> float:
        """Seconds of CPU so far."""
        told = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(told[11]) + int(told[12])) / TICKS

    def memory(self, word: str = "VmHWM") -> int:
        """MiB of memory: the most so far, or now (`VmRSS`)."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(word)) // 1024

    def get(self, viewer: int, path: str) -> float:
        """How long one request takes, in seconds."""
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with closing(connection):
            connection.request("GET", path, headers={"Cookie": f"nightvault={self.cookies[viewer]}"})
            answer = connection.getresponse()
            assert answer.status == 200, (path, answer.status)
            answer.read()
        return time.monotonic() - began


@contextmanager
def page(config: Path, *, nice: int = 0) -> Iterator[Running]:
    """The page of a config, with fifty users' sessions."""
    settings = load_config(str(config))
    context = WebContext.of(settings, SystemClock(), away)
    now = context.clock.now()
    add_users(context, now)
    from backup.web.guard.users import Role

    cookies = []
    for number in range(VIEWERS):
        if f"v{number}" not in {user.name for user in context.accounts.users()}:
            context.accounts.add_user(f"v{number}", Role.VIEWER, None, now)
        cookies.append(context.accounts.open_session(f"v{number}", now))
    context.close()
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    words = ["nice", "-n", str(nice), SCRIPT, "--config", str(config), "web", "--listen", f"127.0.0.1:{port}"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout
        assert any("listens" in line for line in process.stdout)  # after a warning that it runs as root
        yield Running(process, port, cookies)
    finally:
        process.terminate()
        process.wait(20)


def at_once(work: Callable[[int], float]) -> list[float]:
    """What fifty threads measure that begin together."""
    found: list[float] = []
    start = threading.Barrier(VIEWERS)

    def one(viewer: int) -> None:
        start.wait()
        found.append(work(viewer))

    threads = [threading.Thread(target=one, args=(viewer,)) for viewer in range(VIEWERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(found)


def viewers(folder: Path) -> None:
    """Latency, alone and fifty at once, and memory."""
    folder = folder / "state"  # the file of accounts lies beside it
    folder.mkdir()
    (folder / "config.toml").write_text(CONFIG.format(folder=folder))
    began = time.monotonic()
    seeded(folder, entries=ENTRIES, snapshots=SNAPSHOTS).close()
    print(f"{ENTRIES} entries, {SNAPSHOTS} snapshots, made in {time.monotonic() - began:.0f} s", flush=True)
    middle = snapshot_id(1, SNAPSHOTS // 2)
    paths = {
        "overview": "/",
        "directory": f"/browse?{urlencode({'snapshot': middle, 'path': HUGE.decode()})}",
        "search": "/search?q=report-00000",
        "search for nothing": "/search?q=zzzz",
        "runs": "/runs",
    }
    with page(folder / "config.toml") as shown:
        for name, path in paths.items():
            first = shown.get(0, path)
            before = shown.cpu
            alone = [shown.get(0, path) for _ in range(20)]
            cpu = (shown.cpu - before) / 20
            print(
                f"{name}: first {first * 1e3:.0f} ms, then {statistics.median(alone) * 1e3:.0f} ms "
                f"(most {max(alone) * 1e3:.0f}), CPU {cpu * 1e3:.0f} ms, {shown.memory('VmRSS')} MiB",
                flush=True,
            )
        for name in ("overview", "directory", "runs"):
            found = at_once(lambda viewer, path=paths[name]: shown.get(viewer, path))  # type: ignore[misc]
            print(
                f"{name}, {VIEWERS} at once: median {statistics.median(found) * 1e3:.0f} ms, "
                f"95 % {found[int(0.95 * VIEWERS)] * 1e3:.0f}, all {found[-1] * 1e3:.0f}; "
                f"{shown.memory()} MiB at most",
                flush=True,
            )


@contextmanager
def open_pages(shown: Running) -> Iterator[None]:
    """Fifty open pages: each holds its stream, and reads what comes."""
    with ExitStack() as held:
        for viewer in range(VIEWERS):
            sock = held.enter_context(socket.create_connection(("127.0.0.1", shown.port), timeout=20))
            cookie = f"Cookie: nightvault={shown.cookies[viewer]}"
            sock.sendall(f"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n{cookie}\r\n\r\n".encode())
            assert b" 200 " in sock.recv(4096)
        yield


@contextmanager
def lookers(shown: Running, every: float = 10.0) -> Iterator[None]:
    """Fifty who look at the overview anew every ten seconds."""
    stop = threading.Event()

    def look(viewer: int) -> None:
        stop.wait(every * viewer / VIEWERS)
        while not stop.is_set():
            shown.get(viewer, "/")
            stop.wait(every)

    threads = [threading.Thread(target=look, args=(viewer,)) for viewer in range(VIEWERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def open_all_night(folder: Path, seconds: float = 120.0) -> None:
    """CPU and memory of the page and of the daemon while pages stay open, beside the same without them."""
    server = prepared(folder)
    with running(server.config) as daemon:
        daemon.wait_for("started with")
        with page(server.config) as shown:
            shown.get(0, "/")
            figures = {}
            for name, how in (("nobody", nobody), ("fifty open pages", lambda: open_pages(shown))):
                with how():
                    time.sleep(3)
                    before = (shown.cpu, of(daemon.process.pid))
                    time.sleep(seconds)
                    figures[name] = (shown.cpu - before[0], of(daemon.process.pid) - before[1])
                hour = 3600 / seconds
                mine, theirs = figures[name]
                print(
                    f"{name}: {mine * hour:.2f} s of CPU an hour by the page, "
                    f"{theirs * hour:.2f} by the daemon; "
                    f"{shown.memory('VmRSS')} MiB",
                    flush=True,
                )
        daemon.stop()


@contextmanager
def nobody() -> Iterator[None]:
    """Nobody looks."""
    yield


def of(process: int) -> float:
    """Seconds of CPU of a process so far."""
    told = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(told[11]) + int(told[12])) / TICKS


def prepared(folder: Path) -> Server:
    """A server with a page that a daemon serves."""
    server = directory_server(folder, clock=SystemClock())
    server.config.write_text("[web]\n" + server.config.read_text())
    server.init()
    return server


@dataclass
class Rounds:
    """Seconds of backups of one kind."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    page: list[float] = field(default_factory=list)  # share of a core


@contextmanager
def groups() -> Iterator[dict[str, Path]]:
    """A control group for each of `WEIGHTS`; none where that is not allowed."""
    root = next(path for path in (Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")) if path.is_dir())
    made: dict[str, Path] = {}
    try:
        for name, weight in WEIGHTS.items():
            group = root / f"nightvault-bench-{name}"
            group.mkdir()
            made[name] = group
            if (group / "cpu.shares").exists():
                (group / "cpu.shares").write_text(str(1024 * weight // 100))
            else:
                (group / "cpu.weight").write_text(str(weight))
        yield made
    except OSError as error:
        print(f"no control groups, so no weights: {error}")
        yield {}
    finally:
        (root / "cgroup.procs").write_text(str(os.getpid()))
        for group in made.values():
            group.rmdir()


def join(group: Path | None, process: int) -> None:
    """Put a process into a control group, if there is one."""
    if group:
        (group / "cgroup.procs").write_text(str(process))


def beside_backups(folder: Path) -> None:
    """First backups of the same source in turn: alone, and beside each way to look at the page."""
    source = folder / "source"
    source.mkdir()
    for number in range(SIZE >> 23):
        half = os.urandom(1 << 22)
        (source / f"{number}.bin").write_bytes(half + bytes(byte & 15 for byte in half[: 1 << 16]) * 64)
    found = {name: Rounds() for name in ("alone", "open pages", "lookers", "storm")}
    with groups() as made:
        join(made.get("viewers"), os.getpid())
        for number in range(ROUNDS):
            order = list(found)[number % len(found) :] + list(found)[: number % len(found)]
            for name in order:
                with tempfile.TemporaryDirectory(dir=folder) as place:
                    one_backup(Path(place), source, name, found[name], made)
                print(number, name, f"{found[name].wall[-1]:.2f} s", flush=True)
    alone = found["alone"]
    for name, rounds in found.items():
        print(f"{name}: the page took {statistics.median(rounds.page):.1%} of a core")
        tell("time", rounds.wall, alone.wall)
        tell("CPU", rounds.cpu, alone.cpu)


def tell(what: str, mine: list[float], alone: list[float]) -> None:
    """Print how much more of it the backups took than those alone: by medians, and round by round."""
    slower = statistics.median(mine) / statistics.median(alone) - 1
    rounds = " ".join(f"{seconds / other - 1:+.1%}" for seconds, other in zip(mine, alone, strict=True))
    between = f"{min(mine):.2f} to {max(mine):.2f}"
    print(f"  {what} of the backup {statistics.median(mine):.2f} s ({slower:+.1%}; {between})")
    print(f"    by rounds: {rounds}")


def one_backup(place: Path, source: Path, kind: str, rounds: Rounds, made: dict[str, Path]) -> None:
    """One first backup, with the page of its server beside it; as low as the units have both."""
    server = prepared(place)
    server.config.write_text(server.config.read_text().replace(f'["{server.source}"]', f'["{source}"]'))
    with page(server.config, nice=18) as shown:
        join(made.get("page"), shown.process.pid)
        shown.get(0, "/")
        ways: dict[str, Callable[[], AbstractContextManager[None]]] = {
            "alone": nobody,
            "open pages": lambda: open_pages(shown),
            "lookers": lambda: lookers(shown),
            "storm": lambda: lookers(shown, 0.0),
        }
        with ways[kind]():
            before, began, page_cpu = (
                resource.getrusage(resource.RUSAGE_CHILDREN),
                time.monotonic(),
                shown.cpu,
            )
            words = ["nice", "-n", "10", SCRIPT, "--config", str(server.config), "--quiet", "backup", "main"]
            with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as backup:
                join(made.get("backup"), backup.pid)
            assert backup.returncode == 0
            after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - began
            rounds.page.append((shown.cpu - page_cpu) / wall)
    rounds.wall.append(wall)
    rounds.cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="page-bench-") as work:
        {"viewers": viewers, "open": open_all_night, "backup": beside_backups}[sys.argv[1]](Path(work))
