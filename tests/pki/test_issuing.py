"""Requests: the key stays where it is, and a request gets no more than a client's certificate."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from backup.credentials.identity import IdentityFiles, load_identity
from backup.errors import IdentityError, UsageError
from backup.pki.authority import Authority, create_ca
from backup.pki.issuing import common_name, make_csr, sign_csr
from backup.pki.keys import KeyType
from backup.pki.subjects import Subject

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SUBJECT = Subject("web1", "Example", "Backup", ("web1.example.net",))


@pytest.fixture
def authority(tmp_path: os.PathLike[str]) -> Authority:
    directory = f"{tmp_path}/ca"
    return create_ca(directory, Subject("CA"), key_type=KeyType.P_384, days=10, passphrase=None, now=NOW)


@pytest.mark.parametrize("key_type", [KeyType.RSA_2048, KeyType.P_256, KeyType.P_384])
def test_request_and_certificate_make_an_identity(
    tmp_path: os.PathLike[str], authority: Authority, key_type: KeyType
) -> None:
    key, request, out = (f"{tmp_path}/{name}" for name in ("web1.key", "web1.csr", "web1.pem"))
    make_csr(SUBJECT, key_type=key_type, key_path=key, csr_path=request)
    subprocess.run(["openssl", "req", "-verify", "-noout", "-in", request], check=True, capture_output=True)
    with open(request, "rb") as file:
        certificate = sign_csr(authority, file.read(), days=5, path=out, now=NOW)
    assert load_identity(IdentityFiles(out, key)).certificate == certificate
    assert common_name(certificate) == "web1"
    assert os.stat(key).st_mode & 0o777 == 0o600


def test_a_key_that_is_there_is_used_again(tmp_path: os.PathLike[str]) -> None:
    key, request = f"{tmp_path}/k", f"{tmp_path}/r"
    first = make_csr(SUBJECT, key_type=KeyType.P_256, key_path=key, csr_path=request)
    second = make_csr(SUBJECT, key_type=KeyType.RSA_2048, key_path=key, csr_path=request)
    assert first.public_key() == second.public_key()


def request_with(
    *, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None, **more: object
) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, str(more.get("name", "web1")))])
    if more.get("nameless"):
        name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example")])
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
        .add_extension(
            x509.SubjectAlternativeName(
                [
                    x509.DNSName("web1.example.net"),
                    x509.UniformResourceIdentifier("spiffe://example/web1"),
                    x509.RFC822Name("root@example.net"),
                ]
            ),
            critical=False,
        )
    )
    return builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(
        Encoding.PEM
    )


def test_a_request_cannot_make_itself_an_authority(tmp_path: os.PathLike[str], authority: Authority) -> None:
    certificate = sign_csr(authority, request_with(), days=5, path=f"{tmp_path}/out.pem", now=NOW)
    extensions = certificate.extensions
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [name.value for name in names] == ["web1.example.net", "spiffe://example/web1"]
    assert not extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


def test_a_request_signed_by_another_key_is_refused(tmp_path: os.PathLike[str], authority: Authority) -> None:
    der = bytearray(x509.load_pem_x509_csr(request_with()).public_bytes(Encoding.DER))
    place = der.index(b"web1")
    der[place : place + 4] = b"evil"
    pem = x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM)
    with pytest.raises(IdentityError, match="not signed by the key that it names"):
        sign_csr(authority, pem, days=5, path=f"{tmp_path}/out.pem", now=NOW)
    assert not os.path.exists(f"{tmp_path}/out.pem")


@pytest.mark.parametrize(
    ("request_pem", "why"),
    [
        (b"rubbish", "no certificate signing request"),
        (request_with(nameless=True), "names no common name"),
        (request_with(name="web(1)"), "characters that AWS refuses"),
        (request_with(key=rsa.generate_private_key(65537, 1024)), "none that AWS takes"),
    ],
)
def test_requests_that_aws_would_refuse(
    tmp_path: os.PathLike[str], authority: Authority, request_pem: bytes, why: str
) -> None:
    with pytest.raises(UsageError, match=why):
        sign_csr(authority, request_pem, days=5, path=f"{tmp_path}/out.pem", now=NOW)
    assert os.listdir(f"{tmp_path}/ca/issued") == []


def test_no_request_for_an_mldsa_key(tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ML-DSA-44", "-out", key], check=True)
    with pytest.raises(IdentityError, match="ML-DSA"):
        make_csr(
            Subject("web1"),
            key_type=KeyType.P_256,
            key_path=str(key),
            csr_path=str(tmp_path / "csr"),
            passphrase_file=None,
        )
