"""The vaults that the model walks over, each with its time: a directory, Glacier and S3 on an emulator."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from backup.model import VaultName
from backup.vault.directory import DirectoryVault
from backup.vault.glacier import GlacierVault
from backup.vault.s3.requests import Bucket
from backup.vault.s3.vault import S3Vault
from tests.support.clocks import EmulatorClock
from tests.support.doubles import ManualClock
from tests.support.emulated import REGION, RunningEmulator
from tests.support.holding import Ground
from tests.support.rigs import glacier_client, s3_client

_NAME = VaultName("vault")
_numbers = itertools.count()

Make = Callable[[Path], Ground]
"""Makes a new vault, in the folder that it gets."""


def directory(folder: Path) -> Ground:
    """A directory below the folder."""
    clock = ManualClock()
    vault = DirectoryVault(_NAME, str(folder / "vault"), clock)
    vault.create()
    return Ground(vault, clock, clock.advance)


def glacier(emulator: RunningEmulator) -> Make:
    """Makes Glacier vaults."""
    client = glacier_client(emulator)
    return lambda _: _emulated(GlacierVault(_NAME, client, f"prune-{next(_numbers)}"), emulator)


def bucket(emulator: RunningEmulator) -> Make:
    """Makes buckets, of the class GLACIER."""
    client = s3_client(emulator.s3_url)

    def make(_: Path) -> Ground:
        place = Bucket(f"prune-{next(_numbers)}", REGION, storage_class="GLACIER")
        return _emulated(S3Vault(_NAME, client, place, EmulatorClock(emulator)), emulator)

    return make


def _emulated(vault: Any, emulator: RunningEmulator) -> Ground:
    """A vault of the emulator, whose clock goes on with ours."""
    vault.create()
    clock = ManualClock(EmulatorClock(emulator).now())

    def pass_time(by: timedelta) -> None:
        clock.advance(by)
        emulator.advance(by.total_seconds())
        emulator.make_inventories()

    return Ground(vault, clock, pass_time, has_clock=True)
