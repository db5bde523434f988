"""What tests of restores share: an installation with one snapshot, one on Glacier, and a target."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backup.model import MIB, VaultName
from backup.vault.glacier import GlacierVault
from tests.restorer.bench import Bench
from tests.restorer.cold import Cold
from tests.restorer.sites import plant
from tests.support.backups import Site
from tests.support.doubles import ManualClock
from tests.support.emulated import RunningEmulator
from tests.support.rigs import glacier_client

_numbers = itertools.count()


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


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A writer on a target that is not there yet."""
    made = Bench(tmp_path / "target")
    yield made
    made.target.close()


@pytest.fixture(scope="module")
def client(emulator: RunningEmulator) -> Any:
    """A Glacier client of the emulator."""
    return glacier_client(emulator)


@pytest.fixture
def cold(
    emulator: RunningEmulator, client: Any, tmp_path: Path, source: Path, clock: ManualClock
) -> Iterator[Cold]:
    """Two packs in a vault: `first` to `third` lie megabytes apart in one, `other` lies in another."""
    vault = GlacierVault(VaultName("cold"), client, f"vault-{next(_numbers)}")
    vault.create()
    content = random.Random(5)
    for name, size in (("a-first", 100_000), ("b-filler", 7 * MIB), ("c-third", 70_000)):
        (source / name).write_bytes(content.randbytes(size))
    site = Site.create(tmp_path / "site", vault, [source], clock=clock, pack_size=16 * MIB, part_size=8 * MIB)
    site.backup()
    (source / "other").write_bytes(content.randbytes(50_000))
    site.backup()
    made = Cold(site, emulator, client, vault, source, clock)
    yield made
    emulator.set_faults([])
    made.site.close()
