"""Roughly how much there is: counted no further than asked, on one file system, through no symlink."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from backup.source.roots import are_many


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Twelve entries below it, three deep; and symlinks to much more are two of them."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for number in range(100):
        (elsewhere / f"{number}").touch()
    top = tmp_path / "source"
    for place in ("a", "b", "b/c"):
        (top / place).mkdir(parents=True)
        for number in range(2):
            (top / place / f"{number}").touch()
    (top / "link").symlink_to(elsewhere)
    (top / "a" / "link").symlink_to(elsewhere)
    (top / "b" / "c" / "file").touch()
    return top


@pytest.mark.parametrize(("most", "expected"), [(0, True), (1, True), (11, True), (12, True), (13, False)])
def test_it_counts_everything_once(source: Path, most: int, expected: bool) -> None:
    before = len(os.listdir("/proc/self/fd"))
    assert are_many([os.fsencode(source)], most) is expected
    assert len(os.listdir("/proc/self/fd")) == before


def test_several_sources_count_together_and_one_that_is_missing_or_a_file_nothing(source: Path) -> None:
    sources = [os.fsencode(source / name) for name in ("missing", "a", "a/0", "b/c")]
    assert are_many(sources, 6)
    assert not are_many(sources, 7)


def test_a_source_that_is_a_symlink_is_not_followed(source: Path) -> None:
    assert not are_many([os.fsencode(source / "link")], 1)


def test_what_cannot_be_listed_counts_by_its_name(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refusing(path: object, flags: int, **how: int) -> int:
        if path == "b":
            raise PermissionError(13, "Permission denied")
        return real(path, flags, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refusing)
    assert are_many([os.fsencode(source)], 6)
    assert not are_many([os.fsencode(source)], 7)


def test_another_file_system_is_not_entered(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.stat

    def mounted(path: object, **how: object) -> os.stat_result:
        found = real(path, **how)  # type: ignore[arg-type]
        return os.stat_result((*found[:2], found[2] + (path == "b"), *found[3:]))

    monkeypatch.setattr(os, "stat", mounted)
    assert are_many([os.fsencode(source)], 6)
    assert not are_many([os.fsencode(source)], 7)


def test_very_deep_directories_do_not_run_out_of_handles(tmp_path: Path) -> None:
    place = tmp_path
    for _ in range(200):
        place /= "d"
        place.mkdir()
    before = len(os.listdir("/proc/self/fd"))
    assert are_many([os.fsencode(tmp_path)], 64)
    assert not are_many([os.fsencode(tmp_path)], 65)
    assert len(os.listdir("/proc/self/fd")) == before
