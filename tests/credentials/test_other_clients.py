"""Another client against our server, and our requests before another verifier: over real TLS."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from iam_rolesanywhere_session import IAMRolesAnywhereSession
from msgspec import Struct

from backup.credentials.boto import boto3_session
from backup.credentials.connection import Connection, open_pool
from backup.credentials.identity import IdentityFiles, load_identity
from backup.credentials.options import RolesAnywhereOptions
from backup.credentials.rolesanywhere import RolesAnywhere
from backup.credentials.signer import SessionRequest, canonical_request, sign_request, string_to_sign
from backup.errors import UnreachableError
from backup.pki.authority import create_ca
from backup.pki.issuing import Issued, issue
from backup.pki.keys import KeyType
from backup.pki.subjects import Subject
from tests.support.clocks import OffsetClock
from tests.support.emulated import ACCOUNT_ID, REGION, REPOSITORY, RunningEmulator, write_accounts
from tests.support.identities import ANCHOR, PROFILE, ROLE, server_certificate
from tests.support.key_stores import call
from tests.support.own_venvs import own_venv

pytestmark = pytest.mark.slow

STRICT = f"arn:aws:rolesanywhere:{REGION}:{ACCOUNT_ID}:trust-anchor/strict"
LENIENT = f"arn:aws:rolesanywhere:{REGION}:{ACCOUNT_ID}:trust-anchor/lenient"
OURS = f"arn:aws:rolesanywhere:{REGION}:{ACCOUNT_ID}:profile/ours"
READER = f"arn:aws:iam::{ACCOUNT_ID}:role/Reader"
TRUST = {
    "Statement": {
        "Effect": "Allow",
        "Principal": {"Service": "rolesanywhere.amazonaws.com"},
        "Action": ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"],
    }
}


class Tls(Struct, frozen=True):
    """An emulator that speaks TLS, the CA of its certificate, and an identity under each trust anchor."""

    emulator: RunningEmulator
    server_ca: str
    strict: Issued
    lenient: Issued

    @property
    def address(self) -> str:
        return self.emulator.rolesanywhere_url.removeprefix("https://")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tls]:
    where = tmp_path_factory.mktemp("tls")
    server_ca, server_key = server_certificate(where)
    now = datetime.now(UTC) - timedelta(hours=1)
    made = []
    for name, kind in (("strict", KeyType.P_256), ("lenient", KeyType.P_384)):
        ca = create_ca(str(where / name), Subject(name), key_type=kind, days=9, passphrase=None, now=now)
        leaf = issue(
            ca,
            Subject("web1"),
            key_type=KeyType.RSA_2048,
            days=5,
            directory=str(where / f"{name}-id"),
            now=now,
        )
        made.append((ca, leaf))
    accounts = write_accounts(
        where / "accounts.toml",
        trust_anchors=[
            {"arn": STRICT, "certificates": [made[0][0].certificate_path]},
            {"arn": LENIENT, "certificates": [made[1][0].certificate_path], "lenient": True},
        ],
        profiles=[{"arn": OURS, "role_arns": [READER]}],
        roles=[{"arn": READER, "trust_policy": TRUST}],
    )
    options = ("--tls-cert", str(server_ca), "--tls-key", str(server_key))
    with RunningEmulator(where / "state", accounts, options=options) as emulator:
        yield Tls(emulator, str(server_ca), made[0][1], made[1][1])


@pytest.mark.parametrize("kind", ["strict", "lenient"])
def test_another_client_gets_credentials_that_list_vaults(tls: Tls, kind: str) -> None:
    issued: Issued = getattr(tls, kind)
    session = IAMRolesAnywhereSession(
        trust_anchor_arn={"strict": STRICT, "lenient": LENIENT}[kind],
        profile_arn=OURS,
        role_arn=READER,
        certificate=issued.certificate_path,
        private_key=issued.key_path,
        region=REGION,
        endpoint=tls.address,
        verify=tls.server_ca,
    ).get_session()
    client = session.client("glacier", REGION, endpoint_url=tls.emulator.glacier_url, verify=tls.server_ca)
    assert client.list_vaults()["VaultList"] == []


def options_on(tls: Tls) -> RolesAnywhereOptions:
    return RolesAnywhereOptions(STRICT, OURS, READER, endpoint=tls.emulator.rolesanywhere_url)


def ours(tls: Tls, connection: Connection) -> RolesAnywhere:
    files = IdentityFiles(tls.strict.certificate_path, tls.strict.key_path)
    options = options_on(tls)
    return RolesAnywhere(
        options, load=lambda: load_identity(files), clock=OffsetClock(), http=open_pool(options, connection)
    )


def test_we_trust_the_bundle_that_is_named(tls: Tls) -> None:
    source = ours(tls, Connection(ca_bundle=tls.server_ca))
    client = boto3_session(source, REGION).client(
        "glacier", endpoint_url=tls.emulator.glacier_url, verify=tls.server_ca
    )
    assert client.list_vaults()["VaultList"] == []


def test_the_environments_bundles_count(tls: Tls, monkeypatch: pytest.MonkeyPatch) -> None:
    named = Connection.of_environment({"AWS_CA_BUNDLE": tls.server_ca})
    assert ours(tls, named).credentials().session_token
    monkeypatch.setenv("SSL_CERT_FILE", tls.server_ca)
    assert ours(tls, Connection.of_environment({})).credentials().session_token


def test_a_server_that_nobody_vouches_for_is_not_told_anything(tls: Tls) -> None:
    with pytest.raises(UnreachableError, match="does not prove that it is"):
        ours(tls, Connection()).credentials()
    assert ours(tls, Connection(verify=False)).credentials().session_token


@pytest.mark.parametrize("kind", list(KeyType))
def test_openssl_verifies_our_request(tmp_path: Path, kind: KeyType) -> None:
    now = datetime.now(UTC)
    ca = create_ca(
        str(tmp_path / "ca"), Subject("CA"), key_type=KeyType.P_256, days=9, passphrase=None, now=now
    )
    made = issue(ca, Subject("web1"), key_type=kind, days=5, directory=str(tmp_path), now=now)
    identity = load_identity(IdentityFiles(made.certificate_path, made.key_path))
    body = f'{{"roleArn":"{ROLE}","profileArn":"{PROFILE}","trustAnchorArn":"{ANCHOR}"}}'.encode()
    headers = dict(sign_request(SessionRequest("host", REGION, body), identity, now))
    authorization = headers.pop("Authorization")
    stamp = headers["X-Amz-Date"]
    scope = f"{stamp[:8]}/{REGION}/rolesanywhere/aws4_request"
    text, signature = tmp_path / "text", tmp_path / "signature"
    text.write_text(string_to_sign(identity.algorithm, stamp, scope, canonical_request(headers, body)))
    signature.write_bytes(bytes.fromhex(authorization.rpartition("Signature=")[2]))
    public = tmp_path / "public"
    call("openssl", "x509", "-in", made.certificate_path, "-noout", "-pubkey", "-out", public)
    verify = ("openssl", "dgst", "-sha256", "-verify", public, "-signature", signature)
    assert "Verified OK" in call(*verify, text)
    text.write_text(text.read_text() + "x")
    assert subprocess.run([*map(str, verify), str(text)], capture_output=True, check=False).returncode == 1


@pytest.mark.parametrize("size", [44, 87])
def test_an_mldsa_key_gets_credentials(tls: Tls, tmp_path: Path, size: int) -> None:
    key, request, leaf, extensions = (tmp_path / name for name in ("key", "csr", "leaf", "ext"))
    extensions.write_text("basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n")
    ca = Path(tls.strict.certificate_path).parent.parent / "strict"
    call("openssl", "genpkey", "-algorithm", f"ML-DSA-{size}", "-out", key)
    call("openssl", "req", "-new", "-key", key, "-subj", "/CN=quantum", "-out", request)
    signing = ("-CA", ca / "ca.pem", "-CAkey", ca / "ca.key", "-days", "3", "-extfile", extensions)
    call("openssl", "x509", "-req", "-in", request, *signing, "-out", leaf)
    files = IdentityFiles(str(leaf), str(key))
    options = options_on(tls)
    http = open_pool(options, Connection(ca_bundle=tls.server_ca))
    source = RolesAnywhere(options, load=lambda: load_identity(files), clock=OffsetClock(), http=http)
    assert source.credentials().access_key_id.startswith("ASIA")


IAMRA = """
import sys, boto3, iamra
certificate, key, anchor, profile, role, url = sys.argv[1:]
session = iamra.Credentials(
    region="eu-central-1", certificate_filename=certificate, private_key_filename=key, duration=900,
    profile_arn=profile, role_arn=role, trust_anchor_arn=anchor,
)
session.get_credentials()
client = session.get_boto3_session("eu-central-1").client("glacier", endpoint_url=url)
print(client.list_vaults()["VaultList"])
"""


@pytest.mark.real
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs a network namespace")
def test_iamra_finds_it_under_awss_own_name(tls: Tls, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """iamra knows no endpoint but AWS's: so it gets one of that name on port 443, where nothing else is."""
    python = own_venv(request.config, "iamra", "iamra==0.6.0", "boto3") / "python"
    name = f"rolesanywhere.{REGION}.amazonaws.com"
    certificate, key = server_certificate(tmp_path, name)
    leaf, leaf_key = p_256_identity(tls, tmp_path)  # iamra signs with PSS for an RSA key: nobody takes that
    hosts, driver = tmp_path / "hosts", tmp_path / "iamra_client.py"
    hosts.write_text(f"127.0.0.1 localhost {name}\n")
    driver.write_text(IAMRA)
    serve = [sys.executable, "-m", "backup.emulator", "--port", "443", "--state", tmp_path / "state"]
    serve += ["--accounts", tls.emulator.accounts, "--tls-cert", certificate, "--tls-key", key]
    ask = [
        python,
        driver,
        leaf,
        leaf_key,
        STRICT,
        OURS,
        READER,
        f"https://{name}",
    ]
    steps = [
        "ip link set lo up",
        f"mount --bind {hosts} /etc/hosts",
        f"{shlex.join(map(str, serve))} > {tmp_path}/listens &",
        f"for n in $(seq 200); do test -s {tmp_path}/listens && break; sleep 0.1; done",
        f"{shlex.join(map(str, ask))}; code=$?; kill $!; wait; exit $code",
    ]
    trust = {"REQUESTS_CA_BUNDLE": str(certificate), "AWS_CA_BUNDLE": str(certificate)}
    done = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-c", "\n".join(steps)],
        env={**os.environ, **trust}, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def p_256_identity(tls: Tls, folder: Path) -> tuple[Path, Path]:
    """A certificate of the strict anchor for an EC key, and the key."""
    key, request, leaf, extensions = (folder / name for name in ("ec.key", "csr", "leaf", "ext"))
    extensions.write_text("basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n")
    ca = Path(tls.strict.certificate_path).parent.parent / "strict"
    call("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
    call("openssl", "req", "-new", "-key", key, "-subj", "/CN=iamra", "-out", request)
    signing = ("-CA", ca / "ca.pem", "-CAkey", ca / "ca.key", "-days", "3", "-extfile", extensions)
    call("openssl", "x509", "-req", "-in", request, *signing, "-out", leaf)
    return leaf, key
