"""The files of a machine before it boots: the program, a config, an identity, an AWS of its own, sources."""

from __future__ import annotations

import os
from pathlib import Path

from backup.cli.trying.demonstration.local_aws import ACCOUNT, REGION
from tests.support.local_account import (
    ANCHOR,
    BACKUP_ROLE,
    PROFILE,
    PRUNE_ROLE,
    RESTORE_ROLE,
    write_accounts,
)
from tests.support.servers import Server
from tests.systemd.image import Image

EMULATOR = "http://127.0.0.1:9191"
CONFIG_FILE = "/etc/nightvault/config.toml"
KEY_FILE = "/etc/nightvault/identity/web1.key"

CONFIG = f"""\
[identity]
certificate = "/etc/nightvault/identity/web1.pem"
private_key = "{KEY_FILE}"

[roles_anywhere]
region = "{REGION}"
trust_anchor_arn = "{ANCHOR}"
profile_arn = "{PROFILE}"
endpoint = "{EMULATOR}"

[[vault]]
name = "cold"
kind = "glacier"
region = "{REGION}"
account_id = "{ACCOUNT}"
vault = "machine"
role_arn = "{BACKUP_ROLE}"
restore_role_arn = "{RESTORE_ROLE}"
prune_role_arn = "{PRUNE_ROLE}"
endpoint = "{EMULATOR}"
part_size = "1MiB"
pack_size = "4MiB"

[[vault]]
name = "disk"
kind = "directory"
path = "/srv/vault"

[[job]]
name = "main"
vault = "cold"
sources = ["/srv/data"]
schedule = "* * * * *"

[[job]]
name = "near"
vault = "disk"
sources = ["/srv/data"]
schedule = "* * * * *"
"""
"""A server that is let in by its certificate, and has a vault on a disk of its own, too."""

_AWS = """\
[Unit]
Description=An AWS of this machine's own

[Service]
ExecStart=/usr/local/bin/nightvault emulator --port 9191 --s3-port 9192 --state /srv/aws/state \
 --accounts /srv/aws/accounts.toml

[Install]
WantedBy=multi-user.target
"""


def prepare(image: Image, files: Path, scratch: Path) -> None:
    """Make all of it below `files`, as it is to lie below /; `scratch` takes what is of no use afterwards."""
    files.mkdir()
    scratch.mkdir()
    image.install(files)
    server = Server(scratch)
    identity = files / "etc" / "nightvault" / "identity"
    identity.mkdir(parents=True)
    server.done("ca", "create", "--dir", scratch / "ca", "--name", "Test CA", "--organization", "Test")
    server.done(
        *("ca", "issue", "web1", "--dir", scratch / "ca", "--out", identity),
        *("--organization", "Test", "--unit", "Servers"),
    )
    server.config.write_text(CONFIG.replace("/etc/nightvault/identity", str(identity)))  # policies name it
    _write(files / "etc/nightvault/config.toml", CONFIG, 0o600)
    _write(files / "etc/systemd/system/aws.service", _AWS, 0o644)
    wanted = files / "etc/systemd/system/multi-user.target.wants"
    wanted.mkdir()
    (wanted / "aws.service").symlink_to("../aws.service")
    _write(files / "srv/aws/accounts.toml", "", 0o600)
    write_accounts(
        str(files / "srv/aws/accounts.toml"),
        ca=(scratch / "ca" / "ca.pem").read_text(),
        documents=server.json("aws", "policy"),
    )
    _fill(files / "srv" / "data")


def _write(path: Path, text: str, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _fill(data: Path) -> None:
    """Files of several owners, of which nobody else may read some."""
    _write(data / "plain.txt", "alpha\n", 0o644)
    _write(data / "theirs" / "secret.txt", "of another user\n", 0o600)
    (data / "theirs" / "large.bin").write_bytes(os.urandom(3_000_000))
    for path in (data / "theirs" / "secret.txt", data / "theirs"):
        os.chown(path, 4321, 4321)
    (data / "theirs").chmod(0o700)
