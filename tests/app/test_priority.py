"""Low priority: a job, with everything that it starts, has its own; nobody else's changes."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from backup.app.base.priority import Priority, in_thread
from backup.config import load_config
from backup.errors import ConfigError, UsageError
from backup.model import JobName
from backup.operations.backup import Backup
from backup.operations.recorded import step_of
from backup.source.reader import ReaderProcess
from backup.vault.directory import DirectoryVault
from tests.support.doubles import ManualClock, Silent
from tests.support.servers import Server, directory_server

pytestmark = pytest.mark.skipif(shutil.which("ionice") is None, reason="needs util-linux' ionice")

BASE = os.getpriority(os.PRIO_PROCESS, 0)
LOW = max(BASE, 13)
IDLE = 3 << 13


def nice_here() -> int:
    """Of this thread."""
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def io_of(thread: int) -> str:
    """As util-linux has it."""
    told = subprocess.run(["ionice", "-p", str(thread)], capture_output=True, text=True, check=True)
    return told.stdout.strip()


def told_by_a_process() -> tuple[str, str]:
    """Nice and I/O class of a process started here, by its own word."""
    words = (["nice"], ["ionice"])
    nice, io = (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout for command in words
    )
    return nice.strip(), io.strip()


def told_by_a_thread(ask: Callable[[], object]) -> object:
    """What a thread started here says."""
    said: list[object] = []
    thread = threading.Thread(target=lambda: said.append(ask()))
    thread.start()
    thread.join()
    return said[0]


def test_a_thread_and_what_it_starts_have_it_and_nobody_else() -> None:
    before = io_of(threading.get_native_id())

    def look() -> tuple[object, ...]:
        return (
            nice_here(),
            io_of(threading.get_native_id()),
            told_by_a_thread(nice_here),
            told_by_a_thread(lambda: io_of(threading.get_native_id())),
            told_by_a_process(),
            told_by_a_thread(told_by_a_process),
        )

    low = (str(LOW), "idle")
    assert in_thread(Priority(LOW, IDLE), look) == (LOW, "idle", LOW, "idle", low, low)
    assert (nice_here(), io_of(threading.get_native_id())) == (BASE, before)


def test_the_second_reading_process_has_it() -> None:
    def look() -> tuple[int, str]:
        reader = ReaderProcess(chunk_key=bytes(32), content_key=bytes(32), batch_bytes=1)
        try:
            number = reader._process.pid
            return os.getpriority(os.PRIO_PROCESS, number), io_of(number)
        finally:
            reader.close()

    assert in_thread(Priority(LOW, IDLE), look) == (LOW, "idle")


def test_it_is_never_raised() -> None:
    def twice() -> tuple[int, str]:
        Priority(0, 2 << 13 | 2).set_here()
        return nice_here(), io_of(threading.get_native_id())

    assert in_thread(Priority(LOW, 2 << 13 | 7), twice) == (LOW, "best-effort: prio 7")
    assert in_thread(Priority(None, IDLE), twice) == (BASE, "idle")


def test_a_job_without_one_gets_no_thread_of_its_own() -> None:
    assert in_thread(Priority(), threading.get_ident) == threading.get_ident()
    assert in_thread(Priority(LOW), threading.get_ident) != threading.get_ident()


def test_what_goes_wrong_in_the_thread_comes_out() -> None:
    def fails() -> None:
        raise UsageError("so")

    with pytest.raises(UsageError, match="so"):
        in_thread(Priority(LOW), fails)


def test_a_refusal_is_told_in_our_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "setpriority", refuse)
    monkeypatch.setattr(os, "getpriority", lambda *_: 0)
    with pytest.raises(ConfigError, match="cannot set nice = 19: Operation not permitted"):
        in_thread(Priority(19), lambda: None)


def test_where_the_system_has_none_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "sunos5")
    assert in_thread(Priority(LOW, IDLE), nice_here) == BASE
    monkeypatch.undo()
    monkeypatch.setattr("os.uname", lambda: SimpleNamespace(machine="vax"))
    assert in_thread(Priority(LOW, IDLE), lambda: (nice_here(), told_by_a_process()[1] == "idle")) == (
        LOW,
        False,
    )


# Whole jobs.


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """Its job `main` has a low priority, `other` none; both tell by a hook and a command what they had."""
    server = directory_server(tmp_path)
    server.init()
    text = server.config.read_text()
    telling = (
        f'[job.hooks]\nbefore = ["/bin/sh", "-c", "(nice; ionice) > {tmp_path}/NAME.hook"]\n'
        '[[job.command]]\nname = "told"\n'
        f'run = ["/bin/sh", "-c", "(nice; ionice) | tee {tmp_path}/NAME.command"]\n'
    )
    other = f'[[job]]\nname = "other"\nvault = "cold"\nsources = ["{server.source}"]\n'
    low = f'nice = {LOW}\nionice = "idle"\n'
    server.config.write_text(
        text + low + telling.replace("NAME", "main") + other + telling.replace("NAME", "other")
    )
    return server


def told(server: Server, name: str) -> list[str]:
    return (server.folder / name).read_text().splitlines()


def test_jobs_of_one_process_have_each_their_own(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    put_file = DirectoryVault.put_file

    def noting(self: DirectoryVault, *args: object) -> bool:
        sent.append(nice_here())
        return put_file(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(DirectoryVault, "put_file", noting)
    config = load_config(str(server.config))
    stop, clock = threading.Event(), ManualClock()
    for name, nice in (("main", LOW), ("other", BASE), ("main", LOW)):
        sent.clear()
        job = JobName(name)
        in_thread(
            Priority.of(config.job(job)),
            lambda job=job: step_of(config, Backup, job, clock=clock, progress=Silent(), stop=stop),  # type: ignore[misc]
        )
        assert set(sent) == {nice}
        for kind in ("hook", "command"):
            assert told(server, f"{name}.{kind}")[0] == str(nice)
            assert (told(server, f"{name}.{kind}")[1] == "idle") == (name == "main")


def test_one_shot_the_whole_process_has_it(server: Server) -> None:
    with server.process("backup", "main") as process:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
    assert told(server, "main.hook") == told(server, "main.command") == [str(LOW), "idle"]
