"""Somebody swaps names for symlinks at every step of a backup: nothing outside the source is ever read."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from backup.archiver import contents, read_ahead, readers
from backup.format.naming import chunk_id
from backup.source.reader import ReaderProcess
from tests.support.backups import Site

CALLS = ("open", "stat", "listdir", "readlink", "listxattr")
SECRET = b"nobody but root may read this"


def swap_directory(source: Path, secret: Path) -> None:
    """A directory of the source becomes a symlink to one outside."""
    (source / "d").rename(source / "moved")
    (source / "d").symlink_to(secret)


def swap_files(source: Path, secret: Path) -> None:
    """Files and symlinks of the source become symlinks to one outside."""
    for name in ("a", "d/file", "link"):
        (source / name).unlink()
        (source / name).symlink_to(secret / "file")


@pytest.mark.parametrize("attack", [swap_directory, swap_files])
def test_swaps_at_every_step(
    site: Site, source: Path, tmp_path: Path, attack: Callable[[Path, Path], None]
) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "file").write_bytes(SECRET)
    os.setxattr(secret / "file", "user.secret", SECRET)
    read: list[bytes] = []

    def named(key: bytes, data: bytes | memoryview) -> Any:
        read.append(bytes(data))
        return chunk_id(key, data)

    for step in range(200):
        here = source / str(step)
        (here / "d").mkdir(parents=True)
        for name in ("a", "d/file", "d/other"):
            (here / name).write_text(f"{name} of {step}")
        (here / "link").symlink_to("a")
        one = site.with_job(sources=[here])
        struck = _backup(one, step, lambda: attack(here, secret), named)  # noqa: B023
        if not struck:
            assert step > 10, "the steps were not those of the walk"
            break
    else:
        pytest.fail("there are more steps than are tried")
    assert read
    assert not any(SECRET in data for data in read)
    with site.inventory.reading() as tx:
        extras = [
            value for (value,) in tx.connection.execute("SELECT extra FROM entries WHERE extra IS NOT NULL")
        ]
    assert extras
    assert not any(SECRET in extra for extra in extras)


def _backup(site: Site, step: int, attack: Callable[[], None], named: Callable[..., Any]) -> bool:
    """One backup with an attack right before call number `step` that has to do with its source."""
    count, struck = 0, False
    top = os.fsencode(site.job.sources[0])

    def around(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal count, struck
            if not struck and _concerns(top, args, options):
                count += 1
                if count > step:
                    struck = True
                    with suppress(OSError):
                        attack()
            return real(*args, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contents, "chunk_id", named)
        for name in CALLS:
            patch.setattr(os, name, around(getattr(os, name)))
        site.backup()
    return struck


def _concerns(top: bytes, args: tuple[Any, ...], options: dict[str, Any]) -> bool:
    """Whether a call looks at something in the source: by a handle of a directory in there."""
    handle = options.get("dir_fd", args[0] if args and isinstance(args[0], int) else None)
    if handle is None:
        return False
    with suppress(OSError):
        return os.path.realpath(b"/proc/self/fd/%d" % handle).startswith(top)
    return False


@pytest.mark.parametrize("moment", ["before", "after"])
def test_swaps_while_the_second_process_reads(
    site: Site, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """It gets handles and names of what the scan saw; what has these names by then is another matter."""
    monkeypatch.setattr(readers, "MANY_SMALL_FILES", 0)
    monkeypatch.setattr(read_ahead, "FEW_FILES", 2)
    monkeypatch.setattr(read_ahead, "MOST_FILES", 2)
    secret = tmp_path / "secret"
    secret.mkdir()
    for name in ("file", *map(str, range(6))):
        (secret / name).write_bytes(SECRET)
    ask = ReaderProcess.ask
    for attack in (swap_directory, swap_all):
        for step in range(4):
            here = source / f"{attack.__name__}-{step}"
            (here / "d").mkdir(parents=True)
            for number in range(6):
                (here / "d" / str(number)).write_text(f"{number} of {step}, as long as the other one")
            asked = 0

            def asking(self: ReaderProcess, *args: Any) -> None:
                nonlocal asked
                asked += 1
                if moment == "after":
                    ask(self, *args)
                if asked == step + 1:  # noqa: B023
                    attack(here, secret)  # noqa: B023
                if moment == "before":
                    ask(self, *args)

            monkeypatch.setattr(ReaderProcess, "ask", asking)
            site.with_job(sources=[here]).backup()
            assert asked >= min(step + 1, 3)
    with site.inventory.reading() as tx:
        known = {value for (value,) in tx.connection.execute("SELECT id FROM chunks")}
    assert known
    assert chunk_id(site.keys.secret.chunk_key, SECRET) not in known


def swap_all(source: Path, secret: Path) -> None:
    """All files of a directory become symlinks to ones outside."""
    for path in (source / "d").iterdir():
        path.unlink()
        path.symlink_to(secret / path.name)
