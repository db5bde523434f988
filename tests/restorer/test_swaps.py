"""Somebody who may write in the target swaps names at every step of a restore, and gains nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from backup.errors import TargetError
from backup.model import EntryKind, Extra, Owner
from backup.restorer.writer import directories as target_module
from backup.restorer.writer import partial_files as parts_module
from tests.restorer.bench import Bench, wanted
from tests.support.trees import snapshot_of

CALLS = ("open", "mkdir", "rename", "link", "symlink", "mkfifo", "chown", "chmod", "utime", "setxattr",
         "unlink", "stat", "fstat")  # fmt: skip
MOST_STEPS = 400
ATTACKER = Owner(4242, 4242)

Attack = Callable[[Path, Path], None]


def lead_out(out: Path, victim: Path) -> None:
    """A directory of the target becomes a symlink to somebody else's."""
    (out / "d").rename(out / "d-moved")
    (out / "d").symlink_to(victim)


def give_away(out: Path, victim: Path) -> None:
    """A directory of the target becomes somebody else's, which the attacker may move about."""
    (out / "d").rename(out / "d-moved")
    victim.rename(out / "d")


def link_in(out: Path, victim: Path) -> None:
    """Whatever has a temporary name becomes a name of somebody else's file."""
    for place, _, names in os.walk(out):
        for name in names:
            if name.startswith(".nightvault-"):
                path = Path(place, name)
                path.unlink()
                path.hardlink_to(victim / "fifo")


def link_file_in(out: Path, victim: Path) -> None:
    """The same with a regular file."""
    for place, _, names in os.walk(out):
        for name in names:
            if name.startswith(".nightvault-"):
                Path(place, name).unlink()
                Path(place, name).hardlink_to(victim / "file")


@contextmanager
def attacked(step: int, attack: Callable[[], None]) -> Iterator[list[bool]]:
    """Attack once, right before call number `step` of the system."""
    struck: list[bool] = []
    count = 0

    def around(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal count
            if not struck and count == step:
                struck.append(True)
                with suppress(OSError):
                    attack()
            count += not struck
            return real(*args, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, around(getattr(os, name)))
        yield struck


def restore(bench: Bench) -> None:
    """Some of everything, into a directory that was there and one that was not; owners and setuid with it."""
    writer = bench.writer
    extra = Extra(xattrs=((b"user.one", b"1"),))
    for path in (b"d", b"d/new"):
        writer.directory(wanted(path, EntryKind.DIRECTORY, mode=0o4777, owner=ATTACKER))
    writer.special(wanted(b"d/fifo", EntryKind.FIFO, mode=0o666, owner=ATTACKER))
    writer.special(wanted(b"d/link", EntryKind.SYMLINK, owner=ATTACKER, extra=Extra(target=b"x")))
    writer.special(wanted(b"e", EntryKind.FIFO, mode=0o666, owner=ATTACKER))
    other = wanted(b"d/new/other", mode=0o4755, owner=ATTACKER, extra=extra, size=7)
    first = wanted(b"d/file", mode=0o4755, owner=ATTACKER, extra=extra, size=7)._replace(links=(other,))
    if writer.begin(0, first) and writer.write(0, 0, memoryview(b"content")):
        writer.end(0)
    writer.finish()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root could give anything away")
@pytest.mark.parametrize("few_handles", [False, True])
@pytest.mark.parametrize("attack", [lead_out, give_away, link_in, link_file_in])
def test_swaps_at_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: Attack, few_handles: bool
) -> None:
    if few_handles:  # directories are opened anew again and again
        monkeypatch.setattr(target_module, "MOST_OPEN", 2)
        monkeypatch.setattr(parts_module, "MOST_OPEN", 1)
    # Who moves a directory there before the restore meets it has it restored into, as docs/files.md says.
    for step in range(2 if attack is give_away else 0, MOST_STEPS):
        folder = tmp_path / str(step)
        victim, out = folder / "secret", folder / "out"
        (out / "d").mkdir(parents=True)
        victim.mkdir(mode=0o700)
        (victim / "file").write_text("precious")
        (victim / "file").chmod(0o600)
        os.mkfifo(victim / "fifo", 0o600)
        handle = os.open(victim, os.O_RDONLY)
        before, own = look(handle)
        bench = Bench(out)
        with attacked(step, lambda: attack(out, victim)) as struck:  # noqa: B023
            with suppress(TargetError, FileNotFoundError):
                restore(bench)
            bench.writer.abandon()
        bench.target.close()
        assert look(handle) == (before, own), f"{attack.__name__} at step {step}"
        os.close(handle)
        if not struck:
            assert step > 40, "the steps were not those of the restore"
            return
    pytest.fail("there are more steps than are tried")


def look(handle: int) -> tuple[object, tuple[int, int, int]]:
    """All that is in a directory, wherever it is now, and whose it is; nothing of it may be of ours."""
    found = os.fstat(handle)
    seen = {
        path: entry._replace(linked=b"")
        for path, entry in snapshot_of(b"/proc/self/fd/%d/." % handle).items()
    }
    return seen, (found.st_mode, found.st_uid, found.st_gid)
