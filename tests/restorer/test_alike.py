"""A target that ignores case: of names that are one to it, one is restored, and each other is reported.

No file system of the usual kernel of CI does so: `os` does it here, in every directory that is opened. One
that does is mounted where the system has one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backup.kinds import Outcome
from backup.model import Tier
from backup.restorer.restore import RestoreReport, advance, begin_restore, deliver, plan_restore
from backup.restorer.selection.alike import MOST_COMPARED, AlikeNames
from backup.restorer.selection.choice import Choice, Overwrite
from backup.restorer.writer.directories import way_to
from tests.support.backups import Site
from tests.support.doubles import NO_LIMIT, Fault, FaultyVault, PowerCut
from tests.support.trees import assert_same_tree

ONE_OF = [  # what is one to such a target; the first is made, the others are reported
    ("Docs", "docs"),
    ("Docs/a", "docs/a"),
    ("EMPTY", "empty"),
    ("LINK", "link"),
    ("README", "Readme", "readme"),
    ("SYM", "sym"),
    ("dir/\u00dcber", "dir/u\u0308ber"),
    ("one/linked-1", "one/LINKED-1"),
]
LARGE = os.urandom(300_000)


def folded(name: str | bytes) -> str:
    return unicodedata.normalize("NFD", os.fsdecode(name).lower())


def ignore_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names in opened directories are found in any case, as on FAT."""

    def there(name: Any, directory: int | None) -> Any:
        if directory is None or os.fspath(name) in {"", b"", ".", b"."}:
            return name
        names = os.listdir(f"/proc/self/fd/{directory}")  # which may be open for its path alone
        found = [other for other in names if folded(other) == folded(name)]
        return type(name)(os.fsencode(found[0])) if found and isinstance(name, bytes) else name

    def of_one(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda name, *given, **how: function(there(name, how.get("dir_fd")), *given, **how)

    def of_two(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(one: Any, other: Any, **how: Any) -> Any:
            places = how.get("src_dir_fd"), how.get("dst_dir_fd")
            return function(there(one, places[0]), there(other, places[1]), **how)

        return call

    for name in ("open", "stat", "unlink", "rmdir", "mkdir", "readlink"):
        monkeypatch.setattr(os, name, of_one(getattr(os, name)))
    for name in ("rename", "link"):
        monkeypatch.setattr(os, name, of_two(getattr(os, name)))


@pytest.fixture
def alike(site: Site, source: Path) -> Site:
    """An installation with one snapshot of such names."""
    for path in (
        "Docs/a",
        "docs/a",
        "docs/b",
        "README",
        "Readme",
        "readme",
        "dir/u\u0308ber",
        "dir/\u00dcber",
    ):
        (source / path).parent.mkdir(exist_ok=True)
        (source / path).write_text(path)
    (source / "one").mkdir()
    (source / "one" / "linked-1").write_bytes(LARGE)
    for other in ("one/LINKED-1", "one/third"):
        os.link(source / "one" / "linked-1", source / other)
    for name in ("empty", "EMPTY"):
        (source / name).touch()
    (source / "EMPTY").chmod(0o640)
    for name in ("dir/STRASSE", "dir/stra\u00dfe"):  # like many of its names, but two to this target
        (source / name).write_text(name)
    for name in ("sym", "SYM"):
        (source / name).symlink_to(name)
    (source / "LINK").symlink_to("nowhere")
    (source / "link").write_bytes(LARGE[:200_000] + b"link")
    site.backup()
    return site


def restore(site: Site, out: Path, **choice: Any) -> RestoreReport:
    world, target = site.restore_world, os.fsencode(out)
    with way_to(str(out)) as way:
        plan = plan_restore(site.snapshot(), site.job.sources[0], world, Choice(**choice), target=way)
    begun = begin_restore(plan, target, world, NO_LIMIT, tier=Tier.STANDARD, keys=lambda: [site.key])
    return deliver(begun, advance(begun, world), world)


def whole(report: RestoreReport, out: Path) -> None:
    """Of each of these names one is there as it was, and each other was reported once."""
    assert report.outcome is Outcome.PARTIAL
    reported = sorted(os.fsdecode(problem.path) for problem in report.problems)
    assert [sum(name in reported for name in names) for names in ONE_OF] == [
        len(names) - 1 for names in ONE_OF
    ]
    assert len(reported) == sum(len(names) - 1 for names in ONE_OF)
    for path in out.rglob("*"):
        name = str(path.relative_to(out))
        if name in {"README", "Readme", "readme", "Docs/a", "docs/a", "dir/\u00dcber", "dir/u\u0308ber"}:
            assert folded(path.read_text()) == folded(name)
            assert path.read_text() not in reported, "what was reported is not there"
    assert (out / "Docs" / "b").read_text() == "docs/b", "directories of such names become one"
    assert (out / "EMPTY").stat().st_mode & 0o777 == 0o640, "the first of its names was not replaced"
    assert {path.read_text() for path in (out / "dir").iterdir()} >= {"dir/STRASSE", "dir/stra\u00dfe"}
    assert (out / "one" / "third").read_bytes() == LARGE
    assert sum(1 for path in (out / "one").iterdir()) == 2
    assert not list(out.rglob(".nightvault-*"))


def test_nothing_is_replaced_in_silence(alike: Site, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        ignore_case(patched)
        report = restore(alike, out)
    whole(report, out)
    detail = {os.fsdecode(problem.path): problem.detail for problem in report.problems}
    assert "the target takes it and README for one file, and has that; not restored" in {*detail.values()}


def test_also_not_by_a_second_restore_and_after_a_cut(
    alike: Site, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        ignore_case(patched)
        dark = alike.reopen(FaultyVault(alike.vault, Fault("fetch", PowerCut("before the first record"))))
        with pytest.raises(PowerCut):
            restore(dark, out)
        site = dark.reopen(alike.vault)
        whole(restore(site, out), out)
        there = sorted((path, path.lstat().st_ino) for path in out.rglob("*"))
        again = restore(site, out, overwrite=Overwrite.IF_CHANGED)
        assert again.outcome is Outcome.PARTIAL
        assert sorted((path, path.lstat().st_ino) for path in out.rglob("*") if path.is_dir()) == [
            pair for pair in there if pair[0].is_dir()
        ]
        assert (out / "README").read_text() == "README"
        site.close()


def test_what_is_there_in_another_case_is_not_extraneous(
    site: Site, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "readme").write_text("new")
    site.backup()
    out.mkdir()
    (out / "README").write_text("old")
    (out / "stray").write_text("x")
    with monkeypatch.context() as patched:
        ignore_case(patched)
        report = restore(site, out, delete=True)
    assert (report.outcome, report.removed) == (Outcome.DONE, 1)
    assert [path.read_text() for path in out.iterdir()] == ["new"]
    (out / "README").write_text("old")  # where case counts, the other is another file
    for _ in range(2):
        assert restore(site, out, delete=True).removed == 1
        (out / "README").write_text("old")


def test_names_that_were_chosen(site: Site, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("deep/Docs/a", "deep/docs/a", "deep/docs/b"):
        (source / path).parent.mkdir(exist_ok=True, parents=True)
        (source / path).write_text(path)
    site.backup()
    with monkeypatch.context() as patched:
        ignore_case(patched)
        report = restore(site, out, include=("docs", "Docs"))
    assert [os.fsdecode(problem.path) for problem in report.problems] == ["deep/docs", "deep/docs/a"]
    assert (out / "deep" / "Docs" / "a").read_text() == "deep/Docs/a"
    assert (out / "deep" / "Docs" / "b").read_text() == "deep/docs/b"


def test_names_of_a_large_directory_are_not_all_kept_in_memory() -> None:
    few, many = AlikeNames(), AlikeNames()
    names = [b"%d" % number for number in range(MOST_COMPARED)]
    few.note(b"d", names)
    assert not few.may_meet(b"d")
    for at in range(0, len(names), 1000):
        many.note(b"d", names[at : at + 1000])
    many.note(b"d", [b"one more"])
    assert many.may_meet(b"d")
    assert not many.may_meet(b"")


def test_where_case_counts_all_come_back(alike: Site, source: Path, out: Path) -> None:
    report = restore(alike, out)
    assert (report.outcome, report.problems) == (Outcome.DONE, ())
    assert_same_tree(out, source)


def mounted() -> bool:
    """Whether FAT can be mounted here, in a mount namespace."""
    kernel = Path("/proc/filesystems").read_text().split()
    return os.geteuid() == 0 and "vfat" in kernel and all(map(shutil.which, ("unshare", "mkfs.vfat")))


@pytest.mark.skipif(not mounted(), reason="needs root, a mount namespace, and FAT in the kernel")
def test_on_fat(site: Site, source: Path, tmp_path: Path) -> None:
    for name in ("README", "readme"):
        (source / name).write_text(name)
    site.backup()
    site.close()
    image, out = tmp_path / "image", tmp_path / "out"
    out.mkdir()
    image.write_bytes(bytes(1 << 20))
    subprocess.run(["mkfs.vfat", str(image)], check=True, capture_output=True)
    words = [str(site.folder), str(tmp_path / "vault"), str(source), str(out)]
    script = 'mount -o loop "$1" "$2"; shift 2; exec "$@"'
    restoring = [sys.executable, "-m", "tests.support.restores", *words]
    command = ["unshare", "--mount", "sh", "-ec", script, "sh", str(image), str(out), *restoring]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert '["readme", "not-set"' in done.stdout
