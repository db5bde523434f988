"""One role for all servers: each does all its work below its own name, and nothing elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from backup.credentials.boto import boto3_session
from backup.credentials.identity import Identity, IdentityFiles, load_identity
from backup.errors import DeniedError
from backup.model import VaultName
from backup.pki.issuing import issue
from backup.pki.keys import KeyType
from backup.pki.subjects import Subject
from backup.vault.aws import make_client, make_s3_client
from backup.vault.glacier import GlacierVault
from backup.vault.s3.requests import Bucket, BucketRequests
from backup.vault.s3.vault import S3Vault
from backup.vault.s3.warnings import warnings_of
from tests.support.accounts_with_roles import BUCKET, S3_SHARED, SHARED, AccountWithRoles, running_account
from tests.support.archives import store
from tests.support.clocks import OffsetClock
from tests.support.emulated import REGION


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AccountWithRoles]:
    with running_account(tmp_path_factory.mktemp("world")) as made:
        S3Vault(
            VaultName("b"), client(made, made.issue("admin")), Bucket(BUCKET.name, REGION), OffsetClock()
        ).create()
        yield made


def client(world: AccountWithRoles, identity: Identity) -> object:
    session = boto3_session(world.source(identity, role_arn=S3_SHARED), REGION)
    return make_s3_client(session, region=REGION, endpoint=world.emulator.s3_url, path_style=True)


def bucket_vault(world: AccountWithRoles, name: str, prefix: str) -> S3Vault:
    """The bucket as the server `name` sees it below a prefix."""
    bucket = Bucket(BUCKET.name, REGION, prefix, "GLACIER_IR")
    return S3Vault(VaultName("b"), client(world, world.issue(name)), bucket, OffsetClock())


def test_each_server_does_all_its_work_below_its_own_name(world: AccountWithRoles) -> None:
    for name in ("web1", "web2"):
        vault = bucket_vault(world, name, f"{name}/")
        assert vault.state().exists
        archive_id = store(vault, b"abc")
        listing = vault.fetch_listing(vault.request_listing("t"))
        assert [archive.archive_id for archive in listing.archives] == [archive_id]
        assert vault.delete_archives({archive_id: None}) == {}
        assert list(vault.fetch_listing(vault.request_listing("t")).archives) == []


ELSEWHERE = ["web2/", "", "web10/", "web/", "web1", "*/", "web1x/"]


@pytest.mark.parametrize("prefix", ELSEWHERE)
@pytest.mark.parametrize("act", ["look", "list", "store", "uploads"])
def test_nothing_elsewhere(world: AccountWithRoles, prefix: str, act: str) -> None:
    vault = bucket_vault(world, "web1", prefix)
    acts: dict[str, Callable[[], object]] = {
        "look": vault.state,
        "list": lambda: vault.fetch_listing(vault.request_listing("t")),
        "store": lambda: store(vault, b"abc"),
        "uploads": lambda: list(vault.list_uploads()),
    }
    with pytest.raises(DeniedError):
        acts[act]()


def test_a_name_before_another_owns_nothing_of_it(world: AccountWithRoles) -> None:
    kept = store(bucket_vault(world, "web1", "web1/"), b"abc")
    for name in ("web", "w", "web1x"):
        with pytest.raises(DeniedError):
            bucket_vault(world, name, "web1/").delete_archives({kept: None})


def test_the_config_check_sees_the_bucket(world: AccountWithRoles) -> None:
    bucket = Bucket(BUCKET.name, REGION, "web1/", "GLACIER_IR")
    requests = BucketRequests(client(world, world.issue("web1")), bucket)
    assert not [
        warning for warning in warnings_of(requests) if "cannot look" in warning or "denied" in warning
    ]


def test_another_unit_is_not_let_in(world: AccountWithRoles) -> None:
    how = {"key_type": KeyType.P_256, "days": 5, "now": datetime.now(UTC)}
    subject = Subject("web1", "Example", "Guests")
    made = issue(world.authority, subject, directory=str(world.directory / "guest"), **how)  # type: ignore[arg-type]
    guest = load_identity(IdentityFiles(made.certificate_path, made.key_path))
    with pytest.raises(DeniedError, match="does not let this certificate in"):
        world.source(guest, role_arn=S3_SHARED).credentials()


def test_each_server_has_the_vault_of_its_name(world: AccountWithRoles) -> None:
    session = boto3_session(world.source(world.issue("web2"), role_arn=SHARED), REGION)
    glacier = make_client(session, "glacier", region=REGION, endpoint=world.emulator.glacier_url)
    own, other = (GlacierVault(VaultName("v"), glacier, name) for name in ("web2", "web1"))
    own.create()
    assert store(own, b"abc")
    for act in (other.create, other.state):
        with pytest.raises(DeniedError):
            act()
