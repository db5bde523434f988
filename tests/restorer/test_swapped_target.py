"""The target of a restore that waits is swapped: every later session writes where it began, or nowhere."""

from __future__ import annotations

import os
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from backup.errors import InterruptedRunError, TargetError
from backup.inventory.records.restore_state import RestoreTarget, keep_progress, note_place, read_progress
from backup.inventory.records.retrievals import Restore
from backup.kinds import Outcome
from backup.model import Tier
from backup.restorer.context import RestoreContext
from backup.restorer.restore import advance, begin_restore, cancel, deliver, plan_restore
from backup.restorer.selection.choice import Choice
from backup.restorer.writer.directories import way_to
from backup.restorer.writer.extraneous import remove_extraneous
from backup.restorer.writer.mark import (
    ELSEWHERE,
    bears_mark,
    leave_mark,
    made_target,
    name_of,
    place_of,
    read_place,
    require_mark,
)
from tests.support.backups import Site
from tests.support.doubles import NO_LIMIT
from tests.support.trees import assert_same_tree

MALLORY = 4242
Swap = Callable[[Path, Path], None]


@pytest.fixture(autouse=True)
def no_handle_is_left(tmp_path: Path) -> Iterator[None]:
    """No test leaves a directory open, whatever was refused; another thread looks into some for a moment."""
    yield
    until = time.monotonic() + 2
    while opened := list(directories_open_below(tmp_path)):
        assert time.monotonic() < until, opened
        time.sleep(0.01)


def directories_open_below(top: Path) -> Iterator[str]:
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            path = os.readlink(f"/proc/self/fd/{name}")
            if path.startswith(f"{top.resolve()}/") and stat.S_ISDIR(os.fstat(int(name)).st_mode):
                yield path


def begin(site: Site, out: Path, choice: Choice | None = None) -> Restore:
    """A restore as a command begins it."""
    world = site.restore_world
    with way_to(str(out)) as way:
        plan = plan_restore(site.snapshot(), site.job.sources[0], world, choice or Choice(), target=way)
        with made_target(way) as made:
            place, keys = place_of(way.handle, way.path), lambda: [site.key]
            begun = begin_restore(
                plan, os.fsencode(out), world, NO_LIMIT, tier=Tier.STANDARD, keys=keys, place=place
            )
            leave_mark(begun, world, made=made)
    return begun


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Mallory's directory, above the target."""
    place = tmp_path / "mallory"
    place.mkdir()
    if os.geteuid() == 0:
        os.chown(place, MALLORY, MALLORY)
    return place


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """What root alone may change."""
    place = tmp_path / "etc"
    place.mkdir()
    (place / "passwd").write_text("root")
    return place


def to_a_link(target: Path, victim: Path) -> None:
    target.rename(target.with_name("moved"))
    target.symlink_to(victim)


def to_a_link_above(target: Path, victim: Path) -> None:
    (victim / target.name).mkdir()
    target.parent.rename(target.parent.with_name("moved"))
    target.parent.symlink_to(victim)


def to_another(target: Path, victim: Path) -> None:
    target.rename(target.with_name("moved"))
    victim.rename(target)


def to_another_with_the_mark(target: Path, victim: Path) -> None:
    """Where the target is Mallory's own, she can take the mark out of it."""
    (mark,) = target.glob(".nightvault-restore-*")
    mark.rename(victim / mark.name)
    to_another(target, victim)


SWAPS = [to_a_link, to_a_link_above, to_another, to_another_with_the_mark]


@pytest.mark.parametrize("unattended", [False, True], ids=["attended", "unattended"])
@pytest.mark.parametrize("swap", SWAPS)
def test_what_took_the_place_of_the_target_is_not_written_to(
    full: Site, home: Path, victim: Path, swap: Swap, unattended: bool
) -> None:
    restore = begin(full, home / "restored")
    known = advance(restore, full.restore_world)
    swap(home / "restored", victim)
    before = everything(home.parent)
    world = replace(full.restore_world, unattended=unattended)
    for act in (lambda: deliver(restore, known, world), lambda: enters(restore, world)):
        with pytest.raises(TargetError) as caught:
            act()
        assert restore.id in str(caught.value)
        assert (
            f"nightvault restore {'resume' if unattended else 'cancel'} {restore.id}" in caught.value.advice
        )
    assert everything(home.parent) == before
    assert not bears_mark(restore, world.secret, read_place(restore, full.inventory))
    cancel(restore, full.inventory, world.key_directory, full.clock)
    assert everything(home.parent) == before


def enters(restore: Restore, context: RestoreContext) -> None:
    (require_mark if context.unattended else leave_mark)(restore, context)


def everything(top: Path) -> list[tuple[str, int]]:
    """The names below a directory, with when each was changed; the state's own aside."""
    mine = ("mallory", "etc", "moved")
    found = [path for path in top.rglob("*") if path.relative_to(top).parts[0] in mine]
    return sorted((str(path), path.lstat().st_ctime_ns) for path in found)


@pytest.mark.parametrize("swap", [to_a_link, to_another])
def test_a_swap_in_the_last_session_hits_neither_removing_nor_reading_back(
    full: Site, source: Path, home: Path, victim: Path, swap: Swap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is open is handed on: nothing is opened again by its path."""
    out = home / "restored"
    out.mkdir()
    for place in (out, victim):
        (place / "not in the snapshot").write_text("old")
    restore = begin(full, out, Choice(delete=True, verify=True))

    def swapped(*given: Any, **how: Any) -> int:
        swap(out, victim)
        return remove_extraneous(*given, **how)

    monkeypatch.setattr("backup.restorer.session.remove_extraneous", swapped)
    report = deliver(restore, advance(restore, full.restore_world), full.restore_world)
    assert report.outcome is Outcome.PARTIAL
    (problem,) = report.problems
    assert (problem.path, problem.detail) == (os.fsencode(out), ELSEWHERE)
    regular = [path for path in source.rglob("*") if path.is_file() and not path.is_symlink()]
    assert (report.removed, report.verified) == (1, len(regular))
    assert_same_tree(source, home / "moved")
    assert sorted(path.name for path in (victim if victim.exists() else out).iterdir()) == [
        "not in the snapshot",
        "passwd",
    ]


def test_a_device_that_has_another_number_after_a_reboot(full: Site, source: Path, out: Path) -> None:
    """The inode and the mark say that it is the same; without the mark nothing does."""
    restore, world = begin(full, out), full.restore_world
    place = read_place(restore, full.inventory)
    assert place is not None
    renumber(full, restore, replace(place, device=place.device + 1))
    leave_mark(restore, world)
    (out / os.fsdecode(name_of(restore.id))).rename(out / "aside")
    with pytest.raises(TargetError, match="another directory is in its place"):
        leave_mark(restore, world)
    (out / "aside").rename(out / os.fsdecode(name_of(restore.id)))
    renumber(full, restore, replace(place, inode=place.inode + 1))
    with pytest.raises(TargetError, match="another directory is in its place"):
        leave_mark(restore, world)
    renumber(full, restore, replace(place, device=place.device + 1))
    assert deliver(restore, advance(restore, world), world).outcome is Outcome.DONE
    assert_same_tree(source, out)


def renumber(site: Site, restore: Restore, place: RestoreTarget) -> None:
    with site.inventory.writing() as tx:
        note_place(tx, restore.number, place)


def forget_place(site: Site, restore: Restore) -> None:
    """As an older version left it."""
    with site.inventory.writing() as tx:
        before = read_progress(tx, restore.number)
        assert before is not None
        keep_progress(tx, restore.number, replace(before, place=None))


@pytest.mark.parametrize("unattended", [False, True], ids=["attended", "unattended"])
def test_one_that_an_older_version_began_goes_on_by_its_mark(
    full: Site, source: Path, home: Path, unattended: bool
) -> None:
    restore = begin(full, home / "restored")
    forget_place(full, restore)
    world = replace(full.restore_world, unattended=unattended)
    assert bears_mark(restore, world.secret)
    assert deliver(restore, advance(restore, world), world).outcome is Outcome.DONE
    assert_same_tree(source, home / "restored")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes other users' directories")
@pytest.mark.parametrize("unattended", [False, True], ids=["attended", "unattended"])
@pytest.mark.parametrize("swap", [to_a_link, to_another])
def test_one_that_an_older_version_began_takes_no_other_place(
    full: Site, home: Path, victim: Path, swap: Swap, unattended: bool
) -> None:
    restore = begin(full, home / "restored")
    forget_place(full, restore)
    swap(home / "restored", victim)
    if swap is to_a_link:
        os.chown(home / "restored", MALLORY, MALLORY, follow_symlinks=False)
    before = everything(home.parent)
    world = replace(full.restore_world, unattended=unattended)
    known = advance(restore, full.restore_world)
    for act in (lambda: enters(restore, world), lambda: deliver(restore, known, world)):
        with pytest.raises(TargetError, match=r"symlink of 4242|belongs to 4242|does not bear its mark"):
            act()
    assert everything(home.parent) == before
    assert read_place(restore, full.inventory) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes other users' directories")
def test_one_that_an_older_version_began_takes_the_way_that_a_person_agreed_to(
    full: Site, home: Path
) -> None:
    """The command asked about it: `--yes`."""
    restore, world = begin(full, home / "restored"), full.restore_world
    forget_place(full, restore)
    (home / "restored" / os.fsdecode(name_of(restore.id))).unlink()
    with pytest.raises(TargetError, match="belongs to 4242"):
        leave_mark(restore, world)
    with way_to(str(home / "restored")) as way:
        leave_mark(restore, world, agreed=way)
        assert read_place(restore, full.inventory) == place_of(way.handle, way.path)
    assert bears_mark(restore, world.secret, read_place(restore, full.inventory))


@pytest.mark.parametrize("is_there", [False, True], ids=["gone", "another"])
@pytest.mark.parametrize("older", [False, True], ids=["recorded", "begun by an older version"])
def test_nothing_is_adopted_unattended_that_bears_no_mark(
    full: Site, out: Path, older: bool, is_there: bool
) -> None:
    """Also where nobody else could have put it there; and nothing is made."""
    restore = begin(full, out)
    if older:
        forget_place(full, restore)
    recorded = read_place(restore, full.inventory)
    out.rename(out.with_name("moved"))
    if is_there:
        out.mkdir()
    refusal = r"does not bear its mark|another directory is in its place|No such file or directory"
    with pytest.raises(TargetError, match=refusal):
        enters(restore, replace(full.restore_world, unattended=True))
    assert read_place(restore, full.inventory) == recorded
    assert out.exists() is is_there


def test_a_recorded_directory_without_its_mark_is_not_gone_on_with_unattended(full: Site, out: Path) -> None:
    restore = begin(full, out)
    (out / os.fsdecode(name_of(restore.id))).unlink()
    with pytest.raises(TargetError, match="does not bear its mark"):
        enters(restore, replace(full.restore_world, unattended=True))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_directory_that_is_read_only_by_now_is_not_gone_on_with_unattended(full: Site, out: Path) -> None:
    """Told as that: it bears its mark."""
    restore = begin(full, out)
    if subprocess.run(["mount", "--bind", "-o", "ro", out, out], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        with pytest.raises(TargetError, match="cannot be written from here"):
            enters(restore, replace(full.restore_world, unattended=True))
    finally:
        subprocess.run(["umount", out], check=True)


def test_what_sessions_record_keeps_the_place(full: Site, source: Path, out: Path) -> None:
    """Also of a restore that was begun without: the first session makes the record."""
    plan = plan_restore(full.snapshot(), full.job.sources[0], full.restore_world, Choice())
    world = replace(full.restore_world, stop=lambda: True)
    restore = begin_restore(
        plan, os.fsencode(out), world, NO_LIMIT, tier=Tier.STANDARD, keys=lambda: [full.key]
    )
    assert read_place(restore, full.inventory) is None
    with pytest.raises(InterruptedRunError, match="was stopped"):
        deliver(restore, advance(restore, world), world)
    with way_to(str(out)) as way:
        assert read_place(restore, full.inventory) == place_of(way.handle, way.path)
    with full.inventory.reading() as tx:
        state = read_progress(tx, restore.number)
    assert state is not None
    assert state.has_begun
    assert deliver(restore, advance(restore, full.restore_world), full.restore_world).outcome is Outcome.DONE
    assert_same_tree(source, out)


def test_another_restore_that_begins_there_keeps_a_target_that_was_made(full: Site, out: Path) -> None:
    restore = begin(full, out)
    before = out.stat().st_ino
    cancel(restore, full.inventory, full.restore_world.key_directory, full.clock, keeps_target=True)
    assert (out.stat().st_ino, list(out.iterdir())) == (before, [])
