"""The server of the month: three vaults of one config, a clock that stands still, and all that is said.

month = Month(folder, emulator, receivers)
month.at(3, "02:30")
month.run("backup", "home")
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time as time_of
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.month.config import CONFIG, HELD, SECTIONS
from tests.month.elsewhere import ELSEWHERE, FIRST, rising
from tests.month.names import Names
from tests.support.aws_admin import admin_client
from tests.support.doubles import ManualClock
from tests.support.emulated import (
    ACCESS_KEY_ID,
    ACCOUNT_ID,
    REGION,
    SECRET_ACCESS_KEY,
    RunningEmulator,
    write_accounts,
)
from tests.support.receivers import MailServer, Receiver, mail_server, receiving, webhook
from tests.support.servers import Server

WIDTH = 120
MS = timedelta(milliseconds=1)


class MonthClock(ManualClock):
    """A clock that stands still, and the emulator's with it; a daemon reads it in a file."""

    def __init__(self, emulator: RunningEmulator, file: Path) -> None:
        super().__init__(FIRST)
        self._emulator, self._file = emulator, file
        self._there = datetime.fromisoformat(emulator.now())
        self._follow()

    def sleep(self, seconds: float) -> None:
        """Both move on."""
        super().sleep(seconds)
        self._follow()

    def set(self, now: datetime) -> None:
        """Both are set."""
        assert now >= self.now(), f"{now} is over"
        super().set(now)
        self._follow()

    def _follow(self) -> None:
        now = self.now()
        if (step := (now - self._there) // MS) > 0:
            said = self._emulator.advance((step + 0.5) / 1000)
            self._there = datetime.fromisoformat(said)
        half = self._file.with_name("clock.new")
        half.write_text(now.isoformat())
        half.replace(self._file)


class Month:
    """A server with a month before it; `lines` is the transcript."""

    def __init__(self, folder: Path, emulator: RunningEmulator, hook: Receiver, mails: MailServer) -> None:
        self.folder, self.emulator, self.hook, self.mails = folder, emulator, hook, mails
        self.clock = MonthClock(emulator, folder / "clock")
        self.server = Server(folder, self.clock)
        self.names = Names(folder)
        self.lines: list[str] = []
        self.spent: list[tuple[float, str]] = []
        self._told = self._mailed = 0
        self.key = folder / "recovery.key"
        self.write_sources()
        self.write_config()

    # What is there.

    def write_sources(self) -> None:
        """What the jobs back up; a file's content says how it is made, so it is the same each time."""
        for name, size in (("home/letters/one.txt", 3_000), ("home/letters/two.txt", 90_000)):
            self.write(name, size)
        for number in range(25):
            self.write(f"home/notes/{number:02}.txt", 400 + number)
        self.write("home/photo.raw", 1_500_000)
        (self.folder / "home" / "newest").symlink_to("letters/two.txt")
        for name, size in (("etc/fstab", 700), ("etc/ssl/cert.pem", 5_000), ("etc/hosts", 90)):
            self.write(name, size)
        self.write("etc/big.db", 2_000_000)
        for name, size in (("mail/inbox", 2_000_000), ("mail/sent", 40_000), ("mail/drafts/a", 10)):
            self.write(name, size)
        for name in ("home/plain.txt", "etc/plain.conf", "mail/plain.mbox"):
            (self.folder / name).write_text(f"this is {name}\n")
            self.date(self.folder / name)

    def write(self, name: str, size: int, seed: str = "") -> Path:
        """A file of random bytes that follow from its name, with a time of its own."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.Random(f"{name}{seed}{size}").randbytes(size))
        self.date(path)
        return path

    def date(self, path: Path) -> None:
        """Let it, and the folders above it, have been changed now."""
        now = self.clock.now().timestamp()
        while path != self.folder:
            os.utime(path, (now, now), follow_symlinks=False)
            path = path.parent

    def remove(self, name: str) -> None:
        """Let a file be gone."""
        path = self.folder / name
        path.unlink()
        self.date(path.parent)

    def write_config(self, **changed: str) -> None:
        """Write the config; `changed` are lines for its sections."""
        more = dict.fromkeys(SECTIONS, "") | changed
        for job in ("home", "etc", "mail"):
            if "forget" not in more[job]:
                more[job] = f'forget = "never"\n{more[job]}'
        if "schedule" not in more["home"]:
            more["home"] = f'schedule = "daily at 02:30"\n{more["home"]}'
        self.server.config.write_text(
            CONFIG.format(
                folder=self.folder,
                region=REGION,
                account=ACCOUNT_ID,
                glacier=self.emulator.glacier_url,
                s3=self.emulator.s3_url,
                hook=self.hook.url,
                port=self.mails.port,
                more=more,
            )
        )
        self.server.config.chmod(0o600)

    # What happens.

    def title(self, text: str) -> None:
        """A heading in the transcript."""
        self.lines += ["", f"## {text}"]

    def at(self, day: int, wall: str) -> None:
        """It is that day of the month, at that time in UTC."""
        begin = datetime.combine(FIRST.date(), time.fromisoformat(wall), UTC)
        self.clock.set(begin + timedelta(days=day - 1))

    def later(self, **span: float) -> None:
        """Time goes by."""
        self.clock.set(self.clock.now() + timedelta(**span))

    def run(self, *words: object, typed: str | None = None) -> Any:
        """Run a command, and write down what it says; its document if it printed one."""
        began, real = self.clock.now(), time_of.monotonic()
        result = self.server.run(*words, typed=typed)
        self.spent.append((time_of.monotonic() - real, " ".join(map(str, words))))
        shown = self.names.named(" ".join(map(str, words)))
        self.lines += ["", f"[{began:%m-%d %H:%M}] $ nightvault {shown}"]
        document = None
        if "--json" in words:
            document = self._documents(result.stdout)
        else:
            self.add("  ", result.stdout)
        self.add("! ", result.stderr)
        self.lines.append(f"= {result.exit_code}")
        if self.clock.now() != began:
            self.lines.append(f"  (it took {self.clock.now() - began})")
        self.letters()
        return document

    def both(self, *words: object) -> Any:
        """Run a command that changes nothing, as text and as JSON."""
        self.run(*words)
        return self.run("--json", *words)

    def document(self, *words: object) -> Any:
        """What a command answers in JSON, which is not written down."""
        return json.loads(self.server.run("--json", *words).stdout)

    def stored_file(self, archive_id: str) -> Path:
        """The file of an archive in the directory vault."""
        found = [path for path in (self.folder / "vault").rglob(f"*{archive_id}*") if path.is_file()]
        return max(found, key=lambda path: path.stat().st_size)

    def delete_archive(self, archive_id: str) -> None:
        """Let an archive of the Glacier vault be gone."""
        glacier = admin_client(self.emulator, "glacier", ACCESS_KEY_ID, SECRET_ACCESS_KEY)
        glacier.delete_archive(accountId=ACCOUNT_ID, vaultName="nightly", archiveId=archive_id)

    def delete_object(self, key: str) -> None:
        """Let an object of the bucket be gone."""
        admin_client(self.emulator, "s3", ACCESS_KEY_ID, SECRET_ACCESS_KEY).delete_object(
            Bucket="nightly", Key=key
        )

    def process(self, *words: object) -> AbstractContextManager[subprocess.Popen[str]]:
        """A command as a process of its own, by the month's clock; killed if it does not end."""
        clock = str(self.folder / "clock")
        return self.server.process(*words, program=(sys.executable, "-m", "tests.month.at_clock", clock))

    def _documents(self, text: str) -> Any:
        lines = text.split("\n")
        if lines[-1] != "":
            self.lines.append("  (its output does not end with a line)")
        found = None
        for line in lines[:-1]:
            try:
                found = json.loads(line)
            except ValueError:
                self.add("  ", line)
                continue
            if json.dumps(found, ensure_ascii=False, separators=(",", ":")) != line:
                self.lines.append("  (written otherwise)")
            self.add("  ", "\n".join(broken(found)))
        return found

    def letters(self) -> None:
        """Write down the letters that came since; a mail says what the hook was told in its text."""
        texts = {}
        for request in self.hook.taken[self._told :]:
            told = dict(request.json)
            texts[told["title"]] = told.pop("text")
            self.lines.append("  (to the hook)")
            self.add("  > ", "\n".join(broken(told, depth=0)))
        for mail in self.mails.mails[self._mailed :]:
            self.lines.append(f"  (a mail to {mail['to']}, priority {mail['x-priority'] or 'none'})")
            body = mail.get_body(("plain",))
            assert body is not None
            text = "\n".join(body.get_content().splitlines())
            other = "\n".join(texts.pop(mail["subject"], "").splitlines())
            self.add("  > ", f"Subject: {mail['subject']}\n{text}")
            if text != other:
                self.add("  > ", f"(the hook was told)\n{other}")
        self._told, self._mailed = len(self.hook.taken), len(self.mails.mails)

    def metrics(self) -> None:
        """Write down the metrics file, without its help."""
        self.lines += ["", "  (the metrics file)"]
        lines = (self.folder / "metrics.prom").read_text().splitlines()
        self.add("  ", "\n".join(line for line in lines if not line.startswith("#")))

    def recovery_lines(self) -> None:
        """Write down the file of recovery lines."""
        self.lines += ["", "  (the recovery lines)"]
        self.add("  ", (self.folder / "lines.txt").read_text())

    def add(self, mark: str, text: str) -> None:
        """Add lines to the transcript."""
        if text:
            lines = self.names.named(text).split("\n")
            lines = lines[:-1] if lines[-1] == "" else lines
            self.lines += [f"{mark}{line}".rstrip() for line in lines]

    def text(self) -> str:
        """The transcript."""
        return "\n".join(self.lines).strip("\n") + "\n"


def broken(
    document: object, indent: str = "", name: str = "", end: str = "", depth: int = 1
) -> Iterator[str]:
    """A document in lines: what fits into one is one, and what lies deep in it."""
    whole = f"{indent}{name}{json.dumps(document, ensure_ascii=False)}{end}"
    if len(whole) <= WIDTH or not isinstance(document, dict | list) or not document or not depth:
        yield whole
        return
    open_, close = "{}" if isinstance(document, dict) else "[]"
    yield f"{indent}{name}{open_}"
    parts = list(document.items()) if isinstance(document, dict) else [("", part) for part in document]
    for number, (key, part) in enumerate(parts, 1):
        label = f"{json.dumps(key)}: " if isinstance(document, dict) else ""
        yield from broken(
            part, f"{indent}  ", label, "," if number < len(parts) else "", depth - (len(parts) > 1)
        )
    yield f"{indent}{close}{end}"


@contextmanager
def months(set_: pytest.MonkeyPatch) -> Iterator[Month]:
    """A server on the eve of its month, in a folder whose name is as long and as deep each time."""
    set_.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
    set_.setenv("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
    set_.setenv("TZ", "UTC")
    for place, name, other in ELSEWHERE:
        set_.setattr(place, name, other)
    with (
        tempfile.TemporaryDirectory(prefix="nightvault-month-", dir="/tmp") as made,
        RunningEmulator(
            Path(made, "aws"), write_accounts(Path(made, "accounts.toml")), speed=1e-9
        ) as emulator,
        receiving(webhook) as hook,
        mail_server(MailServer()) as mails,
    ):
        month = Month(Path(made), emulator, hook, mails)
        set_.setattr(os, "urandom", rising(month.clock.now))
        yield month


@contextmanager
def holding(month: Month) -> Iterator[None]:
    """While another process backs `mail` up, so that the inventory is locked."""
    month.write_config(mail=HELD.format(folder=month.folder))
    held = month.folder / "held"
    with month.process("--quiet", "backup", "mail") as other:
        waited = time_of.monotonic()
        while not held.exists():
            assert other.poll() is None, "it ended"
            assert time_of.monotonic() < waited + 30, "it does not begin"
            time_of.sleep(0.01)
        yield
        held.unlink()
        said, _ = other.communicate(timeout=60)
        assert other.returncode == 0, said
    month.write_config()
