"""Directories that others put into a target before: what comes into them, and whose they get."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.errors import InterruptedRunError
from backup.kinds import Outcome
from backup.model import EntryKind, Owner, Problem, Tier
from backup.restorer.restore import advance, begin_restore, deliver, plan_restore
from backup.restorer.selection.choice import Choice, Overwrite
from backup.restorer.writer.directories import Target, way_to
from backup.restorer.writer.taken import LEFT
from backup.restorer.writer.write import Writer
from tests.restorer.bench import MINE, Bench, as_root, wanted
from tests.support.backups import Site
from tests.support.doubles import NO_LIMIT

MALLORY = Owner(4242, 4242)

pytestmark = as_root


def directory(bench: Bench, path: bytes, owner: Owner = MINE, mode: int = 0o755) -> None:
    bench.writer.directory(wanted(path, EntryKind.DIRECTORY, mode=mode, owner=owner))


def planted(place: Path, owner: Owner = MALLORY, mode: int = 0o777) -> Path:
    """A directory of hers, of whatever mode."""
    place.mkdir()
    place.chmod(mode)
    os.chown(place, owner.uid, owner.gid)
    return place


def whose(place: Path) -> tuple[int, int]:
    found = place.stat()
    return found.st_uid, stat.S_IMODE(found.st_mode)


def is_readable(top: Path, name: str) -> bool:
    """Whether she can read a file below a directory, however that can be reached."""
    words = ["cat", name]
    done = subprocess.run(
        words, cwd=top, user=4242, group=4242, extra_groups=[], capture_output=True, check=False
    )
    return done.returncode == 0


def test_nobody_reads_what_comes_into_a_directory_that_she_made(bench: Bench) -> None:
    bench.place.chmod(0o1777)
    for name in ("private", "private/sub"):
        planted(bench.place / name)
    (bench.place / "private" / "theirs").write_text("x")
    assert is_readable(bench.place, "private/theirs")
    for path in (b"private", b"private/sub"):
        directory(bench, path, mode=0o700)
        assert whose(bench.place / os.fsdecode(path)) == (0, 0o700)
    bench.file(b"private/db.conf", b"password", mode=0o644)
    assert not is_readable(bench.place, "private/db.conf")
    bench.writer.finish()
    assert whose(bench.place / "private") == (0, 0o700)
    assert bench.problems == []


def test_what_lay_in_it_and_was_not_replaced_is_reported(bench: Bench) -> None:
    private = planted(bench.place / "private")
    for name in ("replaced", "a\n", "b", "c", "d"):
        (private / name).write_text("hers")
        os.chown(private / name, 4242, 4242)
    planted(private / "sub", Owner(4343, 4343))
    (private / "roots").write_text("root's")
    directory(bench, b"private")
    directory(bench, b"private/sub", Owner(4343, 4343))
    bench.file(b"private/replaced", b"ours", owner=MALLORY)
    bench.writer.finish()
    (problem,) = bench.problems
    assert problem.path == b"private"
    *told, rest = problem.detail.partition("in it: ")[2].split(", ")
    assert (len(told), rest) == (3, "…")
    assert {"a\\x0a", "b", "c", "d"}.issuperset(told)


def test_a_directory_of_the_entrys_owner_stays_theirs_meanwhile(bench: Bench) -> None:
    home = planted(bench.place / "home", mode=0o755)
    directory(bench, b"home", MALLORY)
    assert whose(home) == (4242, 0o755)


def test_directories_that_keep_their_own_owner_keep_it_meanwhile(tmp_path: Path) -> None:
    target = Target(str(tmp_path / "kept"), replaces=False)
    kept = planted(tmp_path / "kept" / "d")
    problems: list[Problem] = []
    writer = Writer(target, problems.append, "0123456789abcdef")
    writer.directory(wanted(b"d", EntryKind.DIRECTORY))
    writer.finish()
    assert whose(kept) == (4242, 0o777)
    target.close()


@pytest.mark.parametrize(
    ("owner", "mode", "stays"),
    [
        (MINE, 0o777, True),
        (MINE, 0o775, True),
        (MALLORY, 0o755, True),
        (MINE, 0o1777, False),
        (MINE, 0o755, False),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_roots_own_is_not_given_away_where_others_could_put_it(
    bench: Bench, owner: Owner, mode: int, stays: bool, nested: bool
) -> None:
    """Also not what is in it: she moved all of it."""
    bench.place.chmod(mode)
    os.chown(bench.place, owner.uid, 12345 if mode == 0o775 else 0)
    box = planted(bench.place / "box", MINE, 0o700)
    if nested:
        directory(bench, b"box", MINE, 0o700)
        box = planted(box / "in", MINE, 0o700)
    path = os.fsencode(box.relative_to(bench.place))
    directory(bench, path, MALLORY)
    bench.file(path + b"/file", b"content")
    bench.writer.finish()
    assert whose(box) == ((0, 0o700) if stays else (4242, 0o755))
    assert [(problem.path, problem.detail) for problem in bench.problems] == [(path, LEFT)] * stays
    assert (box / "file").read_bytes() == b"content"


def test_what_was_in_a_directory_of_hers_is_not_given_away_once_that_is_ours(bench: Bench) -> None:
    planted(bench.place / "hers")
    planted(bench.place / "hers" / "box", MINE, 0o700)
    directory(bench, b"hers", Owner(4343, 4343))
    directory(bench, b"hers/box", MALLORY)
    bench.writer.finish()
    assert whose(bench.place / "hers" / "box") == (0, 0o700)
    assert LEFT in {problem.detail for problem in bench.problems}


@pytest.mark.parametrize("left", [(), (b"box",)])
def test_a_later_session_knows_what_it_made_and_what_it_left(tmp_path: Path, left: tuple[bytes, ...]) -> None:
    target = Target(str(tmp_path / "out"))
    (tmp_path / "out").chmod(0o777)
    box = planted(tmp_path / "out" / "box", MINE, 0o700)
    problems: list[Problem] = []
    writer = Writer(target, problems.append, "0123456789abcdef", resumes=True, left=left)
    writer.directory(wanted(b"box", EntryKind.DIRECTORY, mode=0o755, owner=MALLORY))
    writer.finish()
    assert whose(box) == ((0, 0o700) if left else (4242, 0o755))
    assert [problem.detail for problem in problems] == [LEFT] * len(left)
    target.close()


def test_a_restore_leaves_it_in_each_of_its_sessions(site: Site, source: Path, out: Path) -> None:
    (source / "box").mkdir()
    os.chown(source / "box", 4242, 4242)
    (source / "box" / "f").write_text("1")
    site.backup()
    out.mkdir()
    out.chmod(0o777)
    box = planted(out / "box", MINE, 0o700)
    world, choice = site.restore_world, Choice(overwrite=Overwrite.ALWAYS)
    with way_to(str(out)) as way:
        plan = plan_restore(site.snapshot(), site.job.sources[0], world, choice, target=way)
    restore = begin_restore(
        plan, os.fsencode(out), world, NO_LIMIT, tier=Tier.STANDARD, keys=lambda: [site.key]
    )
    stopped = replace(world, stop=lambda: True)
    with pytest.raises(InterruptedRunError):
        deliver(restore, advance(restore, world), stopped)
    report = deliver(restore, advance(restore, world), world)
    assert report.outcome is Outcome.PARTIAL
    assert [(problem.path, problem.detail) for problem in report.problems] == [(b"box", LEFT)]
    assert whose(box) == (0, 0o700)
