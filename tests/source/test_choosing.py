"""What a walk leaves out of which source, why it says so, and that no source is left out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from backup.model import Problem, ProblemKind
from backup.source.filters import Filters, LeftOut, Reason, Tag
from backup.source.roots import any_is_there
from backup.source.scan import scan
from tests.source.scanned import paths


class Walked:
    """A walk to its end."""

    def __init__(
        self, *sources: Path, filters: Filters | None = None, overrides: dict[Path, Filters] | None = None
    ) -> None:
        self.problems: list[Problem] = []
        self.left_out: list[LeftOut] = []
        self.directories = list(
            scan(
                [os.fsencode(path) for path in sources],
                filters=filters or Filters(),
                overrides={os.fsencode(path): override for path, override in (overrides or {}).items()},
                report=self.problems.append,
                left_out=self.left_out.append,
            )
        )

    def seen(self, top: Path) -> list[str]:
        return sorted(paths(self.directories, top))

    def why(self, top: Path) -> dict[str, Reason]:
        return {
            os.path.relpath(os.fsdecode(left_out.path), top): left_out.reason for left_out in self.left_out
        }


@pytest.fixture
def tree(source: Path) -> Path:
    for name in ("a/cache/x", "a/keep", "b/cache/y", "b/big"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    (source / "b" / "big").write_bytes(bytes(100))
    return source


def test_what_is_left_out_is_told_with_its_reason(tree: Path) -> None:
    (tree / "b" / ".nobackup").touch()
    walked = Walked(tree, filters=Filters(["cache/"], tags=[Tag(b".nobackup")]))
    assert walked.seen(tree) == ["a", "a/keep", "b", "b/.nobackup"]
    assert walked.why(tree) == {"a/cache": Reason.PATTERN, "b": Reason.TAG}
    assert walked.left_out[0].detail == "cache/ in exclude"


def test_large_files_are_left_out(tree: Path) -> None:
    walked = Walked(tree, filters=Filters(larger_than=99))
    assert "b/big" not in walked.seen(tree)
    assert walked.why(tree) == {"b/big": Reason.SIZE}


def test_a_source_has_its_own_filters_and_the_nearest_decides(tree: Path) -> None:
    walked = Walked(tree, tree / "b", filters=Filters(["cache/"]), overrides={tree / "b": Filters(["big"])})
    assert walked.seen(tree) == ["a", "a/keep", "b", "b/cache", "b/cache/y"]
    assert walked.why(tree) == {"a/cache": Reason.PATTERN, "b/big": Reason.PATTERN}


def test_a_source_below_what_is_left_out_is_walked(tree: Path) -> None:
    walked = Walked(tree, tree / "a" / "cache", filters=Filters(["cache/", "a/"]))
    assert walked.seen(tree) == ["a", "a/cache", "a/cache/x", "b", "b/big"]
    leads_on = {
        os.fsdecode(entry.name): entry.leads_on
        for directory in walked.directories
        for entry in directory.entries
    }
    assert leads_on["a"]
    assert not leads_on["cache"]
    assert walked.problems == []


def test_a_source_in_a_tagged_directory_is_walked(tree: Path) -> None:
    (tree / "a" / ".nobackup").touch()
    walked = Walked(tree, tree / "a" / "cache", filters=Filters(tags=[Tag(b".nobackup")]))
    assert walked.seen(tree) == [
        "a",
        "a/.nobackup",
        "a/cache",
        "a/cache/x",
        "b",
        "b/big",
        "b/cache",
        "b/cache/y",
    ]
    assert walked.problems == []


def test_a_source_of_another_file_system_is_walked_and_its_mount_point_saved() -> None:
    shm = os.stat("/dev/shm")
    if shm.st_dev == os.stat("/dev").st_dev:
        pytest.skip("nothing is mounted on /dev/shm here")
    walked = Walked(Path("/dev"), filters=Filters(one_file_system=True))
    assert LeftOut(b"/dev/shm", Reason.FILE_SYSTEM, walked.left_out[-1].detail).path in {
        left_out.path for left_out in walked.left_out if left_out.reason is Reason.FILE_SYSTEM
    }
    seen = {directory.path: {entry.name for entry in directory.entries} for directory in walked.directories}
    assert b"shm" in seen[b"/dev"]
    assert seen[b"/dev/shm"] == set()
    both = Walked(Path("/dev"), Path("/dev/shm"), filters=Filters(one_file_system=True))
    assert {os.path.relpath(b"/dev/shm", b"/dev")} <= {entry.name for entry in both.directories[1].entries}


def test_a_socket_is_told(tree: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tree / "s"))
        walked = Walked(tree)
    assert walked.why(tree) == {"s": Reason.SOCKET}
    assert [problem.kind for problem in walked.problems] == [ProblemKind.SKIPPED]


def test_whether_any_source_is_there(tree: Path) -> None:
    nowhere = os.fsencode(tree / "nowhere")
    (tree / "dangling").symlink_to("nowhere")
    assert not any_is_there([nowhere, nowhere + b"/below", os.fsencode(tree / "a" / "keep" / "below")])
    assert any_is_there([nowhere, os.fsencode(tree)])
    assert any_is_there([os.fsencode(tree / "dangling")])
