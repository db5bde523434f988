"""Nothing that lies in the directory where somebody calls the program becomes code of it."""

from __future__ import annotations

import os
import subprocess
import sys
from array import array
from pathlib import Path

import msgspec
import pytest

import backup
from backup.cli import leave_out_current_directory
from backup.cli.trying.demonstration.local_aws import running_emulator
from backup.source.reader import ReaderProcess
from backup.source.scanned import StatusColumns
from backup.workers import process
from tests.support.emulated import write_accounts
from tests.support.servers import SCRIPT, Server, directory_server

MANY = 2_100
"""Files for which a second process is worth its while: without it nothing would be tried here."""
NAMES = (
    *("array", "backup", "blake3", "collections", "contextlib", "gc", "importlib", "mmap", "msgspec", "os"),
    *(
        "pyfastcdc",
        "runpy",
        "select",
        "signal",
        "sitecustomize",
        "socket",
        "struct",
        "typing",
        "usercustomize",
    ),
    *("asyncio", "json", "pathlib", "starlette", "uvicorn"),
)


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A directory of modules that take down who imports them."""
    folder = tmp_path / "trap"
    folder.mkdir()
    for name in NAMES:
        text = f"open({str(tmp_path / 'caught')!r}, 'a').write({name + chr(10)!r})\nraise SystemExit(66)\n"
        (folder / f"{name}.py").write_text(text)
    return folder


def caught(trap: Path) -> str:
    """The modules that were imported from there."""
    file = trap.parent / "caught"
    return file.read_text() if file.exists() else ""


@pytest.fixture
def server(tmp_path: Path) -> Server:
    made = directory_server(tmp_path / "server")
    for number in range(MANY):
        (made.source / f"{number:04}").write_text(f"content {number}")
    made.done("init", "--key-file", made.key_file)
    return made


def called_in(folder: Path, server: Server, *words: object) -> subprocess.CompletedProcess[str]:
    """The command as it is called by somebody who stands in `folder`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [SCRIPT, "--config", str(server.config), *map(str, words)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=300,
        check=False,
    )


def test_code_in_the_current_directory_is_not_run(server: Server, trap: Path, tmp_path: Path) -> None:
    """By a backup, by a restore, and the helpers of both do their work there."""
    out = tmp_path / "out"
    restored = ("restore", "latest", "--target", out, "--key", server.key_file)
    for words in (("backup",), restored):
        done = called_in(trap, server, *words)
        assert done.returncode == 0, done.stderr
        assert "second" not in done.stdout + done.stderr, "of a second process that was missed"
    assert caught(trap) == ""
    found = Path(f"{out}{server.source}")
    assert len(list(found.iterdir())) >= MANY
    assert (found / "0007").read_text() == "content 7"


def test_a_helper_imports_nothing_from_pythonpath(
    trap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor what the caller's environment says, nor from the directory that it runs in."""
    monkeypatch.setenv("PYTHONPATH", f"{trap}:")
    monkeypatch.setenv("PYTHONSTARTUP", str(trap / "socket.py"))
    monkeypatch.chdir(trap)
    reader = ReaderProcess(chunk_key=bytes(32), content_key=bytes(32), batch_bytes=1)
    try:
        folder = os.open(tmp_path, os.O_RDONLY)
        (tmp_path / "empty").touch()
        files = StatusColumns.of([b"empty"], [(tmp_path / "empty").stat()])
        reader.ask([folder], array("H", [0]), files)
        assert list(reader.answer().read.empty) == [0]
        os.close(folder)
        assert os.readlink(f"/proc/{reader._process.pid}/cwd") == "/"
        environment = Path(f"/proc/{reader._process.pid}/environ").read_bytes()
        assert b"PYTHON" not in environment
        assert b"PATH=" not in environment.replace(b"LD_LIBRARY_PATH=", b"")
    finally:
        reader.close()
    assert caught(trap) == ""


def test_a_helper_finds_the_libraries_wherever_they_were_found_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Users' own packages, and those on `PYTHONPATH`, are none that an isolated Python finds by itself."""
    site = str(Path(msgspec.__file__).parents[1])
    code = process._OURS + "import msgspec, blake3, pyfastcdc; print(sys.modules['backup'].__file__)"
    words = process._isolated(code, "any")
    words[1] = "-IS"  # as if this environment's own packages were none
    done = subprocess.run(words, cwd="/", env={}, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == backup.__file__, done.stderr
    monkeypatch.chdir(site)
    assert site not in process._homes(process.LIBRARIES), "nothing that lies here"


def test_the_demos_emulator_is_isolated(trap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A demo that somebody tries as root, too."""
    pytest.importorskip("starlette")
    monkeypatch.chdir(trap)
    accounts = tmp_path / "accounts.toml"
    write_accounts(accounts)
    (tmp_path / "aws").mkdir()
    with running_emulator(str(tmp_path / "aws"), str(accounts), str(tmp_path / "log")) as urls:
        assert urls["glacier"].startswith("http://127.0.0.1:")
    assert caught(trap) == ""


def test_the_program_imports_nothing_late_from_the_current_directory(trap: Path) -> None:
    """`python -c` and an empty entry in `PYTHONPATH` put that directory before Python's own."""
    code = "from backup.cli import main\ntry: main(['--version'])\nexcept SystemExit: pass\nimport sched\n"
    (trap / "sched.py").write_text((trap / "socket.py").read_text())
    for module in NAMES:
        (trap / f"{module}.py").unlink()  # what comes before our first line is Python's own business
    done = subprocess.run([sys.executable, "-c", code], cwd=trap, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert caught(trap) == ""


def test_a_checkout_that_somebody_stands_in_goes_on_working(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(backup.__file__).parents[1]
    monkeypatch.setattr(sys, "path", ["", str(root), *sys.path])
    monkeypatch.chdir(root)
    before = list(sys.path)
    leave_out_current_directory()
    assert sys.path == before
