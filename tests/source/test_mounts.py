"""Real mounts, in a mount namespace of each test: what `one_file_system` enters, and what it does not."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers import SCRIPT, Server, directory_server
from tests.support.trees import snapshot_of

MOUNTS = """
cd "$1"
mount -t tmpfs tmpfs source/disk
mkdir source/disk/below source/disk/deeper
echo other > source/disk/below/file
echo one > source/disk/one
mount -t tmpfs tmpfs source/disk/deeper
echo third > source/disk/deeper/file
mount --bind source/plain source/bound
mount --bind source/disk/one source/single
mount --bind source source/again
shift
exec "$@"
"""


def _may_mount() -> bool:
    """Whether we are root, and more than root of a container that may not."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    tried = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not _may_mount(), reason="needs a mount namespace")


@pytest.fixture
def server(tmp_path: Path) -> Server:
    server = directory_server(tmp_path)
    shutil.rmtree(server.source)
    for name in ("disk", "plain", "bound", "again"):
        (server.source / name).mkdir(parents=True)
    (server.source / "plain" / "file").write_text("plain\n")
    (server.source / "single").write_text("covered\n")
    (server.source / "disk" / "hidden").write_text("below the mount\n")
    server.init()
    return server


def test_no_link_leads_from_one_mount_to_another_of_the_same_file_system(tmp_path: Path) -> None:
    """As between the directories that a systemd unit may write to: each is a mount of its own."""
    told = """import os, sys
from backup.files import are_linkable
here, there = sys.argv[1:]
open(f"{here}/file", "w").close()
print(os.stat(here).st_dev == os.stat(there).st_dev, are_linkable(here, there))
os.link(f"{here}/file", f"{there}/file")
os.unlink(f"{there}/file")"""
    folders = [tmp_path / name for name in ("spool", "vault")]
    for path in folders:
        path.mkdir()
    asked = [sys.executable, "-c", told, *map(str, folders)]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout == "True True\n"
    apart = ["unshare", "--mount", "sh", "-ec", 'mount --bind "$1" "$1"; shift; exec "$@"', "sh"]
    ended = subprocess.run([*apart, str(folders[0]), *asked], capture_output=True, text=True, check=False)
    assert ended.stdout == "True False\n"
    assert "Invalid cross-device link" in ended.stderr


def saved(server: Server, *settings: str) -> dict[str, bytes | None]:
    """What a backup amid the mounts saved below the source: contents of files, None for directories."""
    server.config.write_text(server.config.read_text() + "\n".join(["", *settings, ""]))
    command = [SCRIPT, "--config", str(server.config), "--json", "backup", "main"]
    steps = ["unshare", "--mount", "sh", "-ec", MOUNTS, "sh", str(server.folder), *command]
    ended = subprocess.run(steps, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, ended.stderr
    (report,) = json.loads(ended.stdout)
    assert report["problems"] == []
    place = server.restore(server.folder / "out")
    return {
        os.fsdecode(name): (place / os.fsdecode(name)).read_bytes() if entry.kind != stat.S_IFDIR else None
        for name, entry in snapshot_of(place).items()
        if name
    }


def test_one_file_system_stops_at_mount_points_and_enters_bind_mounts_of_its_own(server: Server) -> None:
    found = saved(server, "one_file_system = true")
    assert found.pop("disk") is None
    assert not any(name.startswith("disk/") for name in found), "neither what is mounted nor what it covers"
    assert found["bound/file"] == found["plain/file"] == b"plain\n"
    assert found["again/plain/file"] == b"plain\n"
    assert found["again/disk/hidden"] == b"below the mount\n", "a bind mount shows what lies below a mount"
    assert found["single"] == b"one\n", "a file that is mounted is no directory to enter"


def test_without_it_everything_is_entered_and_no_ring_is_walked_for_ever(server: Server) -> None:
    found = saved(server)
    assert found["disk/below/file"] == b"other\n"
    assert found["disk/deeper/file"] == b"third\n"
    assert found["bound/file"] == found["again/plain/file"] == b"plain\n"
    assert found["again/again"] is None
    assert not any(name.startswith("again/again/") for name in found)


def test_a_disk_that_is_not_mounted_again_is_kept_and_let_go_when_told(server: Server) -> None:
    """`hidden` lies in the mount point, so that it is not empty without its disk."""
    saved(server)
    result = server.run("--json", "backup", "main")
    assert result.exit_code == 3
    (report,) = json.loads(result.stdout)
    disk = server.source / "disk"
    assert [problem["path"] for problem in report["problems"]] == [str(disk)]
    place = server.restore(server.folder / "out 2")
    assert (place / "disk" / "deeper" / "file").read_text() == "third\n"
    assert not (place / "disk" / "hidden").exists()
    told = server.run("backup", "main", "--disk-gone", str(disk))
    assert (told.exit_code, "--disk-gone" in told.stderr) == (0, False)
    place = server.restore(server.folder / "out 3")
    assert [path.name for path in (place / "disk").iterdir()] == ["hidden"]
