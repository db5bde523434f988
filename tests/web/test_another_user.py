"""As another user: the page's group reads a copy of the inventory and nothing secret; strangers read nothing.

The page's process is taken over here by code that runs as its user, with its group.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backup.app.machine.page_access import PAGE_SOCKET
from backup.daemon.client import ask
from backup.daemon.local_socket import SOCKET
from backup.errors import InventoryOpeningError, NightvaultError
from backup.inventory.pages.page_copies import PAGE_COPY
from backup.inventory.pages.page_reads import PageReads
from backup.inventory.records.runs import list_runs
from backup.inventory.store.connections import Transaction
from tests.support.real_daemons import running
from tests.support.servers import Server
from tests.support.users import NOBODY

GROUP = 65534  # nogroup, as on Debian
STRANGER, STRANGERS_GROUP = 4242, 4242

LOOK = """
import json, os, sys
from backup.inventory.pages.page_reads import PageReads
from backup.inventory.records import runs
state = sys.argv[1]
told = {"readable": [], "writable": []}
for folder, names, files in os.walk(state):
    for name in [*names, *files]:
        path = os.path.join(folder, name)
        for word, how in (("readable", os.R_OK), ("writable", os.W_OK)):
            if os.access(path, how) and not os.path.isdir(path):
                told[word].append(os.path.relpath(path, state))
for name in ("keys/signer", "keys/chunk-secret"):
    try:
        open(os.path.join(state, name)).read()
        told["secret"] = name
    except OSError:
        pass
try:
    url, copy = f"sqlite:///{state}/inventory.sqlite", f"{state}/page.sqlite"
    told["runs"] = len(PageReads(url, copy).read(runs.list_runs))
except Exception as error:
    told["error"] = type(error).__name__
print(json.dumps(told))
"""

ASK = """
import json, sys
from datetime import datetime, timedelta, timezone
from backup.daemon.client import ask
from backup.errors import NightvaultError
until = (datetime.now(timezone.utc) + timedelta(days=1)).isoformat()
told = {}
for name in ("page.sock", "daemon.sock"):
    for verb in ("status", "run", "pause", "resume", "cancel", "forget", "prune", "reload", "stop"):
        given = {"do": verb, "job": "main", "run": "main", "until": until}
        try:
            ask(sys.argv[1], given, name=name, seconds=5)
            told[f"{name} {verb}"] = "done"
        except NightvaultError as error:
            told[f"{name} {verb}"] = error.kind
print(json.dumps(told))
"""


LOCK = """
import fcntl, os, sys, time
held = []
for folder, names, files in os.walk(sys.argv[1]):
    for name in files:
        try:
            held.append(open(os.path.join(folder, name), "rb"))
            fcntl.lockf(held[-1], fcntl.LOCK_SH)
            fcntl.flock(held[-1], fcntl.LOCK_EX)
        except OSError:
            pass
print(*(os.path.basename(file.name) for file in held), flush=True)
sys.stdin.readline()
print(*(os.fstat(file.fileno()).st_size for file in held), flush=True)
"""


@contextmanager
def locking(state: Path) -> Iterator[tuple[list[str], Callable[[], list[int]]]]:
    """The page's user holds every lock that it can get, and keeps open what it may read.

    Names of these files, and a function that ends it and returns their sizes.
    """
    words = ["setpriv", "--reuid", str(NOBODY), "--regid", str(GROUP), "--clear-groups"]
    with subprocess.Popen(
        [*words, sys.executable, "-c", LOCK, str(state)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
    ) as holder:
        assert holder.stdout is not None
        names = holder.stdout.readline().split()
        yield names, lambda: list(map(int, holder.communicate("end\n", timeout=60)[0].split()))


def copy_after(state: Path, before: os.stat_result | None) -> os.stat_result:
    """The page's copy, once there is another one than before; the page asks for it meanwhile."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        with suppress(FileNotFoundError):
            found = (state / PAGE_COPY).stat()
            if before is None or found.st_mtime_ns != before.st_mtime_ns:
                return found
        with suppress(NightvaultError):
            ask(str(state), {"do": "status"}, name=PAGE_SOCKET)
        time.sleep(0.05)
    raise AssertionError("no copy was made")


def wait_until_idle(state: Path) -> None:
    """Wait until the daemon runs nothing, and begins nothing: at its start it does what was missed."""
    day = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    ask(str(state), {"do": "pause", "job": "main", "until": day}, name=PAGE_SOCKET)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        tasks = ask(str(state), {"do": "status"}, name=PAGE_SOCKET)["tasks"]
        if not any(task["state"] in {"running", "queued"} for task in tasks):
            return
        time.sleep(0.1)
    raise AssertionError("the daemon does not rest")


def let_read(served: Server) -> None:
    """Let the group read the inventory itself, as versions before did."""
    os.chown(served.state, -1, GROUP)
    served.state.chmod(0o750)
    os.chown(served.state / "inventory.sqlite", -1, GROUP)
    (served.state / "inventory.sqlite").chmod(0o640)


def as_user(code: str, state: Path, user: int, group: int) -> dict[str, object]:
    """What that code prints, run by another user."""
    words = ["setpriv", "--reuid", str(user), "--regid", str(group), "--clear-groups"]
    found = subprocess.run(
        [*words, sys.executable, "-c", code, str(state)],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={"PYTHONPATH": os.getcwd(), "PATH": os.environ["PATH"]},
        timeout=60,
    )
    assert found.returncode == 0, found.stderr
    told: dict[str, object] = json.loads(found.stdout)
    return told


@pytest.fixture
def served(one_backup: Server, nobody: int) -> Server:
    """The server, whose state directory lies where other users may go, with a page."""
    for folder in (one_backup.folder, *one_backup.folder.parents):
        if folder.owner() == "root" and str(folder).count("/") > 1:
            folder.chmod(folder.stat().st_mode | 0o011)
    if "[web]" not in (text := one_backup.config.read_text()):
        one_backup.config.write_text('[web]\ngroup = "nogroup"\n' + text)
    return one_backup


def test_a_broken_into_page_reads_names_and_no_secret(served: Server) -> None:
    with running(served.config) as daemon:
        daemon.wait_for("started with")
        copy_after(served.state, None)
        told = as_user(LOOK, served.state, NOBODY, GROUP)
        strangers = as_user(LOOK, served.state, STRANGER, STRANGERS_GROUP)
        asked = as_user(ASK, served.state, NOBODY, GROUP)
        refused = as_user(ASK, served.state, STRANGER, STRANGERS_GROUP)
        daemon.stop()
    assert "error" not in told, told
    assert told["runs"] >= 1  # type: ignore[operator]
    readable = told["readable"]
    assert isinstance(readable, list)
    at_this_moment = {f"{PAGE_COPY}.part"}  # it is about to get its name
    assert set(map(str, readable)) - at_this_moment == {"page.sock", PAGE_COPY}
    assert set(map(str, told["writable"])) <= {"page.sock"}  # type: ignore[call-overload]
    assert "secret" not in told
    assert strangers == {"readable": [], "writable": [], "error": "StateDeniedError"}
    offered = dict.fromkeys(("status", "run", "pause", "resume"), "done")
    for verb in ("status", "run", "pause", "resume", "cancel", "forget", "prune", "reload", "stop"):
        assert asked[f"page.sock {verb}"] == offered.get(verb, "usage"), verb
        assert asked[f"{SOCKET} {verb}"] == "state-denied"
        assert refused[f"page.sock {verb}"] == refused[f"{SOCKET} {verb}"] == "state-denied"


def test_no_lock_of_the_page_stops_a_backup(served: Server) -> None:
    """What the version before let the group read is closed, and what it may read now nobody else locks."""
    let_read(served)
    with running(served.config) as daemon:
        daemon.wait_for("started with")
        wait_until_idle(served.state)
        runs = count_runs(served)
        copy_after(served.state, None)
        with locking(served.state) as (locked, end):
            assert set(locked) - {f"{PAGE_COPY}.part"} == {PAGE_COPY}
            for number in (1, 2):
                before = (served.state / PAGE_COPY).stat()
                served.done("backup")
                copied = copy_after(served.state, before)
                while as_user(LOOK, served.state, NOBODY, GROUP)["runs"] < runs + number:  # type: ignore[operator]
                    copied = copy_after(served.state, copied)  # that one was begun before
            ask(str(served.state), {"do": "resume", "job": "main"}, name=PAGE_SOCKET)
            assert set(end()) == {0}  # who keeps copies open does not fill the disk
        daemon.stop()
    for name in ("inventory.sqlite", "inventory.sqlite-wal", "inventory.sqlite-shm"):
        if (served.state / name).exists():
            assert (served.state / name).stat().st_mode & 0o777 == 0o600


def test_without_a_page_the_copy_goes(served: Server) -> None:
    with running(served.config) as daemon:
        daemon.wait_for("started with")
        copy_after(served.state, None)
        daemon.stop()
    text = served.config.read_text()
    served.config.write_text(text.replace('[web]\ngroup = "nogroup"\n', ""))
    try:
        with running(served.config) as daemon:
            daemon.wait_for("started with")
            daemon.stop()
    finally:
        served.config.write_text(text)
    assert not (served.state / PAGE_COPY).exists()
    assert served.state.stat().st_mode & 0o777 == 0o700


def test_it_reads_while_somebody_writes_and_when_nobody_does(served: Server) -> None:
    """Of an inventory that it may read: without a writer there is no log beside it, and none can be made."""
    let_read(served)
    before = as_user(LOOK, served.state, NOBODY, GROUP)
    assert isinstance(before["runs"], int)
    from backup.app.base.opened import opened
    from backup.config import load_config

    inventory = opened(load_config(str(served.config)))
    try:
        with inventory.writing() as tx:
            tx.connection.execute("UPDATE jobs SET name = name")
            assert as_user(LOOK, served.state, NOBODY, GROUP)["runs"] == before["runs"]
        wal = served.state / "inventory.sqlite-wal"
        assert wal.stat().st_gid == GROUP
        assert wal.stat().st_mode & 0o777 == 0o640
        assert as_user(LOOK, served.state, NOBODY, GROUP)["runs"] == before["runs"]
    finally:
        inventory.close()


def count_runs(served: Server) -> int:
    """How many runs its inventory holds; tests before may have asked a daemon for more."""
    reads = PageReads(f"sqlite:///{served.state}/inventory.sqlite")
    try:
        return len(reads.read(list_runs))
    finally:
        reads.close()


INDEX_LOCK = 128  # the byte of the index by which SQLite knows that somebody has it open (os_unix.c)


def test_a_writer_that_is_just_opening_is_no_fault_of_the_reader(served: Server) -> None:
    """Between two of its first steps a writer has the index open and empty, and only a writer may fill it."""
    let_read(served)
    runs = count_runs(served)
    index, log = (served.state / f"inventory.sqlite{end}" for end in ("-shm", "-wal"))
    index.write_bytes(bytes(32 * 1024))
    log.write_bytes(b"")
    for beside in (index, log):
        os.chown(beside, -1, GROUP)
        beside.chmod(0o640)
    with index.open("rb") as handle:
        fcntl.lockf(handle, fcntl.LOCK_SH, 1, INDEX_LOCK)
        assert as_user(LOOK, served.state, NOBODY, GROUP)["error"] == "InventoryOpeningError"
    assert as_user(LOOK, served.state, NOBODY, GROUP)["runs"] == runs


LOOK_SLOWLY = """
import os, sys
from backup.inventory.pages.page_reads import PageReads
from backup.inventory.records import runs
really, asked = os.access, []
def access(path, how):
    if how == os.R_OK and not asked:
        asked.append(path)
        print("about to open", flush=True)
        sys.stdin.readline()
    return really(path, how)
os.access = access
print(len(PageReads(f"sqlite:///{sys.argv[1]}/inventory.sqlite").read(runs.list_runs)))
"""


def test_a_writer_that_closes_while_the_page_opens_is_no_fault_of_the_reader(served: Server) -> None:
    """The log is there when the page looks, and is gone when SQLite opens it."""
    let_read(served)
    runs = count_runs(served)
    log = served.state / "inventory.sqlite-wal"
    log.write_bytes(b"")
    words = ["setpriv", "--reuid", str(NOBODY), "--regid", str(GROUP), "--clear-groups"]
    with subprocess.Popen(
        [*words, sys.executable, "-c", LOOK_SLOWLY, str(served.state)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        env={"PYTHONPATH": os.getcwd(), "PATH": os.environ["PATH"]},
    ) as page:
        assert page.stdout is not None
        assert page.stdout.readline() == "about to open\n"
        log.unlink()
        told, complaints = page.communicate("go on\n", timeout=60)
    assert (told, complaints) == (f"{runs}\n", "")


def test_it_waits_for_a_writer_that_is_just_opening(one_backup: Server) -> None:
    runs = count_runs(one_backup)
    reads = PageReads(f"sqlite:///{one_backup.state}/inventory.sqlite")
    opening = [InventoryOpeningError("opening"), InventoryOpeningError("opening")]

    def looked(tx: Transaction) -> int:
        if opening:
            raise opening.pop()
        return len(list_runs(tx))

    try:
        assert reads.read(looked) == runs >= 1
    finally:
        reads.close()
