"""A disk that is full or cannot be written: an admin is told all the same, once a day."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from backup.app.base.clock import SystemClock
from tests.support.notified_servers import NotifiedServer, notified_server
from tests.support.servers import SCRIPT

pytestmark = pytest.mark.slow


def _may_mount() -> bool:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    tried = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


needs_mounts = pytest.mark.skipif(not _may_mount(), reason="needs root that may mount")


@pytest.fixture
def told(tmp_path: Path) -> Iterator[NotifiedServer]:
    with notified_server(tmp_path, SystemClock()) as made:
        made.server.backup()
        yield made


def back_up(told: NotifiedServer, prepare: str) -> subprocess.CompletedProcess[str]:
    """Back up twice in a mount namespace, after a preparation in the state directory."""
    script = f'cd "$1"; {prepare}; mkdir -p "$3"; "$2" backup; "$2" backup; exit 0'
    words = ["unshare", "--mount", "sh", "-c", script, "sh"]
    runtime = told.server.folder / "run"
    environment = {
        **os.environ,
        "NIGHTVAULT_CONFIG": str(told.server.config),
        "RUNTIME_DIRECTORY": str(runtime),
    }
    return subprocess.run(
        [*words, str(told.server.state), SCRIPT, str(runtime)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment,
    )


@needs_mounts
def test_a_state_directory_that_became_read_only(told: NotifiedServer) -> None:
    done = back_up(told, "mount --bind . . && mount -o remount,bind,ro .")
    assert told.kinds() == ["failed"], done.stderr
    assert "backup of job main failed" in told.titles()[0]
    assert "run" not in dict(told.hook.taken[0].json["facts"]), "it has no number"
    assert len(told.mail.mails) == 1
    told.server.backup()
    assert told.kinds() == ["failed"], "of the failure no record was kept, so nobody says that it is over"


@needs_mounts
def test_a_full_disk(told: NotifiedServer) -> None:
    """A small disk with the state on it, and not a byte to spare."""
    prepare = (
        'cp -a . ../copy && mount -t tmpfs -o size=4m tmpfs . && cd "$1" && cp -a ../copy/. . && '
        "dd if=/dev/zero of=filler bs=1k 2>/dev/null"
    )
    done = back_up(told, prepare)
    assert told.kinds() == ["failed"], done.stderr
    assert len(told.mail.mails) == 1
    assert "no space is left on its disk" in done.stderr
    assert "free some space" in done.stderr
