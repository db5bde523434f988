"""Other programs' repositories: at rest while a job copies them, and whole when they come back."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.emulated import REPOSITORY
from tests.support.servers import Server, directory_server

SHELVES, CHUNKS, MORE = 65_536, 200_000, 2_000
HOOK = REPOSITORY / "deploy" / "hooks" / "quiet-repository"
needs_restic = pytest.mark.skipif(shutil.which("restic") is None, reason="restic is not installed")
needs_borg = pytest.mark.skipif(shutil.which("borg") is None, reason="borg is not installed")


def server_of(folder: Path, kind: str, path: Path, *excludes: str) -> Server:
    """A server whose job copies a repository, with the hook around it."""
    server = directory_server(folder)
    hooks = [
        f'{when} = ["{HOOK}", "{when}", "{kind}", "{path}", "5"]' for when in ("before", "after", "finally")
    ]
    left_out = ", ".join(f'"{path}/{name}"' for name in excludes)
    text = server.config.read_text().replace(f'sources = ["{server.source}"]', f'sources = ["{path}"]')
    server.config.write_text("\n".join([text, f"exclude = [{left_out}]", "[job.hooks]", *hooks, ""]))
    server.init()
    return server


def notes(server: Server) -> list[str]:
    """What the hook left in the state directory."""
    return [path.name for path in server.state.iterdir() if path.name.startswith("quiet-")]


def test_a_lock_is_held_meanwhile_and_given_back(tmp_path: Path) -> None:
    locked, inside = tmp_path / "stanza.lock", tmp_path / "repository"
    locked.touch()
    inside.mkdir()
    (inside / "backup.info").write_text("whole")
    server = server_of(tmp_path / "server", "flock", locked)
    text = server.config.read_text().replace(f'sources = ["{locked}"]', f'sources = ["{inside}"]')
    probe = (
        f'before = [["{HOOK}", "before", "flock", "{locked}", "5"], ["sh", "-c", "! flock -n {locked} true"]]'
    )
    before = next(line for line in text.splitlines() if line.startswith("before = "))
    server.config.write_text(text.replace(before, probe))
    assert server.backup()["outcome"] == "done"
    assert notes(server) == []
    assert subprocess.run(["flock", "-n", locked, "true"], check=False).returncode == 0
    with subprocess.Popen(["flock", locked, "sleep", "60"]) as other:
        try:
            time.sleep(0.2)
            server.config.write_text(server.config.read_text().replace('"5"', '"1"'))
            told = server.run("backup", "main")
            assert told.exit_code == 1
            assert f"{locked} cannot be locked" in told.stderr
        finally:
            subprocess.run(["pkill", "-P", str(other.pid)], check=False)
            other.kill()
    assert notes(server) == []


def test_words_that_are_wrong_are_refused(tmp_path: Path) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "NIGHTVAULT_STATE_DIR": str(tmp_path),
        "NIGHTVAULT_JOB": "main",
    }
    for words in (["before"], ["later", "borg", "/x"], ["before", "zfs", "/x"], ["before", "borg", "x"]):
        ran = subprocess.run([HOOK, *words], env=environment, capture_output=True, check=False)
        assert (ran.returncode, ran.stderr[:18]) == (1, b"quiet-repository: "), words


RESTIC = {
    "RESTIC_PASSWORD": "x",
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "RESTIC_PROGRESS_FPS": "0",
}
BORG = {"BORG_PASSPHRASE": "x", "PATH": os.environ["PATH"], "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes"}


def ran(words: list[object], environment: dict[str, str]) -> str:
    given = list(map(str, words))
    done = subprocess.run(
        given, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def restic(repository: Path) -> list[object]:
    return ["restic", "--no-cache", "-q", "-r", repository]


def filled(folder: Path, night: int) -> None:
    folder.mkdir(exist_ok=True)
    for number in range(20):
        (folder / f"{night}-{number}").write_bytes(os.urandom(200_000))


@pytest.mark.real
@pytest.mark.slow
@needs_restic
def test_a_repository_of_restic_comes_back_whole(tmp_path: Path) -> None:
    repository, files = tmp_path / "restic", tmp_path / "files"
    ran([*restic(repository), "init"], RESTIC)
    server = server_of(tmp_path / "server", "restic", repository, "locks")
    for night in range(3):
        filled(files, night)
        ran([*restic(repository), "backup", files], RESTIC)
        report = server.backup()
        assert report["outcome"] == "done"
        assert report["bytes_new"] < 6_000_000, "a night of 4 MB costs what it brought"
    (repository / "locks" / "0123").write_text("somebody's")
    told = server.run("backup", "main")
    assert (told.exit_code, "had a lock in" in told.stderr) == (1, True)
    (repository / "locks" / "0123").unlink()
    server.done("restore", "latest", "--target", tmp_path / "back", "--key", server.key_file)
    back = Path(f"{tmp_path}/back{repository}")
    ran([*restic(back), "check", "--read-data"], RESTIC)
    ran(
        ["restic", "--no-cache", "-r", back, "restore", "latest", "--target", tmp_path / "files_back"], RESTIC
    )
    assert len(os.listdir(f"{tmp_path}/files_back{files}")) == 60


@pytest.mark.real
@pytest.mark.slow
@needs_restic
def test_a_run_of_restic_meanwhile_makes_the_copy_partial(tmp_path: Path) -> None:
    repository, files = tmp_path / "restic", tmp_path / "files"
    ran([*restic(repository), "init"], RESTIC)
    filled(files, 0)
    server = server_of(tmp_path / "server", "restic", repository, "locks")
    text = server.config.read_text()
    before = next(line for line in text.splitlines() if line.startswith("before = "))
    run = '["env", "RESTIC_PASSWORD=x", ' + ", ".join(f'"{word}"' for word in restic(repository))
    run += f', "backup", "{files}"]'
    server.config.write_text(text.replace(before, f"before = [{before.removeprefix('before = ')}, {run}]"))
    told = server.run("backup", "main")
    assert (told.exit_code, "restic wrote to" in told.output) == (3, True)
    assert notes(server) == []


@pytest.mark.real
@pytest.mark.slow
@needs_borg
def test_a_repository_of_borg_comes_back_whole(tmp_path: Path) -> None:
    repository, files = tmp_path / "borg", tmp_path / "files"
    borg = BORG | {"HOME": str(tmp_path), "BORG_BASE_DIR": str(tmp_path / "base")}
    ran(["borg", "init", "--encryption=repokey", repository], borg)
    server = server_of(tmp_path / "server", "borg", repository, "lock.exclusive", "lock.roster")
    for night in range(3):
        filled(files, night)
        ran(["borg", "create", f"{repository}::{night}", files], borg)
        assert server.backup()["outcome"] == "done"
    assert not (repository / "lock.exclusive").exists()
    with subprocess.Popen(["borg", "with-lock", repository, "sleep", "60"], env=borg) as other:
        try:
            while not (repository / "lock.exclusive").exists():
                time.sleep(0.05)
            text = server.config.read_text()
            server.config.write_text(text.replace('"5"', '"1"'))
            told = server.run("backup", "main")
            assert (told.exit_code, "cannot be locked" in told.stderr) == (1, True)
        finally:
            other.terminate()
    server.done("restore", "latest", "--target", tmp_path / "back", "--key", server.key_file)
    back = Path(f"{tmp_path}/back{repository}")
    shutil.rmtree(repository)
    ran(["borg", "check", "--verify-data", back], borg)
    assert ran(["borg", "list", "--short", back], borg).split() == ["0", "1", "2"]


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.large
def test_a_datastore_like_that_of_a_proxmox_backup_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its 65,536 directories with 200,000 chunks; a night that adds a hundredth reads and stores that."""
    chunks = tmp_path / "store" / ".chunks"
    chunks.mkdir(parents=True)
    for number in range(SHELVES):
        os.mkdir(f"{chunks}/{number:04x}")

    def add(numbers: range) -> None:
        for number in numbers:
            name = b"%08x" % (number * 2654435761 % 2**32)
            place = b"%s/%s/%s%s" % (os.fsencode(chunks), name[:4], name, b"0" * 56)
            opened = os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            os.write(opened, name + b"x" * 100)
            os.close(opened)

    add(range(CHUNKS))
    # What was written in the minute before it was read would be read once more, as it might be mapped.
    monkeypatch.setattr("backup.source.freshness.write_back_reach", lambda: 0)
    (tmp_path / "lock").touch()
    server = server_of(tmp_path / "server", "flock", tmp_path / "lock")
    text = server.config.read_text()
    server.config.write_text(text.replace(f'sources = ["{tmp_path}/lock"]', f'sources = ["{chunks.parent}"]'))
    time.sleep(2.1)  # a stamp's grain, at most
    began = time.monotonic()
    first = server.backup()
    print(f"first: {time.monotonic() - began:.0f} s, {first['bytes_uploaded']} bytes")
    add(range(CHUNKS, CHUNKS + MORE))
    began = time.monotonic()
    night = server.backup()
    print(f"night: {time.monotonic() - began:.1f} s, {night['bytes_uploaded']} bytes")
    assert first["files"] == CHUNKS
    assert (night["outcome"], night["files"], night["files_read"]) == ("done", CHUNKS + MORE, MORE)
    assert night["bytes_uploaded"] < first["bytes_uploaded"] / 10
