"""A certificate renewed over a real sshd, by a key that is bound to `ca sign --for`."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.servers import Cloud, Server, replace, running_cloud

SSHD = "/usr/sbin/sshd"
PRIVILEGES = Path("/run/sshd")
"""Where root's sshd separates its privileges; Debian makes it when the service starts."""

NIGHTVAULT = Path(sys.executable).with_name("nightvault")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (os.access(SSHD, os.X_OK) and shutil.which("ssh")), reason="openssh-server is not installed"
    ),
]


@dataclass
class Authority:
    """The authority's machine: an sshd, and the one key that may log in, bound to one command."""

    folder: Path
    port: int
    ca: Path

    def bind(self, name: str) -> None:
        """Bind the server's key to renewals of this name, by the line of docs/certificates.md."""
        signs = f"{NIGHTVAULT} ca sign - --out - --for {name} --dir {self.ca} --days 7"
        public = (self.folder / "server.pub").read_text()
        self.write("authorized_keys", f'restrict,command="{signs}" {public}')

    def write(self, name: str, text: str) -> Path:
        """A file that nobody else may write, as sshd wants it."""
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o600)
        return path

    def ssh(self, *words: str, typed: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """What a thief with the server's key can have done."""
        command = ["ssh", "-F", str(self.folder / "client"), "-T", "ca.example.net", *words]
        return subprocess.run(command, input=typed, capture_output=True, timeout=60, check=False)


def _key(path: Path) -> None:
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _privileges() -> Iterator[None]:
    """The directory that root's sshd wants, taken away again if it was not there."""
    made = os.geteuid() == 0 and not PRIVILEGES.exists()
    if made:
        PRIVILEGES.mkdir(0o755)
    try:
        yield
    finally:
        if made:
            PRIVILEGES.rmdir()


@contextmanager
def authority(folder: Path, ca: Path) -> Iterator[Authority]:
    """Run the sshd on loopback, as the user who runs the test."""
    folder.mkdir()
    there = Authority(folder, _free_port(), ca)
    _key(folder / "host")
    _key(folder / "server")
    there.bind("web1")
    config = there.write(
        "sshd_config",
        f"Port {there.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nPasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\nPermitRootLogin yes\n",
    )
    there.write("known_hosts", f"ca.example.net {(folder / 'host.pub').read_text()}")
    there.write(
        "client",
        f"Host ca.example.net\n  HostName 127.0.0.1\n  Port {there.port}\n  IdentityFile {folder}/server\n"
        f"  IdentitiesOnly yes\n  HostKeyAlias ca.example.net\n  UserKnownHostsFile {folder}/known_hosts\n",
    )
    words = [SSHD, "-D", "-e", "-f", str(config)]
    with _privileges(), (folder / "log").open("wb") as log:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=log)
        try:
            _wait_for(there, process)
            yield there
        finally:
            process.terminate()
            process.wait()


def _wait_for(there: Authority, process: subprocess.Popen[bytes]) -> None:
    for _ in range(100):
        assert process.poll() is None, (there.folder / "log").read_text()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", there.port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail((there.folder / "log").read_text())


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    """An emulated AWS."""
    (tmp_path / "cloud").mkdir()
    with running_cloud(tmp_path / "cloud") as running:
        yield running


@pytest.fixture
def server(cloud: Cloud, tmp_path: Path) -> Server:
    """A server that AWS lets in."""
    made = cloud.server(tmp_path, vault="over-ssh")
    made.init()
    return made


@pytest.fixture
def there(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Authority]:
    """Its authority. ssh looks for its config in the user's own home: another file is named to it."""
    with authority(tmp_path / "authority", server.folder / "ca") as running:
        by_file = running.write(
            "ssh", f'#!/bin/sh\nexec {shutil.which("ssh")} -F {running.folder}/client "$@"\n'
        )
        by_file.chmod(0o755)
        monkeypatch.setenv("PATH", f"{running.folder}:{os.environ['PATH']}")
        user = pwd.getpwuid(os.geteuid()).pw_name
        replace(server, "[roles_any", f'[identity.renew]\nssh = "{user}@ca.example.net"\n\n[roles_any')
        yield running


def test_from_the_request_to_a_night_with_the_new_pair(server: Server, there: Authority) -> None:
    first = server.json("identity", "show")
    done = server.json("identity", "renew", "--force")
    assert done["state"] == "renewed"
    assert done["role"].endswith(":role/nightvault-backup")
    shown = server.json("identity", "show")
    assert shown["serial"] != first["serial"]
    assert shown["subject"] == first["subject"]
    assert server.backup()["outcome"] == "done"
    listed = server.json("ca", "list", "--dir", there.ca)
    assert shown["serial_hex"] in {certificate["serial_hex"] for certificate in listed["certificates"]}


def test_the_key_can_do_nothing_else(server: Server, there: Authority, tmp_path: Path) -> None:
    """Whatever is asked for, the bound command answers; of another name, unit or size, it refuses."""
    told = there.ssh("id; cat /etc/passwd", typed=b"")
    assert told.returncode != 0
    assert b"uid=" not in told.stdout + told.stderr
    with socket.create_server(("127.0.0.1", 0)) as other:
        forwarded = there.ssh("-W", f"127.0.0.1:{other.getsockname()[1]}")
    assert b"prohibited" in forwarded.stderr, forwarded
    for name, unit in (("web2", "Servers"), ("web1", "Admins")):
        csr, key = tmp_path / f"{name}-{unit}.csr", tmp_path / f"{name}-{unit}.key"
        words = ("--organization", "Test", "--unit", unit)
        server.done("identity", "csr", "--out", csr, "--key", key, "--name", name, *words)
        answer = there.ssh(typed=csr.read_bytes())
        assert (answer.returncode != 0, answer.stdout) == (True, b""), answer
    large = there.ssh(typed=b"x" * (4 << 20))
    assert (large.returncode != 0, large.stdout) == (True, b"")
    assert len(server.json("ca", "list", "--dir", there.ca)["certificates"]) == 1


def test_what_fails_on_the_other_side_is_told(server: Server, there: Authority) -> None:
    """A name that is not ours, a revoked server, a host that is not known, an sshd that refuses the key."""
    there.bind("web2")
    assert "web2" in server.fails(13, "identity", "renew", "--force")
    there.bind("web1")
    known = there.write("known_hosts", "")
    assert "Host key verification failed" in server.fails(13, "identity", "renew", "--force")
    known.write_text(f"ca.example.net {(there.folder / 'host.pub').read_text()}")
    keys = there.folder / "authorized_keys"
    keys.rename(f"{keys}.away")
    assert "Permission denied" in server.fails(13, "identity", "renew", "--force")
    Path(f"{keys}.away").rename(keys)
    server.done("ca", "revoke", "web1", "--dir", there.ca)
    said = server.fails(13, "identity", "renew", "--force")
    assert "is revoked" in said
    assert server.backup()["outcome"] == "done"  # the present pair goes on
