"""Servers as a user sets them up: a folder with config, source and keys, and `nightvault` in this process.

server = directory_server(tmp_path)
server.done("init", "--key-file", server.key_file)
report = server.json("backup")[0]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from backup.app.base.clock import SystemClock
from backup.cli import main
from backup.cli.trying.demonstration.local_aws import ACCOUNT, REGION
from backup.protocols import Clock
from tests.support.aws_admin import admin_client
from tests.support.command_line import CliAt
from tests.support.doubles import ManualClock
from tests.support.emulated import REPOSITORY, RunningEmulator
from tests.support.local_account import (
    ANCHOR,
    BACKUP_ROLE,
    PROFILE,
    PRUNE_ROLE,
    RESTORE_ROLE,
    write_accounts,
)
from tests.support.trees import assert_same_tree

SCRIPT = str(Path(sys.executable).parent / "nightvault")
TRACES = ("Traceback", "unexpected ", "nightvault-crash-")
PRICES = """\
date = 2026-11-01
currency = "EUR"
sources = ["a test"]
[[price]]
region = "eu-central-1"
kind = "glacier"
storage = 0.0045
overhead = 32768
minimum_days = 90
upload = 0.036
download = 0
egress = 0.1
copy = 0
[price.retrieval]
standard = { gb = 0.012, requests = 100, hours = [3, 5] }
bulk = { gb = 0.001, requests = 0.02, hours = [5, 12] }
"""
"""A table of prices in which a vault's requests are dear: 0.10 each with the tier "standard"."""


class HurryingClock:
    """Real time, but whoever sleeps lets hours pass in the emulator instead."""

    def __init__(self, emulator: RunningEmulator, hours: float = 5) -> None:
        self._emulator = emulator
        self._seconds = hours * 3600
        self.sleeps = 0

    def now(self) -> datetime:
        """The real time."""
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        """Hours pass at once."""
        self.sleeps += 1
        self._emulator.advance(self._seconds)


class OnTerminal(CliRunner):
    """Runs commands whose output goes to a terminal of 80 columns that knows no escape sequences."""

    def __init__(self) -> None:
        super().__init__(env={"TERM": "dumb", "COLUMNS": "80"})

    @contextmanager
    def isolation(self, *given: Any, **how: Any) -> Iterator[Any]:
        """As click has it, but that standard output is a terminal."""
        with super().isolation(*given, **how) as outputs:
            sys.stdout.isatty = lambda: True  # type: ignore[method-assign]
            yield outputs


@dataclass
class Server:
    """One server; everything that its commands printed is in `printed`, so that secrets can be looked for."""

    folder: Path
    clock: Clock = field(default_factory=ManualClock)
    printed: list[str] = field(default_factory=list)

    @property
    def config(self) -> Path:
        """Its config file."""
        return self.folder / "config.toml"

    @property
    def state(self) -> Path:
        """Its state directory."""
        return self.folder / "state"

    @property
    def source(self) -> Path:
        """What its job `main` backs up."""
        return self.folder / "source"

    @property
    def key_file(self) -> Path:
        """Where its recovery key is."""
        return self.folder / "recovery.key"

    def run(
        self, *words: object, typed: str | bytes | None = None, runner: CliRunner | None = None
    ) -> Result:
        """Run a command; no traceback may ever be seen."""
        texts = ["--config", str(self.config), *map(str, words)]
        result = (runner or CliRunner()).invoke(main, texts, obj=CliAt(self.clock), input=typed)
        self.printed += [result.stdout, result.stderr]
        for trace in TRACES:
            assert trace not in result.output, result.output
        return result

    def done(self, *words: object, typed: str | bytes | None = None) -> Result:
        """Run a command that must end with 0."""
        result = self.run(*words, typed=typed)
        assert result.exit_code == 0, result.output
        return result

    def on_terminal(self, *words: object) -> list[str]:
        """The lines that a terminal of 80 columns shows of a command that must end with 0."""
        result = self.run(*words, runner=OnTerminal())
        assert result.exit_code == 0, result.output
        return result.stdout.splitlines()

    def waits(self, *words: object) -> Result:
        """Run a command that must end with 17: asked for, come again."""
        result = self.run(*words)
        assert result.exit_code == 17, result.output
        return result

    def json(self, *words: object, exit_code: int = 0) -> Any:
        """The document that a command prints."""
        result = self.run("--json", *words)
        assert result.exit_code == exit_code, result.output
        return json.loads(result.stdout)

    def fails(self, exit_code: int, *words: object, typed: str | bytes | None = None) -> str:
        """Run a command that must fail so, with one sentence and maybe advice; what it said on stderr."""
        result = self.run(*words, typed=typed)
        assert result.exit_code == exit_code, result.output
        told = [line for line in result.stderr.splitlines() if line.startswith("nightvault: ")]
        assert len(told) == 1, result.stderr
        return str(result.stderr)

    @contextmanager
    def process(self, *words: object, program: Sequence[str] = (SCRIPT,)) -> Iterator[subprocess.Popen[str]]:
        """The command as a process of its own, its outputs in pipes; killed if it does not end by itself."""
        with subprocess.Popen(
            [*program, "--config", str(self.config), *map(str, words)],
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def init(self) -> None:
        """Set up, with a new recovery key in `key_file`."""
        self.done("init", "--non-interactive", "--key-file", self.key_file)

    def backup(self) -> dict[str, Any]:
        """Back `main` up; its report."""
        report: dict[str, Any] = self.json("backup", "main")[0]
        return report

    def restore(self, target: Path, *words: object, snapshot: str = "latest") -> Path:
        """Restore all of a snapshot, waiting; where `source` came to lie."""
        self.done("restore", snapshot, "--target", target, "--key", self.key_file, "--wait", *words)
        return Path(str(target) + str(self.source))

    def write_config(self, *sections: str) -> None:
        """Write the config: state directory, these sections, and the job `main` into the vault `cold`."""
        job = f'[[job]]\nname = "main"\nvault = "cold"\nsources = ["{self.source}"]\nschedule = "every 6h"\n'
        state = f'[state]\ndir = "{self.state}"\n'
        self.config.write_text("\n".join([state, *sections, job]))


def fill(source: Path) -> None:
    """A few files, a directory, a symlink."""
    (source / "deep" / "er").mkdir(parents=True)
    (source / "a.txt").write_text("alpha\n")
    (source / "deep" / "b.bin").write_bytes(os.urandom(70_000))
    (source / "deep" / "er" / "c.txt").write_text("gamma\n" * 1000)
    (source / "link").symlink_to("deep/b.bin")


def directory_server(folder: Path, *, clock: Clock | None = None) -> Server:
    """A server whose vault is a directory; `init` has not been run."""
    server = Server(folder, clock or ManualClock())
    fill(server.source)
    server.write_config(f'[[vault]]\nname = "cold"\nkind = "directory"\npath = "{folder / "vault"}"\n')
    return server


@dataclass
class Cloud:
    """An emulated AWS, and the servers that it lets in: each has a certificate and a vault of its own."""

    folder: Path
    emulator: RunningEmulator
    accounts: Path

    def admin(self, service: str) -> Any:
        """A client of somebody who may do everything in the account; from the first call on there is one."""
        words = '[[account.key]]\naccess_key_id = "AKIAADMIN"\nsecret_access_key = "secret"\n'
        if words not in self.accounts.read_text():
            with self.accounts.open("a") as file:
                file.write(words)
        return admin_client(self.emulator, service, "AKIAADMIN", "secret")

    def server(
        self, folder: Path, *, vault: str, clock: Clock | None = None, kind: str = "glacier"
    ) -> Server:
        """A server with a new CA, which the account trusts from now on; `init` has not been run.

        Of kind "s3" its vault is a bucket of that name, in class GLACIER.
        """
        server = Server(folder, clock or SystemClock())
        fill(server.source)
        server.done("ca", "create", "--dir", folder / "ca", "--name", "Test CA", "--organization", "Test")
        server.done(
            *("ca", "issue", "web1", "--dir", folder / "ca", "--out", folder / "identity"),
            *("--organization", "Test", "--unit", "Servers"),
        )
        sections = self.sections if kind == "glacier" else self.bucket_sections
        server.write_config(sections(folder, vault=vault))
        documents = server.json("aws", "policy")
        half = self.accounts.with_name("accounts.new")
        write_accounts(str(half), ca=str(folder / "ca" / "ca.pem"), documents=documents)
        half.replace(self.accounts)
        return server

    def sections(
        self,
        folder: Path,
        *,
        vault: str,
        glacier: str | None = None,
        anywhere: str | None = None,
        role: str = BACKUP_ROLE,
    ) -> str:
        """The sections of a config on identity and vault."""
        return f"""\
{self._identity(folder, anywhere)}kind = "glacier"
region = "{REGION}"
account_id = "{ACCOUNT}"
vault = "{vault}"
role_arn = "{role}"
restore_role_arn = "{RESTORE_ROLE}"
prune_role_arn = "{PRUNE_ROLE}"
endpoint = "{glacier or self.emulator.glacier_url}"
part_size = "1MiB"
pack_size = "4MiB"
"""

    def bucket_sections(self, folder: Path, *, vault: str) -> str:
        """The same for a bucket."""
        return f"""\
{self._identity(folder, None)}kind = "s3"
region = "{REGION}"
bucket = "{vault}"
storage_class = "GLACIER"
path_style = true
role_arn = "{BACKUP_ROLE}"
restore_role_arn = "{RESTORE_ROLE}"
prune_role_arn = "{PRUNE_ROLE}"
endpoint = "{self.emulator.s3_url}"
part_size = "8MiB"
pack_size = "8MiB"
"""

    def _identity(self, folder: Path, anywhere: str | None) -> str:
        return f"""\
[identity]
certificate = "{folder}/identity/web1.pem"
private_key = "{folder}/identity/web1.key"

[roles_anywhere]
region = "{REGION}"
trust_anchor_arn = "{ANCHOR}"
profile_arn = "{PROFILE}"
endpoint = "{anywhere or self.emulator.rolesanywhere_url}"

[[vault]]
name = "cold"
"""


@contextmanager
def running_cloud(folder: Path) -> Iterator[Cloud]:
    """An emulated AWS that trusts nobody yet."""
    accounts = folder / "accounts.toml"
    accounts.write_text(f'[[account]]\nid = "{ACCOUNT}"\n')
    with RunningEmulator(folder / "aws", accounts) as emulator:
        yield Cloud(folder, emulator, accounts)


def assert_well(server: Server, target: Path) -> None:
    """A good run follows, and all that the source holds comes back identical."""
    assert server.backup()["outcome"] == "done"
    assert_same_tree(server.restore(target), server.source)


def replace(server: Server, old: str, new: str) -> None:
    text = server.config.read_text()
    assert old in text
    server.config.write_text(text.replace(old, new))
