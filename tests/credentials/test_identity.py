"""Identities from files: every form that openssl writes is read, and every mistake has its own sentence."""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backup.credentials.identity import (
    Identity,
    IdentityFiles,
    check_validity,
    describe_identity,
    load_certificates,
    load_identity,
    permissions_warning,
)
from backup.errors import ExitCode, IdentityError
from tests.support.identities import NOW, authority_in, identity_in, issue_in, vectors, write

VECTORS = vectors()
ENCRYPTIONS = [
    ("pkcs8", "-topk8", "-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA1"),
    ("pkcs8", "-topk8", "-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA512"),
    ("pkcs8", "-topk8", "-scrypt"),
]


@pytest.fixture
def rsa_files(tmp_path: os.PathLike[str]) -> IdentityFiles:
    certificate = write(f"{tmp_path}/c.pem", VECTORS["rsa_cert"])
    return IdentityFiles(certificate, write(f"{tmp_path}/k.pem", VECTORS["rsa_key"]))


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


@pytest.mark.parametrize("kind", ["rsa", "ec"])
@pytest.mark.parametrize("traditional", [True, False])
def test_both_pem_forms_of_a_key_are_read(tmp_path: os.PathLike[str], kind: str, traditional: bool) -> None:
    certificate = write(f"{tmp_path}/c.pem", VECTORS[f"{kind}_cert"])
    key = write(f"{tmp_path}/k.pem", VECTORS[f"{kind}_key"])
    if traditional:
        openssl("pkey", "-in", key, "-traditional", "-out", f"{tmp_path}/t.pem")
        key = f"{tmp_path}/t.pem"
    identity = load_identity(IdentityFiles(certificate, key))
    assert identity.algorithm == {"rsa": "AWS4-X509-RSA-SHA256", "ec": "AWS4-X509-ECDSA-SHA256"}[kind]
    assert identity.chain == ()


def test_key_and_passphrase_may_be_handed_over_by_systemd(
    tmp_path: os.PathLike[str], rsa_files: IdentityFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    openssl(
        *("pkcs8", "-topk8", "-in", rsa_files.private_key, "-out", f"{tmp_path}/web1.key"),
        *("-passout", "pass:correct horse"),
    )
    write(f"{tmp_path}/web1.pass", "correct horse\n")
    files = replace(rsa_files, private_key="credential:web1.key", passphrase_file="credential:web1.pass")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(IdentityError, match=r"credential:web1\.key is handed over by systemd") as caught:
        load_identity(files)
    assert "systemctl start" in caught.value.advice
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert load_identity(files).certificate.serial_number == 11111222223333344444


@pytest.mark.parametrize("how", ENCRYPTIONS)
def test_encrypted_keys_are_opened_by_the_passphrase_file(
    tmp_path: os.PathLike[str], rsa_files: IdentityFiles, how: tuple[str, ...]
) -> None:
    locked = f"{tmp_path}/locked.pem"
    openssl(*how, "-in", rsa_files.private_key, "-out", locked, "-passout", "pass:correct horse")
    right = write(f"{tmp_path}/right", "correct horse\n")
    files = replace(rsa_files, private_key=locked, passphrase_file=right)
    assert load_identity(files).certificate.serial_number == 11111222223333344444
    wrong = write(f"{tmp_path}/wrong", "battery staple\n")
    with pytest.raises(IdentityError, match="the passphrase does not open the private key") as caught:
        load_identity(replace(files, passphrase_file=wrong))
    assert "battery" not in f"{caught.value} {caught.value.advice} {caught.value!r}"
    with pytest.raises(IdentityError, match="is encrypted"):
        load_identity(replace(files, passphrase_file=None))


def test_the_old_encrypted_form_is_read(tmp_path: os.PathLike[str], rsa_files: IdentityFiles) -> None:
    locked = f"{tmp_path}/locked.pem"
    openssl(
        "rsa",
        "-traditional",
        "-aes256",
        "-in",
        rsa_files.private_key,
        "-out",
        locked,
        "-passout",
        "pass:abcd",
    )
    right = write(f"{tmp_path}/right", "abcd")
    assert load_identity(replace(rsa_files, private_key=locked, passphrase_file=right)).chain == ()


def test_a_full_chain_loses_nothing_and_its_order_does_not_matter(tmp_path: os.PathLike[str]) -> None:
    key = write(f"{tmp_path}/k.pem", VECTORS["rsa_key"])
    forward = write(f"{tmp_path}/f.pem", VECTORS["rsa_cert"], VECTORS["intermediate"])
    backward = write(f"{tmp_path}/b.pem", VECTORS["intermediate"], VECTORS["rsa_cert"])
    one, two = (load_identity(IdentityFiles(path, key)) for path in (forward, backward))
    assert one.certificate == two.certificate
    assert one.chain == two.chain == tuple(load_certificates(write(f"{tmp_path}/i", VECTORS["intermediate"])))


def test_key_and_certificate_may_share_a_file_and_doubles_are_sent_once(tmp_path: os.PathLike[str]) -> None:
    both = write(f"{tmp_path}/both.pem", VECTORS["ec_key"], VECTORS["ec_cert"], VECTORS["intermediate"])
    chain = write(f"{tmp_path}/chain.pem", VECTORS["ec_cert"], VECTORS["intermediate"], VECTORS["root"])
    identity = load_identity(IdentityFiles(both, both, intermediates=chain))
    assert len(identity.chain) == 2
    assert identity.certificate not in identity.chain


def test_too_long_a_chain_is_found_here(tmp_path: os.PathLike[str]) -> None:
    issued = issue_in(authority_in(f"{tmp_path}/ca"), f"{tmp_path}/out")
    roots = []
    for number in range(6):
        with open(authority_in(f"{tmp_path}/{number}").certificate_path, "rb") as file:
            roots.append(file.read())
    files = IdentityFiles(issued.certificate_path, issued.key_path, write(f"{tmp_path}/chain", *roots))
    with pytest.raises(IdentityError, match="6 certificates come with"):
        load_identity(files)


def test_a_key_of_another_certificate_is_found_before_anything_is_sent(tmp_path: os.PathLike[str]) -> None:
    certificate = write(f"{tmp_path}/c.pem", VECTORS["rsa_cert"])
    key = write(f"{tmp_path}/k.pem", VECTORS["ec_key"])
    with pytest.raises(IdentityError, match="does not fit the certificate") as caught:
        load_identity(IdentityFiles(certificate, key))
    assert caught.value.exit_code is ExitCode.IDENTITY


def test_a_rotation_between_the_two_reads_is_looked_at_again(
    tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = write(f"{tmp_path}/c.pem", VECTORS["rsa_cert"])
    key = write(f"{tmp_path}/k.pem", VECTORS["rsa_key"])

    def rotate(path: str) -> object:
        monkeypatch.undo()
        write(key, VECTORS["ec_key"])
        write(path, VECTORS["ec_cert"])
        return load_certificates(path)

    monkeypatch.setattr("backup.credentials.identity.load_certificates", rotate)
    identity = load_identity(IdentityFiles(certificate, key))
    assert identity.certificate.serial_number == 0x00FF00112233445566778899AABBCCDDEEFF0011


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("certificate", None, "certificate .* is missing"),
        ("certificate", b"rubbish", "holds no certificate"),
        ("certificate", b"", "holds no certificate"),
        ("private_key", None, "private key .* is missing"),
        ("private_key", b"rubbish", "holds no private key"),
        ("intermediates", None, "certificate .* is missing"),
        ("passphrase_file", None, "passphrase file .* is missing"),
        ("passphrase_file", b"\n", "is empty"),
        ("passphrase_file", b"needless", "is not encrypted, although"),
    ],
)
def test_each_mistake_has_its_sentence(
    tmp_path: os.PathLike[str], rsa_files: IdentityFiles, name: str, content: bytes | None, why: str
) -> None:
    path = f"{tmp_path}/wrong"
    if content is not None:
        write(path, content)
    changed: Any = {name: path}
    files = replace(rsa_files, **changed)
    with pytest.raises(IdentityError, match=why) as caught:
        load_identity(files)
    assert caught.value.exit_code is ExitCode.IDENTITY
    lost = content is None and name != "passphrase_file"
    assert ("issue a new certificate (docs/certificates.md)" in caught.value.advice) is lost
    assert "needless" not in str(caught.value)


def test_a_directory_in_place_of_a_file(tmp_path: os.PathLike[str], rsa_files: IdentityFiles) -> None:
    with pytest.raises(IdentityError, match="cannot be read: Is a directory"):
        load_identity(replace(rsa_files, private_key=str(tmp_path)))


def test_an_ed25519_key_is_refused(tmp_path: os.PathLike[str], rsa_files: IdentityFiles) -> None:
    openssl("genpkey", "-algorithm", "ed25519", "-out", f"{tmp_path}/ed.pem")
    with pytest.raises(IdentityError, match="neither an RSA nor an EC nor an ML-DSA key"):
        load_identity(replace(rsa_files, private_key=f"{tmp_path}/ed.pem"))


def test_validity_is_judged_at_the_time_given(tmp_path: os.PathLike[str]) -> None:
    certificate = identity_in(str(tmp_path)).certificate
    check_validity(certificate, NOW)
    check_validity(certificate, certificate.not_valid_after_utc)
    with pytest.raises(
        IdentityError, match=r"O=Example, OU=Backup, CN=web1 expired on 2026-05-30 02:00"
    ) as late:
        check_validity(certificate, NOW + timedelta(days=91))
    assert "ca issue" in late.value.advice
    with pytest.raises(IdentityError, match="not valid before 2026-03-01 01:55") as early:
        check_validity(certificate, NOW - timedelta(days=1))
    assert "clock" in early.value.advice


def test_identities_are_described() -> None:
    certificate = load_vectors_identity("rsa")
    facts = describe_identity(certificate, datetime(2026, 1, 2, tzinfo=UTC))
    assert (facts.subject, facts.key_type) == ("O=Example, CN=backup-host-rsa", "RSA 2048")
    assert facts.issuer == "O=Example, CN=RA vector issuing CA"
    assert facts.serial == 11111222223333344444
    assert facts.serial_hex == "9a32fdbe0a35c4bc"
    assert facts.days_left == 3651
    assert facts.names == []
    assert facts.weaknesses == []


def load_vectors_identity(kind: str) -> Identity:
    with tempfile.TemporaryDirectory() as directory:
        certificate = write(f"{directory}/c", VECTORS[f"{kind}_cert"])
        return load_identity(IdentityFiles(certificate, write(f"{directory}/k", VECTORS[f"{kind}_key"])))


def test_a_key_open_to_others_is_told_not_refused(tmp_path: os.PathLike[str]) -> None:
    path = write(f"{tmp_path}/k", "x")
    said = {}
    for mode in (0o600, 0o640, 0o644, 0o660, 0o400):
        os.chmod(path, mode)
        said[mode] = permissions_warning(path)
    assert [mode for mode, text in said.items() if text] == [0o644, 0o660]
    assert said[0o644] == f"the private key {path} is open to others (mode 0644): run `chmod 600 {path}`"
    assert permissions_warning(f"{tmp_path}/none") is None


def test_no_secret_in_a_repr() -> None:
    assert "key" not in repr(load_vectors_identity("ec")).lower()
