"""boto3 sessions that ask our source at each signature, and boto3's own chain as a source."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError, EndpointConnectionError

from backup.credentials.boto import DefaultChain, FixedCredentials, boto3_session
from backup.errors import DeniedError, IdentityError, NightvaultError, UnreachableError
from backup.model import Credentials
from tests.support.scratch_server import SECRET, TOKEN


class Counting:
    """A source whose keys say how often it was asked; `error` is raised in their place."""

    def __init__(self, life: timedelta | None = timedelta(minutes=15)) -> None:
        self.asked = 0
        self.life = life
        self.error: NightvaultError | None = None

    def credentials(self) -> Credentials:
        """Other keys each time."""
        self.asked += 1
        if self.error is not None:
            raise self.error
        expires_at = None if self.life is None else datetime.now(UTC) + self.life
        return Credentials(f"ASIACOUNTING{self.asked:08d}", SECRET, TOKEN, expires_at)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    nowhere = tmp_path_factory.mktemp("aws")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(nowhere / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(nowhere / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


class Wire:
    """Catches what a client would send; every answer is an empty list of vaults."""

    def __init__(self, client: Any) -> None:
        self.keys: list[str] = []
        self.tokens: list[str] = []
        client.meta.events.register("before-send.glacier", self._catch)

    def _catch(self, request: Any, **_more: object) -> AWSResponse:
        text = {
            name: value if isinstance(value, str) else value.decode()
            for name, value in request.headers.items()
        }
        self.keys.append(text["Authorization"].partition("Credential=")[2].partition("/")[0])
        self.tokens.append(text["X-Amz-Security-Token"])

        class Raw:
            def stream(self, **_more: object) -> list[bytes]:
                return [b'{"VaultList":[],"Marker":null}']

        return AWSResponse(request.url, 200, {"Content-Type": "application/json"}, Raw())


def test_clients_sign_with_what_the_source_gives_at_that_moment() -> None:
    source = Counting()
    session = boto3_session(source, "eu-central-1")
    one, two = session.client("glacier"), session.client("glacier")
    assert source.asked == 0
    wires = [Wire(one), Wire(two)]
    one.list_vaults()
    one.list_vaults()
    two.list_vaults()
    assert wires[0].keys == ["ASIACOUNTING00000001", "ASIACOUNTING00000002"]
    assert wires[1].keys == ["ASIACOUNTING00000003"]
    assert wires[0].tokens == [TOKEN, TOKEN]


def test_keys_without_an_end_are_asked_for_each_time_too() -> None:
    source = Counting(life=None)
    client = boto3_session(source, "eu-central-1").client("glacier")
    wire = Wire(client)
    client.list_vaults()
    client.list_vaults()
    assert wire.keys == ["ASIACOUNTING00000001", "ASIACOUNTING00000002"]


def test_many_threads_share_the_session() -> None:
    client = boto3_session(Counting(), "eu-central-1").client("glacier")
    wire = Wire(client)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _number: client.list_vaults(), range(64)))
    assert len(wire.keys) == 64
    assert all(key.startswith("ASIACOUNTING") for key in wire.keys)


def test_the_sources_errors_come_out_as_they_are() -> None:
    source = Counting()
    source.error = DeniedError("no", advice="ask again")
    client = boto3_session(source, "eu-central-1").client("glacier")
    Wire(client)
    with pytest.raises(DeniedError, match="no") as caught:
        client.list_vaults()
    assert caught.value is source.error


def test_an_error_while_botocores_copy_works_spoils_nothing() -> None:
    source = Counting()
    client = boto3_session(source, "eu-central-1").client("glacier")
    wire = Wire(client)
    client.list_vaults()
    source.error = UnreachableError("away")
    client.list_vaults()
    assert wire.keys == ["ASIACOUNTING00000001"] * 2


def test_environment_and_profile_have_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENT00000")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "environment")
    monkeypatch.setenv("AWS_PROFILE", "there-is-no-such-profile")
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    client = boto3_session(Counting(), "eu-central-1").client("glacier")
    wire = Wire(client)
    client.list_vaults()
    assert wire.keys == ["ASIACOUNTING00000001"]
    assert client.meta.region_name == "eu-central-1"


def test_no_secret_in_botocores_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    client = boto3_session(Counting(), "eu-central-1").client("glacier")
    Wire(client)
    client.list_vaults()
    assert "botocore" in caplog.text
    assert SECRET not in caplog.text
    assert TOKEN not in caplog.text


def test_fixed_credentials_stay_as_they_are() -> None:
    given = Credentials("AKIAFIXED00000000000", SECRET)
    source = FixedCredentials(given)
    assert source.credentials() is given
    assert SECRET not in repr(source)


def test_the_default_chain_finds_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENT00000")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    found = DefaultChain().credentials()
    assert found == Credentials("AKIAENVIRONMENT00000", SECRET)
    client = boto3_session(DefaultChain(), "eu-central-1").client("glacier")
    signed = client._request_signer._credentials.get_frozen_credentials()
    assert signed.access_key == "AKIAENVIRONMENT00000"


def test_a_chain_that_finds_nothing_says_what_to_set() -> None:
    with pytest.raises(IdentityError, match="there are no AWS credentials") as caught:
        DefaultChain().credentials()
    assert "[identity]" in caught.value.advice


def test_a_profile_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(IdentityError, match="config profile") as caught:
        DefaultChain("none").credentials()
    assert "AWS_PROFILE" in caught.value.advice


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (EndpointConnectionError(endpoint_url="https://sts.example"), UnreachableError),
        (ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "AssumeRole"), DeniedError),
    ],
)
def test_the_chains_failures_become_ours(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, kind: type[NightvaultError]
) -> None:
    def fail(_session: object) -> object:
        raise failure

    monkeypatch.setattr(boto3.Session, "get_credentials", fail)
    with pytest.raises(kind, match="credential chain"):
        DefaultChain().credentials()


def test_the_package_itself_needs_no_boto3() -> None:
    code = (
        "import sys, backup.credentials, backup.credentials.rolesanywhere\n"
        "assert not any(name.startswith('boto') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
