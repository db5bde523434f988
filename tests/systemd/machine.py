"""A machine of Debian with systemd, booted under QEMU, that is spoken to by QEMU's guest agent.

    with booted(prepared(), folder) as machine:
        assert machine.run("systemctl is-system-running") == "running"

It has no network but its own loopback, and its disk forgets everything at the end. Nothing of it needs KVM.
"""

from __future__ import annotations

import base64
import itertools
import json
import shlex
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.systemd.image import Image

BOOT_SECONDS = 400.0
"""Longer than a boot takes where four other processes want the same cores; it takes 16 seconds alone."""

PATIENCE = 180.0
"""Seconds that a command, or something that is waited for, may take unless it is said otherwise."""

LIFE_SECONDS = 30 * 60.0
"""A machine that is older answers no more: a test of it fails, and does not hang."""

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LOOK_SECONDS, _PAUSE_SECONDS = 0.1, 1.0  # between looks that cost the machine little, or more


class Machine:
    """A machine that is running; commands are run by its root."""

    def __init__(self, process: subprocess.Popen[bytes], agent: socket.socket, console: Path) -> None:
        self._process, self._console, self._agent = process, console, agent
        self._read = b""
        self._end = time.monotonic() + LIFE_SECONDS
        self._numbers = itertools.count(int(time.monotonic()))

    def run(self, script: str, *, code: int | None = 0, seconds: float = PATIENCE, given: str = "") -> str:
        """What a script of sh prints, without the last line's end; it has to end with `code` (None: any).

        What it says on standard error comes after that.
        """
        ended, said = self.tried(script, seconds=seconds, given=given)
        assert code is None or ended == code, f"`{script}` ended with {ended}: {said}"
        return said

    def tried(self, script: str, *, seconds: float = PATIENCE, given: str = "") -> tuple[int, str]:
        """How a script of sh ended, and what it printed; `given` is its standard input."""
        asked: dict[str, Any] = {"path": "/bin/sh", "arg": ["-ec", script], "capture-output": "merged"}
        asked["input-data"] = base64.b64encode(given.encode()).decode()
        asked["env"] = [PATH, "HOME=/root", "LANG=C.UTF-8"]
        process = self._asked("guest-exec", asked)["pid"]
        end = time.monotonic() + seconds
        while True:
            told = self._asked("guest-exec-status", {"pid": process})
            if told["exited"]:
                said = base64.b64decode(told.get("out-data", "")).decode(errors="replace")
                return int(told.get("exitcode", -told.get("signal", 0))), said.removesuffix("\n")
            assert time.monotonic() < min(end, self._end), f"`{script}` is not done after {seconds:g} s"
            time.sleep(_LOOK_SECONDS)

    def write(self, path: str, text: str, mode: str = "0600") -> None:
        """Write a file, and the folders above it."""
        place = shlex.quote(path)
        self.run(f"install -D -m {mode} /dev/stdin {place}", given=text)

    def wait(self, script: str, seconds: float = PATIENCE) -> str:
        """Run a script again and again until it ends with 0; what it printed then."""
        end = time.monotonic() + seconds
        while True:
            ended, said = self.tried(script)
            if ended == 0:
                return said
            assert time.monotonic() < end, f"still not: `{script}`: {said}\n{self.journal()}"
            time.sleep(_PAUSE_SECONDS)

    def journal(self, *words: str) -> str:
        """The newest lines of the journal, without those of the agent, or what these words choose."""
        chosen = shlex.join(words or ("--lines=80", "--identifier=nightvault", "--identifier=systemd"))
        return self.run(f"journalctl --no-pager --quiet --output=short-iso --no-hostname {chosen}", code=None)

    def mark(self) -> str:
        """A place in the journal: its end as of now."""
        said = self.run("journalctl --quiet --lines=0 --show-cursor")
        return said.removeprefix("-- cursor: ")

    def said(self, mark: str, unit: str = "nightvault.service") -> str:
        """What a unit, and systemd of it, wrote into the journal since that mark."""
        return self.run(_reading(mark, unit))

    def wait_for_word(
        self, mark: str, *words: str, unit: str = "nightvault.service", seconds: float = PATIENCE
    ) -> str:
        """Wait until each of these words stands in what a unit wrote since the mark; what it wrote."""
        found = " && ".join(f"grep -qF -e {shlex.quote(word)} /run/said" for word in words)
        self.wait(f"{_reading(mark, unit)} > /run/said; {found}", seconds)
        return self.run("cat /run/said")

    def reboot(self) -> float:
        """Start it anew, and the seconds until it is up."""
        was, began = self.run("cat /proc/sys/kernel/random/boot_id"), time.monotonic()
        self._send("guest-exec", {"path": "/usr/bin/systemctl", "arg": ["--no-block", "reboot"]})
        self.wait_until_up(was)
        return time.monotonic() - began

    def wait_until_up(self, other_than: str = "") -> None:
        """Wait until all that is started at boot has started, in another boot than that one."""
        end = time.monotonic() + BOOT_SECONDS
        while True:
            assert self._process.poll() is None, f"QEMU ended: {self._last_words()}"
            assert time.monotonic() < end, f"it is not up after {BOOT_SECONDS:g} s: {self._last_words()}"
            with suppress(TimeoutError, AssertionError):  # the agent of before may have taken the question
                self._synchronise()
                if self.run("cat /proc/sys/kernel/random/boot_id") != other_than:
                    break
        self.run("systemctl is-system-running --wait || systemctl --failed --no-legend", seconds=BOOT_SECONDS)

    def _last_words(self) -> str:
        return self._console.read_text(errors="replace")[-2000:]

    def _synchronise(self) -> None:
        """Find the answer to a question of now among those to older ones; `TimeoutError` without any."""
        number = next(self._numbers)
        self._agent.settimeout(2)
        try:
            self._send("guest-sync", {"id": number})
            while self._answer().get("return") != number:
                pass
        finally:
            self._agent.settimeout(PATIENCE)

    def _asked(self, what: str, words: Mapping[str, Any]) -> dict[str, Any]:
        self._send(what, words)
        answer = self._answer()
        assert "return" in answer, f"{what}: {answer}"
        found: dict[str, Any] = answer["return"]
        return found

    def _send(self, what: str, words: Mapping[str, Any]) -> None:
        self._agent.sendall(json.dumps({"execute": what, "arguments": words}).encode() + b"\n")

    def _answer(self) -> dict[str, Any]:
        while b"\n" not in self._read:
            more = self._agent.recv(1 << 16)
            assert more, f"QEMU hung up: {self._last_words()}"
            self._read += more
        line, _, self._read = self._read.partition(b"\n")
        found: dict[str, Any] = json.loads(line.lstrip(b"\xff"))
        return found


def _reading(mark: str, unit: str) -> str:
    chosen = shlex.join([f"--after-cursor={mark}", f"--unit={unit}"])
    return f"journalctl --no-pager --quiet --output=cat {chosen}"


@contextmanager
def booted(image: Image, folder: Path) -> Iterator[Machine]:
    """A machine with a fresh disk, on which all that is in `folder`/files lies below /; ended at last.

    `folder` takes its console, too.
    """
    tar, console = folder / "files.tar", folder / "console"
    with tarfile.open(tar, "w") as file:
        for path in (folder / "files").iterdir():
            file.add(path, path.name)
    ours, its = socket.socketpair()
    words = [
        *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none"),
        *("-cpu", "max", "-accel", "tcg,thread=multi", "-smp", "2", "-m", "1536", "-nic", "none"),
        *("-kernel", image.kernel, "-initrd", image.initrd),
        *("-append", "root=/dev/vda rw console=ttyS0 quiet"),
        *("-drive", f"file={image.disk},format=raw,if=virtio,snapshot=on,cache=unsafe"),
        *("-drive", f"file={tar},format=raw,if=virtio,read-only=on"),
        *("-device", "virtio-rng-pci", "-serial", f"file:{console}", "-device", "virtio-serial"),
        *("-chardev", f"socket,fd={its.fileno()},id=agent"),
        *("-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"),
    ]
    with (
        ours,
        its,
        subprocess.Popen(
            [str(word) for word in words], stdin=subprocess.DEVNULL, cwd="/", pass_fds=[its.fileno()]
        ) as process,
    ):
        try:
            machine = Machine(process, ours, console)
            machine.wait_until_up()
            machine.run("tar --no-overwrite-dir -xpf /dev/vdb -C /")
            yield machine
        finally:
            process.kill()
