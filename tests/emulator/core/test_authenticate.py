"""Who may call: signatures, time, tokens and the policies of roles, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import urllib3
from botocore.exceptions import ClientError
from msgspec import Struct
from msgspec.structs import replace

from tests.emulator.authority import (
    ANCHOR_ARN,
    PROFILE_ARN,
    ROLE_ARN,
    TRUST,
    issue_ca,
    issue_leaf,
    session_body,
    sign_session,
)
from tests.support.emulated import ACCOUNT_ID, TEST_KEY, RunningEmulator, StaticKey, write_accounts
from tests.support.emulator_clients import Talker, arn_of, client, code_and_message, new_vault_name

SIGNATURE = "InvalidSignatureException"
POLICY = {
    "Statement": [
        {"Effect": "Allow", "Action": "glacier:*", "Resource": arn_of("allowed-*")},
        {"Effect": "Deny", "Action": ["glacier:Delete*"], "Resource": "*"},
    ]
}
ISSUER = issue_ca("Authenticating CA")
LEAF = issue_leaf(ISSUER)


def _hours_away(hours: int) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


LIVING = StaticKey("ASIALIVING0000000000", "secret", "token", _hours_away(24))
EXPIRED = StaticKey("ASIAEXPIRED000000000", "secret", "token", _hours_away(-1))


class Setting(Struct, frozen=True):
    """An emulator with a role that has a policy, and the file to change that."""

    emulator: RunningEmulator
    accounts: Path

    def write(self, role: dict[str, Any]) -> None:
        """Rewrite the accounts with this role."""
        write_accounts(
            self.accounts,
            keys=[TEST_KEY, LIVING, EXPIRED],
            trust_anchors=[{"arn": ANCHOR_ARN, "certificates": [ISSUER.pem]}],
            profiles=[{"arn": PROFILE_ARN, "role_arns": [ROLE_ARN]}],
            roles=[role],
        )

    def session(self) -> Any:
        """boto3 with credentials from a certificate."""
        body = session_body()
        host = self.emulator.rolesanywhere_url.removeprefix("http://")
        headers = sign_session(LEAF, body, host=host)
        url = f"{self.emulator.rolesanywhere_url}/sessions"
        answer = urllib3.request("POST", url, body=body, headers=headers)
        assert answer.status == 201, answer.data
        given = answer.json()["credentialSet"][0]["credentials"]
        url = self.emulator.glacier_url
        return client(url, given["accessKeyId"], given["secretAccessKey"], given["sessionToken"])


ROLE = {"arn": ROLE_ARN, "trust_policy": TRUST}


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    folder = tmp_path_factory.mktemp("authenticate")
    with_file = Setting(RunningEmulator(folder / "state", folder / "accounts.toml"), folder / "accounts.toml")
    with_file.write({**ROLE, "policy": POLICY})
    with with_file.emulator:
        yield with_file


def test_without_authorization(talker: Talker) -> None:
    reply = talker.send("GET", "/-/vaults", b"", {"Host": "x"})
    assert reply.error == (400, "MissingAuthenticationTokenException", "Missing Authentication Token")
    assert list(reply.json) == ["code", "message", "type"]
    assert reply.headers["content-type"] == "application/json"


def test_unknown_key(talker: Talker) -> None:
    reply = replace(talker, key_id="AKIANOBODY").ask("GET", "/-/vaults")
    assert reply.error == (
        400,
        "UnrecognizedClientException",
        "The security token included in the request is invalid.",
    )


def test_wrong_secret(talker: Talker) -> None:
    status, code, message = replace(talker, secret="wrong").ask("GET", "/-/vaults").error
    assert (status, code) == (403, SIGNATURE)
    assert message.startswith(
        "The request signature we calculated does not match the signature you provided."
    )


@pytest.mark.parametrize(
    ("late", "start", "end"),
    [
        (timedelta(minutes=-6), "Signature expired: ", " - 5 min.)"),
        (timedelta(minutes=6), "Signature not yet current: ", " + 5 min.)"),
    ],
)
def test_clock_skew(talker: Talker, late: timedelta, start: str, end: str) -> None:
    status, code, message = talker.ask("GET", "/-/vaults", late=late).error
    assert (status, code) == (403, SIGNATURE)
    assert message.startswith(start)
    assert message.endswith(end)
    assert talker.ask("GET", "/-/vaults", late=late * 0.75).status == 200


@pytest.mark.parametrize(
    "how", [{"region": "nowhere"}, {"service": "s3"}, {"host": "glacier.us-east-1.amazonaws.com"}]
)
def test_wrong_scope(talker: Talker, how: dict[str, Any]) -> None:
    assert talker.ask("GET", "/-/vaults", **how).error[:2] == (403, SIGNATURE)


def test_the_received_host_is_what_counts(talker: Talker) -> None:
    assert talker.ask("GET", "/-/vaults", host="glacier.eu-central-1.amazonaws.com").status == 200


def test_tampering(talker: Talker) -> None:
    vault = new_vault_name()
    talker.ask("PUT", f"/-/vaults/{vault}")
    path, body = f"/-/vaults/{vault}/jobs", b'{"Type":"inventory-retrieval"}'
    headers = talker.signed("POST", path, body)
    assert talker.send("POST", path, body + b" ", headers).error[1] == SIGNATURE
    assert talker.send("POST", path + "?limit=1", body, headers).error[1] == SIGNATURE
    assert talker.send("POST", path.replace(vault, "x"), body, headers).error[1] == SIGNATURE
    later = {**headers, "x-amz-glacier-version": "2012-06-02"}
    assert talker.send("POST", path, body, later).error[1] == SIGNATURE
    assert talker.send("POST", path, body, headers).error[1] == "ResourceNotFoundException"
    unsigned = {key: value for key, value in headers.items() if key != "host"}
    assert talker.send("POST", path, body, {**unsigned, "host": "other"}).error[1] == SIGNATURE


def test_a_claimed_payload_hash_must_hold_everywhere(talker: Talker) -> None:
    status, code, message = talker.ask("GET", "/-/vaults", headers={"x-amz-content-sha256": "ab" * 32}).error
    assert (status, code) == (403, SIGNATURE)
    assert message.startswith("The value passed in as x-amz-content-sha256 does not match")


def test_version_header(talker: Talker) -> None:
    headers = talker.signed("GET", "/-/vaults", headers={"x-amz-glacier-version": "2013-01-01"})
    assert talker.send("GET", "/-/vaults", b"", headers).error[:2] == (400, "InvalidParameterValueException")


@pytest.mark.parametrize("text", ["AWS4-HMAC-SHA256 nonsense", "Basic abc"])
def test_malformed_authorization(talker: Talker, text: str) -> None:
    headers = {**talker.signed("GET", "/-/vaults"), "authorization": text}
    assert talker.send("GET", "/-/vaults", b"", headers).error[:2] == (403, SIGNATURE)


def test_temporary_keys_of_the_file(setting: Setting) -> None:
    url = setting.emulator.glacier_url
    living = client(url, LIVING.access_key_id, LIVING.secret_access_key, "token")
    assert living.list_vaults()["VaultList"] is not None
    for key, token, code, message in (
        (
            LIVING,
            "other",
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
        ),
        (
            LIVING,
            None,
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
        ),
        (EXPIRED, "token", "ExpiredTokenException", "The security token included in the request is expired"),
    ):
        with pytest.raises(ClientError) as refused:
            client(url, key.access_key_id, key.secret_access_key, token).list_vaults()
        assert code_and_message(refused) == (code, message)


def test_a_token_must_be_signed(setting: Setting) -> None:
    talker = Talker(setting.emulator.glacier_url, LIVING.access_key_id, LIVING.secret_access_key)
    headers = {**talker.signed("GET", "/-/vaults"), "x-amz-security-token": "token"}
    assert talker.send("GET", "/-/vaults", b"", headers).error[1:] == (
        SIGNATURE,
        "The header x-amz-security-token must be signed.",
    )


def test_sessions_follow_the_policy_of_their_role(setting: Setting) -> None:
    glacier = setting.session()
    glacier.create_vault(vaultName="allowed-1")
    glacier.upload_archive(vaultName="allowed-1", body=b"x")
    serial = format(LEAF.certificate.serial_number, "x")
    serial = serial if len(serial) % 2 == 0 else "0" + serial
    user = (
        f"User: arn:aws:sts::{ACCOUNT_ID}:assumed-role/GlacierWriter/{serial} is not authorized to perform: "
    )
    for call, rest in (
        (
            lambda: glacier.describe_vault(vaultName="other"),
            (
                f"glacier:DescribeVault on resource: {arn_of('other')} because no identity-based policy "
                "allows the glacier:DescribeVault action"
            ),
        ),
        (
            glacier.list_vaults,
            (
                "glacier:ListVaults on resource: * because no identity-based policy allows "
                "the glacier:ListVaults action"
            ),
        ),
        (
            lambda: glacier.delete_vault(vaultName="allowed-1"),
            (
                f"glacier:DeleteVault on resource: {arn_of('allowed-1')} with an explicit deny "
                "in an identity-based policy"
            ),
        ),
    ):
        with pytest.raises(ClientError) as refused:
            call()
        assert code_and_message(refused) == ("AccessDeniedException", user + rest)


def test_the_file_is_read_again_and_sessions_outlive_a_restart(setting: Setting) -> None:
    glacier = setting.session()
    setting.write(ROLE)
    assert glacier.list_vaults()["VaultList"] is not None
    setting.emulator.restart()
    assert glacier.list_vaults()["VaultList"] is not None
    setting.accounts.write_text("[[account]]\nid = 3")
    assert glacier.list_vaults()["VaultList"] is not None
    setting.write({**ROLE, "arn": ROLE_ARN + "2"})
    with pytest.raises(ClientError, match="because its role does not exist"):
        glacier.list_vaults()
    setting.write({**ROLE, "policy": POLICY})


def test_refused_sessions_on_the_wire(setting: Setting) -> None:
    url = f"{setting.emulator.rolesanywhere_url}/sessions"
    body = session_body()
    headers = sign_session(LEAF, body, host="elsewhere")
    answer = urllib3.request("POST", url, body=body, headers={**headers, "host": "changed"})
    assert (answer.status, answer.json()) == (403, {"message": "Invalid signature"})
    assert answer.headers["x-amzn-ErrorType"] == "AccessDeniedException"
    assert answer.headers["x-amzn-RequestId"]
    assert urllib3.request("GET", url).status == 405
