"""The authority's files as a set-up is given them: what goes to AWS, and what goes nowhere."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from backup.app.aws_setup.ca_input import authorities_in, bundle, check_issuer, checked_crl, names_in
from backup.errors import UsageError
from backup.pki.authority import Authority, create_ca
from backup.pki.issuing import issue
from backup.pki.keys import KeyType
from backup.pki.revoking import sign_crls
from backup.pki.subjects import Subject

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def new_ca(folder: Path, name: str) -> Authority:
    return create_ca(
        str(folder / name), Subject(name), key_type=KeyType.P_256, days=30, passphrase=None, now=NOW
    )


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def test_each_certificate_once_and_nothing_else(tmp_path: Path) -> None:
    """Files without a line end at their end, and with other text, come out as PEM."""
    one, two = (pem(new_ca(tmp_path, name).certificate) for name in ("one", "two"))
    found = authorities_in({"anchor.pem": f"our roots\n{one.strip()}\n{two.strip()}", "ca.pem": one})
    assert bundle(found) == one + two
    assert names_in(bundle(found)) == ["CN=one", "CN=two"]
    assert names_in("nothing") == []


def test_what_is_no_authority_goes_nowhere(tmp_path: Path) -> None:
    ca = new_ca(tmp_path, "one")
    made = issue(
        ca, Subject("web1"), key_type=KeyType.P_256, days=9, directory=str(tmp_path / "out"), now=NOW
    )
    others = [pem(new_ca(tmp_path, name).certificate) for name in ("two", "three")]
    for text, words in (
        (pem(ca.certificate) + Path(ca.key_path).read_text(), "holds a private key"),
        (pem(made.certificate), "is not the certificate of an authority"),
        ("", "is no PEM file"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "is no PEM file"),
        (pem(ca.certificate) + "".join(others), "takes 2"),
    ):
        with pytest.raises(UsageError, match=words):
            authorities_in({"ca.pem": text})


def test_whose_certificates_and_lists_they_are(tmp_path: Path) -> None:
    """An authority of the same name with another key is another one."""
    ca, other = new_ca(tmp_path / "a", "one"), new_ca(tmp_path / "b", "one")
    made = issue(
        ca, Subject("web1"), key_type=KeyType.P_256, days=9, directory=str(tmp_path / "out"), now=NOW
    )
    (crl,) = sign_crls([ca], days=9, now=NOW)
    text = Path(crl.path).read_text()
    check_issuer(made.certificate, [other.certificate, ca.certificate])
    assert checked_crl("crl.pem", text, [ca.certificate]) == text
    with pytest.raises(UsageError, match="not signed by any authority"):
        check_issuer(made.certificate, [other.certificate])
    with pytest.raises(UsageError, match="not signed by any authority"):
        checked_crl("crl.pem", text, [other.certificate])
    with pytest.raises(UsageError, match="no revocation list"):
        checked_crl("crl.pem", pem(ca.certificate), [ca.certificate])
