"""Patterns are gitignore's, anchored at the root of the file system."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backup.errors import ConfigError
from backup.source.filters import Filters, Reason, Tag
from backup.source.patterns import Pattern, Patterns, read_patterns


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
    assert (
        bool(Patterns([Pattern(pattern)]).leaving_out(directory, name, is_directory=is_directory)) is excluded
    )


def test_a_later_pattern_takes_back_an_earlier_one() -> None:
    patterns = Patterns([Pattern("*.log"), Pattern("!keep.log")])
    assert patterns.leaving_out(b"/a", b"x.log", is_directory=False)
    assert not patterns.leaving_out(b"/a", b"keep.log", is_directory=False)


def test_no_pattern_leaves_nothing_out() -> None:
    assert not Filters().looks
    assert Filters().leaving_out(b"/", b"anything", os.stat("/")) is None


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
        assert not Filters(exclude_caches=True).tag_in(handle, [b"CACHEDIR.TAG"])
    finally:
        os.close(handle)


WORDS = st.sampled_from(["a", "b", "ab", "a.b", "*", "a*", "?", "[ab]", "**", "*.b"])
LINES = st.builds(
    lambda negated, rooted, words, ended: negated + rooted + "/".join(words) + ended,
    st.sampled_from(["", "", "!"]),
    st.sampled_from(["", "", "/"]),
    st.lists(WORDS, min_size=1, max_size=3),
    st.sampled_from(["", "", "/"]),
)
NAMES = ["a", "b", "ab", "a.b"]
TREE = [
    *NAMES,
    *(f"{name}/{two}" for name in NAMES for two in NAMES),
    *(f"{name}/{two}/{three}" for name in NAMES[:2] for two in NAMES for three in NAMES),
]
FOLDERS = {path.rpartition("/")[0] for path in TREE} - {""}
FILES = [path for path in TREE if path not in FOLDERS]


def stays(patterns: Patterns, path: str) -> bool:
    """Whether a walk that goes into nothing that is left out comes to this path of the tree."""
    steps = path.split("/")
    for depth in range(1, len(steps) + 1):
        above, name = "/" + "/".join(steps[: depth - 1]), steps[depth - 1]
        is_directory = "/".join(steps[:depth]) in FOLDERS
        if patterns.leaving_out(above.encode(), name.encode(), is_directory=is_directory):
            return False
    return True


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("git")
    subprocess.run(["git", "init", "-q", folder], check=True)
    for path in FILES:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    return folder


@settings(max_examples=60, deadline=None)
@given(st.lists(LINES, min_size=1, max_size=5))
@example(["a", "**/*/**"])
@example(["a", "a/**/", "!a"])
def test_a_walk_leaves_out_what_git_does(repository: Path, lines: list[str]) -> None:
    (repository / ".git" / "info" / "exclude").write_text("\n".join(lines) + "\n")
    words = ["git", "ls-files", "--others", "--exclude-standard"]
    kept = subprocess.run(words, cwd=repository, check=True, capture_output=True, text=True).stdout.split()
    patterns = Patterns([Pattern(line) for line in lines])
    assert sorted(path for path in FILES if stays(patterns, path)) == sorted(kept)


class TestPatterns:
    def test_a_name_that_ends_in_a_line_feed_is_another_name(self) -> None:
        patterns = Patterns([Pattern("foo"), Pattern("*.tmp"), Pattern("/a/b")])
        for directory, name in ((b"/", b"foo\n"), (b"/", b"x.tmp\n"), (b"/a", b"b\n")):
            assert not patterns.leaving_out(directory, name, is_directory=False)
        assert patterns.leaving_out(b"/x\ny", b"foo", is_directory=False)
        assert patterns.leaving_out(b"/", b"x\ny.tmp", is_directory=False)

    def test_what_lies_in_a_source_below_something_left_out_stays(self) -> None:
        patterns = Patterns([Pattern("cache/"), Pattern("/home/x")])
        assert not patterns.leaving_out(b"/cache/wanted", b"file", is_directory=False)
        assert not patterns.leaving_out(b"/home/x", b"file", is_directory=False)

    def test_any_case(self) -> None:
        patterns = Patterns([Pattern("*.JPG", ignores_case=True), Pattern("/Tmp/\u00c4", ignores_case=True)])
        assert patterns.leaving_out(b"/", b"a.jPg", is_directory=False)
        assert patterns.leaving_out(b"/tMP", "\u00e4".encode(), is_directory=False)
        assert not Patterns([Pattern("*.JPG")]).leaving_out(b"/", b"a.jpg", is_directory=False)

    def test_the_line_that_decides_is_named(self, tmp_path: Path) -> None:
        file = tmp_path / "patterns"
        file.write_bytes(b"\xef\xbb\xbf# ours\r\n\n*.iso\r\n\xff*\n")
        patterns = Patterns(read_patterns(str(file)))
        found = patterns.leaving_out(b"/", b"a.iso", is_directory=False)
        assert found is not None
        assert (found.text, found.origin) == ("*.iso", f"{file}:3")
        assert patterns.leaving_out(b"/", b"\xffx", is_directory=False)

    @pytest.mark.parametrize("kind", ["absent", "directory", "fifo"])
    def test_a_file_that_cannot_be_read_is_an_error_that_names_it(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "patterns"
        if kind == "directory":
            path.mkdir()
        elif kind == "fifo":
            os.mkfifo(path)
        with pytest.raises(ConfigError, match=re.escape(str(path))):
            read_patterns(str(path))

    def test_a_line_that_means_nothing_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "patterns").write_text("fine\n!\n")
        with pytest.raises(ConfigError, match=r"patterns:2: "):
            Patterns(read_patterns(str(tmp_path / "patterns")))


class TestTags:
    def test_a_name_alone(self, tmp_path: Path) -> None:
        filters = Filters(tags=[Tag.parse(".nobackup")])
        handle = os.open(tmp_path, os.O_RDONLY)
        try:
            assert filters.tag_in(handle, [b"x"]) is None
            tag = filters.tag_in(handle, [b".nobackup", b"x"])
        finally:
            os.close(handle)
        assert tag is not None
        assert tag.name == b".nobackup"

    @pytest.mark.parametrize(("content", "tagged"), [(b"skip: me", True), (b"skip", False), (b"keep", False)])
    def test_a_name_with_a_header(self, tmp_path: Path, content: bytes, tagged: bool) -> None:
        (tmp_path / "tag").write_bytes(content)
        handle = os.open(tmp_path, os.O_RDONLY)
        try:
            found = Filters(tags=[Tag.parse("tag:skip: m")]).tag_in(handle, [b"tag"])
        finally:
            os.close(handle)
        assert bool(found) is tagged

    @pytest.mark.parametrize("text", ["", ":header", "a/b", "..", "."])
    def test_no_name(self, text: str) -> None:
        with pytest.raises(ConfigError):
            Tag.parse(text)


@pytest.mark.parametrize(("size", "left_out"), [(10, False), (11, True)])
def test_a_file_larger_than_the_limit(tmp_path: Path, size: int, left_out: bool) -> None:
    (tmp_path / "file").write_bytes(bytes(size))
    filters = Filters(larger_than=10)
    found = filters.leaving_out(b"/", b"file", os.stat(tmp_path / "file"))
    assert (found is not None and found.reason is Reason.SIZE) is left_out
    assert filters.leaving_out(b"/", b"folder", os.stat(tmp_path)) is None
