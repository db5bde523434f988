"""An installation with one snapshot, and a target that is not there yet."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from backup.model import MIB
from tests.backups import Site
from tests.restorer.sites import plant


@pytest.fixture
def full(site: Site, source: Path) -> Site:
    """An installation with one snapshot of such a tree."""
    plant(source)
    site.backup()
    return site


@pytest.fixture
def framed(site: Site, source: Path) -> Site:
    """A tree of more than ten frames, with files that lie in several packs."""
    plant(source)
    content = random.Random(11)
    for number, size in enumerate((11, 2, 3, 2, 5)):
        (source / f"more-{number}").write_bytes(content.randbytes(size * MIB))
    site.backup()
    return site


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"
