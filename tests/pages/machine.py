"""A machine to run a page on: `/etc`, `/srv`, `/mnt` and `/var/lib` of its own, a terminal, and an AWS.

The folders are put in place by bind mounts in a mount namespace: a page's commands run as they stand, and
nothing of the real machine is written to. `nightvault` and `aws` are on PATH; the latter is `aws_stand_in`,
unless a page asks for the real one.
"""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from msgspec import Struct

from tests.support.emulated import REPOSITORY, RunningEmulator
from tests.support.program_forks import place_command
from tests.support.servers import SCRIPT

AWS_OF_DEBIAN = "/usr/bin/aws"
PLACES = ("/etc", "/srv", "/mnt", "/var/lib")
ACCOUNT = "111122223333"
ADMIN_KEY, ADMIN_SECRET = "AKIAADMINISTRATOR000", "administrator-of-the-page"
_KEPT = ("passwd", "group", "hosts", "nsswitch.conf", "resolv.conf", "ld.so.cache", "ld.so.conf", "ssl")
_SECONDS = 300.0


class Ended(Struct, frozen=True):
    """What a page's commands printed, and which of them failed."""

    output: str
    failures: list[str]


@dataclass
class Machine:
    """A machine below `folder`; `answers` are typed where the terminal shows a text that matches.

    One that is a function is called with that text.
    """

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    answers: Mapping[str, str | Callable[[str], str]] = field(default_factory=dict)

    @classmethod
    def create(cls, folder: Path) -> Machine:
        """A machine with a few files in /etc."""
        made = cls(folder)
        for place in PLACES:
            made.place(place).mkdir(parents=True)
        for name in _KEPT:
            real = Path("/etc") / name
            if real.is_dir():
                shutil.copytree(real, made.place("/etc") / name, ignore_dangling_symlinks=True)
            elif real.exists():
                shutil.copy(real, made.place("/etc") / name)
        (made.place("/etc") / "fstab").write_text("/dev/sda1 / ext4 defaults 0 1\n")
        (made.place("/etc") / "nginx").mkdir()
        (made.place("/etc") / "nginx" / "nginx.conf").write_text("events {}\n")
        (made.place("/etc") / "nginx" / "mime.types").write_text("types {}\n")
        (made.place("/etc") / "nginx" / "ssl").mkdir()
        (made.place("/etc") / "nginx" / "ssl" / "site.pem").write_text("a certificate\n")
        (made.place("/etc") / "nginx" / "site.key").write_text("a key\n")
        (folder / "work").mkdir()
        (folder / "home").mkdir()
        made._put_on_path()
        return made

    def place(self, path: str) -> Path:
        """Where a path of the machine is in truth."""
        for place in PLACES:
            if path == place or path.startswith(f"{place}/"):
                return self.folder / "root" / path.lstrip("/")
        return Path(path)

    @property
    def work(self) -> Path:
        """The directory that the page's commands are given in."""
        return self.folder / "work"

    def _put_on_path(self) -> None:
        programs = self.folder / "bin"
        programs.mkdir()
        self.use_the_program()
        stand_in = programs / "aws"
        stand_in.write_text(
            f'#!/bin/sh\nexec {sys.executable} -P {REPOSITORY}/tests/pages/aws_stand_in.py "$@"\n'
        )
        stand_in.chmod(0o755)
        path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.environment |= {
            "PATH": path,
            "HOME": str(self.folder / "home"),
            "TERM": "dumb",
            "COLUMNS": "120",
        }

    def use_forks(self) -> None:
        """Let `nightvault` be forks of a process that has read it, where nobody asks how it starts."""
        if os.geteuid() == 0:
            (self.folder / "bin" / "nightvault").unlink()
            place_command(self.folder / "bin" / "nightvault")

    def use_the_program(self) -> None:
        """Let `nightvault` be the program itself, as it is installed."""
        program = self.folder / "bin" / "nightvault"
        program.unlink(missing_ok=True)
        program.symlink_to(SCRIPT)

    def use_debians_aws(self) -> None:
        """Let `aws` be the real AWS CLI, as Debian has it; the stand-in stays where it is not installed."""
        if os.access(AWS_OF_DEBIAN, os.X_OK):
            stand_in = self.folder / "bin" / "aws"
            stand_in.unlink()
            stand_in.symlink_to(AWS_OF_DEBIAN)

    def connect_to_itself(self) -> None:
        """Let `ssh` and `scp` to a root elsewhere lead to this machine, where root is at home in its HOME."""
        ssh = 'shift\ncd "$HOME" && exec sh -c "$*"\n'
        scp = (
            "for word; do\n"
            "case $word in root@*:/*) word=${word#*:} ;; root@*:*) word=$HOME/${word#*:} ;; esac\n"
            'set -- "$@" "$word"; shift\ndone\nexec cp "$@"\n'
        )
        for name, text in (("ssh", ssh), ("scp", scp)):
            program = self.folder / "bin" / name
            program.write_text(f"#!/bin/sh\n{text}")
            program.chmod(0o755)

    def connect(self, emulator: RunningEmulator) -> None:
        """Let the AWS of this machine be an emulator, of which its administrator has the keys."""
        self.environment |= {
            "AWS_ENDPOINT_URL_GLACIER": emulator.glacier_url,
            "AWS_ENDPOINT_URL_ROLESANYWHERE": emulator.rolesanywhere_url,
            "AWS_ENDPOINT_URL_S3": emulator.s3_url,
            "AWS_ENDPOINT_URL_IAM": emulator.rolesanywhere_url,
            "AWS_ENDPOINT_URL_STS": emulator.rolesanywhere_url,
            "AWS_ACCESS_KEY_ID": ADMIN_KEY,
            "AWS_SECRET_ACCESS_KEY": ADMIN_SECRET,
            "PAGE_KEY": ADMIN_KEY,
            "PAGE_SECRET": ADMIN_SECRET,
        }

    def run(self, script: str) -> Ended:
        """Run a script in a bash on a terminal, in the machine's mount namespace."""
        failures = self.folder / "failures"
        failures.write_text("")
        mounts = [f"mount --bind {self.folder}/root{place} {place}" for place in PLACES]
        path = self.folder / "script"
        path.write_text("\n".join([f"cd {self.work}", script]))
        inside = " && ".join([*mounts, f"exec bash --norc {path}"])
        environment = {
            **{name: value for name, value in os.environ.items() if name in ("LANG", "LC_ALL", "TMPDIR")},
            **self.environment,
            "PAGE_FAILURES": str(failures),
        }
        output = self._on_a_terminal([*unshare(), "sh", "-c", inside], environment)
        return Ended(output, failures.read_text().splitlines())

    def _on_a_terminal(self, words: list[str], environment: dict[str, str]) -> str:
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            words, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
        )
        os.close(theirs)
        read, asked, end = b"", 0, time.monotonic() + _SECONDS
        try:
            while time.monotonic() < end:
                if not select.select([ours], [], [], 1.0)[0]:
                    continue
                try:
                    got = os.read(ours, 65536)
                except OSError:  # EIO: the last one that had it open is gone
                    break
                if not got:
                    break
                read += got
                shown = read[asked:].decode(errors="replace")
                for pattern, answer in self.answers.items():
                    if re.search(pattern, shown):
                        asked = len(read)
                        text = answer if isinstance(answer, str) else answer(shown)
                        os.write(ours, text.encode() + b"\n")
                        break
            else:
                raise AssertionError(
                    f"the page's commands do not end: {read.decode(errors='replace')[-2000:]}"
                )
        finally:
            if process.poll() is None and time.monotonic() >= end:
                os.killpg(process.pid, 9)
            process.wait(30)
            os.close(ours)
        return read.decode(errors="replace").replace("\r\n", "\n")


def unshare() -> list[str]:
    """Words that begin a program in a mount namespace of its own; the test is skipped where nobody may."""
    needed = (str(REPOSITORY), sys.prefix, sys.base_prefix, os.environ.get("TMPDIR", "/tmp"))
    if any(path.startswith(f"{place}/") for path in needed for place in PLACES):
        pytest.skip(f"what the tests need lies below one of {PLACES}, which the machine has of its own")
    for words in (["unshare", "--mount"], ["unshare", "--map-root-user", "--mount"]):
        done = subprocess.run([*words, "mount", "--bind", "/mnt", "/srv"], capture_output=True, check=False)
        if done.returncode == 0:
            return words
    pytest.skip("this machine lets nobody make a mount namespace")
