"""An installation with one snapshot, and a target that is not there yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backups import Site
from tests.restorer.sites import plant


@pytest.fixture
def full(site: Site, source: Path) -> Site:
    """An installation with one snapshot of such a tree."""
    plant(source)
    site.backup()
    return site


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"
