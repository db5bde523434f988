"""Keeps the suite's temporary files below 3 GB, removes each folder with its fixture, leaves none at the end.

All that tests write lies in one folder of the run: `pytest/` for `tmp_path` and its like, `tmp…/` as the
`TMPDIR` of each process of tests and of all programs that it starts. A thread measures it. The run fails if
it ever held more than `LIMIT`, or if a test left something in `TMPDIR`; it does not begin in too little room.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

LIMIT = 3 * 1000**3
"""Bytes that the temporary files of a run may take at any time."""

PREFIX = "nightvault-tests-"
LOCK = "in-use"
SHOWN = 30
_FOLDER = "nightvault_room"  # the folder of the run, as the workers are told of it
_REST_FOR_EACH_SECOND_OF_WORK = 60
_GET_FLAGS, _SET_FLAGS = 0x80086601, 0x40086602  # FS_IOC_GETFLAGS, FS_IOC_SETFLAGS of <linux/fs.h>
_FLAGS = struct.Struct("l")
_TOP_OF_HIERARCHY = 0x00020000  # FS_TOPDIR_FL, as by `chattr +T`


def used(folder: str) -> int:
    """Bytes that everything below the folder takes on the disk; what goes away meanwhile counts nothing."""
    total, waiting = 0, [folder]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
    return total


def remove(folder: Path) -> None:
    """Remove the folder with all below, whatever modes it has; refused while something is mounted there."""
    inside = [point for point in mount_points() if point == str(folder) or point.startswith(f"{folder}/")]
    if inside:
        raise RuntimeError(
            f"{folder} is not removed: {', '.join(inside)} is still mounted there; unmount it first."
        )
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except (
        OSError,
        RecursionError,
    ):  # another's mode, another process still at work, or deeper than Python goes
        subprocess.run(["chmod", "-R", "u+rwX", str(folder)], check=False, stderr=subprocess.DEVNULL)
        subprocess.run(["rm", "-rf", str(folder)], check=False)


def mount_points() -> list[str]:
    """All places of this machine where something is mounted."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []  # no Linux: nothing that we mount
    return [line.split()[4] for line in lines]


def too_little(free: int, folder: str) -> str | None:
    """The sentence that ends a run before it begins; None where there is room enough."""
    if free >= LIMIT:
        return None
    return (
        f"The tests need up to {_gb(LIMIT)} for temporary files, and {folder} has {_gb(free)} free: "
        "make room there, or name a folder that has it, as in `TMPDIR=/var/tmp make test`."
    )


def _gb(size: int) -> str:
    return f"{size / 1000**3:.2f} GB"


def remove_forsaken(temporary: Path) -> None:
    """Remove what runs left that were killed: nobody holds the lock of their folder any more."""
    for folder in temporary.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError), (folder / LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(folder)


def spread(folder: Path) -> None:
    """Let ext4 put each directory that is made in this one elsewhere on the disk; others do as they like.

    ext4 without a journal gives no new file the inode of one that was removed in the last minutes, and looks
    through all of those near its directory: after 10,000 removed files a new one takes 0.7 ms of processor
    time, and 0.02 where they are spread (seen with Linux 6.18).
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            told = fcntl.ioctl(handle, _GET_FLAGS, bytes(_FLAGS.size))
            fcntl.ioctl(handle, _SET_FLAGS, _FLAGS.pack(_FLAGS.unpack(told)[0] | _TOP_OF_HIERARCHY))
    finally:
        os.close(handle)


class Folders:
    """pytest's factory of folders; knows which of them the fixture that is being made has asked for."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        self._factory = factory
        spread(factory.getbasetemp())
        self.asked: list[list[Path]] = []

    def mktemp(self, basename: str, numbered: bool = True) -> Path:
        """A new folder, as pytest makes it."""
        made = self._factory.mktemp(basename, numbered)
        if self.asked:
            self.asked[-1].append(made)
        return made

    def getbasetemp(self) -> Path:
        """The folder that all of them lie in."""
        return self._factory.getbasetemp()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._factory, name)


class Watch:
    """A thread that measures the run's folder, seldom enough to take a sixtieth of one processor at most."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="room", daemon=True)
        self.running: set[str] = set()
        self.peak = 0
        self.at_peak: list[str] = []

    def start(self) -> None:
        """Begin to measure."""
        self._thread.start()

    def stop(self) -> None:
        """Measure no more."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> None:
        """Measure once."""
        size = used(self._folder)
        if size > self.peak:
            self.peak, self.at_peak = size, sorted(self.running)

    def _run(self) -> None:
        rest = 0.0
        while not self._ended.wait(max(0.5, rest)):
            began = time.monotonic()
            self.look()
            rest = (time.monotonic() - began) * _REST_FOR_EACH_SECOND_OF_WORK


class Tidying:
    """In each process that runs tests: folders go with their fixture; what stays in TMPDIR is told of."""

    def __init__(self, config: pytest.Config, temporary: Path) -> None:
        self._keep = bool(config.getoption("--keep-folders"))
        self._measures = bool(config.getoption("--room"))
        self._temporary = temporary
        self._first_seen: dict[str, str] = {}
        self.sizes: dict[str, int] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        """Note the folders that are made for this fixture. Added first, our finalizer is the last to run."""
        if fixturedef.argname == "tmp_path_factory":
            return (yield)
        folders: Any = request.getfixturevalue("tmp_path_factory")
        asked: list[Path] = []
        owner = f"{request.node.nodeid} ({fixturedef.argname})"
        fixturedef.addfinalizer(lambda: self._end(owner, asked))
        folders.asked.append(asked)
        try:
            return (yield)
        finally:
            folders.asked.pop()

    def _end(self, owner: str, folders: Iterable[Path]) -> None:
        for folder in folders:
            if self._measures:
                self.sizes[owner] = self.sizes.get(owner, 0) + used(str(folder))
            if not self._keep:
                remove(folder)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Let large tests run one at a time. Note after which test something new lies in TMPDIR."""
        with self._alone() if item.get_closest_marker("large") else contextlib.nullcontext():
            answer = yield
        for name in os.listdir(self._temporary):
            self._first_seen.setdefault(name, item.nodeid)
        return answer

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock of all processes of this run."""
        with (self._temporary.parent / "large.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def left(self) -> list[str]:
        """Everything that lies in TMPDIR when all tests are over, and the test after which it was seen."""
        names = sorted(os.listdir(self._temporary))
        return [f"{name}, since {self._first_seen.get(name, 'the end of the session')}" for name in names]

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Hand both to the process that watches."""
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output["room_sizes"], output["room_left"] = self.sizes, self.left()


class Room:
    """In the process that the user started: makes the run's folder, watches it, judges, and removes it."""

    def __init__(self, config: pytest.Config, folder: Path) -> None:
        self._config = config
        self._folder = folder
        self._lock = (folder / LOCK).open("w")  # held until this process ends, however it does
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._keep = bool(config.getoption("--keep-folders"))
        self._watch = Watch(str(folder))
        self._sizes: dict[str, int] = {}
        self._left: list[str] = []
        self.tidying: Tidying | None = None

    def pytest_sessionstart(self) -> None:
        """Begin to measure, unless there is too little room."""
        why = too_little(shutil.disk_usage(self._folder).free, str(self._folder.parent))
        if why is not None:
            remove(self._folder)
            pytest.exit(why, returncode=pytest.ExitCode.USAGE_ERROR)
        self._watch.start()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Note that a test runs."""
        self._watch.running.add(nodeid)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Note that it does not any more."""
        self._watch.running.discard(nodeid)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take over what a worker measured; one that died has nothing to say."""
        output = getattr(node, "workeroutput", {})
        self._take(output.get("room_sizes", {}), output.get("room_left", []))

    def _take(self, sizes: dict[str, int], left: list[str]) -> None:
        self._sizes |= sizes
        self._left += left

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Judge."""
        self._watch.stop()
        if self.tidying is not None:
            self._take(self.tidying.sizes, self.tidying.left())
        if self._complaints() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _complaints(self) -> list[str]:
        found = [f"left in TMPDIR: {line}" for line in self._left]
        if self._watch.peak > LIMIT:
            while_running = ", ".join(self._watch.at_peak) or "no test ran"
            found.append(
                f"{_gb(self._watch.peak)} at a time, more than {_gb(LIMIT)}, during: {while_running}"
            )
        return found

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say how much was held at most, what is wrong with that, and if asked for who holds much."""
        terminalreporter.write_line(f"temporary files: {_gb(self._watch.peak)} at most, in {self._folder}")
        if self._config.getoption("--room"):
            for owner in sorted(self._sizes, key=lambda path: -self._sizes[path])[:SHOWN]:
                terminalreporter.write_line(f"{self._sizes[owner] / 1000**2:10.1f} MB at the end of {owner}")
        for line in self._complaints():
            terminalreporter.write_line(line, red=True)
        if self._keep:
            terminalreporter.write_line(f"kept: {self._folder}")

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        """Remove all; an interrupted run comes by here, too."""
        self._watch.stop()
        if self._keep:
            (self._folder / LOCK).unlink(missing_ok=True)  # else the next run takes it for forsaken
        else:
            remove(self._folder)


def add_options(parser: pytest.Parser) -> None:
    """The suite's own options."""
    group = parser.getgroup("nightvault")
    group.addoption("--room", action="store_true", help="list the fixtures whose folders held most")
    group.addoption(
        "--keep-folders", action="store_true", help="keep all temporary files, and say where they are"
    )


def configure(config: pytest.Config) -> None:
    """Give this process its folders; to be called before pytest makes its own."""
    told = getattr(config, "workerinput", None)
    if told is not None:
        place = Path(config.option.basetemp).parent.parent
        _tidy(config, place, told["workerid"])
        return
    room = Room(config, _make_folder(config))
    config.pluginmanager.register(room, _FOLDER)
    room.tidying = _tidy(config, room._folder, "")


def _make_folder(config: pytest.Config) -> Path:
    given = config.option.basetemp
    if given:
        folder = Path(given).absolute()
        if folder.exists():
            remove(folder)
        folder.mkdir()
    else:
        remove_forsaken(Path(tempfile.gettempdir()))
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    folder.chmod(0o755)  # tests as another user pass through it; what is pytest's own stays closed
    config.option.basetemp = folder / "pytest"
    return folder


def _tidy(config: pytest.Config, folder: Path, worker: str) -> Tidying:
    temporary = folder / f"tmp{worker}"
    temporary.mkdir()
    temporary.chmod(0o1777)
    spread(temporary)
    os.environ["TMPDIR"] = str(temporary)
    tempfile.tempdir = None
    tidying = Tidying(config, temporary)
    config.pluginmanager.register(tidying)
    return tidying
