"""The suite's own housekeeping: few temporary files at a time, none left, one clear sentence."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import run_order, temporary_files
from tests.support.emulated import REPOSITORY

pytestmark = pytest.mark.slow

CONFTEST = """
import pytest
from tests.support import temporary_files

temporary_files.LIMIT = {limit}


def pytest_addoption(parser):
    temporary_files.add_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    temporary_files.configure(config)


@pytest.fixture(scope="session")
def tmp_path_factory(tmp_path_factory):
    return temporary_files.Folders(tmp_path_factory)
"""


def run_suite(
    tmp_path: Path, tests: str, *words: str, limit: int = temporary_files.LIMIT
) -> subprocess.CompletedProcess[str]:
    """A suite of its own with the same housekeeping; its temporary files lie in `tmp_path/temporary`."""
    (tmp_path / "suite").mkdir()
    (tmp_path / "temporary").mkdir(exist_ok=True)
    (tmp_path / "suite" / "conftest.py").write_text(CONFTEST.format(limit=limit))
    (tmp_path / "suite" / "test_it.py").write_text(tests)
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary"), "PYTHONPATH": str(REPOSITORY)}
    environment = {name: value for name, value in environment.items() if not name.startswith("PYTEST_")}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # of the plugins only xdist is needed here
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "xdist", *words],
        cwd=tmp_path / "suite",
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def left(tmp_path: Path) -> list[str]:
    return sorted(os.listdir(tmp_path / "temporary"))


GOES_WITH_ITS_FIXTURE = """
from pathlib import Path
import pytest

seen = []


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    seen.append(folder)
    return folder


class TestA:
    @pytest.fixture(scope="class")
    def of_class(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("class")
        seen.append(folder)
        yield folder
        assert folder.is_dir(), "it goes after the fixture is over, not before"

    def test_one_that_fails(self, tmp_path, shared, of_class):
        (tmp_path / "closed").mkdir()
        (tmp_path / "closed" / "file").write_bytes(bytes(3_000_000))
        (tmp_path / "closed").chmod(0)
        seen.append(tmp_path)
        assert False

    def test_two(self, of_class):
        assert [folder.is_dir() for folder in seen] == [True, True, False]


def test_three(shared):
    assert [folder.is_dir() for folder in seen] == [True, False, False]
"""


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_folder_goes_with_the_fixture_that_asked_for_it(tmp_path: Path, workers: str) -> None:
    """Also when the test failed, and in every worker."""
    done = run_suite(tmp_path, GOES_WITH_ITS_FIXTURE, "--room", "-n", workers)
    assert "1 failed, 2 passed" in done.stdout, done.stdout
    assert left(tmp_path) == []
    assert re.search(r"3\.0 MB at the end of \S+::test_one_that_fails \(tmp_path\)", done.stdout)


@pytest.mark.parametrize("workers", ["0", "1"])
def test_whoever_leaves_something_fails_the_run(tmp_path: Path, workers: str) -> None:
    """Programs that tests start leave nothing behind; it is removed all the same."""
    tests = """
import subprocess
def test_innocent(): pass
def test_untidy(): subprocess.run("mktemp -d -t untidy.XXXXXX", shell=True, check=True)
def test_after(): pass
"""
    done = run_suite(tmp_path, tests, "-n", workers)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "3 passed" in done.stdout, done.stdout
    assert re.search(r"left in TMPDIR: untidy\.\w+, since test_it\.py::test_untidy", done.stdout), done.stdout
    assert left(tmp_path) == []


def test_more_than_the_limit_fails_the_run(tmp_path: Path) -> None:
    """The peak is measured while tests run."""
    tests = """
import time
def test_hungry(tmp_path):
    (tmp_path / "much").write_bytes(bytes(5_000_000))
    time.sleep(1.5)
"""
    done = run_suite(tmp_path, tests, limit=4_000_000)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "0.01 GB at a time, more than 0.00 GB, during: test_it.py::test_hungry" in done.stdout, done.stdout
    assert left(tmp_path) == []


def test_too_little_room_is_one_sentence(tmp_path: Path) -> None:
    """No test begins that cannot end."""
    done = run_suite(tmp_path, "def test_it(): pass", limit=10**18)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "passed" not in done.stdout
    wanted = r"need up to 1000000000\.00 GB for temporary files, and \S+/temporary has [\d.]+ GB free: make"
    assert re.search(wanted, done.stdout + done.stderr), done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert left(tmp_path) == []


def test_what_a_killed_run_left_goes_with_the_next(tmp_path: Path) -> None:
    """Nobody removes the folder of a run that gets SIGKILL, but the next run does."""
    killed = run_suite(tmp_path, "import os, signal\ndef test_it(): os.kill(os.getpid(), signal.SIGKILL)")
    assert killed.returncode == -9
    (forsaken,) = left(tmp_path)
    kept = tmp_path / "temporary" / "nightvault-tests-of-another"
    kept.mkdir()
    with (kept / temporary_files.LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (tmp_path / "suite").rename(tmp_path / "earlier")
        assert run_suite(tmp_path, "def test_it(): pass").returncode == 0
    assert left(tmp_path) == [kept.name], f"{forsaken} is removed, what another run uses is not"


def test_folders_are_kept_if_asked_for(tmp_path: Path) -> None:
    tests = "def test_it(tmp_path): (tmp_path / 'kept').touch()"
    done = run_suite(tmp_path, tests, "--keep-folders")
    assert done.returncode == 0
    (folder,) = left(tmp_path)
    assert f"kept: {tmp_path / 'temporary' / folder}" in done.stdout
    (tmp_path / "suite").rename(tmp_path / "earlier")
    assert run_suite(tmp_path, "def test_it(): pass").returncode == 0
    assert len(list((tmp_path / "temporary" / folder).rglob("kept"))) == 1


def test_a_given_place_is_used_and_goes(tmp_path: Path) -> None:
    place = tmp_path / "given"
    tests = f"def test_it(tmp_path): assert str(tmp_path).startswith({str(place)!r})"
    assert run_suite(tmp_path, tests, f"--basetemp={place}").returncode == 0
    assert not place.exists()


def test_large_tests_run_one_at_a_time(tmp_path: Path) -> None:
    """However many workers there are."""
    tests = f"""
import time, pytest
@pytest.mark.parametrize("number", range(3))
@pytest.mark.large
def test_large(number):
    with open({str(tmp_path / "log")!r}, "a") as log:
        for word in ("begin", "end"):
            print(word, file=log, flush=True)
            time.sleep(0.2)
"""
    assert run_suite(tmp_path, tests, "-n", "3").returncode == 0
    assert (tmp_path / "log").read_text().split() == ["begin", "end"] * 3


def test_what_is_mounted_is_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder" / "mounted").mkdir(parents=True)
    monkeypatch.setattr(temporary_files, "mount_points", lambda: ["/", str(tmp_path / "folder" / "mounted")])
    with pytest.raises(RuntimeError, match="mounted is still mounted there"):
        temporary_files.remove(tmp_path / "folder")
    assert (tmp_path / "folder" / "mounted").is_dir()


def test_deep_and_closed_folders_go(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    subprocess.run(["mkdir", "-p", "/".join(["d"] * 1500)], cwd=folder, check=True)
    folder.chmod(0)
    temporary_files.remove(folder)
    assert not folder.exists()


def test_ext4_spreads_what_is_made_in_the_folders_of_a_run(tmp_path: Path) -> None:
    told = ["stat", "--file-system", "--format", "%T", str(tmp_path)]
    kind = subprocess.run(told, capture_output=True, text=True, check=True).stdout.strip()
    if kind != "ext2/ext3" or shutil.which("lsattr") is None:  # so `stat` calls ext4
        pytest.skip(f"needs ext4 and its lsattr, not {kind}")
    for folder in (tmp_path.parent, Path(os.environ["TMPDIR"])):
        told = ["lsattr", "-d", str(folder)]
        flags = subprocess.run(told, capture_output=True, text=True, check=True).stdout.split()[0]
        assert "T" in flags, f"{folder}: {flags}"


def test_other_file_systems_do_as_they_like() -> None:
    temporary_files.spread(Path("/proc/self"))


@dataclass
class Named:
    """A test with this name."""

    nodeid: str


def test_the_longest_tests_are_there_and_begin_first() -> None:
    assert [path for path in run_order.LONGEST if not (REPOSITORY / path).is_file()] == []
    first, second = (Named(f"{path}::test_one[two]") for path in run_order.LONGEST[:2])
    some, others = Named("tests/app/test_doctor.py::test_one"), Named("tests/web/test_live.py::test_one")
    assert run_order.longest_first([some, second, others, first]) == [first, second, some, others]
