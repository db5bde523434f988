"""A second vault, empty."""

from __future__ import annotations

from pathlib import Path

import pytest

from backup.model import VaultName
from backup.vault.directory import DirectoryVault
from tests.support.doubles import ManualClock


@pytest.fixture
def second(tmp_path: Path, clock: ManualClock) -> DirectoryVault:
    """Another vault, empty."""
    vault = DirectoryVault(VaultName("second"), str(tmp_path / "second"), clock)
    vault.create()
    return vault
