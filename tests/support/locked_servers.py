"""Servers with a vault in a bucket, which may lock or keep versions, and an intruder there."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from backup.app.base.clock import SystemClock
from backup.config import load_config
from tests.support.emulated import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, RunningEmulator
from tests.support.s3_clients import client, new_bucket_name
from tests.support.servers import Server, fill

LOCK = 'lock = "governance"\nextend = "daily"\n'


def bucket_server(
    folder: Path, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch, lock: str = LOCK
) -> Server:
    """A server that knows its bucket, with these lines in its vault, after a backup."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
    made = Server(folder, SystemClock())
    fill(made.source)
    made.write_config(f"""\
[[vault]]
name = "cold"
kind = "s3"
region = "{REGION}"
bucket = "{new_bucket_name()}"
storage_class = "STANDARD"
path_style = true
endpoint = "{emulator.s3_url}"
{lock}""")
    made.init()
    made.backup()
    return made


def rebuilt(server: Server) -> Server:
    """A new machine with its config, and an inventory that was rebuilt from the vault."""
    bare = Server(server.folder / "bare", server.clock)
    bare.config.parent.mkdir(parents=True, exist_ok=True)
    bare.config.write_text(server.config.read_text().replace(str(server.state), str(bare.state)))
    bare.done("rebuild", "--vault", "cold", "--key", server.key_file, "--wait")
    return bare


def bucket_of(server: Server) -> str:
    """Its bucket."""
    return str(load_config(str(server.config)).vault("cold").bucket)


def give_lock(s3: Any, bucket: str) -> None:
    """Let a bucket keep versions from now on, which can be locked."""
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"})


def destroyed(s3: Any, bucket: str) -> int:
    """Delete every version that can be deleted without a bypass, and hide the others; how many went."""
    gone = 0
    for line in s3.list_object_versions(Bucket=bucket)["Versions"]:
        with suppress(s3.exceptions.ClientError):
            s3.delete_object(Bucket=bucket, Key=line["Key"], VersionId=line["VersionId"])
            gone += 1
            continue
        s3.delete_object(Bucket=bucket, Key=line["Key"])
    return gone


class Intruder:
    """Somebody who may do everything in a server's bucket but end locks."""

    def __init__(self, server: Server, emulator: RunningEmulator) -> None:
        self.s3 = client(emulator.s3_url)
        self.bucket = bucket_of(server)
        self.ours = self.objects()

    def objects(self) -> list[dict[str, Any]]:
        """All versions that are there, but delete markers."""
        found: list[dict[str, Any]] = self.s3.list_object_versions(Bucket=self.bucket).get("Versions", [])
        return found

    def packs(self) -> list[str]:
        """The keys of data packs that were there first."""
        return [line["Key"] for line in self.ours if line["Key"].startswith("data/")]

    def hide(self, *keys: str) -> None:
        """Put delete markers over keys, or over all."""
        for key in keys or [line["Key"] for line in self.ours]:
            self.s3.delete_object(Bucket=self.bucket, Key=key)

    def overwrite(self, *keys: str, **more: Any) -> None:
        """Put something of the same size over keys, or over all."""
        for line in self.ours:
            if not keys or line["Key"] in keys:
                self.s3.put_object(Bucket=self.bucket, Key=line["Key"], Body=b"x" * line["Size"], **more)

    def tag(self, key: str) -> None:
        """Give an object tags."""
        tags = {"TagSet": [{"Key": "expire", "Value": "soon"}]}
        self.s3.put_object_tagging(Bucket=self.bucket, Key=key, Tagging=tags)
