"""`--delete` where others may write: hours after the question, only that goes which was listed then."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from backup.format.rows import pack_u64
from backup.model import ProblemKind, Tier
from backup.restorer.restore import RestorePlan, RestoreReport, advance, begin_restore, deliver, plan_restore
from backup.restorer.selection.choice import Choice
from backup.restorer.writer.confirmed import Confirmed
from backup.restorer.writer.directories import way_to
from backup.restorer.writer.mark import MarkFile, place_of
from backup.restorer.writer.trail import Trail
from backup.vault.marker import MARKER
from tests.restorer.sites import sql
from tests.support.backups import Site
from tests.support.doubles import NO_LIMIT
from tests.support.trees import on_another_disk


def planned(site: Site, out: Path, choice: Choice | None = None) -> RestorePlan:
    with way_to(str(out)) as way:
        return plan_restore(
            site.snapshot(),
            site.job.sources[0],
            site.restore_world,
            choice or Choice(delete=True),
            target=way,
        )


def finish(site: Site, out: Path, plan: RestorePlan) -> RestoreReport:
    world = site.restore_world
    restore = begin_restore(
        plan, os.fsencode(out), world, NO_LIMIT, tier=Tier.STANDARD, keys=lambda: [site.key]
    )
    return deliver(restore, advance(restore, world), world)


@pytest.fixture
def shared(site: Site, source: Path, out: Path) -> Path:
    """A restored directory with hers, listed by `--delete`, and root's, which is excluded."""
    (source / "a").mkdir()
    (source / "a" / "x").write_text("1")
    site.backup()
    site.restore("latest", out)
    for name in ("mine", "roots"):
        (out / "a" / name / "sub").mkdir(parents=True)
        (out / "a" / name / "precious").write_text(name)
        (out / "a" / name / "sub" / "more").write_text(name)
    return out


EXCLUDING = Choice(delete=True, exclude=("roots/",))
ANOTHER = "not removed: it is another one than when you were asked"


def test_what_took_the_place_of_a_listed_entry_stays(site: Site, shared: Path) -> None:
    """Whoever may write in the directory renames what is not theirs, which they could not remove."""
    plan = planned(site, shared, EXCLUDING)
    (shared / "a" / "mine").rename(shared / "a" / "moved")
    (shared / "a" / "roots").rename(shared / "a" / "mine")
    report = finish(site, shared, plan)
    assert report.removed == 0
    told = {os.fsdecode(problem.path): problem.detail for problem in report.problems}
    assert told == dict.fromkeys(("a/mine", "a/mine/precious", "a/mine/sub", "a/mine/sub/more"), ANOTHER)
    for name in ("mine", "moved"):
        assert len(list((shared / "a" / name).rglob("*"))) == 3


@pytest.mark.parametrize("what", ["sub", "precious"])
def test_what_took_the_place_of_something_in_a_listed_directory_stays(
    site: Site, shared: Path, what: str
) -> None:
    plan = planned(site, shared, EXCLUDING)
    (shared / "a" / "mine" / what).rename(shared / "a" / "moved")
    (shared / "a" / "roots" / what).rename(shared / "a" / "mine" / what)
    report = finish(site, shared, plan)
    assert ANOTHER in {problem.detail for problem in report.problems}
    left = shared / "a" / "mine" / ("sub/more" if what == "sub" else what)
    assert left.read_text() == "roots"
    assert report.removed == (1 if what == "sub" else 2)


def test_a_listed_entry_in_another_directory_stays(site: Site, shared: Path) -> None:
    """Her own entry, in what is root's directory now: hard links, too, take an inode elsewhere."""
    plan = planned(site, shared, EXCLUDING)
    (shared / "a" / "roots" / "precious").unlink()
    os.link(shared / "a" / "mine" / "precious", shared / "a" / "roots" / "precious")
    (shared / "a" / "mine").rename(shared / "a" / "moved")
    (shared / "a" / "roots").rename(shared / "a" / "mine")
    assert finish(site, shared, plan).removed == 0
    assert (shared / "a" / "mine" / "precious").exists()


@pytest.mark.parametrize("depth", [".", "a", "a/mine"])
@pytest.mark.parametrize("older", [False, True])
def test_what_is_a_vault_by_now_stays(site: Site, shared: Path, depth: str, older: bool) -> None:
    """Also in a restore whose record, by an older version, does not say which entries it listed."""
    plan = planned(site, shared, EXCLUDING)
    if older:
        plan = replace(plan, confirmed=replace(plan.confirmed, inodes=b""))
    (shared / depth / MARKER).write_text("{}")
    report = finish(site, shared, plan)
    assert report.removed == 0
    assert "not removed: a vault lies there now" in {problem.detail for problem in report.problems}
    assert len(list((shared / "a" / "mine").rglob("[!n]*"))) == 3


def test_a_vault_that_holds_the_target_is_left_alone_from_the_start(site: Site, shared: Path) -> None:
    (shared / MARKER).write_text("{}")
    chosen = Choice(delete=True, paths=(site.job.sources[0] + b"/a",))
    assert planned(site, shared, chosen).confirmed.extraneous == ()


def test_a_vault_in_an_extraneous_directory_is_not_listed(site: Site, shared: Path) -> None:
    (shared / "a" / "mine" / "sub" / MARKER).write_text("{}")
    assert planned(site, shared, EXCLUDING).confirmed.extraneous == (b"a/mine/precious",)


def test_a_vault_in_a_directory_of_the_snapshot_is_not_listed(site: Site, shared: Path) -> None:
    (shared / "a" / MARKER).write_text("{}")
    (shared / "beside").touch()
    assert planned(site, shared, EXCLUDING).confirmed.extraneous == (b"beside",)


@contextmanager
def mounted(*words: Path | str) -> Iterator[None]:
    """Something that is mounted for a while; skips the test where nothing can be."""
    done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing can be mounted: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", words[-1]], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_what_is_bound_into_an_extraneous_directory_is_not_listed(
    site: Site, shared: Path, tmp_path: Path
) -> None:
    """Neither a directory of the same file system, nor a file of another."""
    (tmp_path / "hers").mkdir()
    (tmp_path / "hers" / "file").touch()
    (tmp_path / "memory").mkdir()
    with mounted("-t", "tmpfs", "tmpfs", tmp_path / "memory"):
        (tmp_path / "memory" / "file").touch()
        mine = shared / "a" / "mine"
        with (
            mounted("--bind", tmp_path / "hers", mine / "sub"),
            mounted("--bind", tmp_path / "memory" / "file", mine / "precious"),
        ):
            (mine / "other").touch()
            assert planned(site, shared, EXCLUDING).confirmed.extraneous == (b"a/mine/other",)
    listed = planned(site, shared, EXCLUDING).confirmed.extraneous
    assert sorted(listed) == [
        b"a/mine",
        *(b"a/mine/" + name for name in (b"other", b"precious", b"sub", b"sub/more")),
    ]


def test_what_could_not_be_listed_when_it_was_saved_stays(
    site: Site, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The snapshot holds the directory, and nothing of what was in it."""
    for name in ("closed", "open"):
        (source / name / "sub").mkdir(parents=True)
        (source / name / "sub" / "x").write_text("1")
    broken = (source / "closed").stat().st_ino
    real = os.listdir

    def listing(handle: int) -> list[str]:
        if os.stat(handle).st_ino == broken:
            raise OSError(5, "Input/output error")
        return real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", listing)
        (problem,) = site.backup().problems
    assert problem.path == os.fsencode(source / "closed")
    shutil.copytree(source, out)
    (out / "closed" / "new").write_text("2")
    (out / "open" / "new").write_text("2")
    report = finish(site, out, planned(site, out))
    assert (report.removed, report.problems) == (1, ())
    assert (out / "closed" / "sub" / "x").exists()
    assert (out / "closed" / "new").exists()
    assert not (out / "open" / "new").exists()


@pytest.mark.parametrize("spoiled", ["entry", "directory", "archive"])
def test_nothing_goes_where_the_list_of_the_snapshot_is_not_whole(
    site: Site, source: Path, out: Path, spoiled: str
) -> None:
    """Of one place it cannot be told what was there: what it does not name elsewhere may be just that."""
    (source / "a").mkdir()
    (source / "a" / "x").write_text("1")
    (source / "b").write_text("2")
    site.backup()
    shutil.copytree(source, out)
    (out / "stray").write_text("3")
    path = os.fsencode(source)
    texts: dict[str, tuple[str, *tuple[object, ...]]] = {
        "entry": ("UPDATE entries SET kind = 99 WHERE name = ?", b"b"),
        "directory": ("UPDATE directories SET path = ? WHERE path = ?", path + b"/../x", path + b"/a"),
        "archive": ("UPDATE archives SET state = 'lost' WHERE kind = ?", 1),
    }
    text, *values = texts[spoiled]
    sql(site, text, *values)
    report = finish(site, out, planned(site, out))
    assert report.removed == 0
    assert {problem.kind for problem in report.problems} == {ProblemKind.DAMAGED}
    assert sorted(path.name for path in out.rglob("*")) == ["a", "b", "stray", "x"]
    assert "not everything could be restored: nothing is removed" in site.progress.notes


@pytest.mark.parametrize(
    ("vanished", "told"),
    [
        ("name = CAST('x' AS BLOB)", "has 2 of its entries, and it was made with 3"),
        ("name = CAST('a' AS BLOB)", "/a, and not that directory"),
        ("name IN (CAST('b' AS BLOB), CAST('c' AS BLOB))", "/b/c, and not that directory"),
    ],
)
def test_nothing_goes_where_rows_of_the_inventory_are_gone(
    site: Site, source: Path, out: Path, vanished: str, told: str
) -> None:
    """Else what the snapshot holds, and the user has, would go as if it were of no snapshot."""
    for name in ("a", "b/c", "d"):
        (source / name).mkdir(parents=True)
        (source / name / "x").write_text(name)
    (source / "a" / "x").rename(source / "a" / "y")
    (source / "d" / "x").rename(source / "d" / "z")
    site.backup()
    shutil.copytree(source, out)
    (out / "stray").write_text("3")
    assert planned(site, out).confirmed.extraneous == (b"stray",)
    number = "(SELECT number FROM entries WHERE "
    sql(site, f"DELETE FROM hints WHERE entry IN {number}{vanished})")
    sql(site, f"DELETE FROM entries WHERE {vanished}")
    plan = planned(site, out)
    (warning,) = plan.left_alone
    assert told in warning
    assert "check --inventory" in warning
    assert finish(site, out, plan).removed == 0
    assert {path.name for path in out.rglob("*")} == {"a", "b", "c", "d", "x", "y", "z", "stray"}


def test_a_record_of_an_older_version_goes_on(site: Site, shared: Path) -> None:
    plan = planned(site, shared, EXCLUDING)
    assert Confirmed.decode(plan.confirmed.encode()) == plan.confirmed
    older = replace(plan.confirmed, inodes=b"")
    assert b"inodes" not in older.encode()
    report = finish(site, shared, replace(plan, confirmed=older))
    assert (report.removed, report.problems) == (4, ())


@pytest.mark.parametrize("shift", [0, 1])
def test_devices_count_unless_the_target_has_another_number_after_a_reboot(
    site: Site, shared: Path, shift: int
) -> None:
    plan, world = planned(site, shared, EXCLUDING), site.restore_world
    numbers = [identity for identity in plan.confirmed.identities() if identity is not None]
    moved = [number for identity in numbers for number in (identity.device + 1, *identity[1:])]
    plan = replace(plan, confirmed=replace(plan.confirmed, inodes=pack_u64(moved)))
    with way_to(str(shared)) as way:
        place, handle = place_of(way.handle, way.path), way.open()
    place = replace(place, device=place.device + shift)
    restore = begin_restore(
        plan, os.fsencode(shared), world, NO_LIMIT, tier=Tier.STANDARD, keys=lambda: [site.key], place=place
    )
    MarkFile(restore.id, world.secret).leave(handle)
    os.close(handle)
    assert deliver(restore, advance(restore, world), world).removed == (4 if shift else 0)


def deep(top: Path, levels: int, name: str = "d") -> None:
    """Directories in each other, deeper than a path can say."""
    handle = os.open(top, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=handle)
        below = os.open(name, os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = below
    os.close(os.open("bottom", os.O_CREAT | os.O_WRONLY, dir_fd=handle))
    os.close(handle)


def test_a_tree_of_any_depth_goes(site: Site, shared: Path, few_handles: None) -> None:
    """Nothing is called by itself for each level, and few handles are open."""
    shutil.rmtree(shared / "a" / "mine")
    deep(shared / "a", 500)
    (shared / "a" / "z").write_text("behind it")
    report = finish(site, shared, planned(site, shared, EXCLUDING))
    assert (report.removed, report.problems) == (502, ())
    assert sorted(os.listdir(shared / "a")) == ["roots", "x"]


def test_what_lies_too_deep_is_left_and_told(site: Site, shared: Path) -> None:
    deep(shared / "a", 30, "d" * 200)
    plan = planned(site, shared, EXCLUDING)
    (told,) = plan.left_alone
    assert "too deep" in told
    assert finish(site, shared, plan).removed == 4
    shutil.rmtree(shared / "a" / ("d" * 200))


def test_a_trail_whose_way_back_leads_elsewhere(tmp_path: Path, few_handles: None) -> None:
    deep(tmp_path, 6)
    handle = os.open(tmp_path, os.O_RDONLY)
    with Trail(handle) as trail:
        trail.go(b"d/d/d/d/d")
        (tmp_path / "d/d/d").rename(tmp_path / "moved")
        assert trail.up()
        assert trail.up()
        assert not trail.up()
        assert trail.identity == (os.fstat(handle).st_dev, os.fstat(handle).st_ino)
        trail.go(b"moved/d/d")
        trail.go(b"moved/d")
        assert trail.identity[1] == (tmp_path / "moved/d").stat().st_ino
        trail.go(b"d")
        assert trail.identity[1] == (tmp_path / "d").stat().st_ino
        (tmp_path / "d" / MARKER).write_text("{}")
        assert (trail.is_vault, trail.has_vault()) == (False, True)
    os.close(handle)


def test_a_trail_that_was_lost_goes_on_from_the_top(tmp_path: Path, few_handles: None) -> None:
    deep(tmp_path, 5)
    with trail_in(tmp_path) as trail:
        trail.go(b"d/d/d/d/d")
        (tmp_path / "d/d/d").rename(tmp_path / "moved")
        (tmp_path / "d/d/z").mkdir()
        (tmp_path / "z").mkdir()
        trail.go(b"d/d/z")
        assert trail.identity[1] == (tmp_path / "d/d/z").stat().st_ino


def test_a_trail_goes_into_directories_alone(tmp_path: Path) -> None:
    """A FIFO in the place of one would be waited for."""
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    with trail_in(tmp_path) as trail:
        for name in (b"file", b"link", b"none"):
            with pytest.raises(OSError, match=r"directory|symbolic"):
                trail.down(name)
        assert trail.identity[1] == tmp_path.stat().st_ino


def test_a_trail_leaves_no_handles(
    tmp_path: Path, few_handles: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep(tmp_path, 6)
    before = len(os.listdir("/proc/self/fd"))
    with trail_in(tmp_path) as trail:
        for _ in range(2):
            trail.go(b"d/d/d/d/d/d")
            trail.up()
            trail.up()
            trail.down(b"d")
            assert len(os.listdir("/proc/self/fd")) == before + 3, "the top, this one, and that above"
            trail.go(b"d")
        trail.go(b"d/d/d/d/d")
        (tmp_path / "d/d/d").rename(tmp_path / "moved")
        trail.up()
        trail.up()
        assert not trail.up()
        assert len(os.listdir("/proc/self/fd")) == before + 1
        trail.go(b"moved/d")
        with monkeypatch.context() as patch:
            patch.setattr("backup.restorer.writer.trail.mount_of", lambda handle: os.listdir(b"/none"))
            with pytest.raises(FileNotFoundError):
                trail.down(b"d")
        assert len(os.listdir("/proc/self/fd")) == before + 3
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("why", ["refused", "on another disk"])
def test_a_trail_has_no_way_back(
    tmp_path: Path, few_handles: None, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """To where it may not go, or to the same inode of another disk."""
    deep(tmp_path, 4)
    real = os.open

    def refuse(path: bytes, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == b"..":
            raise PermissionError(13, "Permission denied")
        return real(path, flags, mode, dir_fd=dir_fd)

    with trail_in(tmp_path) as trail:
        trail.go(b"d/d/d")
        found = os.fstat
        with monkeypatch.context() as patch:
            if why == "refused":
                patch.setattr(os, "open", refuse)
            else:
                patch.setattr(os, "fstat", lambda handle: on_another_disk(found(handle)))
            assert trail.up()
            assert not trail.up()
        assert trail.identity[1] == tmp_path.stat().st_ino


def test_a_trail_names_each_mount_on_its_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep(tmp_path, 5)
    steps = [tmp_path.joinpath(*["d"] * depth).stat().st_ino for depth in range(6)]
    mounts = dict(zip(steps, ("top", "first", "first", "second", "second", "top"), strict=True))
    monkeypatch.setattr(
        "backup.restorer.writer.trail.mount_of", lambda handle: mounts[os.fstat(handle).st_ino]
    )
    with trail_in(tmp_path) as trail:
        trail.go(b"d/d/d/d/d")
        assert list(trail.mount_points()) == [b"d", b"d/d/d", b"d/d/d/d/d"]
        assert trail.mount == (tmp_path.stat().st_dev, "top")
        trail.go(b"d/d")
        assert list(trail.mount_points()) == [b"d"]


def test_a_marker_that_leads_nowhere_is_one(tmp_path: Path) -> None:
    (tmp_path / MARKER).symlink_to("nowhere")
    with trail_in(tmp_path) as trail:
        assert (trail.is_vault, trail.has_vault()) == (True, True)


@contextmanager
def trail_in(place: Path) -> Iterator[Trail]:
    handle = os.open(place, os.O_RDONLY)
    with Trail(handle) as trail:
        os.close(handle)
        yield trail


def test_what_moves_while_it_is_listed_is_not_listed(
    site: Site, shared: Path, few_handles: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory on the way back is another one: what is behind it still is listed."""
    deep(shared / "a", 6)
    real = os.listdir

    def listing(handle: int) -> list[str]:
        names = real(handle)
        if "bottom" in names:
            (shared / "a" / "d" / "d" / "d").rename(shared / "a" / "zz")
        return names

    monkeypatch.setattr(os, "listdir", listing)
    listed = {os.fsdecode(path) for path in planned(site, shared, EXCLUDING).confirmed.extraneous}
    assert "a/mine/precious" in listed
    assert "a/d" not in listed


@pytest.fixture
def few_handles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two are open, and are closed and opened again all the time."""
    monkeypatch.setattr("backup.restorer.writer.trail.MOST_OPEN", 2)


# A source behind a symlink.


class Linked(Struct):
    """A job whose source is named through a symlink; restored whole below `out`, with more beside it."""

    site: Site
    link: Path  # above the source, as the job names it
    real: Path  # where that leads
    out: Path

    @classmethod
    def made(cls, site: Site, source: Path, out: Path) -> Linked:
        """Backed up and restored; each directory of the target has an `extra` that no snapshot has."""
        real, link = source / "disk" / "srv", source / "link"
        (real / "www" / "sub").mkdir(parents=True)
        (real / "www" / "sub" / "page").write_text("page")
        (real / "beside").mkdir()
        link.symlink_to(real)
        site = site.with_job(sources=[link / "www"])
        site.backup()
        site.restore("latest", out, path=b"/")
        made = cls(site, link, real, out)
        for folder in (out, *(path for path in out.rglob("*") if path.is_dir())):
            (folder / "extra").mkdir()
        return made

    def there(self, path: Path) -> Path:
        """A path of the source's machine below the target."""
        return self.out / path.relative_to("/")

    def listed(self, base: Path | str = "/", out: Path | None = None) -> set[str]:
        """The extraneous entries of a restore with `--delete`, by their absolute paths."""
        with way_to(str(out or self.out)) as way:
            plan = plan_restore(
                self.site.snapshot(),
                os.fsencode(base),
                self.site.restore_world,
                Choice(delete=True),
                target=way,
            )
        return {os.path.join(out or self.out, os.fsdecode(path)) for path in plan.confirmed.extraneous}


def test_what_a_source_behind_a_symlink_does_not_have_goes(site: Site, source: Path, out: Path) -> None:
    """Judged was what lies below the name that the job has for it, where no snapshot has anything."""
    linked = Linked.made(site, source, out)
    www = linked.there(linked.real / "www")
    assert linked.listed() == {str(www / "extra"), str(www / "sub" / "extra")}
    assert linked.listed(linked.real / "www", www) == linked.listed()
    report = finish(linked.site, www, planned(linked.site.with_job(sources=[linked.real / "www"]), www))
    assert (report.removed, report.problems) == (2, ())
    assert sorted(path.name for path in www.rglob("*")) == ["page", "sub"]
    assert (www.parent / "extra").exists()


def test_nothing_goes_where_the_symlink_was_and_a_directory_is(site: Site, source: Path, out: Path) -> None:
    """There are other files by now, which that job never read."""
    linked = Linked.made(site, source, out)
    place = linked.there(linked.link)
    (place / "www" / "sub" / "other").mkdir(parents=True)
    assert not [path for path in linked.listed() if path.startswith(str(place))]


def test_nothing_goes_where_a_symlink_is_now(site: Site, source: Path, out: Path, tmp_path: Path) -> None:
    """In place of the real directory, or of its parent: what it leads to is no part of the target."""
    linked = Linked.made(site, source, out)
    for place in (linked.there(linked.real / "www"), linked.there(linked.real)):
        elsewhere = tmp_path / f"elsewhere-{place.name}"
        place.rename(elsewhere)
        place.symlink_to(elsewhere)
        assert linked.listed() == set()
        place.unlink()
        elsewhere.rename(place)
    assert len(linked.listed()) == 2


def test_a_source_that_is_itself_a_symlink_has_nothing_to_be_judged(
    site: Site, source: Path, out: Path
) -> None:
    linked = Linked.made(site, source, out)
    linked.site = site.with_job(sources=[linked.link])
    linked.site.backup()
    place = linked.there(linked.link)
    (place / "www").mkdir(parents=True)
    assert linked.listed() == set()


def test_each_snapshot_goes_by_where_its_sources_led_then(site: Site, source: Path, out: Path) -> None:
    linked = Linked.made(site, source, out)
    linked.real.rename(source / "moved")
    linked.link.unlink()
    linked.link.symlink_to(source / "moved")
    www = linked.there(linked.real / "www")
    assert linked.listed() == {str(www / "extra"), str(www / "sub" / "extra")}
    linked.site.backup()
    assert linked.listed() == set(), "the newest snapshot has nothing there, and is asked for nothing there"


def test_a_snapshot_of_an_older_version_goes_by_the_names_of_its_sources(
    site: Site, source: Path, out: Path
) -> None:
    linked = Linked.made(site, source, out)
    with closing(sqlite3.connect(site.folder / "inventory.sqlite")) as database, database:
        database.execute("UPDATE snapshots SET roots = NULL")
    assert linked.listed() == set()
    assert linked.site.snapshot().tops == (os.fsencode(linked.link / "www"),)


@given(st.lists(st.sampled_from(["link", "disk", "srv", "www", "sub", "new"]), min_size=1, max_size=6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_outside_the_roots_is_ever_listed(known: Linked, steps: list[str]) -> None:
    place = known.there(known.link.parent).joinpath(*steps)
    if not place.is_dir():
        place.mkdir(parents=True)
    for path in known.listed():
        assert Path(path).is_relative_to(known.there(known.real / "www")), path


@pytest.fixture
def known(site: Site, source: Path, out: Path) -> Linked:
    return Linked.made(site, source, out)
