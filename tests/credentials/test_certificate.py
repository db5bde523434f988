"""What certificates say, and each reason for which AWS would refuse one."""

from __future__ import annotations

import os
import subprocess
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509.oid import NameOID

from backup.credentials.certificate import alternative_names, certificate_facts, key_type_text, weaknesses
from tests.support.identities import NOW, authority_in


def self_signed(
    directory: object, subject: str, *extensions: str, digest: str = "-sha256"
) -> x509.Certificate:
    path = f"{directory}/made.pem"
    config = f"{directory}/empty.cnf"
    with open(config, "w", encoding="utf-8") as file:
        file.write("[req]\ndistinguished_name=dn\n[dn]\n")
    more = [word for extension in extensions for word in ("-addext", extension)]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-keyout", f"{directory}/made.key", "-out", path, "-subj", subject, "-utf8", "-config", config,
         digest, *more],
        check=True, capture_output=True,
    )  # fmt: skip
    with open(path, "rb") as file:
        return x509.load_pem_x509_certificate(file.read())


GOOD = (
    "basicConstraints=critical,CA:FALSE",
    "keyUsage=critical,digitalSignature",
    "extendedKeyUsage=clientAuth",
)


@pytest.mark.parametrize(
    ("subject", "extensions", "digest", "found"),
    [
        ("/CN=web1", GOOD, "-sha256", []),
        ("/CN=web1", GOOD[:2], "-sha256", []),
        ("/CN=web1", (GOOD[1], "extendedKeyUsage=anyExtendedKeyUsage"), "-sha384", []),
        (
            "/CN=web1",
            ("basicConstraints=CA:TRUE", GOOD[1]),
            "-sha256",
            ["it is a CA's certificate (CA:TRUE)"],
        ),
        ("/CN=web1", (GOOD[0],), "-sha256", ["its key usage lacks digitalSignature"]),
        ("/CN=web1", ("keyUsage=keyEncipherment",), "-sha256", ["its key usage lacks digitalSignature"]),
        (
            "/CN=web1",
            (GOOD[1], "extendedKeyUsage=serverAuth"),
            "-sha256",
            ["its extended key usage lacks clientAuth"],
        ),
        ("/CN=web1", GOOD, "-sha1", ["it is signed with SHA1"]),
        ("/", GOOD, "-sha256", ["its subject is empty"]),
        ("/CN=web(1)", GOOD, "-sha256", ["its subject has characters that no session tag may have: web(1)"]),
    ],
)
def test_weaknesses(
    tmp_path: os.PathLike[str], subject: str, extensions: tuple[str, ...], digest: str, found: list[str]
) -> None:
    assert weaknesses(self_signed(tmp_path, subject, *extensions, digest=digest)) == found


def test_names_are_shown_with_their_kinds(tmp_path: os.PathLike[str]) -> None:
    names = "subjectAltName=DNS:a.example,URI:spiffe://example/a,IP:192.0.2.1,email:a@example"
    certificate = self_signed(tmp_path, "/C=DE/ST=Hesse/L=Kassel/O=Example/CN=a", *GOOD, names)
    assert alternative_names(certificate) == [
        "DNS:a.example", "URI:spiffe://example/a", "IP:192.0.2.1", "email:a@example",
    ]  # fmt: skip
    facts = certificate_facts(certificate, [], certificate.not_valid_after_utc - timedelta(hours=49))
    assert facts.subject == "C=DE, ST=Hesse, L=Kassel, O=Example, CN=a"
    assert (facts.days_left, facts.chain_length) == (2, 0)
    assert len(facts.serial_hex) % 2 == 0


def test_days_left_are_negative_afterwards_and_keys_have_names(tmp_path: os.PathLike[str]) -> None:
    certificate = authority_in(f"{tmp_path}/ca", days=1).certificate
    assert certificate_facts(certificate, [], NOW + timedelta(days=2)).days_left == -1
    assert key_type_text(certificate) == "EC secp256r1"
    assert "it is a CA's certificate (CA:TRUE)" in weaknesses(certificate)


def test_other_keys_and_directory_names_are_shown_too(tmp_path: os.PathLike[str]) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a")])
    names = x509.SubjectAlternativeName([x509.DirectoryName(name), x509.RegisteredID(NameOID.COUNTRY_NAME)])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW + timedelta(days=1))
        .add_extension(names, critical=False)
        .sign(key, None)
    )
    assert key_type_text(certificate) == "Ed25519"
    assert alternative_names(certificate)[0] == "directory:CN=a"
    assert alternative_names(certificate)[1].startswith("other:")
