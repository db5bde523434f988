"""The month of the daemon: its own runs of all kinds of tasks, what it logs, and what people ask it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from tests.month.config import HELD
from tests.month.world import Month
from tests.support.real_daemons import PATIENCE, RealDaemon

DISK = 'compact = "daily at 04:00"\nprune = "daily at 04:20"\ncheck = "daily at 04:40"\ncheck_sample = "100%"'
COLD = 'compact = "daily at 05:00"\nprune = "daily at 05:20"\ncheck = "daily at 05:40"\ncheck_sample = "100%"'
BUCKET = 'compact = "daily at 06:00"\nprune = "daily at 06:20"\ncheck = "daily at 06:40"'
ETC = 'schedule = "daily at 03:00"'
MAIL = 'schedule = "daily at 03:30"'
FORGETS = 'forget = "daily at 03:40"'
SELDOM = 'schedule = "0 0 29 2 *"'  # no two tasks run at a time: their lines would mix
JSON = 'log = "json"'
DRILL = """
[[drill]]
name = "rehearsal"
schedule = "daily at 07:00"
vault = "{}"
sample = "100 files"
"""
DISK_TIMES = ("02:30", "04:00", "04:20", "04:40", "07:00")
COLD_TIMES = ("03:00", "03:40", "05:00", "05:20", "05:40", "07:00", "12:00", "17:00", "23:00")
BUCKET_TIMES = ("03:30", "06:00", "06:20", "06:40")
_TIME = re.compile(r"^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}[+-][0-9]{4} ")
_HEARD = ("job etc: is paused", "job etc: goes on after its pause")


class Daemon:
    """A daemon at work in the month."""

    def __init__(self, month: Month, real: RealDaemon) -> None:
        self._month, self._real = month, real
        self._shown = self._heard = 0

    def look(self) -> None:
        """Have it do what is due now, and write down what it logs and tells."""
        self._ask({"do": "resume", "job": "etc"})
        self.settle()

    def settle(self) -> None:
        """Wait until it does nothing, and all letters are sent; write down what it logged."""
        until = time.monotonic() + PATIENCE
        while not (self._is_idle() and self._has_sent()):
            assert time.monotonic() < until, "it does not end"
            time.sleep(0.05)  # the daemon works to answer
        self._hear()
        self._write()

    def reload(self, **changed: str) -> None:
        """Another config."""
        configure(self._month, **changed)
        seen = sum("the config was read again" in line for line in self._real.lines)
        self._real.process.send_signal(signal.SIGHUP)
        self._real.wait_for("the config was read again", seen + 1)
        self.look()

    def stop(self) -> None:
        """End it."""
        self._real.stop()
        self._real.wait_for("stopped")
        self._write()

    def day(self, day: int, *walls: str) -> None:
        """Let it live through moments of a day."""
        for wall in walls:
            self._month.at(day, wall)
            self.look()

    def _hear(self) -> None:
        """Wait until all that it logged is here: a thread of its own writes that."""
        until = (self._month.clock.now() + timedelta(days=1)).isoformat()
        self._ask({"do": "pause", "job": "etc", "until": until})
        self._ask({"do": "resume", "job": "etc"})
        self._heard += 1
        self._real.wait_for(_HEARD[-1], self._heard)

    def _is_idle(self) -> bool:
        tasks = self._ask({"do": "status"})["tasks"]
        return not any(task["state"] in {"running", "queued"} for task in tasks)

    def _has_sent(self) -> bool:
        return all(row["state"] == "sent" for row in self._month.document("notify", "list"))

    def _ask(self, request: dict[str, str]) -> Any:
        """What its socket answers: quicker than a command."""
        folder = os.open(self._month.folder / "state", os.O_PATH)
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(PATIENCE)
                connection.connect(f"/proc/self/fd/{folder}/daemon.sock")  # its own path may be too long
                connection.sendall(json.dumps(request).encode() + b"\n")
                return json.loads(connection.makefile().readline())
        finally:
            os.close(folder)

    def _write(self) -> None:
        lines, self._shown = self._real.lines[self._shown :], len(self._real.lines)
        lines = [_untimed(line) for line in lines if not any(told in line for told in _HEARD)]
        letters = [line for line in lines if "channel " in line[:40]]  # sent by a thread of its own
        config = [
            line for line in lines if "config: " in line or "the config was read" in line
        ]  # as tasks begin
        rest = [line for line in lines if line not in letters and line not in config]
        lines = [*config, *rest, *letters]
        if lines:
            self._month.lines += ["", f"[{self._month.clock.now():%m-%d %H:%M}] the daemon"]
            self._month.add("  ", "\n".join(lines))
        self._month.letters()


def _untimed(line: str) -> str:
    if not line.startswith("{"):
        return _TIME.sub("", line)
    document = json.loads(line)
    document.pop("time")
    return json.dumps(document, ensure_ascii=False)


def configure(month: Month, **config: str) -> None:
    """Write the config, and have `status` note since when its tasks are known, lest a thread is the first."""
    month.write_config(**config)
    month.document("status")


@contextmanager
def running(month: Month, **config: str) -> Iterator[Daemon]:
    """A daemon with that config."""
    configure(month, **config)
    with month.process("daemon") as process:
        real = RealDaemon(process)
        follower = threading.Thread(target=real.follow)
        follower.start()
        try:
            real.wait_for("started with")
            daemon = Daemon(month, real)
            daemon.look()
            yield daemon
            daemon.stop()
        finally:
            process.kill()
            follower.join(PATIENCE)


def live(month: Month) -> None:
    """All of it."""
    month.run("--quiet", "init", "--non-interactive", "--key-file", month.key)
    month.title("a directory")
    with running(month, disk=DISK, home='forget = "after backup"', drills=DRILL.format("disk")) as daemon:
        month.run("status")
        nights(month, daemon)
        asked(month, daemon)
        troubles(month, daemon)
        month.title("a bucket")
        daemon.reload(bucket=BUCKET, mail=MAIL, home=SELDOM, monitoring=JSON)
        for day in (9, 10):
            month.write("mail/inbox", 1_000_000 + day)
            daemon.day(day, *BUCKET_TIMES)
    month.title("a Glacier vault, after a restart")
    month.at(12, "00:00")
    with running(
        month, cold=COLD, home=SELDOM, etc=f"{ETC}\n{FORGETS}", drills=DRILL.format("cold"), monitoring=JSON
    ) as daemon:
        for day in (12, 13, 14):
            month.write("etc/fstab", 700 + day)
            month.emulator.make_inventories()
            daemon.day(day, *COLD_TIMES)
        month.both("status")
        month.metrics()
        restores(month, daemon)
    month.run("runs", "--limit", 100)
    month.run("drills")
    month.run("notify", "list")


def nights(month: Month, daemon: Daemon) -> None:
    """Good ones."""
    for day in range(1, 5):
        month.write("home/letters/one.txt", 3_000 + day)
        month.write("home/movie.raw", 1_000_000 + day)
        daemon.day(day, *DISK_TIMES)
    month.metrics()


def asked(month: Month, daemon: Daemon) -> None:
    """What people ask it."""
    month.title("what is asked for")
    month.at(6, "00:00")
    daemon.reload(mail=HELD.format(folder=month.folder))
    month.both("pause", "home", "--until", "2031-03-07")
    daemon.day(6, "02:30")
    month.run("status")
    month.both("resume", "home")
    daemon.settle()
    month.run("run", "mail")
    held = month.folder / "held"
    _wait_for(held.exists)
    month.both("run", "mail")
    month.run("run", "etc")
    month.run("backup", "etc")
    month.run("--json", "status")
    month.run("--json", "cancel", "mail")
    daemon.settle()
    held.unlink(missing_ok=True)
    month.run("cancel", "mail")
    month.run("run", "none")
    month.run("daemon")


def troubles(month: Month, daemon: Daemon) -> None:
    """The vault is away, a source is gone, and both come back."""
    month.title("nights in trouble")
    daemon.reload(disk=DISK, home='forget = "after backup"', drills=DRILL.format("disk"))
    (month.folder / "vault").rename(month.folder / "unplugged")
    daemon.day(7, "02:30", "02:45", "04:00", "04:20", "04:40", "07:00")
    (month.folder / "unplugged").rename(month.folder / "vault")
    daemon.day(7, "08:00", "12:00")
    (month.folder / "home").rename(month.folder / "away")
    daemon.day(8, "02:30")
    (month.folder / "away").rename(month.folder / "home")
    stored = [row for row in month.document("archives", "--vault", "disk") if row["state"] == "stored"]
    lost = [month.stored_file(row["archive_id"]) for row in stored if row["kind"] == "data"][-1]
    lost.unlink()
    daemon.day(8, "02:45", "04:40", "07:00")
    month.run("status")


def restores(month: Month, daemon: Daemon) -> None:
    """It goes on with what somebody began."""
    month.title("open restores")
    month.at(16, "00:00")
    daemon.reload(monitoring=JSON, home=SELDOM)
    month.run("restore", "latest", "--target", month.folder / "back", "--key", month.key, "--job", "etc")
    month.run("restores")
    daemon.day(16, "02:00", "06:00")
    month.run("restores", "--all")


def _wait_for(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.02)
