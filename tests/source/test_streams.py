"""Commands, standard input and devices: read whole or not at all, and nothing of a command is left behind."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from backup.errors import InterruptedRunError
from backup.source.read import FileUnreadableError
from backup.source.streams import Command, Device, StandardInput, Stream
from tests.support.emulated import REPOSITORY
from tests.support.loop_devices import loop_device

MIB = 1024 * 1024
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")


def command(*run: str, timeout: float = 60, user: str | None = None, **environment: str) -> Command:
    return Command(b"out", run, timeout, environment, user)


def read(stream: Stream, stop: Callable[[], bool] = lambda: False) -> bytes:
    """All that it gives, finished."""
    got = bytearray()
    with stream.open(stop) as opened:
        while True:
            view = memoryview(bytearray(MIB))
            filled = opened.fill(view)
            got += view[:filled]
            if filled < len(view):
                break
        opened.finish()
    return bytes(got)


def python(code: str, **options: float) -> Command:
    return command(sys.executable, "-c", code, **options)  # type: ignore[arg-type]


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or soon will be; a zombie has not."""
    for _ in range(200):
        if not Path(f"/proc/{pid}").exists():
            return True
        time.sleep(0.05)
    return False


def children() -> set[str]:
    """Processes of ours, dead ones that nobody waited for among them."""
    tasks = Path("/proc/self/task").iterdir()
    return {child for task in tasks for child in (task / "children").read_text().split()}


class TestCommand:
    def test_all_of_a_large_output(self) -> None:
        code = "import sys\nfor n in range(5): sys.stdout.buffer.write(bytes([n]) * 1_500_000)"
        assert read(python(code)) == b"".join(bytes([n]) * 1_500_000 for n in range(5))

    def test_no_output_at_all_is_a_failure_unless_it_is_meant(self) -> None:
        with pytest.raises(FileUnreadableError, match=r"true printed nothing.*allow_empty = true"):
            read(command("true"))
        with pytest.raises(FileUnreadableError, match="printed nothing: no such database"):
            read(command("sh", "-c", "echo no such database >&2"))
        assert read(Command(b"out", ("true",), 60, allow_empty=True)) == b""
        with pytest.raises(FileUnreadableError, match="ended with status 1"):
            read(Command(b"out", ("false",), 60, allow_empty=True))

    def test_words_are_no_shell_s(self) -> None:
        assert read(command("echo", "a b", "$HOME", "; id")) == b"a b $HOME ; id\n"

    def test_a_bad_end_is_told_with_the_last_lines_of_what_it_said(self) -> None:
        lines = "for n in range(99): print('line', n, file=sys.stderr)"
        code = f"import sys\nprint('half a dump')\n{lines}\nsys.exit(3)"
        with pytest.raises(FileUnreadableError, match=r"status 3: line 94 \| .* \| line 98$"):
            read(python(code))

    def test_a_signal_is_told(self) -> None:
        with pytest.raises(FileUnreadableError, match="signal 9"):
            read(python("import os; os.kill(os.getpid(), 9)"))

    def test_a_program_that_is_not_there(self) -> None:
        with pytest.raises(FileUnreadableError, match=r"status 127: no-such-program: No such file"):
            read(command("no-such-program"))

    def test_a_user_that_is_not_there(self) -> None:
        with pytest.raises(FileUnreadableError, match="no user nobody-at-all"):
            read(command("id", user="nobody-at-all"))

    def test_much_on_standard_error_locks_nothing_up(self) -> None:
        both = "sys.stderr.write('x' * 9999 + chr(10)); sys.stdout.write('y' * 9999)"
        code = f"import sys\nfor _ in range(200): {both}"
        assert read(python(code)) == b"y" * 9999 * 200

    def test_what_it_says_is_shown_harmless_and_short(self) -> None:
        code = "import sys; sys.stderr.buffer.write(b'x' * 99999 + b'\\n\\x1b[31mred\\xff\\n'); sys.exit(1)"
        with pytest.raises(FileUnreadableError) as caught:
            read(python(code))
        assert "\x1b" not in str(caught.value)
        assert len(str(caught.value)) < 9000

    def test_too_long_a_time_ends_the_whole_group(self, tmp_path: Path) -> None:
        code = f"""
import os, subprocess, sys, time
deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", deaf])
open({str(tmp_path / "pids")!r}, "w").write(f"{{os.getpid()}} {{child.pid}}")
print("half", flush=True)
time.sleep(600)
"""
        began = time.monotonic()
        with pytest.raises(FileUnreadableError, match="more than 2 s"):
            read(python(code, timeout=2))
        assert time.monotonic() - began < 15
        pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        assert len(pids) == 2
        assert all(map(has_ended, pids))

    def test_time_that_we_take_ourselves_does_not_count(self) -> None:
        with python("print('x' * 3_000_000)", timeout=1).open(lambda: False) as opened:
            time.sleep(1.5)
            assert opened.fill(memoryview(bytearray(4 * MIB))) == 3_000_001
            opened.finish()

    def test_a_stop_is_heeded_at_once(self) -> None:
        stopped = threading.Event()
        threading.Timer(0.5, stopped.set).start()
        began = time.monotonic()
        with pytest.raises(InterruptedRunError):
            read(command("sleep", "600"), stopped.is_set)
        assert time.monotonic() - began < 10

    def test_nothing_outlives_a_killed_backup(self, tmp_path: Path) -> None:
        code = f"""
from backup.source.streams import Command
run = ("sh", "-c", "echo $$ > {tmp_path}/pid; sleep 600 & echo $! >> {tmp_path}/pid; echo ready; wait")
with Command(b"x", run, 999).open(lambda: False) as opened:
    opened.fill(memoryview(bytearray(6)))
    print("ready", flush=True)
    opened.fill(memoryview(bytearray(9)))
"""
        process = subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        pids = [int(pid) for pid in (tmp_path / "pid").read_text().split()]
        assert len(pids) == 2
        assert all(map(has_ended, pids))

    def test_no_zombie_and_no_handle_is_left(self) -> None:
        read(command("echo"))
        before, others = len(os.listdir("/proc/self/fd")), children()
        for _ in range(3):
            read(command("echo"))
            with pytest.raises(FileUnreadableError):
                read(command("false"))
        assert len(os.listdir("/proc/self/fd")) == before
        assert children() <= others  # servers of other tests may run beside

    def test_its_environment_is_what_was_given(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("LANG", "C.UTF-8")
        shown = read(command("env", PGHOST="/run/db")).decode().splitlines()
        assert "PGHOST=/run/db" in shown
        assert "LANG=C.UTF-8" in shown
        assert not [line for line in shown if "AWS" in line]
        assert "PGHOST" not in repr(command("env", PGHOST="x"))

    @as_root
    def test_as_another_user(self) -> None:
        shown = Command(b"x", ("sh", "-c", "id -un; id -gn; echo $USER"), 60, {}, "daemon")
        assert read(shown) == b"daemon\ndaemon\ndaemon\n"


class TestStandardInput:
    def test_all_until_it_ends(self) -> None:
        out, into = os.pipe()
        data = os.urandom(3 * MIB)
        writer = threading.Thread(target=_write, args=(into, data))
        writer.start()
        assert read(StandardInput(b"x", out)) == data
        writer.join()
        os.close(out)

    def test_nothing_is_a_failure_of_whoever_should_have_written(self) -> None:
        with open("/dev/null", "rb") as nothing, pytest.raises(FileUnreadableError, match="nothing came in"):
            read(StandardInput(b"x", nothing.fileno()))

    def test_a_stop_is_heeded_while_nothing_comes(self) -> None:
        out, into = os.pipe()
        with pytest.raises(InterruptedRunError):
            read(StandardInput(b"x", out), lambda: True)
        os.close(out)
        os.close(into)


class TestDevice:
    def test_from_its_first_byte_to_its_last(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        data = os.urandom(2 * MIB + 5)
        (tmp_path / "disk").write_bytes(data)
        (tmp_path / "name").symlink_to("disk")  # as LVM's are
        as_block_device(monkeypatch)
        device = Device(os.fsencode(tmp_path / "name"))
        assert device.path == b"/.streams" + os.fsencode(tmp_path / "name")
        assert read(device) == data

    def test_without_a_medium(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "disk").touch()
        as_block_device(monkeypatch)
        with pytest.raises(FileUnreadableError, match="it holds no byte"):
            read(Device(os.fsencode(tmp_path / "disk")))

    def test_that_shrinks_is_not_whole(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "disk").write_bytes(bytes(MIB))
        as_block_device(monkeypatch)
        with Device(os.fsencode(tmp_path / "disk")).open(lambda: False) as opened:
            os.truncate(tmp_path / "disk", 10)
            opened.fill(memoryview(bytearray(MIB)))
            with pytest.raises(FileUnreadableError, match="ended after 10 of 1048576"):
                opened.finish()

    def test_a_real_one(self, tmp_path: Path) -> None:
        """Also one that ends within a page, and by a symlink, as LVM's names are."""
        data = os.urandom(3 * MIB + 512)
        (tmp_path / "image").write_bytes(data)
        with loop_device(tmp_path / "image") as device:
            assert read(Device(os.fsencode(device))) == data
            (tmp_path / "link").symlink_to(device)
            with Device(os.fsencode(tmp_path / "link")).open(lambda: False) as opened:
                assert opened.size == len(data)

    def test_a_real_one_that_fails_in_the_middle(self, tmp_path: Path) -> None:
        """Its blocks from the second MiB on cannot be read: never a short file."""
        (tmp_path / "image").write_bytes(os.urandom(2 * MIB))
        with loop_device(tmp_path / "image") as device:
            os.truncate(tmp_path / "image", MIB)
            with pytest.raises(FileUnreadableError, match=r"nput/output error|ended after"):
                read(Device(os.fsencode(device)))

    @pytest.mark.parametrize("path", [b"/dev/null", b"/dev/zero", b"/tmp", b"/no/such/device"])
    def test_nothing_else_will_do(self, path: bytes) -> None:
        with pytest.raises(FileUnreadableError):
            read(Device(path))


def as_block_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stat, "S_ISBLK", stat.S_ISREG)


def _write(into: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(into, view) :]
    os.close(into)
