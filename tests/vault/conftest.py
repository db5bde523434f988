"""Vaults of each kind, empty, with a way to make hours pass."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backup.model import VaultName
from backup.protocols import Vault
from backup.vault.directory import DirectoryVault
from backup.vault.glacier import GlacierVault
from tests.doubles import FaultyVault, ManualClock
from tests.emulated import RunningEmulator, write_accounts
from tests.vault.rigs import Rig, glacier_client, ripen

_numbers = itertools.count()


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    """One emulator for all tests of this process."""
    folder = tmp_path_factory.mktemp("emulator")
    with RunningEmulator(folder / "state", write_accounts(folder / "accounts.toml")) as running:
        yield running


@pytest.fixture(scope="session")
def client(emulator: RunningEmulator) -> Any:
    """One client for all tests: making one takes longer than most of them."""
    return glacier_client(emulator)


@pytest.fixture
def glacier(emulator: RunningEmulator, client: Any) -> Iterator[GlacierVault]:
    """A Glacier vault, made; planned faults are forgotten afterwards."""
    vault = GlacierVault(VaultName("cold"), client, f"vault-{next(_numbers)}")
    vault.create()
    yield vault
    emulator.set_faults([])


@pytest.fixture
def directory(tmp_path: Path) -> DirectoryVault:
    """A directory vault, made."""
    vault = DirectoryVault(VaultName("disk"), str(tmp_path / "vault"), ManualClock())
    vault.create()
    return vault


@pytest.fixture(params=["directory", "glacier", "directory behind faults", "glacier behind faults"])
def rig(request: pytest.FixtureRequest) -> Rig:
    """Each implementation of the seam in turn, also seen through a FaultyVault without faults."""
    wrap: Callable[[Vault], Vault] = FaultyVault if "faults" in request.param else lambda vault: vault
    if request.param.startswith("directory"):
        path = str(request.getfixturevalue("tmp_path") / "elsewhere")
        elsewhere: Vault = DirectoryVault(VaultName("disk"), path, ManualClock())
        vault = request.getfixturevalue("directory")
        return Rig(wrap(vault), lambda: None, lambda: None, wrap(elsewhere))
    emulator: RunningEmulator = request.getfixturevalue("emulator")
    vault = request.getfixturevalue("glacier")
    client = request.getfixturevalue("client")
    elsewhere = GlacierVault(VaultName("cold"), client, f"elsewhere-{next(_numbers)}")
    return Rig(
        wrap(vault), lambda: ripen(emulator), emulator.make_inventories, wrap(elsewhere), keeps_tokens=True
    )
