"""Requests: the key stays where it is, and a request gets no more than a client's certificate."""

from __future__ import annotations

import base64
import fcntl
import os
import subprocess
import threading
import warnings
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID
from msgspec.structs import replace

from backup.credentials.identity import IdentityFiles, load_identity
from backup.errors import IdentityError, NightvaultError, UsageError
from backup.pki.authority import Authority, create_ca
from backup.pki.index import Reason
from backup.pki.issuing import common_name, issue, make_csr, sign_csr
from backup.pki.keys import KeyType
from backup.pki.revoking import revoke
from backup.pki.subjects import Subject, check_common_name

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
        certificate = sign_csr(authority, file.read(), days=5, now=NOW)
    Path(out).write_bytes(certificate.public_bytes(Encoding.PEM))
    assert load_identity(IdentityFiles(out, key)).certificate == certificate
    assert common_name(certificate) == "web1"
    assert os.stat(key).st_mode & 0o777 == 0o600


def test_a_private_key_goes_into_no_pipe(tmp_path: Path, authority: Authority) -> None:
    """Another user had put one at its place, and read it."""
    out = tmp_path / "out"
    out.mkdir()
    os.mkfifo(out / "web1.key")
    reader = os.open(out / "web1.key", os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(NightvaultError, match=r"web1\.key: a pipe or a device is there"):
        issue(authority, SUBJECT, directory=str(out), key_type=KeyType.P_256, days=5, now=NOW)
    assert os.read(reader, 10) == b""
    os.close(reader)
    assert os.listdir(out) == ["web1.key"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("how", ["theirs", "their link", "open", "pipe"])
def test_a_key_that_others_may_know_is_not_used(tmp_path: Path, how: str) -> None:
    """In /tmp another user had made one beforehand: the certificate would have been for her key."""
    key, request = tmp_path / "k", tmp_path / "r"
    make_csr(SUBJECT, key_type=KeyType.P_256, key_path=str(key), csr_path=str(request))
    request.unlink()
    if how == "theirs":
        os.chown(key, 4242, 4242)
    if how == "their link":
        key.rename(tmp_path / "other")
        key.symlink_to("other")
        os.lchown(key, 4242, 4242)
    if how == "open":
        key.chmod(0o640)
    if how == "pipe":
        key.unlink()
        os.mkfifo(key)
    with pytest.raises(IdentityError, match=f"private key {key} (is not used|cannot be read)"):
        make_csr(SUBJECT, key_type=KeyType.P_256, key_path=str(key), csr_path=str(request))
    assert not request.exists()


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
    certificate = sign_csr(authority, request_with(), days=5, now=NOW)
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
        sign_csr(authority, pem, days=5, now=NOW)
    assert os.listdir(f"{authority.directory}/issued") == []


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
        sign_csr(authority, request_pem, days=5, now=NOW)
    assert os.listdir(f"{tmp_path}/ca/issued") == []


def with_names(names: bytes) -> bytes:
    """A signed request whose alternative names are these bytes."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "web1")])
    )
    odd = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, names)
    csr = builder.add_extension(odd, critical=False).sign(
        ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()
    )
    return csr.public_bytes(Encoding.PEM)


def damaged(place: bytes, new: bytes) -> bytes:
    """A request with some bytes of its DER replaced."""
    der = x509.load_pem_x509_csr(request_with()).public_bytes(Encoding.DER)
    assert der.count(place) >= 1
    wrong = base64.encodebytes(der.replace(place, new, 1))
    return b"-----BEGIN CERTIFICATE REQUEST-----\n" + wrong + b"-----END CERTIFICATE REQUEST-----\n"


SERVER = "\u0441\u0435\u0440\u0432\u0435\u0440"  # the word in Cyrillic letters
P_256 = bytes.fromhex("06082a8648ce3d030107")


@pytest.mark.parametrize(
    "request_pem",
    [
        with_names(b"\x30\x02\xa3\x00"),  # an X.400 address, which nobody reads
        with_names(b"\x30\x05\x82\x01"),
        with_names(b"\x30\x03\x82\x01\xff"),
        damaged(P_256, P_256[:-1] + b"\x7f"),
        damaged(b"\x02\x01\x00\x30", b"\x02\x01\x09\x30"),
        damaged(b"web1", b"w\xffb1"),
    ],
    ids=["x400", "cut", "letters", "curve", "version", "subject"],
)
def test_a_request_that_cannot_be_read_is_said_to_be_one(authority: Authority, request_pem: bytes) -> None:
    with pytest.raises(UsageError, match="no certificate signing request in PEM, or has a part"):
        sign_csr(authority, request_pem, days=5, now=NOW)


@pytest.mark.parametrize("name", ["\uff57eb1", "w\u0435b1", "\u03bfld.example", "web\ufb01"])
def test_names_that_look_the_same_are_refused(authority: Authority, name: str) -> None:
    with pytest.raises(UsageError, match="two names would look the same"):
        sign_csr(authority, request_with(name=name), days=5, now=NOW)


@pytest.mark.parametrize("name", ["sauvegarde-été.example", SERVER + "1", "サーバー1", "web-漢字"])
def test_names_in_one_writing_are_fine(name: str) -> None:
    assert check_common_name(name) == name


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ({"unit": "Databases"}, r"unit \(OU\) 'Backup', not for 'Databases'"),
        ({"organization": "Other"}, r"organization \(O\) 'Example', not for 'Other'"),
    ],
)
def test_a_request_is_held_to_a_unit(
    tmp_path: Path, authority: Authority, wanted: dict[str, str], why: str
) -> None:
    pem = csr_of(tmp_path, SUBJECT)
    with pytest.raises(IdentityError, match=why):
        sign_csr(authority, pem, days=5, now=NOW, **wanted)
    with pytest.raises(IdentityError, match="none, not for"):
        sign_csr(authority, request_with(), days=5, now=NOW, **wanted)
    assert sign_csr(authority, pem, days=5, now=NOW, unit="Backup", organization="Example")


def test_another_users_lock_of_the_directory_keeps_nobody_from_signing(authority: Authority) -> None:
    """Whoever may list a directory may lock it."""
    handle = os.open(authority.directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        signing = threading.Thread(
            target=lambda: sign_csr(authority, request_with(), days=5, now=NOW), daemon=True
        )
        signing.start()
        signing.join(20)
        assert not signing.is_alive()
    finally:
        os.close(handle)
    assert len(os.listdir(f"{authority.directory}/issued")) == 1
    assert os.stat(f"{authority.directory}/lock").st_mode & 0o777 == 0o600


def test_several_names_are_refused_as_aws_joins_them_with_a_slash(authority: Authority) -> None:
    names = [x509.NameAttribute(NameOID.COMMON_NAME, text) for text in ("web1", "data")]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names))
    csr = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    with pytest.raises(UsageError, match="several common names"):
        sign_csr(authority, csr.public_bytes(Encoding.PEM), days=5, now=NOW)


def test_a_name_that_is_too_long_is_refused_in_our_words_alone(authority: Authority) -> None:
    """cryptography would warn of it, to the user."""
    with warnings.catch_warnings(action="ignore"):
        names = [x509.NameAttribute(NameOID.COMMON_NAME, "a" * 200, _validate=False)]
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names))
        csr = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
        pem = csr.public_bytes(Encoding.PEM)
    with warnings.catch_warnings(action="error"), pytest.raises(UsageError, match="'aaaa"):
        sign_csr(authority, pem, days=5, now=NOW)


def test_of_many_names_only_a_few_are_told(tmp_path: Path, authority: Authority) -> None:
    issue(authority, SUBJECT, key_type=KeyType.P_256, days=5, directory=str(tmp_path / "out"), now=NOW)
    many = replace(SUBJECT, dns=tuple(f"h{number}.example" for number in range(1000)))
    with pytest.raises(IdentityError, match="and 995 more") as told:
        sign_csr(authority, csr_of(tmp_path, many), days=5, now=NOW, only_for="web1")
    assert len(str(told.value)) < 200


def csr_of(tmp_path: Path, subject: Subject, name: str = "k") -> bytes:
    path = tmp_path / f"{name}.csr"
    make_csr(subject, key_type=KeyType.P_256, key_path=str(tmp_path / f"{name}.key"), csr_path=str(path))
    return path.read_bytes()


def test_a_server_may_renew_itself_and_become_nobody_else(tmp_path: Path, authority: Authority) -> None:
    how = {"days": 5, "now": NOW, "only_for": "web1"}
    with pytest.raises(IdentityError, match="web1 never had a certificate"):
        sign_csr(authority, csr_of(tmp_path, SUBJECT), **how)  # type: ignore[arg-type]
    out = {"key_type": KeyType.P_256, "days": 5, "directory": str(tmp_path / "out"), "now": NOW}
    issue(authority, SUBJECT, **out)  # type: ignore[arg-type]
    issue(authority, Subject("web2"), **out)  # type: ignore[arg-type]
    fewer = Subject("web1", "Example", "Backup")
    for subject in (SUBJECT, fewer, fewer):
        renewed = sign_csr(authority, csr_of(tmp_path, subject), **how)  # type: ignore[arg-type]
        assert common_name(renewed) == "web1"
    refused = (
        Subject("web2"),
        Subject("web1"),
        Subject("web1", "Example", "Prune"),
        Subject("web1", "Example", "Backup", ("web2.example",)),
    )
    for subject in refused:
        with pytest.raises(IdentityError, match=r"the request is for|asks for more names"):
            sign_csr(authority, csr_of(tmp_path, subject), **how)  # type: ignore[arg-type]
    revoke(authority.directory, "web1", every=True, reason=Reason.KEY_COMPROMISE, now=NOW)
    with pytest.raises(IdentityError, match="the newest certificate of web1 is revoked"):
        sign_csr(authority, csr_of(tmp_path, fewer), **how)  # type: ignore[arg-type]


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
