"""A machine that gets its keys from the emulator: the commands as processes, with an identity and a home."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
from msgspec import Struct

from backup.pki.authority import Authority, create_ca
from backup.pki.issuing import issue
from backup.pki.keys import KeyType
from backup.pki.subjects import Subject
from tests.support.emulated import ACCOUNT_ID, REGION, RunningEmulator, write_accounts
from tests.support.program_forks import run_command

SCRIPT = str(Path(sys.executable).parent / "nightvault")
ANCHOR = f"arn:aws:rolesanywhere:{REGION}:{ACCOUNT_ID}:trust-anchor/ours"
PROFILE = f"arn:aws:rolesanywhere:{REGION}:{ACCOUNT_ID}:profile/backup"
ROLE = f"arn:aws:iam::{ACCOUNT_ID}:role/path/Writer"
TRUST = {
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "rolesanywhere.amazonaws.com"},
            "Action": ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"],
            "Condition": {"ArnEquals": {"aws:SourceArn": ANCHOR}},
        }
    ]
}
LIST = {"Statement": [{"Effect": "Allow", "Action": "glacier:*", "Resource": "*"}]}


class World(Struct, frozen=True):
    """An emulator, an authority, an identity that it issued, and a home without a config."""

    emulator: RunningEmulator
    authority: Authority
    certificate: str
    key: str
    home: Path

    @property
    def session(self) -> Sequence[str]:
        """The flags of a CreateSession."""
        arns = ("--trust-anchor-arn", ANCHOR, "--profile-arn", PROFILE, "--role-arn", ROLE)
        return (*arns, "--endpoint", self.emulator.rolesanywhere_url)

    @property
    def flags(self) -> Sequence[str]:
        """These, with the identity's."""
        return ("--certificate", self.certificate, "--private-key", self.key, *self.session)

    def environment(self, **more: str) -> Mapping[str, str]:
        """A process's, with nothing of this machine's AWS or proxies."""
        known = {name: os.environ[name] for name in ("PATH", "SOFTHSM2_CONF") if name in os.environ}
        return {**known, "HOME": str(self.home), "COVERAGE_PROCESS_START": "", **more}

    def run(self, *words: str, **more: str) -> subprocess.CompletedProcess[bytes]:
        """The command, as a process."""
        return run_command(words, self.environment(**more))

    def keys(self, *words: str, **more: str) -> dict[str, Any]:
        """What `credential-process` prints when all is well."""
        done = self.run("credential-process", *words, **more)
        assert done.returncode == 0, done.stderr
        assert not done.stdout.endswith(b"\n")
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def config(self, folder: Path, certificate: str, key: str, **more: str) -> Path:
        """A config.toml with an identity (`more` of its settings), the exchange and a vault."""
        identity = {"certificate": certificate, "private_key": key, **more}
        lines = [f"{name} = {json.dumps(value)}" for name, value in identity.items()]
        path = folder / "config.toml"
        path.write_text(
            "[identity]\n" + "\n".join(lines) + "\n[roles_anywhere]\n"
            f'region = "{REGION}"\ntrust_anchor_arn = "{ANCHOR}"\nprofile_arn = "{PROFILE}"\n'
            f'endpoint = "{self.emulator.rolesanywhere_url}"\n'
            f'[[vault]]\nname = "cold"\nkind = "glacier"\nregion = "{REGION}"\nvault = "v"\n'
            f'role_arn = "{ROLE}"\n'
        )
        return path

    @contextmanager
    def process(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """The command as a process that goes on; ended at the end of the block."""
        with subprocess.Popen(
            [SCRIPT, *words],
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.terminate()


@contextmanager
def made_world(directory: Path, *options: str) -> Iterator[World]:
    """A world below `directory`, as long as the block lasts; `options` are the emulator's."""
    now = datetime.now(UTC) - timedelta(hours=1)
    authority = create_ca(
        str(directory / "ca"), Subject("Helper CA"), key_type=KeyType.P_256, days=90, passphrase=None, now=now
    )
    issued = issue(
        authority, Subject("web1"), key_type=KeyType.P_256, days=30, directory=str(directory), now=now
    )
    accounts = write_accounts(
        directory / "accounts.toml",
        trust_anchors=[{"arn": ANCHOR, "certificates": [authority.certificate_path]}],
        profiles=[{"arn": PROFILE, "role_arns": [ROLE]}],
        roles=[{"arn": ROLE, "trust_policy": TRUST, "policy": LIST}],
    )
    home = directory / "home"
    home.mkdir()
    with RunningEmulator(directory / "state", accounts, options=options) as emulator:
        yield World(emulator, authority, issued.certificate_path, issued.key_path, home)


def list_vaults(world: World, keys: Mapping[str, str]) -> list[object]:
    """The vaults that these keys may list: none, but no denial."""
    session = boto3.Session(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"], REGION)
    client = session.client("glacier", endpoint_url=world.emulator.glacier_url)
    return list(client.list_vaults()["VaultList"])


def ask(url: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    """A request's status and text; `_` in a header's name stands for `-`."""
    request = urllib.request.Request(
        url, method=method, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
