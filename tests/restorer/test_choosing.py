"""A choice is kept with its restore: later sittings judge nothing anew, and remove only what was listed."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from backup.inventory.records.retrievals import Restore
from backup.model import MIB, Problem, ProblemKind, Tier
from backup.restorer.restore import RestorePlan, RestoreReport, advance, begin_restore, deliver, plan_restore
from backup.restorer.selection.choice import Choice, Overwrite
from backup.restorer.writer.directories import Target, way_to
from backup.restorer.writer.existing import Existing, read_back
from tests.restorer.bench import wanted
from tests.support.backups import Site
from tests.support.checks import proof_of, query
from tests.support.doubles import NO_LIMIT, Fault, FaultyVault, PowerCut, Silent
from tests.support.trees import assert_same_tree, snapshot_of


def begin(site: Site, out: Path, choice: Choice) -> Restore:
    world = site.restore_world
    with way_to(str(out)) as way:
        plan = plan_restore(site.snapshot(), site.job.sources[0], world, choice, target=way)
    return begin_restore(plan, os.fsencode(out), world, NO_LIMIT, tier=Tier.STANDARD, keys=lambda: [site.key])


def finish(site: Site, restore: Restore) -> RestoreReport:
    return deliver(restore, advance(restore, site.restore_world), site.restore_world)


def test_a_directory_of_the_same_name_deeper_in_what_else_was_chosen(
    site: Site, source: Path, out: Path
) -> None:
    """Found by docs/restore.md's own example: after what lies deep, what lies at the top is no way out."""
    for path in ("nginx/ssl/deep.pem", "nginx/nginx.conf", "ssl/site.pem", "ssl/site.txt"):
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_text(path)
    site.backup()
    choice = Choice(paths=(os.fsencode(source / "nginx"),), globs=(f"{source}/ssl/*.pem",))
    report = finish(site, begin(site, out, choice))
    assert report.problems == ()
    found = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert found == ["nginx/nginx.conf", "nginx/ssl/deep.pem", "ssl/site.pem"]


def test_what_came_after_the_question_is_not_removed(full: Site, source: Path, out: Path) -> None:
    full.restore("latest", out)
    (out / "sub" / "old").mkdir()
    (out / "sub" / "old" / "listed").write_text("x")
    restore = begin(full, out, Choice(delete=True))
    (out / "sub" / "old" / "later").write_text("x")
    (out / "later").write_text("x")
    report = finish(full, restore)
    assert report.removed == 1
    assert [os.fsdecode(problem.path) for problem in report.problems] == ["sub/old"]
    assert (out / "later").exists()
    assert sorted(path.name for path in (out / "sub" / "old").iterdir()) == ["later"]


def test_what_turned_into_a_symlink_meanwhile_leads_nowhere(full: Site, out: Path, tmp_path: Path) -> None:
    full.restore("latest", out)
    elsewhere = tmp_path / "elsewhere"
    (out / "old").mkdir()
    (out / "old" / "listed").write_text("x")
    restore = begin(full, out, Choice(delete=True))
    (out / "old").rename(elsewhere)
    (out / "old").symlink_to(elsewhere)
    finish(full, restore)
    assert (elsewhere / "listed").exists()


def test_what_was_unchanged_is_not_retrieved_and_stays_so_in_later_sittings(
    full: Site, source: Path, out: Path
) -> None:
    full.restore("latest", out)
    (out / "sub" / "deep" / "small-7").unlink()
    restore = begin(full, out, Choice(overwrite=Overwrite.IF_CHANGED))
    known = advance(restore, full.restore_world)
    assert sum(retrieval.extent.length for retrieval in known) < 2 * MIB
    (out / "large").write_bytes(b"changed after the look: it was agreed that it stays")
    report = finish(full, restore)
    assert (report.problems, report.files) == ((), 1)
    assert (out / "large").read_bytes().startswith(b"changed after")
    full.restore("latest", out)
    assert_same_tree(out, source)


@pytest.mark.parametrize("what", ["file", "symlink", "directory"])
def test_never_replaces_what_appears_while_it_waits(full: Site, out: Path, what: str) -> None:
    restore = begin(full, out, Choice(overwrite=Overwrite.NEVER))
    out.mkdir()
    place = out / "large"
    if what == "file":
        place.write_text("mine")
    elif what == "symlink":
        place.symlink_to("/nowhere")
    else:
        place.mkdir()
    before = os.lstat(place)
    report = finish(full, restore)
    assert [problem.path for problem in report.problems] == [b"large"]
    assert os.lstat(place).st_ino == before.st_ino
    assert not [name for name in os.listdir(out) if name.startswith(".nightvault-")]


@pytest.mark.parametrize("choice", [{"paths": True}, {"overwrite": Overwrite.NEVER}], ids=["way", "never"])
def test_directories_are_as_they_were_when_the_power_goes_before_the_first_record(
    site: Site, source: Path, out: Path, choice: dict[str, Any]
) -> None:
    deep = source / "way" / "to"
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"x" * 1000)
    for place, mode, day in ((deep, 0o750, 5), (deep.parent, 0o711, 6)):
        place.chmod(mode)
        os.utime(place, (day * 86_400, day * 86_400))
    site.backup()
    chosen = Choice(**(choice | ({"paths": (os.fsencode(deep / "file"),)} if "paths" in choice else {})))
    restore = begin(site, out, chosen)
    dark = site.reopen(FaultyVault(site.vault, Fault("fetch", PowerCut("before the first record"))))
    with pytest.raises(PowerCut):
        finish(dark, restore)
    assert (out / "way").stat().st_mode & 0o777 == 0o700
    site = dark.reopen(site.vault)
    assert finish(site, restore).problems == ()
    assert_same_tree(snapshot_of(deep.parent), out / "way")


def test_directories_of_others_keep_their_modes(site: Site, source: Path, out: Path) -> None:
    (source / "way").mkdir()
    (source / "way" / "file").write_bytes(b"x" * 1000)
    site.backup()
    (out / "way").mkdir(parents=True, mode=0o700)
    os.utime(out / "way", (86_400, 86_400))
    report = finish(site, begin(site, out, Choice(paths=(os.fsencode(source / "way" / "file"),))))
    assert report.problems == ()
    assert (out / "way").stat().st_mode & 0o777 == 0o700


def test_reading_back_finds_what_a_bad_disk_did(
    full: Site, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Target.syncing

    def syncing_and_spoiling(self: Target, paths: Sequence[bytes]) -> Callable[[], None]:
        sync = real(self, paths)

        def sync_and_spoil() -> None:
            sync()
            with (out / "large").open("r+b") as file:
                file.seek(MIB)
                file.write(b"bad disk")

        return sync_and_spoil

    monkeypatch.setattr(Target, "syncing", syncing_and_spoiling)
    report = finish(full, begin(full, out, Choice(verify=True)))
    assert [(problem.path, "read back" in problem.detail) for problem in report.problems] == [
        (b"large", True)
    ]
    assert report.verified == report.files - 3 - 1  # two symlinks and a FIFO have no content
    assert proof_of(full).opened < frames_of_data(full), "of its frames nothing counts"


def frames_of_data(site: Site) -> int:
    """Bytes of all frames that hold files."""
    sql = "SELECT sum(f.sealed_length) FROM frames f JOIN archives a ON a.number = f.archive WHERE a.kind = 1"
    return int(query(site, sql)[0][0])


def test_what_was_read_back_counts_as_opened(full: Site, out: Path) -> None:
    finish(full, begin(full, out / "first", Choice()))
    assert proof_of(full).last_opened is None, "it was not compared"
    finish(full, begin(full, out / "second", Choice(verify=True)))
    proof = proof_of(full)
    assert (proof.opened, proof.last_opened) == (frames_of_data(full), full.clock.now())


def test_what_was_kept_counts_for_nothing(full: Site, out: Path) -> None:
    """It was compared with names of chunks, and nothing of it came from the vault."""
    full.restore("latest", out)
    (out / "large").unlink()
    again = Choice(overwrite=Overwrite.IF_CHANGED, verify=True)
    finish(full, begin(full, out, again))
    assert 0 < proof_of(full).opened < frames_of_data(full)


def test_the_last_session_counts_what_earlier_ones_brought(framed: Site, out: Path) -> None:
    restore = begin(framed, out, Choice(verify=True))
    framed = replace(framed, checkpoint=MIB)
    cut = framed.reopen(FaultyVault(framed.vault, Fault("fetch", PowerCut("in the middle"), skip=3)))
    with pytest.raises(PowerCut):
        finish(cut, restore)
    assert proof_of(cut).last_opened is None
    site = cut.reopen(framed.vault)
    assert finish(site, restore).problems == ()
    assert proof_of(site).opened == frames_of_data(site)


# What stands at the target.


@contextmanager
def looking_at(place: Path) -> Iterator[Existing]:
    """What exists below a place, whose own handle is closed already."""
    handle = os.open(place, os.O_RDONLY)
    existing = Existing(handle)
    os.close(handle)
    yield existing
    existing.close()


def test_what_lies_in_a_missing_directory_is_not_looked_for_where_the_program_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / "sub").mkdir(parents=True)
    (tmp_path / "here" / "file").touch()
    (tmp_path / "here" / "link").symlink_to("file")
    (tmp_path / "target").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with looking_at(tmp_path / "target") as existing:
        assert existing.directory(b"none/sub") is None
        assert existing.stat(b"none", b"file") is None
        assert existing.open(wanted(b"none/file")) is None
        assert existing.link(wanted(b"none/link")) is None


def test_nothing_but_itself_is_looked_at(tmp_path: Path) -> None:
    """No symlink is followed, no FIFO waited for, and what is not there is not there."""
    place = tmp_path / "target"
    (place / "folder" / "sub").mkdir(parents=True)
    (place / "folder" / "file").touch()
    (place / "link").symlink_to("folder")
    (place / "dangling").symlink_to("nowhere")
    (place / "to-file").symlink_to("folder/file")
    os.mkfifo(place / "pipe")
    before = len(os.listdir("/proc/self/fd"))
    with looking_at(place) as existing:
        for path in (b"link", b"link/sub", b"folder/file", b"folder/none/sub", b"pipe"):
            assert existing.directory(path) is None, path
        for name in (b"link", b"dangling"):
            found = existing.stat(b"", name)
            assert found is not None
            assert stat.S_ISLNK(found.st_mode)
        assert existing.stat(b"folder", b"none") is None
        assert existing.link(wanted(b"dangling")) == b"nowhere"
        assert existing.link(wanted(b"pipe")) is None
        for path in (b"folder/sub", b"link", b"to-file", b"pipe", b"none", b"folder/none"):
            assert existing.open(wanted(path)) is None, path
        handle = existing.open(wanted(b"folder/file"))
        assert handle is not None
        os.close(handle)
        for _ in range(3):
            assert existing.directory(b"folder/sub") is not None
            assert existing.directory(b"") is not None
        for path in (b"folder/sub", b"folder"):
            assert existing.directory(path) is not None
        assert len(os.listdir("/proc/self/fd")) == before + 2
    assert len(os.listdir("/proc/self/fd")) == before


def planned(
    site: Site, out: Path, *, overwrite: Overwrite = Overwrite.IF_CHANGED, **more: Any
) -> RestorePlan:
    with way_to(str(out)) as way:
        choice = Choice(overwrite=overwrite, **more)
        return plan_restore(site.snapshot(), site.job.sources[0], site.restore_world, choice, target=way)


def judged(site: Site, out: Path, **choice: Any) -> list[int]:
    """How many entries a plan keeps, and how many it replaces."""
    confirmed = planned(site, out, **choice).confirmed
    return [len(confirmed.kept), confirmed.replaced]


def at_the_time_of(path: Path, change: Callable[[Path], object]) -> None:
    """Change what stands at a path, which keeps its time."""
    when = path.lstat().st_mtime_ns
    change(path)
    os.utime(path, ns=(when, when), follow_symlinks=False)


def anew(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """A change that puts something else in the place of what was there."""

    def change(path: Path) -> None:
        path.unlink()
        make(path)

    return change


CHANGES: dict[str, Callable[[Path], object]] = {
    "file": lambda path: path.write_text("longer than it was"),
    "empty": anew(os.mkfifo),
    "pipe": anew(Path.touch),
    "link": anew(lambda path: path.symlink_to("elsewhere")),
}


@pytest.mark.parametrize("name", [*CHANGES, "time", "device"])
def test_what_differs_in_one_thing_is_replaced(site: Site, source: Path, out: Path, name: str) -> None:
    for path in ("file", "time", "empty"):
        (source / path).write_text("" if path == "empty" else path)
    (source / "link").symlink_to("file")
    (source / "folder").mkdir()
    os.mkfifo(source / "pipe")
    if name == "device":
        device(source / "device", 3)
    site.backup()
    site.restore("latest", out)
    count = len(list(out.iterdir())) - 1  # directories are not counted
    assert judged(site, out) == [count, 0]
    assert judged(site, out, overwrite=Overwrite.ALWAYS) == [0, count]
    assert judged(site, out, overwrite=Overwrite.NEVER) == [count, 0]
    if name == "time":
        when = (out / name).stat().st_mtime_ns + 1
        os.utime(out / name, ns=(when, when))
    elif name == "device":
        (out / name).unlink()
        device(out / name, 5)
    else:
        at_the_time_of(out / name, CHANGES[name])
    assert judged(site, out) == [count - 1, 1]
    assert judged(site, out, overwrite=Overwrite.NEVER) == [count, 0]
    (out / name).unlink()
    for overwrite in (Overwrite.IF_CHANGED, Overwrite.NEVER):
        assert judged(site, out, overwrite=overwrite) == [count - 1, 0]
    assert judged(site, out, overwrite=Overwrite.ALWAYS) == [0, count - 1]


def device(path: Path, minor: int) -> None:
    """A device of memory; skips the test where none can be made."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, minor))
    except PermissionError:
        pytest.skip("no device can be made")


def test_hard_links_stay_or_go_together(site: Site, source: Path, out: Path) -> None:
    (source / "1").write_text("same")
    for name in "23":
        os.link(source / "1", source / name)
    site.backup()
    site.restore("latest", out)
    assert (judged(site, out), planned(site, out).left_alone) == ([3, 0], [])
    at_the_time_of(out / "3", anew(lambda path: path.write_text("same")))
    assert judged(site, out) == [3, 0], "two inodes of the same content"
    (told,) = planned(site, out).left_alone
    assert told.startswith("3 names are hard links in the snapshot, and files of their own at the target")
    at_the_time_of(out / "3", lambda path: path.write_text("another"))
    assert judged(site, out) == [0, 3], "one of its names has other content"
    assert planned(site, out).left_alone == [], "they are linked again"
    (out / "3").unlink()
    assert judged(site, out) == [0, 2]


def test_what_vanishes_while_it_is_compared_is_not_kept(
    site: Site, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "file").touch()
    site.backup()
    site.restore("latest", out)
    looks = iter([(out / "file").stat(), None])
    monkeypatch.setattr(Existing, "stat", lambda *_: next(looks))
    assert judged(site, out) == [0, 1]


def test_a_file_on_the_way_to_what_was_chosen_is_left_and_told(site: Site, source: Path, out: Path) -> None:
    (source / "way").mkdir()
    (source / "way" / "file").touch()
    site.backup()
    out.mkdir()
    (out / "way").write_text("mine")
    paths = (os.fsencode(source / "way" / "file"),)
    assert judged(site, out, paths=paths) == [0, 0]
    assert finish(site, begin(site, out, Choice(paths=paths))).problems
    assert (out / "way").read_text() == "mine"
    assert judged(site, out) == [0, 1]
    assert judged(site, out, overwrite=Overwrite.NEVER) == [0, 0]


HOLE = 3 * MIB


@pytest.fixture
def sparse(site: Site, source: Path, out: Path) -> Path:
    """A restored file: data, a hole, zeros that are data, data, a hole, data, and a hole."""
    with (source / "sparse").open("wb") as file:
        os.pwrite(file.fileno(), b"x" * MIB, 0)
        os.pwrite(file.fileno(), bytes(MIB) + b"y" * MIB, MIB + HOLE)
        os.pwrite(file.fileno(), b"w" * MIB, 3 * MIB + 2 * HOLE)
        file.truncate(4 * MIB + 3 * HOLE)
    site.backup()
    site.restore("latest", out)
    return out / "sparse"


def written(*pieces: tuple[int, bytes]) -> Callable[[Path], None]:
    """A change that writes something at places."""

    def change(path: Path) -> None:
        with path.open("r+b") as file:
            for place, data in pieces:
                os.pwrite(file.fileno(), data, place)

    return change


def punched(path: Path) -> None:
    """The same bytes with a larger hole in them."""
    with path.open("r+b") as file:
        file.truncate(0)
        os.pwrite(file.fileno(), b"x" * MIB, 0)
        os.pwrite(file.fileno(), b"y" * MIB, 2 * MIB + HOLE)
        os.pwrite(file.fileno(), b"w" * MIB, 3 * MIB + 2 * HOLE)
        file.truncate(4 * MIB + 3 * HOLE)


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        (written(), True),
        (written((MIB, bytes(HOLE))), True),
        (written((MIB + HOLE - 4096, bytes(4096)), (3 * MIB + HOLE, bytes(4096))), True),
        (written((3 * MIB + 2 * HOLE - 4096, bytes(4096))), True),
        (punched, True),
        (written((MIB, b"z")), False),
        (written((MIB, bytes(HOLE - 1) + b"z")), False),
        (written((MIB + HOLE - 1, b"z")), False),
        (written((3 * MIB + 2 * HOLE - 1, b"z")), False),
        (written((4 * MIB + 3 * HOLE - 1, b"z")), False),
        (written((MIB - 1, b"z")), False),
        (written((MIB + HOLE, b"z")), False),
        (written((3 * MIB + HOLE - 1, b"z")), False),
    ],
)
def test_the_holes_of_a_file_are_verified_too(
    site: Site, sparse: Path, out: Path, change: Callable[[Path], None], is_same: bool
) -> None:
    at_the_time_of(sparse, change)
    assert judged(site, out, verify=True) == ([1, 0] if is_same else [0, 1])
    assert judged(site, out) == [1, 0], "size and time are the same"


@pytest.mark.parametrize("name", ["pread", "lseek", "open"])
def test_what_cannot_be_read_is_not_the_same(
    site: Site, sparse: Path, out: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = getattr(os, name)

    def fail(what: Any, *given: Any, **how: Any) -> Any:
        if name != "open" or what == b"sparse":
            raise OSError(5, "Input/output error")
        return real(what, *given, **how)

    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(os, name, fail)
        assert judged(site, out, verify=True) == [0, 1]
    assert len(os.listdir("/proc/self/fd")) == before


def test_each_name_is_read_back_from_the_disk(
    site: Site, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But those that were told of already."""
    for name in ("a", "bad", "long", "link"):
        (source / name).write_text(name)
    os.link(source / "link", source / "linked")
    site.backup()
    site.restore("latest", out)
    at_the_time_of(out / "linked", anew(lambda path: path.write_text("LINK")))
    (out / "bad").write_text("BAD")
    (out / "long").write_text("long and more")
    (out / "a").write_text("A")
    forgotten: list[int] = []
    monkeypatch.setattr("backup.restorer.writer.existing.forget", forgotten.append)
    assert judged(site, out, verify=True)[1] == 5
    assert forgotten == [], "a comparison may read what is in memory"
    plan = plan_restore(site.snapshot(), site.job.sources[0], site.restore_world)
    told: list[Problem] = []
    advanced: list[tuple[int, int]] = []

    class Counting(Silent):
        def advance(self, *, files: int = 0, done: int = 0, **_: int) -> None:
            advanced.append((files, done))

    site = replace(site, progress=Counting())
    before = len(os.listdir("/proc/self/fd"))
    handle = os.open(out, os.O_RDONLY)
    assert read_back(handle, plan.selection, {b"a"}, site.restore_world, told.append) == 1
    os.close(handle)
    assert len(os.listdir("/proc/self/fd")) == before
    assert sorted(problem.path for problem in told) == [b"bad", b"linked", b"long"]
    assert {problem.kind for problem in told} == {ProblemKind.DAMAGED}
    assert advanced == [(1, 4)]
    assert len(forgotten) == 4
