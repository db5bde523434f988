"""A config that other users can change: for root it runs no command and loads no library, and it is told."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from backup.app.base.vaults import identity_files
from backup.app.doctor import examine
from backup.config import load_config
from backup.errors import ConfigError
from tests.support.servers import SCRIPT, Server, directory_server, replace
from tests.support.users import AS_NOBODY, NOBODY, nobody
from tests.support.without_coverage import unmeasured

__all__ = ["nobody"]
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
ARMS = {
    "hook": '[job.hooks]\nbefore = ["/usr/bin/touch", "{ran}"]\n',
    "hook of an end": '[job.hooks]\nfinally = ["/usr/bin/touch", "{ran}"]\n',
    "command": '[[job.command]]\nname = "dump"\nrun = ["/usr/bin/touch", "{ran}"]\n',
    "command as another": '[[job.command]]\nname = "dump"\nrun = ["/usr/bin/id"]\nuser = "nobody"\n',
}


@pytest.fixture
def server(tmp_path: Path) -> Server:
    made = directory_server(tmp_path / "server")
    made.init()
    return made


def give_file(server: Server) -> None:
    os.chown(server.config, NOBODY, 0)


def open_file(server: Server) -> None:
    server.config.chmod(0o666)


def give_folder(server: Server) -> None:
    os.chown(server.folder, NOBODY, 0)


def link_of_another(server: Server) -> None:
    """The config is root's, and the way to it a link in a place of everybody."""
    real = server.folder / "real.toml"
    server.config.rename(real)
    server.config.symlink_to(real)
    os.chown(server.config, NOBODY, 0, follow_symlinks=False)


@pytest.mark.parametrize("opened", [give_file, open_file, give_folder, link_of_another])
def test_its_hooks_are_refused_and_the_rest_warns(server: Server, opened: Callable[[Server], None]) -> None:
    ran = server.folder / "ran"
    opened(server)
    done = server.done("backup")
    assert "can be changed by others (" in done.stderr
    with server.config.open("a") as config:
        config.write(ARMS["hook"].format(ran=ran))
    said = server.fails(2, "backup")
    assert "as root, nightvault does not use the hooks of job main" in said
    assert "what others wrote there, then: ch" in said
    assert not ran.exists()
    server.done("runs")
    critical = [finding.check for finding in examine(load_config(str(server.config)), server.clock).findings]
    assert "config" in critical


@pytest.mark.parametrize("arm", ARMS)
def test_whatever_it_would_run(server: Server, arm: str) -> None:
    ran = server.folder / "ran"
    with server.config.open("a") as config:
        config.write(ARMS[arm].format(ran=ran))
    open_file(server)
    assert "does not use the" in server.fails(2, "backup")
    assert "does not use the" in server.fails(2, "backup", "--dry-run")
    assert not ran.exists()
    server.config.chmod(0o600)
    done = server.run("backup")
    assert "by others" not in done.output
    assert ran.exists() or "nobody" in ARMS[arm]


@pytest.mark.parametrize("renew", ['command = ["/usr/bin/touch", "RAN"]', 'ssh = "ca@example.com"'])
def test_the_renewal_of_the_certificate(server: Server, renew: str) -> None:
    ran = server.folder / "ran"
    with server.config.open("a") as config:
        config.write('[identity]\ncertificate = "c.pem"\nprivate_key = "c.key"\n')
        config.write(f"[identity.renew]\n{renew.replace('RAN', str(ran))}\n")
    open_file(server)
    assert "does not use [identity.renew]" in server.fails(2, "identity", "renew", "--force")
    assert not ran.exists()


@pytest.mark.parametrize(
    "identity",
    [
        'certificate = "c.pem"\nprivate_key = "c.key"\npkcs11_module = "/tmp/evil.so"\n',
        'certificate = "c.pem"\nprivate_key = "pkcs11:token=t?module-path=/tmp/evil.so"\n',
        'certificate = "pkcs11:token=t?module-path=/tmp/evil.so"\nprivate_key = "pkcs11:token=t"\n',
    ],
)
def test_a_library_that_root_would_load(server: Server, identity: str) -> None:
    with server.config.open("a") as config:
        config.write("[identity]\n" + identity)
    identity_files(load_config(str(server.config)))
    open_file(server)
    with pytest.raises(ConfigError, match="does not use the PKCS#11 module"):
        identity_files(load_config(str(server.config)))


def test_the_doctor_looks_at_programs_of_hooks(server: Server, tmp_path: Path) -> None:
    script = tmp_path / "hook"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    with server.config.open("a") as config:
        config.write(f'[job.hooks]\nafter = ["{script}"]\n')

    def found() -> dict[str, str]:
        return {
            finding.check: finding.what
            for finding in examine(load_config(str(server.config)), server.clock).findings
        }

    assert "program" not in found()
    os.chown(script, NOBODY, 0)
    assert found()["program"].endswith(f"others can change {script}, which job main runs")
    replace(server, f'[job.hooks]\nafter = ["{script}"]\n', "")
    assert "program" not in found()
    keys = '[identity]\ncertificate = "c.pem"\nprivate_key = "c.key"\n'
    for more, who in {
        f'[identity.renew]\ncommand = ["{script}"]\n': "the renewal of the certificate runs",
        f'pkcs11_module = "{script}"\n': "the use of the certificate runs",
    }.items():
        with server.config.open("a") as config:
            config.write(keys + more)
        assert found()["program"].endswith(f"others can change {script}, which {who}")
        replace(server, keys + more, "")
    server.done("backup")


def test_who_is_not_root_is_warned_and_served(nobody: int) -> None:
    """A config that everybody may write, of a user who is not root: it is told, and hooks are that user's."""
    with tempfile.TemporaryDirectory(prefix="nightvault-test-", dir="/var/lib") as name:
        server = directory_server(Path(name))
        ran = server.folder / "ran"
        with server.config.open("a") as config:
            config.write(ARMS["hook"].format(ran=ran))
        for path in (server.folder, *server.folder.rglob("*")):
            os.chown(path, nobody, nobody, follow_symlinks=False)
        server.config.chmod(0o666)

        def run(*words: str) -> str:
            given = [*AS_NOBODY, SCRIPT, "--config", str(server.config), *words]
            ended = subprocess.run(
                given, capture_output=True, text=True, check=False, cwd="/", env=unmeasured()
            )
            assert ended.returncode == 0, ended.stderr
            return ended.stderr

        run("init", "--non-interactive", "--key-file", str(server.key_file))
        assert "every user may write to" in run("backup")
        assert ran.exists()
