"""Keys out of files: PKCS#12 as openssl writes it old and new, ML-DSA in its three forms, and people who are
asked."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from backup.credentials.identity import IdentityFiles, load_identity
from backup.credentials.identity_paths import MOST_FILE
from backup.credentials.key_stores.keyfiles import passphrase_of, read_file
from backup.credentials.keys import MLDSA_PUBLIC, SoftwareKey, has_signed
from backup.errors import IdentityError
from tests.support.identities import authority_in, vectors, write

VECTORS = vectors()
NOBODY = "nothing"


def openssl(*arguments: str | os.PathLike[str]) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


@pytest.fixture
def parts(tmp_path: Path) -> tuple[str, str, str]:
    """Certificate, key and intermediate of a vector."""
    names = ("rsa_cert", "rsa_key", "intermediate")
    one, two, three = (write(f"{tmp_path}/{name}", VECTORS[name]) for name in names)
    return one, two, three


OLD = (
    "-legacy",
    "-macalg",
    "SHA1",
    "-certpbe",
    "PBE-SHA1-3DES",
    "-keypbe",
    "PBE-SHA1-3DES",
)


@pytest.mark.parametrize(
    ("how", "secret"), [((), "correct horse"), ((), ""), (OLD, ""), (OLD, "correct horse")]
)
def test_pkcs12_holds_the_whole_identity(
    tmp_path: Path, parts: tuple[str, str, str], how: tuple[str, ...], secret: str
) -> None:
    certificate, key, chain = parts
    store = f"{tmp_path}/id.p12"
    packing = ("-export", *how, "-inkey", key, "-in", certificate, "-certfile", chain, "-out", store)
    openssl("pkcs12", *packing, "-passout", f"pass:{secret}")
    identity = load_identity(IdentityFiles(store, store, passphrase=secret.encode() if secret else None))
    assert identity.certificate.serial_number == 11111222223333344444
    assert [issuer.subject.rfc4514_string() for issuer in identity.chain] == [
        "CN=RA vector issuing CA,O=Example"
    ]
    assert identity.key.store == "PKCS#12 file"
    assert has_signed(identity.certificate, identity.sign(b"x"), b"x")


def test_pkcs12_with_another_passphrase_is_told_without_it(
    tmp_path: Path, parts: tuple[str, str, str]
) -> None:
    store = f"{tmp_path}/id.p12"
    packing = ("-export", "-inkey", parts[1], "-in", parts[0], "-out", store, "-passout", "pass:right")
    openssl("pkcs12", *packing)
    with pytest.raises(IdentityError, match="the passphrase does not open it") as wrong:
        load_identity(IdentityFiles(store, store, passphrase=b"battery"))
    assert "battery" not in f"{wrong.value} {wrong.value.advice}"
    with pytest.raises(IdentityError, match="it has a passphrase"):
        load_identity(IdentityFiles(store, store))
    asked = IdentityFiles(store, store, ask=lambda question: b"right" if "id.p12" in question else b"")
    assert load_identity(asked).certificate.serial_number == 11111222223333344444


def test_pkcs12_without_one_of_its_halves(tmp_path: Path, parts: tuple[str, str, str]) -> None:
    bare, keyless = f"{tmp_path}/bare.p12", f"{tmp_path}/keyless.p12"
    openssl("pkcs12", "-export", "-nocerts", "-inkey", parts[1], "-out", bare, "-passout", "pass:x")
    openssl("pkcs12", "-export", "-nokeys", "-in", parts[0], "-out", keyless, "-passout", "pass:x")
    with pytest.raises(IdentityError, match="holds no certificate"):
        load_identity(IdentityFiles(bare, parts[1], passphrase=None, ask=lambda _question: b"x"))
    with pytest.raises(IdentityError, match="holds no private key"):
        load_identity(IdentityFiles(parts[0], keyless, passphrase=b"x"))


def test_somebody_is_asked_for_the_passphrase_of_an_encrypted_key(
    tmp_path: Path, parts: tuple[str, str, str]
) -> None:
    locked = f"{tmp_path}/locked.pem"
    openssl("pkcs8", "-topk8", "-in", parts[1], "-out", locked, "-passout", "pass:right")
    asked: list[str] = []

    def ask(question: str) -> bytes:
        asked.append(question)
        return b"right"

    assert load_identity(IdentityFiles(parts[0], locked, ask=ask)).algorithm == "AWS4-X509-RSA-SHA256"
    assert asked == [f"passphrase of {locked}"]
    load_identity(IdentityFiles(parts[0], parts[1], ask=ask))
    assert len(asked) == 1, "a key that is not encrypted asks nobody"


@pytest.fixture(scope="module")
def mldsa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ML-DSA keys of each size, with a certificate of each by an EC authority."""
    where = tmp_path_factory.mktemp("mldsa")
    authority = authority_in(str(where / "ca"))
    extensions = where / "ext"
    extensions.write_text("basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n")
    for size in (44, 65, 87):
        key, request = where / f"{size}.key", where / f"{size}.csr"
        openssl("genpkey", "-algorithm", f"ML-DSA-{size}", "-out", key)
        openssl("req", "-new", "-key", key, "-subj", "/CN=quantum", "-out", request)
        signing = ("-CA", authority.certificate_path, "-CAkey", where / "ca" / "ca.key", "-days", "30")
        openssl(
            "x509", "-req", "-in", request, *signing, "-extfile", extensions, "-out", where / f"{size}.pem"
        )
    return where


@pytest.mark.parametrize("size", [44, 65, 87])
@pytest.mark.parametrize("form", ["seed-priv", "seed-only"])
def test_mldsa_keys_sign_as_openssl_verifies(mldsa: Path, tmp_path: Path, size: int, form: str) -> None:
    key, signed, data = tmp_path / "k", tmp_path / "s", tmp_path / "d"
    openssl("pkey", "-in", mldsa / f"{size}.key", "-provparam", f"ml-dsa.output_formats={form}", "-out", key)
    identity = load_identity(IdentityFiles(str(mldsa / f"{size}.pem"), str(key)))
    assert identity.algorithm == "AWS4-X509-MLDSA"
    data.write_bytes(b"what is signed")
    signed.write_bytes(identity.sign(b"what is signed"))
    assert len(signed.read_bytes()) == {44: 2420, 65: 3309, 87: 4627}[size]
    openssl("x509", "-in", mldsa / f"{size}.pem", "-noout", "-pubkey", "-out", tmp_path / "pub")
    openssl(
        "pkeyutl", "-verify", "-pubin", "-inkey", tmp_path / "pub", "-in", data, "-sigfile", signed, "-rawin"
    )
    assert isinstance(load_pem_public_key((tmp_path / "pub").read_bytes()), MLDSA_PUBLIC)


def test_an_mldsa_key_without_its_seed_is_refused(mldsa: Path, tmp_path: Path) -> None:
    key = tmp_path / "k"
    openssl("pkey", "-in", mldsa / "44.key", "-provparam", "ml-dsa.output_formats=priv-only", "-out", key)
    with pytest.raises(IdentityError, match="no private key that can be read") as caught:
        load_identity(IdentityFiles(str(mldsa / "44.pem"), str(key)))
    assert "ML-DSA with its seed" in caught.value.advice


def test_mldsa_keys_must_fit_too(mldsa: Path, tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="does not fit"):
        load_identity(IdentityFiles(str(mldsa / "44.pem"), str(mldsa / "65.key")))


def test_a_file_without_end_is_none(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match=f"more than {MOST_FILE} bytes"):
        read_file("/dev/zero", "certificate")
    with pytest.raises(IdentityError, match="no such name can be"):
        read_file("a\0b", "certificate")


def test_no_key_in_any_text_form(tmp_path: Path, parts: tuple[str, str, str]) -> None:
    files = IdentityFiles(
        "pkcs11:token=t?pin-value=1234", "pkcs11:object=k?pin-value=1234", passphrase=b"horse"
    )
    identity = load_identity(IdentityFiles(parts[0], parts[1]))
    assert isinstance(identity.key, SoftwareKey)
    said = f"{files!r} {files} {passphrase_of(files)!r} {identity!r} {identity.key!r}"
    assert "1234" not in said
    assert "horse" not in said
    assert "PrivateKey" not in said
