"""The policies that we print for the prune role: it alone deletes, it stores nothing, and it sees locks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from backup.credentials.boto import boto3_session
from backup.errors import DeniedError
from backup.model import VaultName
from backup.vault.aws import make_client, make_s3_client
from backup.vault.glacier import GlacierVault
from backup.vault.s3.requests import Bucket
from backup.vault.s3.vault import S3Vault
from tests.support.accounts_with_roles import (
    BUCKET,
    PRUNER,
    S3_PRUNER,
    S3_WRITER,
    SETUP,
    WRITER,
    AccountWithRoles,
    running_account,
)
from tests.support.archives import store
from tests.support.clocks import OffsetClock
from tests.support.emulated import REGION
from tests.support.rigs import glacier_client


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AccountWithRoles]:
    with running_account(tmp_path_factory.mktemp("world")) as made:
        yield made


def glacier_vault(world: AccountWithRoles, role: str, vault: str = "nightly") -> GlacierVault:
    """A Glacier vault, with the keys of a role."""
    session = boto3_session(world.source(role_arn=role), REGION)
    client = make_client(session, "glacier", region=REGION, endpoint=world.emulator.glacier_url)
    return GlacierVault(VaultName("cold"), client, vault)


def s3_vault(world: AccountWithRoles, role: str, prefix: str = BUCKET.prefix) -> S3Vault:
    """The bucket's vault, with the keys of a role."""
    session = boto3_session(world.source(role_arn=role), REGION)
    client = make_s3_client(session, region=REGION, endpoint=world.emulator.s3_url, path_style=True)
    return S3Vault(VaultName("bucket"), client, Bucket(BUCKET.name, REGION, prefix), OffsetClock())


def test_the_prune_role_alone_deletes_from_a_glacier_vault(world: AccountWithRoles) -> None:
    writer, pruner = glacier_vault(world, WRITER), glacier_vault(world, PRUNER)
    writer.create()
    archive_id, kept = store(writer, b"abc"), store(writer, b"def")
    with pytest.raises(DeniedError, match="no identity-based policy allows"):
        writer.delete_archives({archive_id: None})
    assert pruner.delete_archives({archive_id: None}) == {}
    world.emulator.make_inventories()
    listing = writer.request_listing("t")
    world.emulator.advance(13 * 3600)
    assert [archive.archive_id for archive in writer.fetch_listing(listing).archives] == [kept]
    for more in (pruner.state, lambda: pruner.request_listing("t"), lambda: store(pruner, b"ghi")):
        with pytest.raises(DeniedError):
            more()
    with pytest.raises(DeniedError):
        glacier_vault(world, PRUNER, "another").delete_archives({kept: None})


def test_the_prune_role_reads_the_lock_and_another_is_told_of_it(world: AccountWithRoles) -> None:
    writer, pruner = glacier_vault(world, WRITER), glacier_vault(world, PRUNER)
    writer.create()
    archive_id, stored_at = store(writer, b"abc"), datetime.fromisoformat(world.emulator.now())
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "glacier:DeleteArchive",
        "Resource": SETUP.vault_arn,
        "Condition": {"NumericLessThan": {"glacier:ArchiveAgeInDays": "365"}},
    }
    owner, policy = glacier_client(world.emulator), json.dumps({"Statement": [statement]})
    owner.initiate_vault_lock(vaultName=SETUP.vault, policy={"Policy": policy})
    try:
        (refusal,) = pruner.delete_archives({archive_id: stored_at}).values()
        assert refusal.kept_until == stored_at + timedelta(days=365)
        (refusal,) = writer.delete_archives({archive_id: stored_at}).values()
        assert (refusal.detail, refusal.kept_until) == ("the vault's own policy forbids it", None)
    finally:
        owner.abort_vault_lock(vaultName=SETUP.vault)


def test_the_prune_role_alone_deletes_from_a_bucket_and_only_below_its_prefix(
    world: AccountWithRoles,
) -> None:
    writer, pruner = s3_vault(world, S3_WRITER), s3_vault(world, S3_PRUNER)
    writer.create()
    archive_id, kept = store(writer, b"abc"), store(writer, b"def")
    with pytest.raises(DeniedError, match="no identity-based policy allows the s3:DeleteObject action"):
        writer.delete_archives({archive_id: None, kept: None})
    assert pruner.delete_archives({archive_id: None}) == {}
    assert [archive.archive_id for archive in pruner.fetch_listing(pruner.request_listing("t")).archives] == [
        kept
    ]
    with pytest.raises(DeniedError):
        store(pruner, b"ghi")
    with pytest.raises(DeniedError):
        s3_vault(world, S3_PRUNER, "web2/").delete_archives({kept: None})
