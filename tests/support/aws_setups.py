"""Servers that `setup aws` sets up on an emulated AWS, and all that is there afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.aws_admin import admin_client
from tests.support.emulated import (
    ACCESS_KEY_ID,
    REGION,
    SECRET_ACCESS_KEY,
    RunningEmulator,
    StaticKey,
    write_accounts,
)
from tests.support.servers import HurryingClock, Server, fill

ADMIN = StaticKey()
VAULTS = {
    "glacier": 'vault = "nightly" # of this account\npart_size = "1MiB"\npack_size = "4MiB"\n',
    "s3": 'storage_class = "GLACIER" # cold\npath_style = true\n',
}


@contextmanager
def emulated_account(folder: Path, *keys: StaticKey) -> Iterator[RunningEmulator]:
    """An AWS account in which there is nothing but keys."""
    folder.mkdir(parents=True, exist_ok=True)
    accounts = write_accounts(folder / "accounts.toml", keys=[ADMIN, *keys])
    with RunningEmulator(folder / "state", accounts) as emulator:
        yield emulator


def become(
    monkeypatch: pytest.MonkeyPatch,
    emulator: RunningEmulator,
    key: str = ACCESS_KEY_ID,
    secret: str = SECRET_ACCESS_KEY,
) -> None:
    """Let boto3's chain find these keys, and the emulator in place of AWS."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    for name in ("GLACIER", "ROLESANYWHERE", "IAM", "STS"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{name}", emulator.glacier_url)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", emulator.s3_url)


def new_server(folder: Path, emulator: RunningEmulator, kind: str) -> Server:
    """A server with a certificate, and a config that says nothing of AWS but its vault."""
    server = Server(folder, HurryingClock(emulator))
    fill(server.source)
    server.done("ca", "create", "--dir", folder / "ca", "--name", "Test CA", "--organization", "Test")
    server.done(
        *("ca", "issue", "web1", "--dir", folder / "ca", "--out", folder / "identity"),
        *("--organization", "Test", "--unit", "Servers"),
    )
    server.write_config(
        "# what we back up, and where\n"
        f'[identity]\ncertificate = "{folder}/identity/web1.pem"\n'
        f'private_key = "{folder}/identity/web1.key" # 0600\n',
        f'[[vault]]\nname = "cold"\nkind = "{kind}"\nregion = "{REGION}"\n{VAULTS[kind]}',
    )
    return server


def set_up(server: Server, mode: str, *words: object, lets_delete: bool = True) -> Any:
    """The words of `setup aws` on this server; its own certificate may delete, unless others are named."""
    if lets_delete and not {"--prune-subject", "--subject", "--shared"} & set(words):
        words = ("--prune-subject", "web1", *words)
    return ("setup", "aws", f"--{mode}", "--ca", server.folder / "ca" / "ca.pem", *words)


def state_of(emulator: RunningEmulator) -> Mapping[str, Any]:
    """All that is in the account, without ids and dates."""
    anywhere, iam = admin_client(emulator, "rolesanywhere"), admin_client(emulator, "iam")
    anchors = anywhere.list_trust_anchors()["trustAnchors"]
    arns = {anchor["trustAnchorArn"]: "ANCHOR" for anchor in anchors}
    roles = {}
    for role in iam.list_roles()["Roles"]:
        name = role["RoleName"]
        policies = iam.list_role_policies(RoleName=name)["PolicyNames"]
        trust = json.dumps(role["AssumeRolePolicyDocument"])
        for arn, word in arns.items():
            trust = trust.replace(arn, word)
        roles[name] = {
            "trust": trust,
            "tags": iam.list_role_tags(RoleName=name)["Tags"],
            "policies": {
                policy: iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
                for policy in policies
            },
        }
    return {
        "anchors": [_plain(anchor, "trustAnchor") for anchor in anchors],
        "profiles": [_plain(profile, "profile") for profile in anywhere.list_profiles()["profiles"]],
        "crls": len(anywhere.list_crls()["crls"]),
        "roles": roles,
        "buckets": _buckets(admin_client(emulator, "s3")),
        "vaults": _vaults(admin_client(emulator, "glacier")),
    }


def _plain(detail: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    gone = {f"{kind}Id", f"{kind}Arn", "createdAt", "updatedAt"}
    return {key: value for key, value in detail.items() if key not in gone}


def _buckets(s3: Any) -> Mapping[str, Any]:
    return {
        bucket["Name"]: {
            "tags": _or_none(s3.get_bucket_tagging, "TagSet", bucket["Name"]),
            "block": _or_none(s3.get_public_access_block, "PublicAccessBlockConfiguration", bucket["Name"]),
            "policy": _or_none(s3.get_bucket_policy, "Policy", bucket["Name"]),
            "lifecycle": _or_none(s3.get_bucket_lifecycle_configuration, "Rules", bucket["Name"]),
        }
        for bucket in s3.list_buckets()["Buckets"]
    }


def _or_none(ask: Any, member: str, bucket: str) -> Any:
    try:
        return ask(Bucket=bucket)[member]
    except ask.__self__.exceptions.ClientError:
        return None


def _vaults(glacier: Any) -> Mapping[str, Any]:
    return {
        vault["VaultName"]: glacier.list_tags_for_vault(vaultName=vault["VaultName"])["Tags"]
        for vault in glacier.list_vaults()["VaultList"]
    }


EMPTY: Mapping[str, Any] = {
    "anchors": [],
    "profiles": [],
    "crls": 0,
    "roles": {},
    "buckets": {},
    "vaults": {},
}
