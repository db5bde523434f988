"""An ordinary user who may read everything (CAP_DAC_READ_SEARCH) backs up all, and restores what it may."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers import SCRIPT, Server, directory_server
from tests.support.trees import assert_same_tree, snapshot_of
from tests.support.users import AS_NOBODY, NOBODY

_DAC_READ_SEARCH = 2  # <linux/capability.h>


def _may_grant() -> bool:
    """Whether we are root and may hand the capability on."""
    bounding = re.search(r"CapBnd:\s*([0-9a-f]+)", Path("/proc/self/status").read_text())
    return os.geteuid() == 0 and bounding is not None and bool(int(bounding[1], 16) >> _DAC_READ_SEARCH & 1)


pytestmark = [
    pytest.mark.usefixtures("nobody"),
    pytest.mark.skipif(not _may_grant(), reason="needs root and the capability"),
]


@pytest.fixture
def server() -> Iterator[Server]:
    """A server whose state and vault belong to an ordinary user; source, config and key to root alone."""
    folder = Path(tempfile.mkdtemp(prefix="nightvault-test-"))
    folder.chmod(0o755)
    server = directory_server(folder)
    source = server.source
    (source / "locked").mkdir(mode=0o700)
    (source / "locked" / "small").write_text("for root alone")
    (source / "locked" / "large").write_bytes(os.urandom(3_000_000))
    os.setxattr(source / "locked" / "small", "user.note", b"kept")
    for path in (source / "locked" / "small", source / "locked" / "large", source / "a.txt"):
        path.chmod(0o600)
    for number in range(2_100):  # so many that the second process reads some
        (source / "locked" / str(number)).write_text(f"{number}")
        (source / "locked" / str(number)).chmod(0o400)
    server.init()
    server.key_file.chmod(0o600)
    server.config.chmod(0o600)
    (folder / "out").mkdir()
    for place in (folder / "state", folder / "vault", folder / "out"):
        for path in (place, *place.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
    yield server
    shutil.rmtree(folder)


def as_user(server: Server, *words: object, may_read: bool) -> tuple[int, Any]:
    """Exit code and document of a command run by that user, with that one capability or none."""
    capability = "+dac_read_search" if may_read else "-dac_read_search"
    drop = [
        *AS_NOBODY,
        "--no-new-privs",
        *(f"--inh-caps=-all,{capability}", f"--ambient-caps=-all,{capability}"),
        *(f"--bounding-set=-all,{capability}", SCRIPT, "--config", str(server.config), "--json"),
    ]
    ended = subprocess.run(
        [*drop, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"},
        timeout=120,
    )
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended.returncode, json.loads(ended.stdout)


def test_with_the_capability_alone_everything_is_read(server: Server) -> None:
    before = snapshot_of(server.source)
    code, (report,) = as_user(server, "backup", "main", may_read=True)
    assert (code, report["outcome"], report["problems"]) == (0, "done", [])
    code, restored = as_user(
        server,
        *("restore", "latest", "--target", server.folder / "out" / "1", "--key", server.key_file, "--wait"),
        may_read=True,
    )
    assert (code, restored["outcome"]) == (3, "partial")
    assert {problem["kind"] for problem in restored["problems"]} == {"not-set"}
    assert {problem["detail"].partition(":")[0] for problem in restored["problems"]} == {"owner and group"}
    place = Path(str(server.folder / "out" / "1") + str(server.source))
    expected = {path: seen._replace(uid=NOBODY, gid=NOBODY) for path, seen in before.items()}
    assert_same_tree(expected, place)


def test_without_it_what_cannot_be_read_is_named(server: Server) -> None:
    os.chown(server.config, NOBODY, NOBODY)
    code, (report,) = as_user(server, "backup", "main", may_read=False)
    assert (code, report["outcome"]) == (3, "partial")
    named = {
        (os.path.relpath(problem["path"], server.source), problem["kind"]) for problem in report["problems"]
    }
    assert named == {("a.txt", "unreadable"), ("locked", "unreadable")}


def test_a_target_without_rights_leaves_no_restore_open(server: Server) -> None:
    as_user(server, "backup", "main", may_read=True)
    locked = server.folder / "of root"
    locked.mkdir(mode=0o755)
    words = ("restore", "latest", "--key", server.key_file, "--target")
    code, told = as_user(server, *words, locked / "x", may_read=True)
    assert (code, "Permission denied" in told["error"]["message"]) == (1, True), told
    assert as_user(server, "restores", "--all", may_read=True) == (0, [])
    code, report = as_user(server, *words, locked, may_read=True)  # there may be more rights further below
    assert (code, report["outcome"], report["files"]) == (3, "partial", 0)
    assert as_user(server, "restores", may_read=True) == (0, [])
    assert list(locked.iterdir()) == []
