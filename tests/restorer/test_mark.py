"""An open restore's target bears a mark; what goes on with it unattended writes nowhere else."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.errors import IntegrityError, TargetError
from backup.format.keys import ChunkSecret
from backup.inventory.records.retrievals import Restore
from backup.inventory.store.states import RestoreStage
from backup.kinds import Outcome
from backup.model import Tier
from backup.restorer.context import RestoreContext
from backup.restorer.restore import advance, begin_restore, cancel, deliver, find_restore, plan_restore
from backup.restorer.selection.choice import Choice
from backup.restorer.writer.directories import way_to
from backup.restorer.writer.mark import MarkFile, bears_mark, leave_mark, made_target, name_of, require_mark
from tests.restorer.sites import sql
from tests.support.backups import Site
from tests.support.doubles import NO_LIMIT
from tests.support.trees import assert_same_tree

SECRET = ChunkSecret(bytes(32))


@pytest.fixture
def alone(full: Site) -> RestoreContext:
    """The world of somebody whom nobody attends."""
    return replace(full.restore_world, unattended=True)


@pytest.fixture
def handle(tmp_path: Path) -> Iterator[int]:
    opened = os.open(tmp_path, os.O_RDONLY)
    yield opened
    os.close(opened)


def begin(site: Site, out: Path, choice: Choice | None = None) -> Restore:
    """A restore as a command begins it: its target is made, then it is recorded, then marked."""
    world = site.restore_world
    plan = plan_restore(site.snapshot(), site.job.sources[0], world, choice or Choice())
    with way_to(str(out)) as way, made_target(way) as made:
        begun = begin_restore(
            plan, os.fsencode(out), world, NO_LIMIT, tier=Tier.STANDARD, keys=lambda: [site.key]
        )
        leave_mark(begun, world, made=made)
    return begun


def test_a_marked_target_is_gone_on_with_and_keeps_nothing_of_it(
    full: Site, source: Path, out: Path, alone: RestoreContext
) -> None:
    restore = begin(full, out)
    assert os.listdir(out) == [os.fsdecode(name_of(restore.id))]
    assert (out / os.listdir(out)[0]).stat().st_mode & 0o777 == 0o600
    require_mark(restore, alone)
    assert deliver(restore, advance(restore, alone), alone).outcome is Outcome.DONE
    assert_same_tree(source, out)


@pytest.mark.parametrize("place", ["is empty", "is another", "is gone", "is a file", "bears another's mark"])
def test_no_other_place_is_written_to_unattended(
    full: Site, out: Path, alone: RestoreContext, place: str
) -> None:
    restore = begin(full, out)
    known = advance(restore, full.restore_world)
    aside = out.with_name("aside")
    out.rename(aside)
    if place == "is a file":
        out.write_text("a file")
    elif place != "is gone":
        out.mkdir()
    if place == "is another":
        (out / "something").write_text("else")
    elif place == "bears another's mark":
        (out / os.fsdecode(name_of(restore.id))).write_text("nightvault restore: forged\n")
    before = sorted(out.iterdir()) if out.is_dir() else out.exists()
    for act in (lambda: require_mark(restore, alone), lambda: deliver(restore, known, alone)):
        with pytest.raises(TargetError) as caught:
            act()
        assert f"restore {restore.id} does not go on unattended" in str(caught.value)
        assert "restore resume" in caught.value.advice
    assert (sorted(out.iterdir()) if out.is_dir() else out.exists()) == before
    assert bears_mark(replace(restore, target=os.fsencode(aside)), full.restore_world.secret)


@pytest.mark.parametrize(
    "forge",
    [
        lambda path: path.write_text("nightvault restore 0123456789abcdef goes on here: 0\n"),
        lambda path: path.symlink_to("/etc/hostname"),
        os.mkfifo,
        lambda path: path.mkdir(),
    ],
    ids=["text", "symlink", "fifo", "directory"],
)
def test_only_the_server_can_make_a_mark(tmp_path: Path, handle: int, forge: Callable[[Path], None]) -> None:
    mark = MarkFile("0123456789abcdef", SECRET)
    forge(tmp_path / os.fsdecode(name_of("0123456789abcdef")))
    assert not mark.is_in(handle)
    mark.leave(handle)  # it is in the way, and stays
    assert not mark.is_in(handle)


def test_a_mark_is_that_of_one_restore_of_one_server(tmp_path: Path, handle: int) -> None:
    MarkFile("0123456789abcdef", SECRET).leave(handle)
    assert MarkFile("0123456789abcdef", SECRET).is_in(handle)
    assert not MarkFile("0123456789abcdef", ChunkSecret(b"x" * 32)).is_in(handle)
    (path,) = tmp_path.iterdir()
    path.rename(tmp_path / os.fsdecode(name_of("fedcba9876543210")))
    assert not MarkFile("fedcba9876543210", SECRET).is_in(handle)


def test_a_symlink_to_the_mark_is_none(tmp_path: Path, handle: int) -> None:
    """Who owns the directory above moves the real one away, and puts such a link into another."""
    mark = MarkFile("0123456789abcdef", SECRET)
    mark.leave(handle)
    (path,) = tmp_path.iterdir()
    (tmp_path / "moved").mkdir()
    path.rename(tmp_path / "moved" / path.name)
    path.symlink_to(tmp_path / "moved" / path.name)
    assert not mark.is_in(handle)


def test_where_no_mark_was_none_is_left_after_a_failure(tmp_path: Path, handle: int) -> None:
    """It would let a restore go on unattended in a directory that bore none."""
    mark = MarkFile("0123456789abcdef", SECRET)
    for _ in range(2):
        there = os.listdir(tmp_path)
        with pytest.raises(IntegrityError), mark.lifted(handle):
            raise IntegrityError("a file is damaged")
        assert os.listdir(tmp_path) == there
        mark.leave(handle)
    (path,) = tmp_path.iterdir()
    opened = [os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]
    assert str(path.resolve()) not in opened


def _may_not(*_given: object, **_how: object) -> None:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def test_where_none_can_be_left_a_person_goes_on_all_the_same(
    full: Site, source: Path, out: Path, alone: RestoreContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ordinary user restores in place, below a `/` that is not his."""
    with monkeypatch.context() as patch:
        patch.setattr("backup.restorer.writer.mark.create_durably", _may_not)
        restore = begin(full, out)
    with pytest.raises(TargetError, match="does not bear its mark"):
        require_mark(restore, alone)
    world = full.restore_world
    assert deliver(restore, advance(restore, world), world).outcome is Outcome.DONE
    assert_same_tree(source, out)


def test_a_disk_that_is_not_mounted_any_more_is_told(full: Site, out: Path) -> None:
    """Otherwise the rest would be written below the mount point, and all would be said to be there."""
    restore = begin(full, out)
    sql(full, "UPDATE restores SET progress = ? WHERE id = ?", b"\x81\xa5files\x07", restore.id)
    with_mark = sorted(out.iterdir())
    leave_mark(restore, full.restore_world)
    assert sorted(out.iterdir()) == with_mark
    out.rename(out.with_name("disk"))
    for _ in ("it is gone", "it is empty"):
        with pytest.raises(TargetError, match=r"wrote 7 files below .* nothing is there") as caught:
            leave_mark(restore, full.restore_world)
        assert f"restore cancel {restore.id}" in caught.value.advice
        out.mkdir(exist_ok=True)


def test_a_target_that_is_gone_for_now_keeps_its_restore_open(full: Site, out: Path) -> None:
    restore, world = begin(full, out), full.restore_world
    out.rename(out.with_name("aside"))
    out.write_text("in the way")
    known = advance(restore, world)
    for act in (lambda: leave_mark(restore, world), lambda: deliver(restore, known, world)):
        with pytest.raises(TargetError, match="cannot be used"):
            act()
    assert find_restore(full.inventory, restore.id).state is RestoreStage.OPEN


def cut(target: Path, act: Callable[[], Restore | None]) -> Restore | None:
    """Ctrl-C while a restore into that target is begun, after `act`; what that gave."""
    done = None
    with suppress(KeyboardInterrupt), way_to(str(target)) as way, made_target(way):
        assert target.is_dir()
        done = act()
        raise KeyboardInterrupt
    return done


def test_a_new_restore_that_is_cut_leaves_its_target_only_if_it_is_marked(full: Site, out: Path) -> None:
    cut(out / "deep" / "er", lambda: None)
    assert not out.exists()
    out.mkdir()
    cut(out, lambda: None)
    assert list(out.iterdir()) == []
    restore = cut(out / "new", lambda: begin(full, out / "new"))
    assert restore is not None
    assert bears_mark(restore, full.restore_world.secret)


def test_an_end_that_fails_leaves_it(
    full: Site, source: Path, out: Path, alone: RestoreContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore = begin(full, out, Choice(verify=True))

    def fail(*_: object) -> None:
        raise IntegrityError("the disk lost it")

    with monkeypatch.context() as patch:
        patch.setattr("backup.restorer.session.read_back", fail)
        with pytest.raises(IntegrityError):
            deliver(restore, advance(restore, alone), alone)
    require_mark(restore, alone)
    assert deliver(restore, advance(restore, alone), alone).outcome is Outcome.DONE
    assert_same_tree(source, out)


def test_one_that_is_given_up_takes_it_along(full: Site, out: Path) -> None:
    out.mkdir()
    os.utime(out, ns=(1_000_000_000, 2_000_000_000))
    restore = begin(full, out)
    cancel(restore, full.inventory, full.restore_world.key_directory, full.clock)
    assert list(out.iterdir()) == []
    assert out.stat().st_mtime_ns == 2_000_000_000


@pytest.mark.parametrize("holds", [True, False])
def test_a_target_that_was_made_for_one_that_is_given_up_goes(full: Site, out: Path, holds: bool) -> None:
    restore = begin(full, out)
    if holds:
        (out / "mine").write_text("put there meanwhile")
    cancel(restore, full.inventory, full.restore_world.key_directory, full.clock)
    assert out.exists() == holds
    assert not holds or [path.name for path in out.iterdir()] == ["mine"]
