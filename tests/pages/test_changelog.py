"""What changes is told by fragments in changelog.d; CHANGELOG.md holds releases alone."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from backup import __version__
from tests.pages.findings import assert_none
from tests.support.emulated import REPOSITORY

RELEASED = {"0.2.0": "5469caf39634d519", "0.1.0": "3a3099396f659264"}
"""The first digits of the SHA-256 of what the changelog says of a release: that never changes."""
KINDS = ("added", "changed", "deprecated", "removed", "fixed", "security")
FRAGMENTS = sorted(path for path in (REPOSITORY / "changelog.d").iterdir() if path.name != "template.md")


def wrong_with(fragment: Path) -> Iterator[str]:
    """What of a fragment's name and text is not as a release takes it."""
    if not re.fullmatch(rf"[a-z0-9-]+\.({'|'.join(KINDS)})\.md", fragment.name):
        yield f"{fragment.name}: name it NAME.KIND.md, KIND one of {KINDS}"
    text = fragment.read_text()
    if not text.strip().endswith((".", ")")):
        yield f"{fragment.name}: end with a full stop"
    if text.startswith("- "):
        yield f"{fragment.name}: without a dash: the release makes the list"


def test_a_fragment_has_a_kind_and_says_something() -> None:
    assert_none(told for fragment in FRAGMENTS for told in wrong_with(fragment))


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
