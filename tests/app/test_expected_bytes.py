"""A first backup tells percent and time left: its sources are counted while it runs."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.app.backups.contexts import backup_job
from backup.catalogs.context import BackupJob
from backup.cli.render.progress import Followed, PlainLines
from backup.config import load_config
from backup.model import MIB, JobName
from backup.operations.backup import BackupProgress, bytes_in
from tests.support.servers import Server, directory_server


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return directory_server(tmp_path)


@pytest.fixture
def job(server: Server) -> BackupJob:
    """A job of 3 MiB in a directory, and of what is left out."""
    folder = server.source / "deep" / "er still"
    folder.mkdir(parents=True)
    (folder / "large").write_bytes(bytes(3 * MIB))
    (folder / "link").symlink_to("large")
    (folder / "large.tmp").write_bytes(bytes(MIB))
    with server.config.open("a") as file:
        file.write('exclude = ["*.tmp"]\n')
    config = load_config(str(server.config))
    return backup_job(config, config.job(JobName("main")))


def test_what_a_backup_will_see_is_counted(server: Server, job: BackupJob) -> None:
    server.init()
    report = server.backup()
    assert bytes_in(job, lambda _: False) == report["bytes"] > 3 * MIB


def test_it_takes_a_fifth_of_a_core_and_ends_with_the_backup(job: BackupJob) -> None:
    pauses: list[float] = []

    def pause(seconds: float) -> bool:
        pauses.append(seconds)
        return len(pauses) == 2

    began = time.monotonic()
    assert bytes_in(job, pause) is None
    assert 0 < sum(pauses) <= 4 * (time.monotonic() - began)
    assert len(pauses) == 2


def test_the_first_backup_alone_counts(job: BackupJob) -> None:
    followed = Followed()
    with BackupProgress(job, followed) as shown:
        shown.start("Backing up main")
        deadline = time.monotonic() + 30
        while (followed.document() or {})["total"] is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        shown.advance(done=MIB)
        document = followed.document() or {}
        assert document["total"] == bytes_in(job, lambda _: False)
        assert document["seconds_left"] is not None
    for known, what in ((9 * MIB, job), (None, replace(job, only_streams=True))):
        followed = Followed()
        with BackupProgress(what, followed) as shown:
            shown.start("Backing up main", known)
            assert not shown.is_counting
        assert (followed.document() or {})["total"] == known


def test_what_is_only_looked_at_has_no_speed(job: BackupJob) -> None:
    """It showed 22 GiB/s of a night in which nothing had changed."""
    for sent, speed in ((0, ""), (65_536, ""), (20 * MIB, ", 2.0 MiB/s")):
        stream, seconds = io.StringIO(), [0.0]
        lines = PlainLines(stream, monotonic=lambda seconds=seconds: seconds[0])  # type: ignore[misc]
        with BackupProgress(job, lines) as shown:
            shown.start("Backing up main", 20 * MIB)
            shown.advance(files=3, done=20 * MIB, packed=sent, uploaded=sent, stored=sent)
            seconds[0] = 10
            shown.finish()
        last = stream.getvalue().splitlines()[-1]
        assert last.endswith(f"stored{speed} in 10 s" if sent else "20.0 MiB in 10 s")
