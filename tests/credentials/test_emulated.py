"""The whole exchange, judged by an independent verifier: keys that work, or a reason."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from backup.cli.support.aws_documents import (
    AwsSetup,
    BucketSetup,
    backup_policy,
    prune_policy,
    s3_policies,
    trust_policy,
)
from backup.credentials.boto import boto3_session
from backup.credentials.identity import Identity, IdentityFiles, load_identity
from backup.credentials.keys import SoftwareKey
from backup.credentials.options import RolesAnywhereOptions
from backup.credentials.rolesanywhere import RolesAnywhere
from backup.errors import DeniedError, IdentityError, ThrottledError
from backup.model import VaultName
from backup.pki.authority import Authority, create_ca
from backup.pki.issuing import issue
from backup.pki.keys import KeyType, generate_key
from backup.pki.subjects import Subject
from backup.vault.aws import make_client, make_s3_client
from backup.vault.glacier import GlacierVault
from backup.vault.s3 import S3Vault
from backup.vault.s3_requests import Bucket
from tests.support.archives import store
from tests.support.clocks import OffsetClock
from tests.support.emulated import ACCOUNT_ID, REGION, RunningEmulator, write_accounts
from tests.support.identities import vectors, write
from tests.support.rigs import glacier_client

ANCHORS = f"arn:aws:rolesanywhere:{REGION}:{ACCOUNT_ID}:trust-anchor"
PROFILES = f"arn:aws:rolesanywhere:{REGION}:{ACCOUNT_ID}:profile"
OURS, FOREIGN, VECTORS = f"{ANCHORS}/ours", f"{ANCHORS}/foreign", f"{ANCHORS}/vectors"
PROFILE, DISABLED = f"{PROFILES}/backup", f"{PROFILES}/disabled"
WRITER, PRUNER, LISTER, OUTSIDER = (
    f"arn:aws:iam::{ACCOUNT_ID}:role/{name}" for name in ("Writer", "Pruner", "Lister", "Outsider")
)
S3_WRITER, S3_PRUNER = (f"arn:aws:iam::{ACCOUNT_ID}:role/{name}" for name in ("S3Writer", "S3Pruner"))
SETUP = AwsSetup("aws", REGION, ACCOUNT_ID, "nightly", OURS, [WRITER], 3600, "web1", "Backup")
BUCKET = BucketSetup("of-roles", "web1/", "DEEP_ARCHIVE", "STANDARD")
S3_POLICIES = s3_policies(replace(SETUP, bucket=BUCKET), BUCKET)
LIST_VAULTS = {"Effect": "Allow", "Action": ["glacier:ListVaults"], "Resource": "*"}


@dataclass(frozen=True)
class World:
    """A running emulator, our authority, and an identity that it issued."""

    emulator: RunningEmulator
    directory: Path
    authority: Authority
    identity: Identity

    def source(
        self, identity: Identity | None = None, clock: OffsetClock | None = None, **changes: Any
    ) -> RolesAnywhere:
        options = RolesAnywhereOptions(OURS, PROFILE, WRITER, endpoint=self.emulator.rolesanywhere_url)
        signer = identity or self.identity
        return RolesAnywhere(
            replace(options, **changes), load=lambda: signer, clock=clock or OffsetClock(), jitter=lambda: 0.0
        )

    def issue(self, name: str = "web1", *, key_type: KeyType = KeyType.P_256, **when: Any) -> Identity:
        """Another identity of our authority."""
        where = {"days": 5, "now": datetime.now(UTC), **when}
        directory = str(self.directory / "more")
        subject = Subject(name, "Example", "Backup")
        issued = issue(self.authority, subject, key_type=key_type, directory=directory, **where)
        return load_identity(IdentityFiles(issued.certificate_path, issued.key_path))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("world")
    before = datetime.now(UTC) - timedelta(days=30)
    authorities = [
        create_ca(
            str(directory / name), Subject(name), key_type=KeyType.P_384, days=90, passphrase=None, now=before
        )
        for name in ("ours", "foreign")
    ]
    root = write(str(directory / "root.pem"), vectors()["root"])
    paths = [*(one.certificate_path for one in authorities), root]
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
                "role_arns": [WRITER, PRUNER, LISTER, S3_WRITER, S3_PRUNER],
                "duration_seconds": 7200,
            },
            {"arn": DISABLED, "role_arns": [WRITER], "enabled": False},
        ],
        roles=[
            {"arn": WRITER, "trust_policy": trust, "policy": backup_policy(SETUP)},
            {"arn": LISTER, "trust_policy": anyone, "policy": {"Statement": [LIST_VAULTS]}},
            {"arn": PRUNER, "trust_policy": trust, "policy": prune_policy(SETUP)},
            {"arn": S3_WRITER, "trust_policy": trust, "policy": S3_POLICIES["backup"]},
            {"arn": S3_PRUNER, "trust_policy": trust, "policy": S3_POLICIES["prune"]},
            {"arn": OUTSIDER, "trust_policy": trust},
        ],
    )
    with RunningEmulator(directory / "state", accounts) as emulator:
        half = World(emulator, directory, authorities[0], vector_identity(directory, "rsa"))
        yield replace(half, identity=half.issue(now=datetime.now(UTC) - timedelta(days=1)))


def vector_identity(directory: Path, kind: str, *, chain: bool = True) -> Identity:
    certificate = write(f"{directory}/{kind}.pem", vectors()[f"{kind}_cert"])
    key = write(f"{directory}/{kind}.key", vectors()[f"{kind}_key"])
    intermediate = write(f"{directory}/intermediate.pem", vectors()["intermediate"])
    return load_identity(IdentityFiles(certificate, key, intermediate if chain else None))


@pytest.fixture(autouse=True)
def no_faults(world: World) -> Iterator[None]:
    yield
    world.emulator.set_faults([])


@pytest.mark.parametrize("key_type", list(KeyType))
def test_each_kind_of_key_gets_credentials(world: World, key_type: KeyType) -> None:
    credentials = world.source(world.issue(key_type=key_type)).credentials()
    assert credentials.access_key_id.startswith("ASIA")
    assert credentials.expires_at is not None
    life = credentials.expires_at - datetime.now(UTC)
    assert timedelta(seconds=3590) < life <= timedelta(hours=1)


@pytest.mark.parametrize("kind", ["rsa", "ec"])
def test_a_chain_leads_to_a_root_above_the_intermediate(world: World, kind: str) -> None:
    identity = vector_identity(world.directory, kind)
    wanted: dict[str, Any] = {"trust_anchor_arn": VECTORS, "role_arn": LISTER}
    assert world.source(identity, **wanted).credentials().access_key_id.startswith("ASIA")
    bare = vector_identity(world.directory, kind, chain=False)
    with pytest.raises(DeniedError, match="does not lead to the trust anchor") as caught:
        world.source(bare, **wanted).credentials()
    assert "identity.intermediates" in caught.value.advice


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"trust_anchor_arn": FOREIGN}, "does not lead to the trust anchor .*/foreign"),
        ({"trust_anchor_arn": f"{ANCHORS}/none"}, "does not know the trust anchor"),
        ({"profile_arn": f"{PROFILES}/none"}, "does not know the trust anchor .* or the profile"),
        ({"profile_arn": DISABLED}, "is disabled"),
        ({"role_arn": OUTSIDER}, "is not in the profile"),
        ({"role_session_name": "night"}, "does not let us choose the session's name"),
        ({"session_duration": 7200}, "does not allow sessions of 7200 s"),
    ],
)
def test_denials_say_what_to_check(world: World, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(DeniedError, match=why) as caught:
        world.source(**changes).credentials()
    assert caught.value.advice


def test_another_subject_is_not_let_in_by_our_trust_policy(world: World) -> None:
    other = world.issue("web2")
    with pytest.raises(DeniedError, match="does not let this certificate in") as caught:
        world.source(other).credentials()
    assert "aws policy --only trust" in caught.value.advice
    assert world.source(other, role_arn=LISTER).credentials().session_token


def test_a_key_that_does_not_fit_gives_an_invalid_signature(world: World) -> None:
    forged = replace(world.identity, key=SoftwareKey(generate_key(KeyType.P_256)))
    with pytest.raises(DeniedError, match="could not verify the signature"):
        world.source(forged).credentials()


def test_an_expired_certificate_is_found_here_and_by_aws(world: World) -> None:
    real = datetime.now(UTC)
    expired = world.issue(days=1, now=real - timedelta(days=1, minutes=2))
    with pytest.raises(IdentityError, match="expired on"):
        world.source(expired).credentials()
    slow = OffsetClock(timedelta(minutes=-4))  # by which it is valid still
    with pytest.raises(DeniedError, match=r"valid from") as caught:
        world.source(expired, slow).credentials()
    assert "clock is" in caught.value.advice
    assert "behind the server's" in caught.value.advice


@pytest.mark.parametrize(("offset", "side"), [(-20, "behind"), (20, "ahead of")])
def test_a_wrong_clock_is_told_with_its_offset(world: World, offset: int, side: str) -> None:
    clock = OffsetClock(timedelta(minutes=offset))
    with pytest.raises(DeniedError) as caught:
        world.source(clock=clock).credentials()
    assert f"s {side} the server's: set the clock" in caught.value.advice
    seconds = int(caught.value.advice.partition(" clock is ")[2].partition(" s ")[0])
    assert abs(seconds - 1200) <= 3


def test_throttling_is_waited_out_and_then_told(world: World) -> None:
    fault = {"operation": "CreateSession", "code": "ThrottlingException", "status": 429}
    world.emulator.set_faults([{**fault, "count": 2}])
    assert world.source().credentials().session_token
    world.emulator.set_faults([{**fault, "count": 3}])
    with pytest.raises(ThrottledError, match="asks us to slow down"):
        world.source().credentials()
    assert world.emulator.faults()[0]["met"] == 3


HALF = timedelta(seconds=750)


def soon_renewed(world: World, clock: OffsetClock) -> RolesAnywhere:
    """Keys for 900 s that are renewed 150 s after they were got, by a clock that is 10 minutes slow at first.

    The verifier takes stamps from 15 minutes back to 5 minutes ahead: so far a test may go.
    """
    return world.source(clock=clock, role_arn=LISTER, session_duration=900, renew_before=HALF)


def test_boto3_works_across_a_renewal(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    clock = OffsetClock(timedelta(minutes=-10))
    source = soon_renewed(world, clock)
    client = boto3_session(source, REGION).client("glacier", endpoint_url=world.emulator.glacier_url)
    assert client.list_vaults()["VaultList"] == []
    first = source.credentials()
    clock.offset = timedelta(seconds=200)
    assert client.list_vaults()["VaultList"] == []
    second = source.credentials()
    assert first.access_key_id != second.access_key_id
    signed = client._request_signer._credentials.get_frozen_credentials()
    assert signed.access_key == second.access_key_id
    for one in (first, second):
        assert one.secret_access_key not in caplog.text
        assert str(one.session_token) not in caplog.text


def test_many_threads_work_through_a_renewal_that_fails_at_first(world: World) -> None:
    clock = OffsetClock(timedelta(minutes=-10))
    source = soon_renewed(world, clock)
    client = boto3_session(source, REGION).client("glacier", endpoint_url=world.emulator.glacier_url)
    client.list_vaults()
    clock.offset = timedelta(seconds=200)
    away = {"operation": "CreateSession", "code": "ServiceUnavailable", "status": 503, "count": 1}
    world.emulator.set_faults([away])
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _number: client.list_vaults()["VaultList"], range(32)))
    assert answers == [[]] * 32
    assert world.emulator.faults()[0]["met"] == 1


def test_thirty_two_threads_make_one_session(world: World) -> None:
    loads: list[int] = []
    options = RolesAnywhereOptions(OURS, PROFILE, WRITER, endpoint=world.emulator.rolesanywhere_url)

    def load() -> Identity:
        loads.append(1)
        return world.identity

    source = RolesAnywhere(options, load=load, clock=OffsetClock())
    barrier = threading.Barrier(32)

    def ask(_number: int) -> str:
        barrier.wait()
        return source.credentials().access_key_id

    with ThreadPoolExecutor(32) as pool:
        assert len(set(pool.map(ask, range(32)))) == 1
    assert loads == [1]


def test_a_rotated_certificate_needs_no_restart(world: World) -> None:
    directory = str(world.directory / "rotated")
    issued_at = datetime.now(UTC) - timedelta(days=1)

    def rotate() -> IdentityFiles:
        subject = Subject("web1", "Example", "Backup")
        key_type = KeyType.P_256
        issued = issue(
            world.authority, subject, key_type=key_type, days=5, directory=directory, now=issued_at
        )
        return IdentityFiles(issued.certificate_path, issued.key_path)

    files = rotate()
    clock = OffsetClock(timedelta(minutes=-10))
    options = RolesAnywhereOptions(
        OURS,
        PROFILE,
        WRITER,
        endpoint=world.emulator.rolesanywhere_url,
        session_duration=900,
        renew_before=HALF,
    )
    seen: list[int] = []

    def load() -> Identity:
        identity = load_identity(files)
        seen.append(identity.certificate.serial_number)
        return identity

    source = RolesAnywhere(options, load=load, clock=clock)
    first = source.credentials()
    rotate()
    clock.offset = timedelta(seconds=200)
    assert source.credentials() != first
    assert len(set(seen)) == 2
    assert len(os.listdir(directory)) == 2


def test_the_printed_policies_let_a_backup_work_and_nothing_more(world: World) -> None:
    client = boto3_session(world.source(), REGION).client("glacier", endpoint_url=world.emulator.glacier_url)
    client.create_vault(vaultName="nightly")
    assert client.describe_vault(vaultName="nightly")["NumberOfArchives"] == 0
    upload = client.initiate_multipart_upload(vaultName="nightly", partSize=str(1 << 20))["uploadId"]
    assert client.list_parts(vaultName="nightly", uploadId=upload)["Parts"] == []
    assert len(client.list_multipart_uploads(vaultName="nightly")["UploadsList"]) == 1
    client.abort_multipart_upload(vaultName="nightly", uploadId=upload)
    refused: Sequence[tuple[str, dict[str, str]]] = [
        ("delete_archive", {"vaultName": "nightly", "archiveId": "x" * 138}),
        ("delete_vault", {"vaultName": "nightly"}),
        ("describe_vault", {"vaultName": "another"}),
    ]
    for operation, parameters in refused:
        with pytest.raises(ClientError, match="no identity-based policy allows"):
            getattr(client, operation)(**parameters)


def glacier_vault(world: World, role: str, vault: str = "nightly") -> GlacierVault:
    """A Glacier vault, with the keys of a role."""
    session = boto3_session(world.source(role_arn=role), REGION)
    client = make_client(session, "glacier", region=REGION, endpoint=world.emulator.glacier_url)
    return GlacierVault(VaultName("cold"), client, vault)


def s3_vault(world: World, role: str, prefix: str = BUCKET.prefix) -> S3Vault:
    """The bucket's vault, with the keys of a role."""
    session = boto3_session(world.source(role_arn=role), REGION)
    client = make_s3_client(session, region=REGION, endpoint=world.emulator.s3_url, path_style=True)
    return S3Vault(VaultName("bucket"), client, Bucket(BUCKET.name, REGION, prefix), OffsetClock())


def test_the_prune_role_alone_deletes_from_a_glacier_vault(world: World) -> None:
    writer, pruner = glacier_vault(world, WRITER), glacier_vault(world, PRUNER)
    writer.create()
    archive_id, kept = store(writer, b"abc"), store(writer, b"def")
    with pytest.raises(DeniedError, match="no identity-based policy allows"):
        writer.delete_archives({archive_id: None})
    assert pruner.state().exists
    assert pruner.delete_archives({archive_id: None}) == {}
    world.emulator.make_inventories()
    listing = pruner.request_listing("t")
    world.emulator.advance(13 * 3600)
    assert [one.archive_id for one in pruner.fetch_listing(listing).archives] == [kept]
    with pytest.raises(DeniedError):
        store(pruner, b"ghi")
    with pytest.raises(DeniedError):
        glacier_vault(world, PRUNER, "another").delete_archives({kept: None})


def test_the_prune_role_reads_the_lock_and_another_is_told_of_it(world: World) -> None:
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


def test_the_prune_role_alone_deletes_from_a_bucket_and_only_below_its_prefix(world: World) -> None:
    writer, pruner = s3_vault(world, S3_WRITER), s3_vault(world, S3_PRUNER)
    writer.create()
    archive_id, kept = store(writer, b"abc"), store(writer, b"def")
    with pytest.raises(DeniedError, match="no identity-based policy allows the s3:DeleteObject action"):
        writer.delete_archives({archive_id: None, kept: None})
    assert pruner.delete_archives({archive_id: None}) == {}
    assert [one.archive_id for one in pruner.fetch_listing(pruner.request_listing("t")).archives] == [kept]
    with pytest.raises(DeniedError):
        store(pruner, b"ghi")
    with pytest.raises(DeniedError):
        s3_vault(world, S3_PRUNER, "web2/").delete_archives({kept: None})
