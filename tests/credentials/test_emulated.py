"""The whole exchange, judged by an independent verifier: keys that work, or a reason."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from backup.credentials.boto import boto3_session
from backup.credentials.identity import Identity, IdentityFiles, load_identity
from backup.credentials.keys import SoftwareKey
from backup.credentials.options import RolesAnywhereOptions
from backup.credentials.rolesanywhere import RolesAnywhere
from backup.errors import DeniedError, IdentityError, ThrottledError
from backup.pki.issuing import issue
from backup.pki.keys import KeyType, generate_key
from backup.pki.subjects import Subject
from tests.support.accounts_with_roles import (
    ANCHORS,
    DISABLED,
    FOREIGN,
    LISTER,
    OURS,
    OUTSIDER,
    PROFILE,
    PROFILES,
    VECTORS,
    WRITER,
    AccountWithRoles,
    running_account,
    vector_identity,
)
from tests.support.clocks import OffsetClock
from tests.support.emulated import REGION


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AccountWithRoles]:
    with running_account(tmp_path_factory.mktemp("world")) as made:
        yield made


@pytest.fixture(autouse=True)
def no_faults(world: AccountWithRoles) -> Iterator[None]:
    yield
    world.emulator.set_faults([])


@pytest.mark.parametrize("key_type", list(KeyType))
def test_each_kind_of_key_gets_credentials(world: AccountWithRoles, key_type: KeyType) -> None:
    credentials = world.source(world.issue(key_type=key_type)).credentials()
    assert credentials.access_key_id.startswith("ASIA")
    assert credentials.expires_at is not None
    life = credentials.expires_at - datetime.now(UTC)
    assert timedelta(seconds=3590) < life <= timedelta(hours=1)


@pytest.mark.parametrize("kind", ["rsa", "ec"])
def test_a_chain_leads_to_a_root_above_the_intermediate(world: AccountWithRoles, kind: str) -> None:
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
def test_denials_say_what_to_check(world: AccountWithRoles, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(DeniedError, match=why) as caught:
        world.source(**changes).credentials()
    assert caught.value.advice


def test_another_subject_is_not_let_in_by_our_trust_policy(world: AccountWithRoles) -> None:
    other = world.issue("web2")
    with pytest.raises(DeniedError, match="does not let this certificate in") as caught:
        world.source(other).credentials()
    assert "aws policy --only trust" in caught.value.advice
    assert world.source(other, role_arn=LISTER).credentials().session_token


def test_a_key_that_does_not_fit_gives_an_invalid_signature(world: AccountWithRoles) -> None:
    forged = replace(world.identity, key=SoftwareKey(generate_key(KeyType.P_256)))
    with pytest.raises(DeniedError, match="could not verify the signature"):
        world.source(forged).credentials()


def test_an_expired_certificate_is_found_here_and_by_aws(world: AccountWithRoles) -> None:
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
def test_a_wrong_clock_is_told_with_its_offset(world: AccountWithRoles, offset: int, side: str) -> None:
    clock = OffsetClock(timedelta(minutes=offset))
    with pytest.raises(DeniedError) as caught:
        world.source(clock=clock).credentials()
    assert f"s {side} the server's: set the clock" in caught.value.advice
    seconds = int(caught.value.advice.partition(" clock is ")[2].partition(" s ")[0])
    assert abs(seconds - 1200) <= 3


def test_throttling_is_waited_out_and_then_told(world: AccountWithRoles) -> None:
    fault = {"operation": "CreateSession", "code": "ThrottlingException", "status": 429}
    world.emulator.set_faults([{**fault, "count": 2}])
    assert world.source().credentials().session_token
    world.emulator.set_faults([{**fault, "count": 3}])
    with pytest.raises(ThrottledError, match="asks us to slow down"):
        world.source().credentials()
    assert world.emulator.faults()[0]["met"] == 3


HALF = timedelta(seconds=750)


def soon_renewed(world: AccountWithRoles, clock: OffsetClock) -> RolesAnywhere:
    """Keys for 900 s that are renewed 150 s after they were got, by a clock that is 10 minutes slow at first.

    The verifier takes stamps from 15 minutes back to 5 minutes ahead: so far a test may go.
    """
    return world.source(clock=clock, role_arn=LISTER, session_duration=900, renew_before=HALF)


def test_boto3_works_across_a_renewal(world: AccountWithRoles, caplog: pytest.LogCaptureFixture) -> None:
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
    for credentials in (first, second):
        assert credentials.secret_access_key not in caplog.text
        assert str(credentials.session_token) not in caplog.text


def test_many_threads_work_through_a_renewal_that_fails_at_first(world: AccountWithRoles) -> None:
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


def test_thirty_two_threads_make_one_session(world: AccountWithRoles) -> None:
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


def test_a_rotated_certificate_needs_no_restart(world: AccountWithRoles) -> None:
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


def test_the_printed_policies_let_a_backup_work_and_nothing_more(world: AccountWithRoles) -> None:
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
