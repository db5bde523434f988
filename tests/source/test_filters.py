"""Patterns are gitignore's, anchored at the root of the file system."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from backup.errors import ConfigError
from backup.source.filters import Filters


@pytest.mark.parametrize(
    ("pattern", "path", "is_directory", "excluded"),
    [
        ("*.tmp", b"/a/b/c.tmp", False, True),
        ("*.tmp", b"/a/b/c.tmpx", False, False),
        ("/a/*.tmp", b"/a/c.tmp", False, True),
        ("/a/*.tmp", b"/b/a/c.tmp", False, False),
        ("cache/", b"/x/cache", True, True),
        ("cache/", b"/x/cache", False, False),
        ("/var/**/old", b"/var/a/b/old", False, True),
        ("a b", b"/x/a b", False, True),
        ("caf\u00e9", b"/caf\xc3\xa9", False, True),
        ("\udcff*", b"/\xff\xfe", False, True),
        ("# comment", b"/# comment", False, False),
        ("", b"/x", False, False),
    ],
)
def test_a_pattern(pattern: str, path: bytes, is_directory: bool, excluded: bool) -> None:
    directory, name = os.path.split(path)
    assert Filters([pattern]).excludes(directory, name, is_directory=is_directory) is excluded


def test_a_later_pattern_takes_back_an_earlier_one() -> None:
    filters = Filters(["*.log", "!keep.log"])
    assert filters.excludes(b"/a", b"x.log", is_directory=False)
    assert not filters.excludes(b"/a", b"keep.log", is_directory=False)


def test_no_pattern_leaves_nothing_out() -> None:
    assert not Filters().excludes(b"/", b"anything", is_directory=True)


def test_a_pattern_that_means_nothing_is_refused_by_its_key() -> None:
    with pytest.raises(ConfigError, match="exclude"):
        Filters(["!"])


@pytest.mark.parametrize("kind", ["fifo", "symlink", "directory", "absent", "empty"])
def test_only_a_file_can_tag_a_cache(tmp_path: Path, kind: str) -> None:
    tag = tmp_path / "CACHEDIR.TAG"
    if kind == "fifo":
        os.mkfifo(tag)
    elif kind == "symlink":
        (tmp_path / "real").write_bytes(b"Signature: 8a477f597d28d172789f06886806bc55")
        tag.symlink_to("real")
    elif kind == "directory":
        tag.mkdir()
    elif kind == "empty":
        tag.touch()
    handle = os.open(tmp_path, os.O_RDONLY)
    try:
        assert not Filters(exclude_caches=True).is_cache(handle)
    finally:
        os.close(handle)
