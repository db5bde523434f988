"""A server with three nights of history in a directory vault, as fixtures for a `conftest.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backup.model import VaultName
from backup.vault.directory import DirectoryVault
from tests.support.backups import Site
from tests.support.doubles import ManualClock
from tests.support.integrity import change, fill

SIZE = 3 * 1024 * 1024


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def disk(tmp_path: Path, clock: ManualClock) -> DirectoryVault:
    vault = DirectoryVault(VaultName("disk"), str(tmp_path / "vault"), clock)
    vault.create()
    return vault


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    fill(folder, 1, SIZE)
    return folder


@pytest.fixture
def site(tmp_path: Path, disk: DirectoryVault, source: Path, clock: ManualClock) -> Iterator[Site]:
    """Three nights: catalog 1, which is full and a delta, then deltas 2 and 3."""
    site = Site.create(tmp_path / "state", disk, [source], clock=clock)
    site.backup()
    change(source, 2, SIZE // 4)
    clock.sleep(86400)
    site.backup()
    (source / "third night").write_text("of three")
    clock.sleep(86400)
    site.backup()
    yield site
    site.close()
