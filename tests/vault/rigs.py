"""A vault under test with a way to make hours pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import boto3

from backup.protocols import Vault
from backup.vault.aws import make_client
from tests.vault.emulation import ACCESS_KEY, REGION, SECRET_KEY, Emulation


@dataclass(frozen=True)
class Rig:
    """A vault, made already, and one of its kind `elsewhere`, not made.

    `make_ready` lets retrievals and listings ripen; `make_listable` gives the vault its daily listing.
    """

    vault: Vault
    make_ready: Callable[[], None]
    make_listable: Callable[[], None]
    elsewhere: Vault


def glacier_client(emulation: Emulation, **options: Any) -> Any:
    """A client for the emulator's one account."""
    session = boto3.Session(ACCESS_KEY, SECRET_KEY, region_name=REGION)
    return make_client(session, "glacier", region=REGION, endpoint=emulation.url, **options)
