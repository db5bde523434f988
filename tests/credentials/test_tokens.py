"""Keys on a real SoftHSM token: found by label, id or certificate, opened by a PIN from anywhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from backup.credentials.identity import Identity, IdentityFiles, load_identity
from backup.credentials.key_stores.tokens import TokenAccess, find_certificates
from backup.credentials.keys import has_signed
from backup.credentials.pkcs11_uri import parse_pkcs11_uri
from backup.errors import IdentityError
from backup.pki.issuing import issue
from backup.pki.keys import KeyType
from backup.pki.subjects import Subject
from tests.support.identities import authority_in, vectors, write
from tests.support.key_stores import PIN, SOFTHSM, Token, make_token

pytestmark = pytest.mark.key_store("softhsm")

TOKEN = "night vault"
URI = "pkcs11:token=night%20vault"


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder with certificates beside a token that holds the keys."""
    directory = tmp_path_factory.mktemp("token")
    before = os.environ.get("SOFTHSM2_CONF")
    token = make_token(directory, TOKEN)
    make_token(directory, "another")
    authority = authority_in(str(directory / "ca"), now=datetime.now(UTC))
    for number, kind in enumerate((KeyType.RSA_2048, KeyType.P_256, KeyType.P_384), 1):
        made = issue(
            authority,
            Subject(kind.value),
            key_type=kind,
            days=9,
            directory=str(directory),
            now=datetime.now(UTC),
        )
        put_in(token, made.key_path, made.certificate_path, kind.value, f"{number:02d}")
    always = issue(
        authority,
        Subject("always"),
        key_type=KeyType.P_256,
        days=9,
        directory=str(directory),
        now=datetime.now(UTC),
    )
    token.import_key(always.key_path, "always", "04", always=True)
    token.import_certificate(write(f"{directory}/vector.pem", vectors()["rsa_cert"]), "vector", "05")
    token.import_key(write(f"{directory}/vector.key", vectors()["rsa_key"]), "vector", "05")
    token.import_certificate(write(f"{directory}/i.pem", vectors()["intermediate"]), "issuer", "06")
    token.import_certificate(write(f"{directory}/root.pem", vectors()["root"]), "root", "07")
    yield directory
    if before is None:
        os.environ.pop("SOFTHSM2_CONF")


def put_in(token: Token, key: str, certificate: str, label: str, key_id: str) -> None:
    token.import_key(key, label, key_id)
    token.import_certificate(certificate, label, key_id)


def files_of(where: Path, name: str, key: str, **more: Any) -> IdentityFiles:
    files = IdentityFiles(str(where / f"{name}.pem"), key, pkcs11_module=SOFTHSM)
    return replace(files, **more)


def signs(identity: Identity) -> bool:
    return has_signed(identity.certificate, identity.sign(b"data"), b"data")


@pytest.mark.parametrize("kind", ["rsa-2048", "p-256", "p-384"])
def test_each_kind_of_key_signs(where: Path, kind: str) -> None:
    identity = load_identity(files_of(where, kind, f"{URI};object={kind}?pin-value={PIN}"))
    assert signs(identity)
    assert identity.key.store == f"PKCS#11 token {TOKEN}"


@pytest.mark.parametrize(
    "key", ["object=p-256", "id=%02", "object=p-256;type=private;id=%02", "model=SoftHSM%20v2;id=%02"]
)
def test_a_key_is_found_by_any_of_its_names(where: Path, key: str) -> None:
    assert signs(load_identity(files_of(where, "p-256", f"{URI};{key}?pin-value={PIN}")))


def test_certificate_key_and_chain_all_on_the_token(where: Path) -> None:
    uri = f"{URI};object=vector"
    files = IdentityFiles(uri, f"{uri}?pin-value={PIN}", pkcs11_module=SOFTHSM)
    identity = load_identity(files)
    assert signs(identity)
    assert [certificate.subject.rfc4514_string() for certificate in identity.chain] == [
        "CN=RA vector issuing CA,O=Example"
    ]


def test_the_certificates_id_names_the_key(where: Path) -> None:
    files = IdentityFiles(f"{URI};object=p-384", URI, passphrase=PIN.encode(), pkcs11_module=SOFTHSM)
    assert signs(load_identity(files))


@pytest.mark.parametrize("how", ["pin-source", "passphrase_file", "passphrase", "ask"])
def test_the_pin_comes_from_anywhere(where: Path, tmp_path: Path, how: str) -> None:
    pin_file = write(f"{tmp_path}/pin", f"{PIN}\n")
    query = f"?pin-source={pin_file}" if how == "pin-source" else ""
    choices: dict[str, dict[str, Any]] = {
        "passphrase_file": {"passphrase_file": pin_file},
        "passphrase": {"passphrase": PIN.encode()},
        "ask": {"ask": lambda question: PIN.encode() if TOKEN in question else b""},
    }
    more = choices.get(how, {})
    assert signs(load_identity(files_of(where, "p-256", f"{URI};object=p-256{query}", **more)))


def test_a_key_that_wants_its_pin_every_time(where: Path) -> None:
    uri = f"{URI};object=always?pin-value={PIN}"
    identity = load_identity(files_of(where, "always", uri))
    assert signs(identity)
    assert signs(identity)
    asked = files_of(where, "always", uri, reuse_pin=False, ask=lambda question: PIN.encode())
    assert signs(load_identity(asked))
    with pytest.raises(IdentityError, match="needs a PIN for every signature") as caught:
        load_identity(files_of(where, "always", uri, reuse_pin=False)).sign(b"x")
    assert "--reuse-pin" in caught.value.advice


@pytest.mark.parametrize(
    ("key", "why"),
    [
        (f"{URI};object=p-256?pin-value=0000-wrong", "the PIN does not open the token night vault"),
        (f"{URI};object=p-256", "no private key of that name|needs a PIN"),
        (f"{URI};object=nothing?pin-value={PIN}", "no private key of that name"),
        (f"{URI};object=rsa-2048?pin-value={PIN}", "does not fit the certificate|refuses"),
        (f"{URI};object=vector?pin-value={PIN}", "does not fit the certificate|refuses"),
        (f"pkcs11:token=none?pin-value={PIN}", "no token matches the pkcs11: URI"),
        (f"pkcs11:object=p-256?pin-value={PIN}", "2 tokens match"),
        (f"{URI};object=p-256?pin-source=/none", "passphrase file /none is missing"),
    ],
)
def test_each_mistake_has_its_sentence_before_anything_is_sent(where: Path, key: str, why: str) -> None:
    with pytest.raises(IdentityError, match=why) as caught:
        load_identity(files_of(where, "p-256", key)).sign(b"data")
    said = f"{caught.value} {caught.value.advice} {caught.value.__cause__}"
    assert PIN not in said
    assert "0000-wrong" not in said


def test_a_key_of_the_right_kind_but_another_is_found(where: Path) -> None:
    wrong = load_identity(files_of(where, "rsa-2048", f"{URI};object=vector?pin-value={PIN}"))
    with pytest.raises(IdentityError, match="does not fit the certificate"):
        wrong.sign(b"data")


def test_certificates_that_cannot_be_chosen(where: Path) -> None:
    files = IdentityFiles(URI, f"{URI}?pin-value={PIN}", pkcs11_module=SOFTHSM)
    with pytest.raises(IdentityError, match="has 6 certificates"):
        load_identity(files)
    with pytest.raises(IdentityError, match="has no certificates"):
        load_identity(replace(files, certificate=f"{URI};object=none"))


def test_a_module_that_is_none(where: Path) -> None:
    with pytest.raises(IdentityError, match="cannot be loaded") as caught:
        load_identity(replace(files_of(where, "p-256", URI), pkcs11_module="/none.so")).sign(b"x")
    assert "--pkcs11-lib" in caught.value.advice


def test_certificates_are_listed(where: Path) -> None:
    found = find_certificates(parse_pkcs11_uri(URI), TokenAccess(SOFTHSM))
    assert {certificate.label for certificate in found} == {
        "rsa-2048",
        "p-256",
        "p-384",
        "vector",
        "issuer",
        "root",
    }
    assert {certificate.token for certificate in found} == {TOKEN}
