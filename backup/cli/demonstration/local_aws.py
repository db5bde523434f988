"""The demo's AWS: an emulator in a process of its own, and the account that it serves."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from backup.errors import NightvaultError
from backup.second_process import isolated_words, without_python

ACCOUNT = "123456789012"
REGION = "eu-central-1"
ANCHOR = f"arn:aws:rolesanywhere:{REGION}:{ACCOUNT}:trust-anchor/d0000000-0000-4000-8000-000000000001"
PROFILE = f"arn:aws:rolesanywhere:{REGION}:{ACCOUNT}:profile/d0000000-0000-4000-8000-000000000002"
BACKUP_ROLE = f"arn:aws:iam::{ACCOUNT}:role/nightvault-backup"
RESTORE_ROLE = f"arn:aws:iam::{ACCOUNT}:role/nightvault-restore"
PRUNE_ROLE = f"arn:aws:iam::{ACCOUNT}:role/nightvault-prune"
KEEPER_ROLE = f"arn:aws:iam::{ACCOUNT}:role/nightvault-keeper"
ROLES = {"backup": BACKUP_ROLE, "restore": RESTORE_ROLE, "prune": PRUNE_ROLE, "keeper": KEEPER_ROLE}
_LIBRARIES = ("cryptography", "starlette", "uvicorn", "h11")
_SPEED = 7200  # a retrieval of four hours takes two seconds


def write_accounts(path: str, *, ca: str, documents: Mapping[str, Any]) -> None:
    """The emulator's account: what a console user would have made of the documents of `aws policy`."""
    lines = [
        "[[account]]",
        f'id = "{ACCOUNT}"',
        "[[account.trust_anchor]]",
        f'arn = "{ANCHOR}"',
        f"certificates = [{json.dumps(ca)}]",
        "[[account.profile]]",
        f'arn = "{PROFILE}"',
        f"role_arns = {json.dumps(list(ROLES.values()))}",
    ]
    for part, arn in ROLES.items():
        lines += [
            "[[account.role]]",
            f'arn = "{arn}"',
            f"trust_policy = {json.dumps(json.dumps(documents['trust']))}",
            f"policy = {json.dumps(json.dumps(documents[part]))}",
        ]
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


@contextmanager
def running_emulator(state: str, accounts: str, log: str) -> Iterator[Mapping[str, str]]:
    """The emulator's URLs while it runs; the process is always ended at the end."""
    words = ("--port", "0", "--state", state, "--accounts", accounts, "--speed", str(_SPEED))
    with open(log, "wb") as errors:
        process = subprocess.Popen(
            isolated_words("backup.emulator", *words, libraries=_LIBRARIES),
            stdout=subprocess.PIPE,
            stderr=errors,
            stdin=subprocess.DEVNULL,
            cwd="/",
            env=without_python(os.environ),
        )
    try:
        line = process.stdout.readline() if process.stdout else b""
        if not line:
            raise NightvaultError("the emulator did not start", advice=f"its reason is in {log}")
        yield json.loads(line)
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()


_VAULTS = {
    "glacier": 'vault = "nightvault-demo"',
    "s3": 'bucket = "nightvault-demo"\nstorage_class = "DEEP_ARCHIVE"\npath_style = true',
}


def write_config(path: str, *, kind: str, endpoint: str, anywhere: str, identity: str, source: str) -> None:
    """The config that the demo's server has."""
    text = f"""\
# Made by `nightvault demo`. On a real server endpoint and path_style go, and the ARNs are your own.
[state]
dir = {json.dumps(os.path.join(os.path.dirname(path), "state"))}

[identity]
certificate = {json.dumps(os.path.join(identity, "demo-server.pem"))}
private_key = {json.dumps(os.path.join(identity, "demo-server.key"))}

[roles_anywhere]
region = "{REGION}"
trust_anchor_arn = "{ANCHOR}"
profile_arn = "{PROFILE}"
endpoint = "{anywhere}"

[[vault]]
name = "cold"
kind = "{kind}"
region = "{REGION}"
account_id = "{ACCOUNT}"
{_VAULTS[kind]}
role_arn = "{BACKUP_ROLE}"
restore_role_arn = "{RESTORE_ROLE}"
endpoint = "{endpoint}"

[[job]]
name = "demo"
vault = "cold"
sources = [{json.dumps(source)}]
schedule = "daily at 02:30"
"""
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
