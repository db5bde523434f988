"""boto3 over TLS, as S3 is met outside: uploads with trailers, ranges, and the vault itself."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.emulator.authority import issue, name
from tests.support.archives import CATALOG, some_bytes, store
from tests.support.emulated import REGION, RunningEmulator, write_accounts
from tests.support.rigs import s3_client, s3_vault
from tests.support.s3_clients import MIB, new_bucket_name


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """boto3 at an emulator with a certificate of a CA that only it knows."""
    names = (x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
    holder = issue(name((NameOID.COMMON_NAME, "localhost")), None, extensions=[names])
    certificate, key = tmp_path / "tls.pem", tmp_path / "tls.key"
    certificate.write_text(holder.pem)
    key.write_bytes(holder.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    options = ("--tls-cert", str(certificate), "--tls-key", str(key))
    accounts = write_accounts(tmp_path / "accounts.toml")
    with RunningEmulator(tmp_path / "state", accounts, options=options) as running:
        assert running.s3_url.startswith("https://")
        yield f"https://localhost:{urlsplit(running.s3_url).port}"


def test_boto3_and_the_vault(secure: str) -> None:
    s3 = s3_client(secure)
    bucket, data = new_bucket_name(), os.urandom(3 * MIB)
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_object(Bucket=bucket, Key="k", Body=data, ChecksumAlgorithm="SHA256")  # in chunks, with a trailer
    assert s3.get_object(Bucket=bucket, Key="k", Range="bytes=5-")["Body"].read() == data[5:]
    vault = s3_vault(s3, bucket, storage_class="GLACIER_IR")
    pack = some_bytes(9 * MIB)
    archive_id = store(vault, pack, CATALOG)
    assert s3.get_object(Bucket=bucket, Key=archive_id)["Body"].read() == pack


def test_a_policy_that_wants_tls_is_content(secure: str) -> None:
    s3 = s3_client(secure)
    bucket = new_bucket_name()
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    deny = {
        "Effect": "Deny", "Principal": "*", "Action": "s3:*",
        "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }  # fmt: skip
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [deny]}))
    s3.put_object(Bucket=bucket, Key="k", Body=b"abc")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"abc"
