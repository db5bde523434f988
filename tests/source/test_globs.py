"""Globs: what a shell takes by them."""

from __future__ import annotations

import fnmatch
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.source.patterns import below_or_at, glob_regex, has_magic, of_name_or_path, plain_stem


@given(st.text("ab*?[]!-^\\.", max_size=8), st.text("ab-]^!.", max_size=6))
def test_a_step_is_what_fnmatch_takes(pattern: str, name: str) -> None:
    if "\\" in pattern or "**" in pattern or re.search(r"\[[!^]?\]?[^\]]*[-^]", pattern):
        return  # where shells and fnmatch differ
    assert bool(re.fullmatch(glob_regex(pattern), name, re.DOTALL)) == fnmatch.fnmatchcase(name, pattern)


@pytest.mark.parametrize(
    ("glob", "path", "takes"),
    [
        ("/a/*", "/a/b", True),
        ("/a/*", "/a/b/c", True),
        ("/a/*.x", "/a/b/c.x", False),
        ("/a/**/c", "/a/c", True),
        ("/a/**/c", "/a/b/b/c", True),
        ("/a/**/c", "/a/b/cc", False),
        ("/a/**", "/a/b/c", True),
        ("/a/[!b]", "/a/b", False),
        ("/a/[!b]", "/a/c", True),
        ("/a/[/]", "/a//", False),
        ("/a/[b", "/a/[b", True),
        ("/a/\\*", "/a/*", True),
        ("/a/\\*", "/a/b", False),
        ("/a/?", "/a/\n", True),
    ],
)
def test_paths(glob: str, path: str, takes: bool) -> None:
    assert bool(below_or_at([glob])(path)) == takes


def test_stems_and_magic() -> None:
    assert plain_stem("/a/b/*.c") == "/a/b"
    assert plain_stem("/*.c") == "/"
    assert plain_stem("/a/b[c]/d") == "/a"
    assert not has_magic("/a/b")


@pytest.mark.parametrize(
    ("pattern", "takes"),
    [
        ("c", True),
        ("C", False),
        ("b/c", True),
        ("a/c", False),
        ("/b/c", False),
        ("/a/b/c", True),
        ("a/**", True),
    ],
)
def test_names_and_paths(pattern: str, takes: bool) -> None:
    assert bool(of_name_or_path(pattern)(b"/a/b", b"c")) == takes
    assert of_name_or_path("C", ignores_case=True)(b"/", b"c")
