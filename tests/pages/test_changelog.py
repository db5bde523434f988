"""What changes is told by fragments in changelog.d; CHANGELOG.md holds releases alone."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from backup import __version__
from tests.support.emulated import REPOSITORY

RELEASED = {"0.2.0": "5469caf39634d519", "0.1.0": "3a3099396f659264"}
"""The first digits of the SHA-256 of what the changelog says of a release: that never changes."""
KINDS = ("added", "changed", "deprecated", "removed", "fixed", "security")
FRAGMENTS = sorted(path for path in (REPOSITORY / "changelog.d").iterdir() if path.name != "template.md")


@pytest.mark.parametrize("path", FRAGMENTS, ids=lambda path: path.name)
def test_a_fragment_has_a_kind_and_says_something(path: Path) -> None:
    assert re.fullmatch(rf"[a-z0-9-]+\.({'|'.join(KINDS)})\.md", path.name), (
        f"name it NAME.KIND.md, KIND one of {KINDS}"
    )
    text = path.read_text()
    assert text.strip().endswith((".", ")")), "end with a full stop"
    assert not text.startswith("- "), "without a dash: the release makes the list"


def test_the_changelog_has_releases_alone() -> None:
    text = (REPOSITORY / "CHANGELOG.md").read_text()
    unreleased, mark, releases = text.partition("<!-- Releases follow. -->")
    assert mark
    assert "\n- " not in unreleased, (
        "tell of a change in a file in changelog.d/ (CONTRIBUTING.md), not in CHANGELOG.md"
    )
    titles = re.findall(r"^## (.*)$", releases, re.MULTILINE)
    assert titles
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ \(\d{4}-\d\d-\d\d\)", title) for title in titles), titles
    for section in re.split(r"^## ", releases, flags=re.MULTILINE)[1:]:
        version = section.split()[0]
        digest = hashlib.sha256(f"## {section}".strip().encode()).hexdigest()[:16]
        assert RELEASED.get(version) == digest, (
            f"{version} was released: tell of a change in changelog.d/ ({digest})"
        )
    if ".dev" not in __version__:
        assert __version__ in " ".join(titles), f"{__version__} was released, and has no section"
