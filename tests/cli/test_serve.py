"""`nightvault serve` asked by programs of others: boto3, Debian's AWS CLI and Debian's restic."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.helper_world import ROLE, SCRIPT, World, ask
from tests.support.emulated import REGION
from tests.support.s3_clients import client, new_bucket

LIST_VAULTS = (
    "import boto3, sys\n"
    "client = boto3.client('glacier', endpoint_url=sys.argv[1])\n"
    "print(client.list_vaults()['VaultList'])\n"
)


@contextmanager
def serving(world: World, *more: str, lines: int) -> Iterator[dict[str, str]]:
    """The variables that a running `serve` printed."""
    with world.process("serve", *world.flags, "--port", "0", *more) as process:
        assert process.stdout is not None
        printed = [process.stdout.readline().strip().removeprefix("export ") for _ in range(lines)]
        yield dict(line.split("=", 1) for line in printed)


def run(world: World, command: list[str], variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Another program, with nothing but these variables."""
    environment = world.environment(AWS_REGION=REGION, AWS_DEFAULT_REGION=REGION, **variables)
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)


def of_debian(name: str) -> str:
    """The path of a program as Debian's package of that name installs it; else the test is skipped."""
    path = f"/usr/bin/{name}"
    if not os.access(path, os.X_OK):
        pytest.skip(f"{path} is not installed")
    return path


def forms(world: World, form: str, tmp_path: Path) -> tuple[tuple[str, ...], int]:
    """Flags of `serve` for a form, and how many lines it prints."""
    return (("--token-file", str(tmp_path / "a token")), 2) if form == "container" else ((), 1)


@pytest.mark.parametrize("form", ["imds", "container"])
def test_boto3_gets_keys(world: World, tmp_path: Path, form: str) -> None:
    flags, lines = forms(world, form, tmp_path)
    with serving(world, *flags, lines=lines) as variables:
        plain = {name: value.strip("'") for name, value in variables.items()}
        done = run(world, [sys.executable, "-c", LIST_VAULTS, world.emulator.glacier_url], plain)
    assert done.stdout == "[]\n", done.stderr


def test_the_token_is_this_users_and_new_at_each_start(world: World, tmp_path: Path) -> None:
    """Mode 0600, no line's end, never the same twice; and no metadata service beside it."""
    file, tokens = tmp_path / "token", []
    file.write_text("old")
    file.chmod(0o644)
    for _ in range(2):
        with serving(world, "--token-file", str(file), lines=2) as variables:
            assert variables["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] == str(file)
            assert file.stat().st_mode & 0o777 == 0o600
            tokens.append(file.read_text())
            url = variables["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
            assert ask(url)[0] == 401
            assert ask(url, Authorization=tokens[-1])[0] == 200
            assert ask(url, Authorization=tokens[0])[0] == (200 if len(tokens) == 1 else 401)
            assert ask(url, Authorization=tokens[-1], Host="evil.example")[0] == 403
            assert ask(url.replace("/credentials", "/latest/api/token"), "PUT")[0] == 404
    assert len({*tokens, "old"}) == 3
    assert all(len(token) == 64 and token == token.strip() for token in tokens)


def test_a_port_that_is_taken_leaves_the_others_token(world: World, tmp_path: Path) -> None:
    file = tmp_path / "token"
    with serving(world, "--token-file", str(file), lines=2) as variables:
        token = file.read_text()
        port = variables["AWS_CONTAINER_CREDENTIALS_FULL_URI"].rpartition(":")[2].partition("/")[0]
        done = world.run("serve", *world.flags, "--port", port, "--token-file", str(file))
        assert (done.returncode, file.read_text()) == (2, token)


def test_a_token_file_that_cannot_be_written_is_told(world: World, tmp_path: Path) -> None:
    done = world.run("serve", *world.flags, "--port", "0", "--token-file", str(tmp_path / "none" / "token"))
    assert done.returncode == 2
    assert b"cannot write the token to" in done.stderr
    assert done.stdout == b""


def test_a_token_file_that_is_a_device_stays_one(world: World, tmp_path: Path) -> None:
    """Root would put a file in its place."""
    os.mkfifo(tmp_path / "pipe")
    done = world.run("serve", *world.flags, "--port", "0", "--token-file", str(tmp_path / "pipe"))
    assert done.returncode == 2
    assert b"is no file that a token could replace" in done.stderr
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize("form", ["imds", "container"])
def test_debians_aws_cli_gets_keys(world: World, tmp_path: Path, form: str) -> None:
    """Otherwise it asks for `http://127.0.0.1:9913latest/api/token`."""
    program = of_debian("aws")
    flags, lines = forms(world, form, tmp_path)
    with serving(world, *flags, lines=lines) as variables:
        script = "".join(f"export {name}={value}\n" for name, value in variables.items())
        script += (
            f"exec {program} --endpoint-url {world.emulator.glacier_url} glacier list-vaults --account-id -"
        )
        done = run(world, ["sh", "-c", script], {})
    assert '"VaultList": []' in done.stdout, done.stderr


def backed_up(world: World, tmp_path: Path, variables: Mapping[str, str]) -> None:
    """Debian's restic makes a repository in a bucket that the role may use, backs up and restores."""
    program, s3 = of_debian("restic"), client(world.emulator.s3_url)
    bucket = new_bucket(s3)
    arn = f"arn:aws:s3:::{bucket}"
    allowed = {"Effect": "Allow", "Principal": {"AWS": ROLE}, "Action": "s3:*", "Resource": [arn, f"{arn}/*"]}
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Statement": allowed}))
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_text("kept")
    given = {"RESTIC_REPOSITORY": f"s3:{world.emulator.s3_url}/{bucket}", "RESTIC_PASSWORD": "x"}
    given |= {"RESTIC_CACHE_DIR": str(tmp_path / "cache"), **variables}
    for command in (
        ["init"],
        ["backup", str(tmp_path / "source")],
        ["restore", "latest", "--target", str(tmp_path / "back")],
    ):
        done = run(world, [program, *command], given)
        assert done.returncode == 0, done.stderr
    back = tmp_path / "back" / (tmp_path / "source" / "file").relative_to("/")
    assert back.read_text() == "kept"


@pytest.mark.slow
@pytest.mark.real
def test_debians_restic_asks_the_containers_form(world: World, tmp_path: Path) -> None:
    """Restic's library reads the container's form alone."""
    flags, lines = forms(world, "container", tmp_path)
    with serving(world, *flags, lines=lines) as variables:
        backed_up(world, tmp_path, {name: value.strip("'") for name, value in variables.items()})


@pytest.mark.slow
@pytest.mark.real
def test_debians_restic_runs_the_process_of_the_credentials_file(world: World, tmp_path: Path) -> None:
    """In the credentials file, as docs/roles-anywhere.md says, and not in the config file."""
    process = " ".join([SCRIPT, "credential-process", *world.flags, "--no-cache"])
    written = tmp_path / "aws"
    written.write_text(f"[backup]\ncredential_process = {process}\n")
    backed_up(world, tmp_path, {"AWS_SHARED_CREDENTIALS_FILE": str(written), "AWS_PROFILE": "backup"})
