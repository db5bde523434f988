"""Debian's own clients on the emulator's S3, walked through what their users do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.emulator.other_clients import KEYS, of_debian, run
from tests.support.emulated import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, RunningEmulator
from tests.support.s3_clients import new_bucket_name

pytestmark = [pytest.mark.slow, pytest.mark.real]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file of a size that is sent in parts."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(6_000_000))
    return path


def test_s3cmd(emulator: RunningEmulator, tmp_path: Path, source: Path) -> None:
    """`info` asks for everything that a bucket may have set."""
    host = emulator.s3_url.removeprefix("http://")
    config = tmp_path / "s3cfg"
    config.write_text(
        f"[default]\naccess_key = {ACCESS_KEY_ID}\nsecret_key = {SECRET_ACCESS_KEY}\nhost_base = {host}\n"
        f"host_bucket = {host}\nuse_https = False\nbucket_location = {REGION}\nmultipart_chunk_size_mb = 5\n"
    )
    bucket = f"s3://{new_bucket_name()}"
    program = of_debian("s3cmd")

    def s3cmd(*arguments: str) -> str:
        return run([program, "--config", str(config), *arguments], tmp_path, {})

    s3cmd("mb", bucket)
    s3cmd("put", str(source), f"{bucket}/d/one")
    told = s3cmd("info", bucket)
    assert "CORS:      none" in told
    assert "FULL_CONTROL" in told
    assert "Versioning:none" in told
    assert "FULL_CONTROL" in s3cmd("info", f"{bucket}/d/one")
    s3cmd("cp", "--acl-private", f"{bucket}/d/one", f"{bucket}/two")
    s3cmd("get", f"{bucket}/two", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    s3cmd("del", "--recursive", "--force", bucket)
    s3cmd("rb", bucket)


def test_rclone(emulator: RunningEmulator, tmp_path: Path, source: Path) -> None:
    """`--s3-versions` lists the versions."""
    named = {"TYPE": "s3", "PROVIDER": "Other", "ENV_AUTH": "true", "REGION": REGION}
    named |= {"ENDPOINT": emulator.s3_url, "LOCATION_CONSTRAINT": REGION}
    environment = KEYS | {f"RCLONE_CONFIG_E_{key}": value for key, value in named.items()}
    bucket, program = f"E:{new_bucket_name()}", of_debian("rclone")

    def rclone(*arguments: str) -> str:
        return run([program, "--config", str(tmp_path / "none.conf"), *arguments], tmp_path, environment)

    rclone("mkdir", bucket)
    rclone("copyto", str(source), f"{bucket}/d/one")
    assert "6000000 d/one" in rclone("ls", "--s3-versions", bucket)
    rclone("copyto", f"{bucket}/d/one", f"{bucket}/two")
    rclone("copyto", f"{bucket}/two", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    rclone("backend", "versioning", bucket, "Enabled")
    rclone("deletefile", f"{bucket}/two")
    assert "two" not in rclone("ls", bucket)
    assert "two" in rclone("ls", "--s3-versions", bucket)
    rclone("backend", "cleanup-hidden", bucket)
    assert "two" not in rclone("ls", "--s3-versions", bucket)
    rclone("cleanup", bucket)
    rclone("purge", bucket)


def test_the_aws_cli(emulator: RunningEmulator, tmp_path: Path, source: Path) -> None:
    """What docs/s3.md tells operators to list."""
    program, name = of_debian("aws"), new_bucket_name()

    def aws(*arguments: str) -> str:
        return run([program, "--endpoint-url", emulator.s3_url, *arguments], tmp_path, KEYS)

    aws("s3", "mb", f"s3://{name}")
    aws("s3", "cp", str(source), f"s3://{name}/one", "--storage-class", "DEEP_ARCHIVE")
    listed = aws("s3api", "list-object-versions", "--bucket", name, "--output", "text")
    assert "DEEP_ARCHIVE\tnull" in listed
    aws("s3api", "put-bucket-encryption", "--bucket", name, "--server-side-encryption-configuration",
        '{"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}')  # fmt: skip
    aws("s3api", "delete-bucket-encryption", "--bucket", name)
    assert "None" in aws(
        "s3api", "get-bucket-logging", "--bucket", name, "--query", "LoggingEnabled", "--output", "text"
    )
    aws("s3api", "put-bucket-versioning", "--bucket", name, "--versioning-configuration", "Status=Enabled")
    aws("s3", "cp", "--quiet", str(source), f"s3://{name}/one")
    aws("s3", "rm", f"s3://{name}/one")
    query = ("--query", "[length(Versions), length(DeleteMarkers)]", "--output", "text")
    assert aws("s3api", "list-object-versions", "--bucket", name, *query).split() == ["2", "1"]
    aws("s3api", "delete-object", "--bucket", name, "--key", "one", "--version-id", "null")
    marker = ("--query", "DeleteMarkers[0].VersionId", "--output", "text")
    version = aws("s3api", "list-object-versions", "--bucket", name, *marker).strip()
    aws("s3api", "delete-object", "--bucket", name, "--key", "one", "--version-id", version)
    aws("s3", "cp", "--quiet", f"s3://{name}/one", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
