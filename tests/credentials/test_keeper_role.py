"""The policies that we print for a keeper: it reads catalogs, deletes, and stores nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from backup.credentials.boto import boto3_session
from backup.errors import DeniedError
from backup.format import records
from backup.inventory.content import archives
from backup.inventory.store.times import micros
from backup.model import MIB, PackKind, VaultName
from backup.protocols import Clock, Vault
from backup.pruner.keeper.keep import KeeperContext, keep
from backup.vault.aws import make_client, make_s3_client
from backup.vault.glacier import GlacierVault
from backup.vault.s3.requests import Bucket
from backup.vault.s3.vault import S3Vault
from tests.support.accounts_with_roles import (
    BUCKET,
    KEEPER,
    S3_KEEPER,
    S3_WRITER,
    WRITER,
    AccountWithRoles,
    running_account,
)
from tests.support.archives import store
from tests.support.backups import Site, recovery_key
from tests.support.clocks import EmulatorClock
from tests.support.doubles import Silent, no_limit
from tests.support.emulated import REGION

HOUR = timedelta(hours=1)
Made = Callable[[str], Vault]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AccountWithRoles]:
    with running_account(tmp_path_factory.mktemp("world")) as made:
        yield made


def glacier(world: AccountWithRoles, role: str) -> Vault:
    session = boto3_session(world.source(role_arn=role), REGION)
    client = make_client(session, "glacier", region=REGION, endpoint=world.emulator.glacier_url)
    return GlacierVault(VaultName("cold"), client, "nightly")


def bucket(world: AccountWithRoles, role: str) -> Vault:
    session = boto3_session(world.source(role_arn=role), REGION)
    client = make_s3_client(session, region=REGION, endpoint=world.emulator.s3_url, path_style=True)
    place = Bucket(BUCKET.name, REGION, BUCKET.prefix, storage_class="GLACIER")
    return S3Vault(VaultName("bucket"), client, place, EmulatorClock(world.emulator))


KINDS: dict[str, tuple[Any, str, str]] = {
    "glacier": (glacier, WRITER, KEEPER),
    "s3": (bucket, S3_WRITER, S3_KEEPER),
}


def condemned(site: Site, source: Path) -> set[str]:
    """Two nights, of which the first is gone for good; what only it needed, as its catalogs say."""
    (source / "first").write_bytes(b"first" * 1000)
    site.backup()
    (source / "first").unlink()
    (source / "second").write_bytes(b"second" * 1000)
    site.backup()
    with site.inventory.reading() as tx:
        every = archives.list_archives(tx, site.inventory.id)
    first = min(
        (archive for archive in every if archive.label.kind is PackKind.DATA),
        key=lambda archive: archive.number,
    )
    now = micros(site.clock.now())
    site.amend(records.ForgottenRecord([1], now))
    site.amend(records.CondemnedRecord([first.label.pack_id], now))
    site.amend(records.DroppedRecord([1]))
    return {str(first.archive_id)}


@pytest.mark.parametrize("kind", KINDS)
def test_it_deletes_what_was_condemned_and_stores_nothing(
    world: AccountWithRoles, kind: str, tmp_path: Path
) -> None:
    make, writer, pruner = KINDS[kind]
    clock: Clock = EmulatorClock(world.emulator)
    vault = make(world, writer)
    vault.create()
    source = tmp_path / "source"
    source.mkdir()
    part = max(MIB, vault.traits.smallest_part)
    site = Site.create(tmp_path / "state", vault, [source], clock=clock, part_size=part)
    gone = condemned(site, source)
    site.close()
    clock.sleep(2 * 3600)
    world.emulator.make_inventories()
    deleting = make(world, pruner)
    minimum = deleting.traits.minimum_storage
    context = KeeperContext(
        vault=deleting,
        clock=clock,
        progress=Silent(),
        recovery_keys=[recovery_key()],
        folder=str(tmp_path / "keeper"),
        limit_on=no_limit,
        keep_within=HOUR,
        grace=HOUR,
    )
    while (report := keep(context)).state == "waiting":
        clock.sleep(13 * 3600)
    (one,) = report.inventories
    assert (one.stopped, one.warnings) == ("", [])
    assert minimum > HOUR
    assert [share.why for share in one.waiting] == ["duration"]
    stored = dict.fromkeys(gone)
    with pytest.raises(DeniedError):
        vault.delete_archives(stored)
    assert deleting.delete_archives(stored) == {}
    with pytest.raises(DeniedError):
        store(deleting, b"abc")
