"""Vaults that stand where another one stood: the same name in the config, another disk, bucket or vault."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from backup.app.base.clock import SystemClock
from backup.model import MIB, VaultName
from backup.protocols import Vault
from backup.vault.directory import DirectoryVault
from backup.vault.glacier import GlacierVault
from tests.support.backups import Site
from tests.support.doubles import ManualClock
from tests.support.emulated import RunningEmulator
from tests.support.rigs import glacier_client, s3_client, s3_vault

_numbers = itertools.count()
HOURS = 13


class Place(Struct, frozen=True):
    """Where vaults of one kind stand; each call of `another` makes one more, under the one name."""

    another: Callable[[], Vault]
    pass_hours: Callable[[], object]


def directories(folder: Path, clock: ManualClock) -> Place:
    """Disks at mount points of their own."""

    def another() -> Vault:
        vault = DirectoryVault(VaultName("cold"), str(folder / f"disk-{next(_numbers)}"), clock)
        vault.create()
        return vault

    return Place(another, lambda: None)


def glacier_vaults(emulator: RunningEmulator, clock: ManualClock) -> Place:
    """Vaults of the Glacier service."""

    def another() -> Vault:
        vault = GlacierVault(VaultName("cold"), glacier_client(emulator), f"place-{next(_numbers)}")
        vault.create()
        return vault

    def pass_hours() -> None:
        clock.advance(timedelta(hours=HOURS))
        emulator.advance(HOURS * 3600)
        emulator.make_inventories()

    return Place(another, pass_hours)


def buckets(emulator: RunningEmulator) -> Place:
    """Buckets, of a class that can be read at once."""
    client = s3_client(emulator.s3_url)

    def another() -> Vault:
        vault = s3_vault(client, f"place-{next(_numbers)}", storage_class="GLACIER_IR", prefix="web1/")
        vault.create()
        vault._name, vault._clock = VaultName("cold"), SystemClock()
        return vault

    return Place(another, lambda: None)


def site_at(place: Place, folder: Path, clock: ManualClock) -> Site:
    """A server with two files and a vault; nothing was backed up yet."""
    source = folder / "source"
    source.mkdir()
    (source / "first").write_bytes(b"1" * 100_000)
    (source / "second").write_text("two")
    vault = place.another()
    size = max(MIB, vault.traits.smallest_part)
    return Site.create(
        folder / "state",
        vault,
        [source],
        clock=clock,
        wait=place.pass_hours,
        part_size=size,
        pack_size=2 * size,
    )


def grow(site: Site, name: str) -> None:
    """Something new to back up."""
    (Path(site.job.sources[0].decode()) / name).write_text(name * 100)


def with_vault(site: Site, vault: Vault) -> Site:
    """The same server, with another vault in the place of the one that it knows."""
    return replace(site, vault=vault)
