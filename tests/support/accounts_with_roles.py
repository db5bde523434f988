"""An emulator with our authority's trust anchor, roles with the policies that we print, and an identity."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from msgspec import Struct
from msgspec.structs import replace

from backup.app.aws_setup.documents import (
    OWN_NAME,
    AwsSetup,
    BucketSetup,
    Document,
    backup_policy,
    keeper_policy,
    prune_policy,
    s3_policies,
    trust_policy,
)
from backup.credentials.identity import Identity, IdentityFiles, load_identity
from backup.credentials.options import RolesAnywhereOptions
from backup.credentials.rolesanywhere import RolesAnywhere
from backup.pki.authority import Authority, create_ca
from backup.pki.issuing import issue
from backup.pki.keys import KeyType
from backup.pki.subjects import Subject
from tests.support.clocks import OffsetClock
from tests.support.emulated import ACCOUNT_ID, REGION, RunningEmulator, write_accounts
from tests.support.identities import vectors, write

ANCHORS = f"arn:aws:rolesanywhere:{REGION}:{ACCOUNT_ID}:trust-anchor"
PROFILES = f"arn:aws:rolesanywhere:{REGION}:{ACCOUNT_ID}:profile"
OURS, FOREIGN, VECTORS = f"{ANCHORS}/ours", f"{ANCHORS}/foreign", f"{ANCHORS}/vectors"
PROFILE, DISABLED = f"{PROFILES}/backup", f"{PROFILES}/disabled"
WRITER, PRUNER, KEEPER, LISTER, OUTSIDER = (
    f"arn:aws:iam::{ACCOUNT_ID}:role/{name}" for name in ("Writer", "Pruner", "Keeper", "Lister", "Outsider")
)
S3_WRITER, S3_PRUNER, S3_KEEPER = (
    f"arn:aws:iam::{ACCOUNT_ID}:role/{name}" for name in ("S3Writer", "S3Pruner", "S3Keeper")
)
SETUP = AwsSetup("aws", REGION, ACCOUNT_ID, "nightly", OURS, [WRITER], 3600, "web1", "Backup")
BUCKET = BucketSetup("of-roles", "web1/", "DEEP_ARCHIVE", "STANDARD")
SHARED, S3_SHARED = (f"arn:aws:iam::{ACCOUNT_ID}:role/{name}" for name in ("Shared", "S3Shared"))
SHARED_SETUP = replace(SETUP, bucket=BUCKET, is_shared=True)
S3_POLICIES = s3_policies(replace(SETUP, bucket=BUCKET), BUCKET)
LIST_VAULTS = {"Effect": "Allow", "Action": ["glacier:ListVaults"], "Resource": "*"}


class AccountWithRoles(Struct, frozen=True):
    """A running emulator, our authority, and an identity that it issued."""

    emulator: RunningEmulator
    directory: Path
    authority: Authority
    identity: Identity

    def source(
        self, identity: Identity | None = None, clock: OffsetClock | None = None, **changes: Any
    ) -> RolesAnywhere:
        options = RolesAnywhereOptions(OURS, PROFILE, WRITER, endpoint=self.emulator.rolesanywhere_url)
        options = dataclasses.replace(options, **changes)
        signer = identity or self.identity
        return RolesAnywhere(
            dataclasses.replace(options, **changes),
            load=lambda: signer,
            clock=clock or OffsetClock(),
            jitter=lambda: 0.0,
        )

    def issue(self, name: str = "web1", *, key_type: KeyType = KeyType.P_256, **when: Any) -> Identity:
        """Another identity of our authority."""
        where = {"days": 5, "now": datetime.now(UTC), **when}
        directory = str(self.directory / "more")
        subject = Subject(name, "Example", "Backup")
        issued = issue(self.authority, subject, key_type=key_type, directory=directory, **where)
        return load_identity(IdentityFiles(issued.certificate_path, issued.key_path))


@contextmanager
def running_account(directory: Path) -> Iterator[AccountWithRoles]:
    """The emulator with its accounts, until the end of the block."""
    before = datetime.now(UTC) - timedelta(days=30)
    authorities = [
        create_ca(
            str(directory / name), Subject(name), key_type=KeyType.P_384, days=90, passphrase=None, now=before
        )
        for name in ("ours", "foreign")
    ]
    root = write(str(directory / "root.pem"), vectors()["root"])
    paths = [*(authority.certificate_path for authority in authorities), root]
    trust = trust_policy(SETUP)
    anyone = trust_policy(replace(SETUP, trust_anchor_arn=f"{ANCHORS}/*", common_name=None, unit=None))
    accounts = write_accounts(
        directory / "accounts.toml",
        trust_anchors=[
            {"arn": arn, "certificates": [path]}
            for arn, path in zip((OURS, FOREIGN, VECTORS), paths, strict=True)
        ],
        profiles=[
            {
                "arn": PROFILE,
                "role_arns": [
                    *(WRITER, PRUNER, KEEPER, LISTER, SHARED),
                    *(S3_WRITER, S3_PRUNER, S3_KEEPER, S3_SHARED),
                ],
                "duration_seconds": 7200,
            },
            {"arn": DISABLED, "role_arns": [WRITER], "enabled": False},
        ],
        roles=[
            {"arn": WRITER, "trust_policy": trust, "policy": backup_policy(SETUP)},
            {"arn": LISTER, "trust_policy": anyone, "policy": {"Statement": [LIST_VAULTS]}},
            {"arn": PRUNER, "trust_policy": trust, "policy": prune_policy(SETUP)},
            {"arn": KEEPER, "trust_policy": trust, "policy": keeper_policy(SETUP)},
            {"arn": S3_WRITER, "trust_policy": trust, "policy": S3_POLICIES["backup"]},
            {"arn": S3_PRUNER, "trust_policy": trust, "policy": S3_POLICIES["prune"]},
            {"arn": S3_KEEPER, "trust_policy": trust, "policy": S3_POLICIES["keeper"]},
            {
                "arn": SHARED,
                "trust_policy": trust_policy(SHARED_SETUP),
                "policy": backup_policy(replace(SHARED_SETUP, vault=OWN_NAME)),
            },
            {
                "arn": S3_SHARED,
                "trust_policy": trust_policy(SHARED_SETUP),
                "policy": _together(s3_policies(SHARED_SETUP, BUCKET), "backup", "restore", "prune"),
            },
            {"arn": OUTSIDER, "trust_policy": trust},
        ],
    )
    with RunningEmulator(directory / "state", accounts) as emulator:
        half = AccountWithRoles(emulator, directory, authorities[0], vector_identity(directory, "rsa"))
        yield replace(half, identity=half.issue(now=datetime.now(UTC) - timedelta(days=1)))


def _together(policies: Mapping[str, Document], *names: str) -> Document:
    """The statements of several policies in one."""
    statements = [
        statement for name in names for statement in cast("list[object]", policies[name]["Statement"])
    ]
    return {"Version": "2012-10-17", "Statement": statements}  # older versions know no variables


def vector_identity(directory: Path, kind: str, *, chain: bool = True) -> Identity:
    certificate = write(f"{directory}/{kind}.pem", vectors()[f"{kind}_cert"])
    key = write(f"{directory}/{kind}.key", vectors()[f"{kind}_key"])
    intermediate = write(f"{directory}/intermediate.pem", vectors()["intermediate"])
    return load_identity(IdentityFiles(certificate, key, intermediate if chain else None))
