"""CreateSession's signature, byte for byte against two vectors that openssl has verified."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from backup.credentials.identity import Identity, IdentityFiles, KeyHolder, load_identity
from backup.credentials.keys import SoftwareKey
from backup.credentials.signer import SessionRequest, canonical_request, sign_request, string_to_sign
from tests.support.identities import vectors, write

VECTORS = vectors()
STAMP = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Repeatable(Struct, frozen=True):
    """An EC signer that signs as RFC 6979 says, so that its signatures can be compared."""

    identity: Identity

    @property
    def certificate(self) -> x509.Certificate:
        return self.identity.certificate

    @property
    def chain(self) -> Sequence[x509.Certificate]:
        return self.identity.chain

    @property
    def algorithm(self) -> str:
        return self.identity.algorithm

    def sign(self, data: bytes) -> bytes:
        assert isinstance(self.identity.key, SoftwareKey)
        key = self.identity.key.private_key
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return key.sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))


def identity(directory: object, kind: str, *, chain: bool = True) -> Identity:
    certificate = write(f"{directory}/{kind}.pem", VECTORS[f"{kind}_cert"])
    key = write(f"{directory}/{kind}.key", VECTORS[f"{kind}_key"])
    intermediate = write(f"{directory}/i.pem", VECTORS["intermediate"]) if chain else None
    return load_identity(IdentityFiles(certificate, key, intermediate))


def request_of(vector: Mapping[str, Any]) -> SessionRequest:
    host, body = vector["headers"]["Host"], vector["body"].encode()
    return SessionRequest(host=host, region="eu-central-1", body=body, query=vector["query"])


@pytest.mark.parametrize("number", [0, 1])
def test_vectors_byte_for_byte(tmp_path: os.PathLike[str], number: int) -> None:
    vector = VECTORS["vectors"][number]
    signer: KeyHolder = identity(tmp_path, ("rsa", "ec")[number])
    if number == 1:
        assert isinstance(signer, Identity)
        signer = Repeatable(signer)
    headers = dict(sign_request(request_of(vector), signer, STAMP))
    assert headers.pop("Authorization") == vector["authorization"]
    assert headers == vector["headers"]


@pytest.mark.parametrize("number", [0, 1])
def test_the_steps_of_the_vectors(number: int) -> None:
    vector = VECTORS["vectors"][number]
    canonical = canonical_request(vector["headers"], vector["body"].encode(), vector["query"])
    assert canonical == vector["canonical_request"]
    assert hashlib.sha256(canonical.encode()).hexdigest() == vector["canonical_request_sha256"]
    label, stamp, scope, _digest = vector["string_to_sign"].split("\n")
    assert string_to_sign(label, stamp, scope, canonical) == vector["string_to_sign"]


@pytest.mark.parametrize("kind", ["rsa", "ec"])
def test_openssl_verifies_our_signature(tmp_path: os.PathLike[str], kind: str) -> None:
    vector = VECTORS["vectors"][("rsa", "ec").index(kind)]
    headers = sign_request(request_of(vector), identity(tmp_path, kind), STAMP)
    signature = bytes.fromhex(headers["Authorization"].rpartition("Signature=")[2])
    text = write(f"{tmp_path}/text", vector["string_to_sign"])
    subprocess.run(
        ["openssl", "x509", "-in", f"{tmp_path}/{kind}.pem", "-pubkey", "-noout", "-out", f"{tmp_path}/pub"],
        check=True,
    )
    done = subprocess.run(
        ["openssl", "dgst", "-sha256", "-verify", f"{tmp_path}/pub", "-signature",
         write(f"{tmp_path}/signature", signature), text],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == "Verified OK\n"


def test_without_a_chain_its_header_is_neither_sent_nor_signed(tmp_path: os.PathLike[str]) -> None:
    request = SessionRequest(host="localhost:9999", region="eu-central-1", body=b"{}")
    headers = sign_request(request, identity(tmp_path, "rsa", chain=False), STAMP)
    assert set(headers) == {"Content-Type", "Host", "X-Amz-Date", "X-Amz-X509", "Authorization"}
    assert "SignedHeaders=content-type;host;x-amz-date;x-amz-x509," in headers["Authorization"]
    assert headers["Host"] == "localhost:9999"


def test_serials_of_twenty_bytes_stay_exact(tmp_path: os.PathLike[str]) -> None:
    request = SessionRequest(host="h", region="eu-central-1", body=b"{}")
    headers = sign_request(request, identity(tmp_path, "ec"), STAMP)
    assert "Credential=5686695855885491523476743201543181242420101137/20260102/" in headers["Authorization"]


def test_time_is_written_in_utc(tmp_path: os.PathLike[str]) -> None:
    request = SessionRequest(host="h", region="eu-central-1", body=b"{}")
    signer = identity(tmp_path, "rsa")
    elsewhere = STAMP.astimezone(timezone(timedelta(hours=9, minutes=30)))
    assert sign_request(request, signer, elsewhere) == sign_request(request, signer, STAMP)


@pytest.mark.parametrize("curve", ["secp384r1", "secp521r1"])
def test_the_label_is_sha256_for_stronger_curves_too(tmp_path: os.PathLike[str], curve: str) -> None:
    key, certificate = f"{tmp_path}/k", f"{tmp_path}/c"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", f"ec_paramgen_curve:{curve}", "-nodes",
         "-keyout", key, "-out", certificate, "-subj", "/CN=x", "-sha512"],
        check=True, capture_output=True,
    )  # fmt: skip
    signer = load_identity(IdentityFiles(certificate, key))
    assert signer.algorithm == "AWS4-X509-ECDSA-SHA256"
    public = signer.certificate.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    public.verify(signer.sign(b"text"), b"text", ec.ECDSA(hashes.SHA256()))


@given(
    st.dictionaries(
        st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,20}", fullmatch=True),
        st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126)),
        max_size=6,
    ),
    st.binary(max_size=64),
)
def test_the_canonical_form_knows_no_order_case_or_blanks(headers: dict[str, str], body: bytes) -> None:
    distinct = {name.lower(): value for name, value in headers.items()}
    turned = {name.upper(): f"  {value} " for name, value in reversed(distinct.items())}
    assert canonical_request(distinct, body) == canonical_request(turned, body)
    lines = canonical_request(distinct, body).split("\n")
    assert lines[-1] == hashlib.sha256(body).hexdigest()
    assert lines[-2] == ";".join(sorted(distinct))
    assert lines[-3] == ""
