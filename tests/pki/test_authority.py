"""The authority, held against openssl: what it makes, openssl verifies; what it must not do, it refuses."""

from __future__ import annotations

import os
import stat
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from backup.credentials.certificate import weaknesses
from backup.credentials.identity import IdentityFiles, load_identity
from backup.errors import IdentityError, NightvaultError, UsageError
from backup.pki.authority import Authority, create_ca, key_is_encrypted, open_ca
from backup.pki.issuing import Issued, issue
from backup.pki.keys import KeyType, private_pem
from backup.pki.subjects import Subject, file_stem

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def openssl(*arguments: str) -> str:
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True, text=True).stdout


def make_ca(directory: object, key_type: KeyType = KeyType.P_256, **changes: object) -> Authority:
    values: dict[str, object] = {"days": 3650, "passphrase": None, "now": NOW, **changes}
    subject = Subject("Backup CA", organization="Example")
    return create_ca(str(directory), subject, key_type=key_type, **values)  # type: ignore[arg-type]


def make_leaf(authority: Authority, directory: object, **changes: object) -> Issued:
    values: dict[str, object] = {"key_type": KeyType.P_256, "days": 90, "now": NOW, **changes}
    subject = values.pop("subject", Subject("web1", "Example", "Backup", ("web1.example.net",)))
    return issue(authority, subject, directory=str(directory), **values)  # type: ignore[arg-type]


@pytest.mark.parametrize("key_type", list(KeyType))
def test_openssl_verifies_root_and_leaf(tmp_path: os.PathLike[str], key_type: KeyType) -> None:
    authority = make_ca(f"{tmp_path}/ca", key_type)
    issued = make_leaf(authority, f"{tmp_path}/out", key_type=key_type)
    at = str(int(NOW.timestamp()))
    verify = ("verify", "-x509_strict", "-purpose", "sslclient", "-attime", at)
    done = openssl(*verify, "-CAfile", authority.certificate_path, issued.certificate_path)
    assert done.strip().endswith(": OK")
    assert weaknesses(issued.certificate) == []


def test_the_extensions_are_those_that_aws_asks_for(tmp_path: os.PathLike[str]) -> None:
    authority = make_ca(f"{tmp_path}/ca")
    issued = make_leaf(authority, f"{tmp_path}/out")
    root = openssl("x509", "-noout", "-text", "-in", authority.certificate_path)
    leaf = openssl("x509", "-noout", "-text", "-in", issued.certificate_path)
    assert "CA:TRUE, pathlen:0" in root
    assert "Certificate Sign, CRL Sign" in root
    assert "Subject Key Identifier" in root
    assert "Authority Key Identifier" not in root
    for line in (
        "Version: 3",
        "CA:FALSE",
        "Digital Signature",
        "TLS Web Client Authentication",
        "DNS:web1.example.net",
    ):
        assert line in leaf
    assert "Subject Key Identifier" in leaf
    assert "Authority Key Identifier" in leaf
    assert "O=Example, OU=Backup, CN=web1" in leaf
    assert "Key Encipherment" not in leaf


def test_serials_are_twenty_random_bytes_and_dates_are_as_asked(tmp_path: os.PathLike[str]) -> None:
    authority = make_ca(f"{tmp_path}/ca")
    serials = {make_leaf(authority, f"{tmp_path}/out").certificate.serial_number for _ in range(8)}
    assert len(serials) == 8
    assert max(serials).bit_length() > 140
    certificate = make_leaf(authority, f"{tmp_path}/out", days=30).certificate
    assert certificate.not_valid_after_utc == NOW + timedelta(days=30)
    assert certificate.not_valid_before_utc == NOW - timedelta(minutes=5)


def test_key_files_are_for_their_owner_alone_whatever_the_umask(tmp_path: os.PathLike[str]) -> None:
    before = os.umask(0)
    try:
        authority = make_ca(f"{tmp_path}/ca")
        issued = make_leaf(authority, f"{tmp_path}/out")
    finally:
        os.umask(before)
    modes = {
        path: stat.S_IMODE(os.stat(path).st_mode)
        for path in (
            f"{tmp_path}/ca",
            f"{tmp_path}/ca/ca.key",
            f"{tmp_path}/ca/issued",
            issued.key_path,
            f"{tmp_path}/out",
        )
    }
    assert set(modes.values()) == {0o700, 0o600}
    assert modes[issued.key_path] == modes[f"{tmp_path}/ca/ca.key"] == 0o600


def test_an_authority_is_never_overwritten(tmp_path: os.PathLike[str]) -> None:
    authority = make_ca(f"{tmp_path}/ca")
    with pytest.raises(UsageError, match=r"ca\.key is there already"):
        make_ca(f"{tmp_path}/ca")
    assert open_ca(f"{tmp_path}/ca").certificate == authority.certificate
    assert sorted(os.listdir(f"{tmp_path}/ca")) == ["ca.key", "ca.pem", "issued"]


def test_the_same_name_can_be_issued_again_and_copies_are_kept(tmp_path: os.PathLike[str]) -> None:
    authority = make_ca(f"{tmp_path}/ca")
    first = make_leaf(authority, f"{tmp_path}/out")
    second = make_leaf(authority, f"{tmp_path}/out")
    assert first.certificate_path == second.certificate_path
    identity = load_identity(IdentityFiles(second.certificate_path, second.key_path))
    assert identity.certificate == second.certificate
    assert set(os.listdir(f"{tmp_path}/ca/issued")) == {
        f"{issued.certificate.serial_number:x}.pem" for issued in (first, second)
    }
    assert sorted(os.listdir(f"{tmp_path}/out")) == ["web1.key", "web1.pem"]


def test_a_failure_between_key_and_certificate_leaves_the_old_pair(
    tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = make_ca(f"{tmp_path}/ca")
    first = make_leaf(authority, f"{tmp_path}/out")
    real = os.fsync
    calls: list[int] = []

    def full_disk(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 4:  # the copy and its directory, the key, then the certificate
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(Exception, match="No space left"):
        make_leaf(authority, f"{tmp_path}/out")
    identity = load_identity(IdentityFiles(first.certificate_path, first.key_path))
    assert identity.certificate == first.certificate
    assert sorted(os.listdir(f"{tmp_path}/out")) == ["web1.key", "web1.pem"]


def test_a_leaf_never_outlives_its_authority(tmp_path: os.PathLike[str]) -> None:
    authority = make_ca(f"{tmp_path}/ca", days=10)
    assert make_leaf(
        authority, f"{tmp_path}/out", days=90
    ).certificate.not_valid_after_utc == NOW + timedelta(days=10)
    with pytest.raises(IdentityError, match="expired on 2026-12-04"):
        make_leaf(authority, f"{tmp_path}/out", now=NOW + timedelta(days=11))


def test_a_passphrase_protects_the_authority(tmp_path: os.PathLike[str]) -> None:
    make_ca(f"{tmp_path}/ca", passphrase=b"correct horse")
    assert key_is_encrypted(f"{tmp_path}/ca")
    with open(f"{tmp_path}/ca/ca.key", "rb") as file:
        assert b"correct horse" not in file.read()
    assert "correct" not in repr(open_ca(f"{tmp_path}/ca", b"correct horse"))
    openssl("pkey", "-in", f"{tmp_path}/ca/ca.key", "-passin", "pass:correct horse", "-noout")
    asn1 = openssl("asn1parse", "-in", f"{tmp_path}/ca/ca.key")
    assert "PBES2" in asn1
    assert "aes-256-cbc" in asn1
    with pytest.raises(IdentityError, match="its passphrase is needed"):
        open_ca(f"{tmp_path}/ca")
    with pytest.raises(IdentityError, match="not opened by this passphrase"):
        open_ca(f"{tmp_path}/ca", b"battery staple")


def test_what_is_wrong_with_a_directory_is_said(tmp_path: os.PathLike[str]) -> None:
    with pytest.raises(IdentityError, match="there is no certificate authority in"):
        open_ca(f"{tmp_path}/none")
    make_ca(f"{tmp_path}/ca")
    with pytest.raises(IdentityError, match="is not encrypted"):
        open_ca(f"{tmp_path}/ca", b"needless")
    with open(f"{tmp_path}/ca/ca.key", "wb") as file:
        file.write(private_pem(ec.generate_private_key(ec.SECP256R1())))
    with pytest.raises(IdentityError, match="do not belong together"):
        open_ca(f"{tmp_path}/ca")
    with open(f"{tmp_path}/ca/ca.key", "wb") as file:
        file.write(b"rubbish")
    with pytest.raises(IdentityError, match="holds no private key"):
        open_ca(f"{tmp_path}/ca")


def test_an_empty_passphrase_is_refused() -> None:
    with pytest.raises(UsageError, match="must not be empty"):
        private_pem(ec.generate_private_key(ec.SECP256R1()), b"")


@pytest.mark.parametrize(
    "name",
    [
        *("web(1)", "", " ", "a" * 65, "web;rm", "two\nlines", "web*", "web?", "${aws:username}", "a\x00b"),
        *("a/b", "/", "..", ".", " web1", "web1 ", "zu\u0308rich", "web1\u202e", "web1\x7f"),
    ],
)
def test_names_that_aws_refuses_are_refused_here(name: str) -> None:
    with pytest.raises(UsageError, match="the name"):
        Subject(name).name()


def test_letters_of_other_alphabets_are_taken() -> None:
    assert Subject("zürich-1").name().rfc4514_string() == "CN=zürich-1"
    with pytest.raises(UsageError, match="is not a DNS name"):
        Subject("web1", dns=("zürich.example",)).alternative_names()


@pytest.mark.parametrize(
    ("name", "stem"),
    [("web1", "web1"), ("a/b c", "a_b_c"), ("..", "identity"), (".ssh", "ssh"), ("x@y.z", "x@y.z")],
)
def test_a_name_never_leaves_its_directory(name: str, stem: str) -> None:
    assert file_stem(name) == stem


def test_the_authority_is_self_signed_and_its_own_issuer(tmp_path: os.PathLike[str]) -> None:
    certificate = make_ca(f"{tmp_path}/ca").certificate
    assert certificate.subject == certificate.issuer
    certificate.verify_directly_issued_by(certificate)
    assert x509.load_pem_x509_certificate(certificate.public_bytes(Encoding.PEM)) == certificate


def test_what_the_disk_refuses_is_said(tmp_path: os.PathLike[str]) -> None:
    with open(f"{tmp_path}/file", "wb"):
        pass
    with pytest.raises(NightvaultError, match=r"cannot make the directory .*: Not a directory"):
        make_ca(f"{tmp_path}/file/ca")
    make_ca(f"{tmp_path}/ca")
    os.unlink(f"{tmp_path}/ca/ca.key")
    os.mkdir(f"{tmp_path}/ca/ca.key")
    with pytest.raises(IdentityError, match=r"ca\.key cannot be read: Is a directory"):
        open_ca(f"{tmp_path}/ca")


def test_a_key_of_another_kind_is_no_authoritys(tmp_path: os.PathLike[str]) -> None:
    make_ca(f"{tmp_path}/ca")
    openssl("genpkey", "-algorithm", "ed25519", "-out", f"{tmp_path}/ca/ca.key")
    with pytest.raises(IdentityError, match="neither RSA nor EC"):
        open_ca(f"{tmp_path}/ca")
