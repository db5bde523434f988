"""The walk: stable, by handles, never out of itself; what it cannot see is told, and is not gone."""

from __future__ import annotations

import os
import resource
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.model import Problem, ProblemKind
from backup.source import scan as scanning
from backup.source.filters import Filters
from backup.source.scan import scan
from backup.source.scanned import ScannedDirectory
from tests.source.scanned import paths
from tests.support.trees import on_another_disk


def walk(
    *sources: Path | str, filters: Filters | None = None
) -> tuple[list[ScannedDirectory], list[Problem]]:
    """All directories and problems of a walk to its end."""
    problems: list[Problem] = []
    found = scan(
        [os.fsencode(source) for source in sources], filters=filters or Filters(), report=problems.append
    )
    return list(found), problems


def details(problems: list[Problem]) -> dict[str, ProblemKind]:
    return {os.fsdecode(os.path.basename(problem.path)): problem.kind for problem in problems}


HERE = os.path.dirname(os.path.realpath(__file__))


def open_handles() -> int:
    return len(os.listdir("/proc/self/fd"))


def handles_towards(place: str) -> list[str]:
    """The open directories on the way to a place or in it: none of a thread that measures other folders."""
    held = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the handle that listed them
            held.append(os.readlink(f"/proc/self/fd/{number}"))
    inside = [
        path for path in held if path.startswith("/") and (place.startswith(path) or path.startswith(place))
    ]
    return sorted(filter(os.path.isdir, inside))


class TestOrder:
    def test_parents_come_before_children_and_names_in_order(self, source: Path) -> None:
        for name in ("b/x", "a/y", "a-/z", "c"):
            (source / name).mkdir(parents=True)
        directories, problems = walk(source)
        assert problems == []
        seen = [
            os.fsdecode(directory.path)
            for directory in directories
            if os.fsdecode(directory.path).startswith(str(source))
        ]
        assert seen == [str(source / name) for name in ("", "a", "a/y", "a-", "a-/z", "b", "b/x", "c")]
        assert paths(directories, source) == ["a", "a-", "b", "c", "a/y", "a-/z", "b/x"]

    def test_the_way_to_a_source_shows_nothing_else(self, source: Path) -> None:
        (source / "wanted").mkdir()
        (source / "wanted" / "file").touch()
        (source / "beside").touch()
        directories, _ = walk(source / "wanted")
        assert [directory.path for directory in directories[:2]] == [
            b"/",
            b"/" + os.fsencode(source.parts[1]),
        ]
        assert all(len(directory.entries) == 1 for directory in directories[:-1])
        assert [entry.leads_on for directory in directories[:-1] for entry in directory.entries][:-1].count(
            False
        ) == 0
        assert directories[-2].entries[0].leads_on is False, "the source itself is the job's"
        assert paths(directories, source) == ["wanted", "wanted/file"]

    def test_sources_beside_in_and_equal_to_each_other(self, source: Path) -> None:
        for name in ("one/deep", "two"):
            (source / name).mkdir(parents=True)
            (source / name / "file").touch()
        directories, problems = walk(
            source / "two", source / "one" / "deep", source / "one", source / "one", source / "two" / "file"
        )
        assert problems == []
        assert paths(directories, source) == ["one", "two", "one/deep", "one/deep/file", "two/file"]

    def test_a_file_or_a_symlink_as_source(self, source: Path) -> None:
        (source / "dir").mkdir()
        (source / "dir" / "inside").touch()
        (source / "file").touch()
        (source / "link").symlink_to("dir")
        directories, problems = walk(source / "file", source / "link")
        assert problems == []
        assert paths(directories, source) == ["file", "link"]

    def test_a_source_reached_through_a_symlink_lies_where_it_really_is(self, source: Path) -> None:
        (source / "real" / "inner").mkdir(parents=True)
        (source / "real" / "inner" / "file").touch()
        (source / "link").symlink_to("real")
        directories, _ = walk(source / "link" / "inner")
        assert paths(directories, source) == ["real", "real/inner", "real/inner/file"]

    def test_a_relative_source(self, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (source / "file").touch()
        monkeypatch.chdir(source.parent)
        problems: list[Problem] = []
        found = list(scan([b"source/../source/"], filters=Filters(), report=problems.append))
        assert paths(found, source) == ["file"]
        assert problems == []

    @pytest.mark.parametrize("end", ["", "/", "/.", "/inner/.."])
    def test_the_folder_above_a_symlink_is_that_of_its_target(self, source: Path, end: str) -> None:
        for name in ("data", "far/data", "far/target", "far/data/inner"):
            (source / name).mkdir(parents=True)
        (source / "far" / "data" / "file").touch()
        (source / "link").symlink_to("far/target")
        directories, problems = walk(f"{source}/link/../data{end}")
        assert problems == []
        assert paths(directories, source) == ["far", "far/data", "far/data/file", "far/data/inner"]

    def test_the_root_as_a_source_is_listed(self) -> None:
        walking = scan([b"/"], filters=Filters(), report=lambda _: None)
        root = next(walking)
        assert {entry.name for entry in root.entries} <= {os.fsencode(name) for name in os.listdir("/")}
        assert len(root.entries) > 3
        walking.close()


class TestHandles:
    @given(stop=st.integers(0, 30))
    def test_no_handle_stays_open_wherever_the_reader_stops(self, stop: int) -> None:
        before = handles_towards(HERE)
        walking = scan([os.fsencode(HERE)], filters=Filters(), report=lambda _: None)
        for _, _ in zip(range(stop), walking, strict=False):
            pass
        walking.close()
        assert handles_towards(HERE) == before

    def test_deeper_than_handles_are_allowed(self, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        handle = os.open(source, os.O_RDONLY)
        for level in range(400):
            for name in ("a", "b"):
                os.mkdir(name, dir_fd=handle)
            inner = os.open("a" if level % 2 else "b", os.O_RDONLY, dir_fd=handle)
            os.close(handle)
            handle = inner
        os.close(handle)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_handles() + scanning.MOST_OPEN + 10, hard))
        try:
            directories, problems = walk(source)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert problems == []
        assert len(paths(directories, source)) == 800
        os.system(f"rm -rf '{source}'")

    def test_a_directory_moved_away_under_the_walk_is_told(self, source: Path) -> None:
        (source / "a" / "b" / "c" / "d").mkdir(parents=True)
        (source / "a" / "later").mkdir()
        (source / "z").mkdir()
        problems: list[Problem] = []
        seen = []
        for directory in scan([os.fsencode(source)], filters=Filters(), report=problems.append, most_open=2):
            seen.append(os.path.basename(directory.path))
            if seen[-1] == b"d":
                (source / "a" / "b").rename(source.parent / "moved out")
        assert seen[-4:] == [b"a", b"b", b"c", b"d"]
        assert details(problems) == {"later": ProblemKind.VANISHED, "z": ProblemKind.VANISHED}


class TestSwaps:
    """Between listing and descending, something else is put in a directory's place."""

    def swap(self, source: Path, action: str) -> tuple[list[bytes], dict[str, ProblemKind]]:
        victim, outside = source / "victim", source.parent / "outside"
        victim.mkdir()
        (victim / "inside").touch()
        outside.mkdir()
        (outside / "secret").touch()
        problems: list[Problem] = []
        seen: list[bytes] = []
        for directory in scan([os.fsencode(source)], filters=Filters(), report=problems.append):
            seen.extend(entry.name for entry in directory.entries)
            if directory.path == os.fsencode(source):
                shutil.rmtree(victim)
                if action == "symlink":
                    victim.symlink_to(outside)
                elif action == "directory":
                    outside.rename(victim)
                elif action == "file":
                    victim.touch()
        return seen, details(problems)

    @pytest.mark.parametrize("action", ["symlink", "directory", "file", "nothing"])
    def test_is_never_followed_and_always_told(self, source: Path, action: str) -> None:
        seen, problems = self.swap(source, action)
        assert b"secret" not in seen
        assert problems == {"victim": ProblemKind.VANISHED}


class TestWhatIsLeftOut:
    def test_patterns(self, source: Path) -> None:
        for name in ("a.log", "sub/b.log", "sub/keep.txt", "node_modules/x", "deep/node_modules/y"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).touch()
        filters = Filters(["*.log", "node_modules/", f"{source}/deep/"])
        assert paths(walk(source, filters=filters)[0], source) == ["sub", "sub/keep.txt"]

    def test_caches_but_for_their_tag(self, source: Path) -> None:
        (source / "cache").mkdir()
        (source / "cache" / "CACHEDIR.TAG").write_bytes(b"Signature: 8a477f597d28d172789f06886806bc55\n# x")
        (source / "cache" / "junk").touch()
        (source / "fake").mkdir()
        (source / "fake" / "CACHEDIR.TAG").write_bytes(b"Signature: something else")
        (source / "fake" / "kept").touch()
        found = paths(walk(source, filters=Filters(exclude_caches=True))[0], source)
        assert found == ["cache", "fake", "cache/CACHEDIR.TAG", "fake/CACHEDIR.TAG", "fake/kept"]
        assert "cache/junk" in paths(walk(source)[0], source)

    def test_other_file_systems_but_for_what_is_a_source_itself(
        self, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("mount/inner/file", "mount/other", "plain/file"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).touch()
        mounted(monkeypatch, source / "mount")
        one = Filters(one_file_system=True)
        directories, problems = walk(source, filters=one)
        assert paths(directories, source) == ["mount", "plain", "plain/file"]
        shown = {directory.path: directory for directory in directories}
        assert list(shown[os.fsencode(source / "mount")].entries) == [], "so that what was below is let go"
        found = paths(walk(source, source / "mount" / "inner", filters=one)[0], source)
        assert found == ["mount", "plain", "mount/inner", "mount/inner/file", "plain/file"]
        assert "mount/other" in paths(walk(source)[0], source)
        assert problems == []


def mounted(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    """Let everything below `place` have another device number."""
    real_stat, real_fstat = os.stat, os.fstat
    inodes = {os.lstat(place).st_ino}
    for path, directories, files in os.walk(place):
        inodes |= {os.lstat(os.path.join(path, name)).st_ino for name in (*directories, *files)}

    def moved(found: os.stat_result) -> os.stat_result:
        if found.st_ino not in inodes:
            return found
        return on_another_disk(found)

    monkeypatch.setattr(os, "stat", lambda *args, **options: moved(real_stat(*args, **options)))
    monkeypatch.setattr(os, "fstat", lambda handle: moved(real_fstat(handle)))


class TestWhatCannotBeSeen:
    def test_a_missing_source_is_unread_and_not_gone(self, source: Path) -> None:
        (source / "here").mkdir()
        directories, problems = walk(source / "here", source / "gone" / "deeper")
        assert details(problems) == {"gone": ProblemKind.UNREADABLE}
        assert {directory.path: directory.unread for directory in directories}[os.fsencode(source)] == {
            b"gone"
        }

    def test_a_missing_source_below_another(self, source: Path) -> None:
        (source / "sub").mkdir()
        directories, problems = walk(source, source / "sub" / "gone")
        assert details(problems) == {"gone": ProblemKind.UNREADABLE}
        assert directories[-1].unread == {b"gone"}

    def test_a_name_that_cannot_be_looked_at(self, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (source / "bad").touch()
        (source / "good").touch()
        real = os.stat

        def failing(name: bytes, **options: bool) -> os.stat_result:
            if name == b"bad":
                raise OSError(5, "Input/output error")
            return real(name, **options)

        monkeypatch.setattr(os, "stat", failing)
        directories, problems = walk(source)
        assert [entry.name for entry in directories[-1].entries] == [b"good"]
        assert directories[-1].unread == {b"bad"}
        assert details(problems) == {"bad": ProblemKind.UNREADABLE}

    def test_a_directory_that_cannot_be_listed(self, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (source / "bad").mkdir()
        (source / "bad" / "inside").touch()
        (source / "good").mkdir()
        real = os.listdir
        inode = (source / "bad").stat().st_ino

        def failing(handle: int) -> list[str]:
            if os.fstat(handle).st_ino == inode:
                raise OSError(5, "Input/output error")
            return real(handle)

        monkeypatch.setattr(os, "listdir", failing)
        directories, problems = walk(source)
        assert [os.path.basename(directory.path) for directory in directories][-2:] == [b"source", b"good"]
        assert details(problems) == {"bad": ProblemKind.UNREADABLE}

    def test_a_file_that_goes_between_listing_and_looking_is_no_problem(
        self, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (source / "stays").touch()
        real = os.listdir
        monkeypatch.setattr(os, "listdir", lambda handle: [*real(handle), "ghost"])
        directories, problems = walk(source)
        assert problems == []
        assert [entry.name for entry in directories[-1].entries] == [b"stays"]
