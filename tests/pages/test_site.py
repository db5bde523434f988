"""The site: what `make docs` built fetches nothing when it is read; the pictures are as they are drawn."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pages import pictures, recorded_begin, recording
from tests.support.emulated import REPOSITORY

SITE = REPOSITORY / "build" / "site"
_FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed|object)\b[^>]*?\b(?:src|srcset|data)=["']?(https?:)?//"""
    r"""|<link\b(?=[^>]*\brel=["']?(?:stylesheet|preconnect|preload|icon|dns-prefetch))[^>]*\bhref=["']?(https?:)?//"""
    r"""|url\(["']?(https?:)?//|@import\s+["'](https?:)?//"""
)


def test_what_would_be_fetched_is_found() -> None:
    assert _FETCHED.search('<link rel="stylesheet" href="https://fonts.example/css?family=Roboto">')
    assert _FETCHED.search("<script async src=https://cdn.example/x.js></script>")
    assert _FETCHED.search("<img alt='' src='//cdn.example/x.png'>")
    assert _FETCHED.search("@font-face { src: url(https://cdn.example/x.woff2) }")
    assert not _FETCHED.search('<a href="https://semver.org">x</a><img src="pictures/demo.svg">')
    assert not _FETCHED.search('<link rel="canonical" href="https://example.org/">')


def files() -> Iterator[Path]:
    yield from (path for path in SITE.rglob("*") if path.suffix in {".html", ".css", ".svg"})


@pytest.mark.skipif(
    not SITE.exists() and "NIGHTVAULT_TEST_SITE" not in os.environ,
    reason="`make docs` has not built the site",
)
def test_the_site_fetches_nothing() -> None:
    found = [path for path in files() if _FETCHED.search(path.read_text())]
    assert not found, "these pages fetch something from elsewhere when they are read"
    pages = {str(path.relative_to(SITE)) for path in files()}
    assert {"index.html", "tutorial.html", "commands/restoring.html", "CHANGELOG.html", "site.css"} <= pages
    assert len([page for page in pages if page.startswith("adr/0")]) >= 15


def test_the_pictures_are_as_they_are_drawn() -> None:
    recorded = {recording.PICTURE, recorded_begin.PICTURE}
    drawn = [path for path in pictures.FOLDER.glob("*.svg") if path not in recorded]
    there = {path.name: path.read_text() for path in drawn}
    assert there == pictures.files(), "run `make pictures`, and commit docs/pictures/"


def test_the_recording_is_of_the_commands_that_the_demo_gives() -> None:
    text = recording.PICTURE.read_text()
    assert not _FETCHED.search(text)
    shown = re.sub(r"&#160;|\s+", " ", re.sub(r"<[^>]+>", "", text))
    for command in recording.SHOWN:
        assert f"nightvault {command}" in shown
    assert recording.END in shown
    assert "/tmp/" not in shown
