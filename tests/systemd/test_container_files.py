"""The container files' steps in a root of Debian in place of the base image; there is no container engine."""

from __future__ import annotations

import faulthandler
import os
import shlex
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.container_files import copy_context, instructions_of, words_of
from tests.support.emulated import REPOSITORY, write_accounts
from tests.systemd.roots import root_of, run_in, what_is_missing

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.large,
    pytest.mark.skipif(
        os.environ.get("NIGHTVAULT_TEST_PACKAGES") != "all",
        reason="takes minutes: with NIGHTVAULT_TEST_PACKAGES=all",
    ),
]

DEPLOY = REPOSITORY / "deploy"
PIP = ("/etc/pip.conf", "/etc/xdg/pip", "/etc/ssl/certs/ca-certificates.crt")
"""How pip of this machine reaches its index."""
CONFIG = """\
[[vault]]
name = "disk"
kind = "directory"
path = "/var/lib/nightvault/vault"

[[job]]
name = "main"
vault = "disk"
sources = ["/srv/theirs"]
schedule = "daily at 02:30"
"""
SCRIPTS = {
    "daemon": """\
key=/var/lib/nightvault/recovery.key
mkdir -p /srv/theirs; echo alpha > /srv/theirs/secret.txt; chmod 600 /srv/theirs/secret.txt
(contained nightvault init --non-interactive --key-file "$key")
contained ENTRYPOINT CMD & daemon=$!
waited "contained nightvault run main 2>/dev/null"
waited "contained nightvault --json runs | grep -q done"
(healthy)
not "contained touch /etc/nightvault/written"
kill -s STOPSIGNAL $daemon; wait $daemon
not healthy
(contained nightvault dump latest:/srv/theirs/secret.txt --key "$key") | grep -qx alpha
""",
    "emulator": """\
contained ENTRYPOINT & emulator=$!
waited healthy
not "contained touch /written"
kill -s STOPSIGNAL $emulator; wait $emulator
not healthy
""",
}
"""After `contained`, which runs words as the file and docs/containers.md say, in a root that is read-only."""


@pytest.fixture(autouse=True)
def _patience() -> None:
    faulthandler.cancel_dump_traceback_later()  # what runs in a root has a limit of its own


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Debian with `python` and `pip`, as the base image has them."""
    if missing := what_is_missing():
        pytest.skip(missing)
    root = root_of("trixie", tmp_path_factory.mktemp("base") / "root")
    shutil.copyfile("/etc/resolv.conf", root / "etc/resolv.conf")
    run_in(root, "apt-get -q update; apt-get -q -y install --no-install-recommends python3-venv passwd mount")
    for place in map(Path, PIP):
        there = root / str(place).lstrip("/")
        there.parent.mkdir(parents=True, exist_ok=True)
        if place.is_dir():
            shutil.copytree(place, there, dirs_exist_ok=True)
        elif place.exists():
            shutil.copyfile(place, there)
    run_in(root, "python3 -m venv /usr/local/base; ln -s /usr/local/base/bin/p* /usr/local/bin/")
    yield root
    shutil.rmtree(root)


@pytest.mark.parametrize("name", SCRIPTS)
def test_built_and_run(base: Path, name: str) -> None:
    """What is built runs as its user, in a root that is read-only but for the volume, and is healthy."""
    steps = instructions_of(DEPLOY / f"{name}.Containerfile")
    run_in(base, "rm -rf /opt/nightvault /usr/local/bin/nightvault")
    copy_context(REPOSITORY, base / "src")
    (base / "etc/nightvault").mkdir(exist_ok=True)
    (base / "etc/nightvault/config.toml").write_text(CONFIG)
    write_accounts(base / "accounts.toml")
    exports = {key: value for key, value in os.environ.items() if key.startswith("PIP_")}
    exports["PIP_FIND_LINKS"], exports["BASE"] = "", f"base@sha256:{'ab' * 32}"
    before = "".join(f"export {key}={shlex.quote(value)}; " for key, value in exports.items())
    for step, argument in steps:
        if step == "RUN":
            run_in(base, f"umask 022; {before}{argument}")
    run_in(base, "rm -r /src /wheels")  # they stay behind in the first stage
    last = dict(steps)
    user, volume = last["USER"].split(":")[0], last["VOLUME"]
    right = ",+dac_read_search" if name == "daemon" else ""
    rights = f"--bounding-set=-all{right} --inh-caps=-all{right} --ambient-caps=-all{right}"
    contained = (
        f"mount --bind {volume} {volume}; mount --rbind / /mnt; mount -o remount,bind,ro /mnt;"
        f" contained() {{ exec chroot /mnt setpriv --reuid={user} --regid={user} --clear-groups"
        f' --no-new-privs {rights} env {last["ENV"]} "$@"; }}\n'
        f"healthy() {{ contained {shlex.join(words_of(last['HEALTHCHECK']))}; }}\n"
        'not() { if (eval "$1"); then echo "this went well: $1"; exit 1; fi; }\n'
        'waited() { for _ in $(seq 600); do ! (eval "$1") || return 0; sleep 0.1; done; (eval "$1"); }\n'
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    script = f"{contained}{SCRIPTS[name]}"
    for word in ("ENTRYPOINT", "CMD"):
        script = script.replace(word, shlex.join(words_of(last.get(word, "[]"))))
    script = (
        script.replace("0.0.0.0", "127.0.0.1")
        .replace("8080", port)
        .replace("STOPSIGNAL", last["STOPSIGNAL"].removeprefix("SIG"))
    )
    said = run_in(base, script)
    assert "the daemon does not run" in said or name == "emulator"
