"""`nightvault identity renew`: through real commands, from the request to the certificate in use."""

from __future__ import annotations

import os
import resource
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backup.config import load_config
from backup.errors import ConfigError
from tests.support.command_line import identity_settings, run, run_json


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A server with a certificate of seven days, four of which are over."""
    issued = datetime.now(UTC) - timedelta(days=4)
    (tmp_path / "state").mkdir()
    ca = ("--dir", tmp_path / "ca")
    assert run("ca", "create", *ca, "--name", "CA", now=issued).exit_code == 0
    out = ("--out", tmp_path / "etc", "--days", "7", "--unit", "Backup")
    assert run("ca", "issue", "web1", *ca, *out, now=issued).exit_code == 0
    return tmp_path


def config_with(folder: Path, renew: str) -> Path:
    path = folder / "config.toml"
    identity, anywhere = identity_settings(folder / "etc/web1.pem", folder / "etc/web1.key").split("[roles")
    state = f'[state]\ndir = "{folder}/state"\n'
    path.write_text(f"{state}{identity}[identity.renew]\n{renew}\n[roles{anywhere}")
    return path


def signing(folder: Path, name: str = "web1") -> list[str]:
    """The command that an authority binds a server's ssh key to."""
    program = [str(Path(sys.executable).with_name("nightvault"))]
    return [*program, "ca", "sign", "-", "--out", "-", "--for", name, "--dir", f"{folder}/ca", "--days", "7"]


def toml(words: list[str]) -> str:
    return "[" + ", ".join(f'"{word}"' for word in words) + "]"


@pytest.mark.slow
def test_by_a_command(folder: Path) -> None:
    config = config_with(folder, f"command = {toml(signing(folder))}")
    now = datetime.now(UTC)
    early = run_json("--config", config, "identity", "renew", now=now - timedelta(days=2))
    assert early["state"] == "not-due"
    done = run("--config", config, "identity", "renew", now=now)
    assert done.exit_code == 0, done.output
    assert "due again" in done.stdout
    assert "renewed: no vault has a role to try it with" in done.stderr
    shown = run_json("--config", config, "identity", "show", now=datetime.now(UTC))
    assert shown["subject"] == "OU=Backup, CN=web1"
    assert shown["days_left"] >= 6
    assert shown["files"]["certificate"] == f"{folder}/state/identity/1/certificate.pem"
    again = run("--config", config, "identity", "renew", now=datetime.now(UTC))
    assert "not due: it is renewed by" in again.stdout


@pytest.mark.slow
def test_by_ssh(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An `ssh` that does what the real one does with a key that is bound to a command."""
    bound = folder / "bin" / "ssh"
    bound.parent.mkdir()
    words = " ".join(signing(folder))
    bound.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {folder}/words\nexec {words}\n')
    bound.chmod(0o755)
    monkeypatch.setenv("PATH", f"{bound.parent}:{os.environ['PATH']}")
    config = config_with(folder, 'ssh = "authority@ca.example.net"')
    assert run_json("--config", config, "identity", "renew", now=datetime.now(UTC))["state"] == "renewed"
    assert (folder / "words").read_text().split() == [
        *("-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=30", "--", "authority@ca.example.net")
    ]


@pytest.mark.parametrize(
    ("renew", "why"),
    [
        ('command = ["/no/such/program"]', "cannot be started"),
        ('command = ["sh", "-c", "echo first >&2; echo it is Sunday >&2; exit 3"]', "exit code 3: it is Sun"),
        ('command = ["sh", "-c", "sleep 60"]\ntimeout = 1', "gave no answer within 1 s"),
        ('command = ["sh", "-c", "cat"]', "holds no certificate in PEM"),
        ('command = ["sh", "-c", "kill -9 $$"]', "signal 9"),
    ],
)
def test_a_failure_says_why_and_the_next_try_waits(folder: Path, renew: str, why: str) -> None:
    config, now = config_with(folder, renew), datetime.now(UTC)
    failed = run("--config", config, "identity", "renew", now=now)
    assert failed.exit_code == 13
    assert why in failed.stderr
    assert "Traceback" not in failed.output
    paused = run("--config", config, "identity", "renew", now=now)
    assert paused.exit_code == 0
    assert "it failed a short while ago" in paused.stdout
    assert run("--config", config, "identity", "renew", "--force", now=now).exit_code == 13


def test_a_command_that_never_stops_printing_fills_no_memory(folder: Path) -> None:
    """What it prints is read and let go; it is ended when time is up."""
    config = config_with(folder, 'command = ["sh", "-c", "yes | tee /dev/stderr"]\ntimeout = 2')
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    failed = run("--config", config, "identity", "renew", now=datetime.now(UTC))
    assert "gave no answer within 2 s" in failed.stderr
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB


@pytest.mark.slow
def test_a_process_that_is_left_behind_is_not_waited_for(folder: Path) -> None:
    """As ssh's shared connection, which keeps its standard error open."""
    left = "setsid sleep 20 > /dev/null < /dev/null &"
    words = " ".join(signing(folder))
    config = config_with(folder, f'command = ["sh", "-c", "{left} exec {words}"]')
    begin = time.monotonic()
    done = run("--config", config, "identity", "renew", now=datetime.now(UTC))
    assert done.exit_code == 0, done.output
    assert time.monotonic() - begin < 15


@pytest.mark.slow
def test_a_renewed_pair_that_is_lost_is_told_with_the_way_back(folder: Path) -> None:
    config = config_with(folder, f"command = {toml(signing(folder))}")
    assert run("--config", config, "identity", "renew", now=datetime.now(UTC)).exit_code == 0
    pairs = folder / "state" / "identity"
    (pairs / "1" / "certificate.pem").unlink()
    lost = run("--config", config, "identity", "show", now=datetime.now(UTC))
    assert lost.exit_code == 13
    assert f"remove {pairs}/current: the configured certificate is used then" in lost.stderr
    (pairs / "current").unlink()
    assert run("--config", config, "identity", "show", now=datetime.now(UTC)).exit_code == 0


def test_without_a_way_it_is_a_mistake_of_the_config(folder: Path) -> None:
    config = config_with(folder, "files = true")
    config.write_text(config.read_text().replace("[identity.renew]\nfiles = true\n", ""))
    result = run("--config", config, "identity", "renew")
    assert result.exit_code == 2
    assert "[identity.renew]" in result.stderr


@pytest.mark.parametrize(
    ("renew", "why"),
    [
        ("", "must have one of command, ssh and files"),
        ('ssh = "ca"\nfiles = true', "must have one of command, ssh and files"),
        ('ssh = "-oProxyCommand=evil"', "must be HOST or USER@HOST"),
        ('ssh = "a b"', "must be HOST or USER@HOST"),
        ("command = []", "must name a program"),
        ('command = "ssh ca"', "identity.renew.command"),
        ('files = true\nkey = "same"', "goes without key and request"),
        ('ssh = "ca"\nrequest = "r.csr"', 'it needs key = "same"'),
        ('ssh = "ca"\nkey = "old"', "must be new or same"),
        ('ssh = "ca"\ncomand = []', "did you mean command?"),
    ],
)
def test_mistakes_are_named(folder: Path, renew: str, why: str) -> None:
    with pytest.raises(ConfigError, match=r"identity\.renew") as caught:
        load_config(str(config_with(folder, renew)))
    assert why in str(caught.value)


def test_a_key_in_a_token_needs_its_request(folder: Path) -> None:
    config = config_with(folder, 'ssh = "ca"')
    config.write_text(config.read_text().replace(f"{folder}/etc/web1.key", "handle:0x81000001"))
    with pytest.raises(ConfigError, match=r"identity\.renew\.request: is missing"):
        load_config(str(config))
    config.write_text(config.read_text().replace('ssh = "ca"', 'ssh = "ca"\nkey = "same"\nrequest = "r.csr"'))
    renew = load_config(str(config)).identity.renew  # type: ignore[union-attr]
    assert renew is not None
    assert renew.request == f"{folder}/r.csr"
