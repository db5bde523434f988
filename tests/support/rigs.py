"""A vault under test with a way to make hours pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boto3
from msgspec import Struct

from backup.app.base.clock import SystemClock
from backup.model import ArchiveId, VaultName
from backup.protocols import Clock, Vault
from backup.vault.aws import make_client, make_s3_client
from backup.vault.s3.requests import Bucket
from backup.vault.s3.vault import S3Vault
from tests.support.emulated import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, RunningEmulator

HOUR = 3600.0
KEPT_DAYS = 30


class Rig(Struct, frozen=True):
    """A vault, made already, and one of its kind `elsewhere`, not made.

    `make_ready` lets retrievals and listings ripen; `make_listable` gives the vault its daily listing. What
    a kind of vault has no place to keep it says with the flags. `store_protected` stores an archive that the
    vault refuses to delete, and gives its id; None where it cannot be made to.
    """

    vault: Vault
    make_ready: Callable[[], object]
    make_listable: Callable[[], object]
    elsewhere: Vault
    keeps_part_size: bool = True
    keeps_part_hashes: bool = True
    forgets_replaced_parts: bool = True
    keeps_tokens: bool = False
    ripens_by_itself: bool = False
    lists_tree_hashes: bool = True
    store_protected: Callable[[], ArchiveId] | None = None


def glacier_client(emulator: RunningEmulator, **options: Any) -> Any:
    """A client for the emulator's one account."""
    session = boto3.Session(ACCESS_KEY_ID, SECRET_ACCESS_KEY, region_name=REGION)
    return make_client(session, "glacier", region=REGION, endpoint=emulator.glacier_url, **options)


def s3_client(url: str, **options: Any) -> Any:
    """A client for an S3 service with the tests' key."""
    session = boto3.Session(ACCESS_KEY_ID, SECRET_ACCESS_KEY, region_name=REGION)
    return make_s3_client(session, region=REGION, endpoint=url, path_style=True, **options)


def s3_vault(
    client: Any, bucket: str, *, name: str = "bucket", clock: Clock | None = None, **settings: Any
) -> S3Vault:
    """A vault in a bucket, which the config would call `name`."""
    return S3Vault(VaultName(name), client, Bucket(bucket, REGION, **settings), clock or SystemClock())


def ripen(emulator: RunningEmulator) -> None:
    """Let time pass until every retrieval and listing is ready, and none has expired."""
    emulator.advance(13 * HOUR)
