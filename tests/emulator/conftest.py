"""One emulator process for all tests of this folder that only talk to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.emulated import RunningEmulator, write_accounts
from tests.support.emulator_clients import Talker


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    """The shared emulator; tests keep to vaults of their own, and take planned faults back."""
    folder = tmp_path_factory.mktemp("emulator")
    accounts = write_accounts(folder / "accounts.toml")
    options = ("--idle-seconds", "1.5")
    with RunningEmulator(folder / "state", accounts, options=options, measured=True) as running:
        yield running
        running.stop()


@pytest.fixture(scope="session")
def talker(emulator: RunningEmulator) -> Talker:
    """A raw client of it."""
    return Talker(emulator.glacier_url)
