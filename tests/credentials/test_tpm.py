"""Keys in a real (software) TPM: at handles and in TSS2 PEM files, with and without passwords."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backup.credentials.identity import Identity, IdentityFiles, load_identity
from backup.credentials.key_stores.tpm import parse_handle, tcti_of
from backup.credentials.keys import has_signed
from backup.errors import IdentityError
from backup.pki.authority import Authority
from tests.support.identities import authority_in, vectors, write
from tests.support.key_stores import Tpm, certified, running_tpm

PASSWORD = "tpm-key-password"
REAL = pytest.mark.key_store("swtpm")


@pytest.fixture(scope="module")
def tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tpm]:
    with running_tpm(tmp_path_factory.mktemp("tpm")) as running:
        yield running


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority_in(str(tmp_path_factory.mktemp("ca") / "ca"), now=datetime.now(UTC))


@pytest.fixture(autouse=True)
def reached(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "tpm" in request.fixturenames:
        monkeypatch.setenv("TPM2TOOLS_TCTI", request.getfixturevalue("tpm").tcti)


def signs(identity: Identity) -> bool:
    return all(has_signed(identity.certificate, identity.sign(data), data) for data in (b"one", b"two"))


@REAL
@pytest.mark.parametrize(
    "algorithm",
    [("-algorithm", "EC", "-pkeyopt", "group:P-256"), ("-algorithm", "RSA", "-pkeyopt", "bits:2048")],
    ids=["ec", "rsa"],
)
def test_a_tss2_file_signs(
    tpm: Tpm, authority: Authority, tmp_path: Path, algorithm: tuple[str, ...]
) -> None:
    key, public = tmp_path / "k.pem", tmp_path / "public"
    tpm.tss2_key(key, *algorithm)
    tpm.public_key(key, public)
    identity = load_identity(IdentityFiles(certified(authority, public), str(key)))
    assert signs(identity)
    assert identity.key.store == "TPM"


@REAL
def test_a_tss2_file_with_a_password(tpm: Tpm, authority: Authority, tmp_path: Path) -> None:
    key, public = tmp_path / "k.pem", tmp_path / "public"
    tpm.tss2_key(key, "-algorithm", "EC", "-pkeyopt", "group:P-256", password=PASSWORD)
    tpm.public_key(key, public, PASSWORD)
    certificate = certified(authority, public)
    assert signs(load_identity(IdentityFiles(certificate, str(key), passphrase=PASSWORD.encode())))
    secret = write(f"{tmp_path}/secret", f"{PASSWORD}\n")
    assert signs(load_identity(IdentityFiles(certificate, str(key), passphrase_file=secret)))
    with pytest.raises(IdentityError, match="has a password"):
        load_identity(IdentityFiles(certificate, str(key))).sign(b"x")
    with pytest.raises(IdentityError, match="the password does not open") as caught:
        load_identity(IdentityFiles(certificate, str(key), passphrase=b"battery")).sign(b"x")
    assert "battery" not in f"{caught.value}{caught.value.advice}"


@REAL
@pytest.mark.parametrize(
    ("handle", "algorithm", "password"),
    [
        ("0x81000201", "ecc:ecdsa", None),
        ("0x81000202", "rsa2048:rsassa", None),
        ("0x81000203", "ecc:ecdsa", PASSWORD),
    ],
)
def test_a_persistent_handle_signs(
    tpm: Tpm, authority: Authority, tmp_path: Path, handle: str, algorithm: str, password: str | None
) -> None:
    public = tmp_path / "public"
    tpm.persistent_key(handle, tmp_path, algorithm, password)
    tpm.public_key(f"handle:{handle}", public, password)
    opener = None if password is None else password.encode()
    identity = load_identity(
        IdentityFiles(certified(authority, public), f"handle:{handle}", passphrase=opener)
    )
    assert signs(identity)
    assert identity.key.store == f"TPM {handle}"


@REAL
def test_a_key_that_does_not_fit_or_is_not_there(tpm: Tpm, tmp_path: Path) -> None:
    key = tmp_path / "k.pem"
    tpm.tss2_key(key, "-algorithm", "EC", "-pkeyopt", "group:P-256")
    certificate = write(f"{tmp_path}/c.pem", vectors()["ec_cert"])
    with pytest.raises(IdentityError, match="does not fit the certificate"):
        load_identity(IdentityFiles(certificate, str(key))).sign(b"x")
    with pytest.raises(IdentityError, match="the TPM refuses"):
        load_identity(IdentityFiles(certificate, "handle:0x81ffff00")).sign(b"x")
    rsa = write(f"{tmp_path}/rsa.pem", vectors()["rsa_cert"])
    with pytest.raises(IdentityError, match="cannot be used"):
        load_identity(IdentityFiles(rsa, str(key))).sign(b"x")
    key.write_bytes(b"-----BEGIN TSS2 PRIVATE KEY-----\nAAAA\n-----END TSS2 PRIVATE KEY-----\n")
    with pytest.raises(IdentityError, match="TSS2 private key file cannot be read"):
        load_identity(IdentityFiles(certificate, str(key))).sign(b"x")


@REAL
def test_no_tpm_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TPM2TOOLS_TCTI", "swtpm:host=127.0.0.1,port=9")
    certificate = write(f"{tmp_path}/c.pem", vectors()["ec_cert"])
    with pytest.raises(IdentityError, match="the TPM refuses"):
        load_identity(IdentityFiles(certificate, "handle:0x81000001")).sign(b"x")


@pytest.mark.parametrize(
    "text", ["handle:", "handle:1", "handle:0x80000001", "handle:0x8100000", "handle:0x81000001 "]
)
def test_what_is_no_persistent_handle(text: str) -> None:
    with pytest.raises(IdentityError, match="no persistent handle"):
        parse_handle(text)
    assert parse_handle("handle:0x81000aBc") == 0x81000ABC


def test_where_the_tpm_is(tmp_path: Path) -> None:
    assert tcti_of({}) is None
    assert tcti_of({"TPM2TOOLS_TCTI": "mssim", "TPM_DEVICE": "/dev/null"}) == "mssim"
    assert tcti_of({"TPM_DEVICE": "/dev/null"}) == "device:/dev/null"
    with pytest.raises(IdentityError, match="cannot be used"):
        tcti_of({"TPM_DEVICE": str(tmp_path / "none")})
