"""`nightvault identity`: what a monitor wants to know, and a request whose key stays."""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from tests.support.command_line import NOW, identity_settings, run, run_json


@pytest.fixture
def config(tmp_path: Path) -> Path:
    ca, out = tmp_path / "ca", tmp_path / "out"
    assert run("ca", "create", "--dir", ca, "--name", "Backup CA").exit_code == 0
    issue = ("ca", "issue", "web1", "--dir", ca, "--out", out, "--days", "90", "--unit", "Backup")
    assert run(*issue).exit_code == 0
    path = tmp_path / "config.toml"
    path.write_text(identity_settings(out / "web1.pem", out / "web1.key"))
    return path


def test_show_a_good_identity(config: Path) -> None:
    document = run_json("--config", config, "identity", "show", now=NOW + timedelta(days=10))
    assert document["subject"] == "OU=Backup, CN=web1"
    assert document["days_left"] == 80
    assert document["chain_length"] == 0
    assert document["usable"] is True
    assert document["warnings"] == []
    text = run("--config", config, "identity", "show").stdout
    assert "days left    90" in text
    assert "key          EC secp256r1" in text


def test_a_chain_that_ends_is_shown(config: Path, tmp_path: Path) -> None:
    """From then on AWS lets no server below it in, however long its own certificate lives."""
    made = run("ca", "create", "--dir", tmp_path / "above", "--name", "Company", "--days", "30")
    assert made.exit_code == 0
    (root,) = (path for path in (tmp_path / "above").glob("*.pem"))
    with open(tmp_path / "out" / "web1.pem", "ab") as file:
        file.write(root.read_bytes())
    document = run_json("--config", config, "identity", "show", now=NOW + timedelta(days=26))
    assert ["CN=Company expires in" in warning for warning in document["warnings"]] == [True]
    later = NOW + timedelta(days=40)
    document = run_json("--config", config, "identity", "show", now=later, exit_code=13)
    assert document["usable"] is False
    assert "the certificate above it, of CN=Company, has expired" in document["warnings"]


def test_an_expired_identity_is_shown_with_exit_code_13(config: Path) -> None:
    later = NOW + timedelta(days=91)
    document = run_json("--config", config, "identity", "show", now=later, exit_code=13)
    assert document["usable"] is False
    assert document["days_left"] == -1
    assert "expired on 2027-02-22" in document["warnings"][0]
    assert "expired on" in run("--config", config, "identity", "show", now=later).stderr


def test_a_key_open_to_others_is_a_warning(config: Path, tmp_path: Path) -> None:
    os.chmod(tmp_path / "out" / "web1.key", 0o644)
    document = run_json("--config", config, "identity", "show")
    assert document["usable"] is True
    assert "is open to others" in document["warnings"][0]


def test_a_certificate_that_aws_would_refuse(config: Path, tmp_path: Path) -> None:
    config.write_text(identity_settings(tmp_path / "ca" / "ca.pem", tmp_path / "ca" / "ca.key"))
    result = run("--config", config, "identity", "show")
    assert result.exit_code == 13
    assert "AWS would refuse this certificate: it is a CA's certificate" in result.stderr


def test_mistakes_have_sentences(config: Path, tmp_path: Path) -> None:
    os.unlink(tmp_path / "out" / "web1.pem")
    result = run("--config", config, "identity", "show")
    assert result.exit_code == 13
    assert "web1.pem is missing" in result.stderr
    config.write_text("")
    result = run("--config", config, "identity", "show")
    assert result.exit_code == 2
    assert "[identity]" in result.stderr


def read_request(path: Path) -> x509.CertificateSigningRequest:
    return x509.load_pem_x509_csr(path.read_bytes())


def test_a_request_repeats_the_present_subject(config: Path, tmp_path: Path) -> None:
    request, key = tmp_path / "new.csr", tmp_path / "new.key"
    document = run_json("--config", config, "identity", "csr", "--out", request, "--key", key)
    assert document == {
        "subject": "CN=web1,OU=Backup",
        "files": {"request": str(request), "key": str(key)},
        "new_key": True,
    }
    assert read_request(request).subject.rfc4514_string() == "CN=web1,OU=Backup"
    assert key.stat().st_mode & 0o777 == 0o600
    again = run_json("--config", config, "identity", "csr", "--out", request, "--key", key)
    assert again["new_key"] is False


def test_a_request_from_nothing_is_for_this_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NIGHTVAULT_CONFIG", raising=False)
    request = tmp_path / "new.csr"
    result = run(
        "identity", "csr", "--out", request, "--key", tmp_path / "new.key", "--organization", "Example"
    )
    assert result.exit_code == 0, result.output
    assert "ca sign new.csr" in result.stderr
    assert read_request(request).subject.rfc4514_string() == f"CN={socket.gethostname()},O=Example"


def test_a_request_with_all_its_words(tmp_path: Path) -> None:
    request, key = tmp_path / "r", tmp_path / "k"
    words = ("--name", "db1", "--organization", "Example", "--unit", "Backup", "--dns", "db1.example")
    result = run("identity", "csr", "--out", request, "--key", key, *words, "--key-type", "rsa-2048")
    assert result.exit_code == 0
    made = read_request(request)
    assert made.subject.rfc4514_string() == "CN=db1,OU=Backup,O=Example"
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["db1.example"]
    assert "new key" in result.stdout


def test_the_chain_is_checked_against_an_authority(config: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert run("ca", "create", "--dir", other, "--name", "Other CA").exit_code == 0
    show = ("--config", config, "identity", "show")
    assert run_json(*show, "--ca", tmp_path / "ca" / "ca.pem")["chain_leads_to_ca"] is True
    refused = run_json(*show, "--ca", other / "ca.pem", exit_code=13)
    assert refused["chain_leads_to_ca"] is False
    assert "the chain does not lead to" in refused["warnings"][0]
    assert "chain_leads_to_ca" not in run_json(*show)


def test_expiry_is_told_so_many_days_ahead(config: Path) -> None:
    later = NOW + timedelta(days=80)
    document = run_json("--config", config, "identity", "show", now=later)
    assert document["usable"] is True
    assert "expires in 10 days" in document["warnings"][0]
    quiet = run_json("--config", config, "identity", "show", "--warn-days", "5", now=later)
    assert quiet["warnings"] == []


def test_a_certificate_of_a_week_is_not_always_about_to_expire(config: Path, tmp_path: Path) -> None:
    issue = ("ca", "issue", "web1", "--dir", tmp_path / "ca", "--out", tmp_path / "out", "--days", "7")
    assert run(*issue).exit_code == 0
    show = ("--config", config, "identity", "show")
    assert run_json(*show, now=NOW + timedelta(days=5))["warnings"] == []
    (warning,) = run_json(*show, now=NOW + timedelta(days=6))["warnings"]
    assert "expires in 1 day" in warning


def test_everything_that_a_monitor_needs_is_in_the_document(config: Path) -> None:
    document = run_json("--config", config, "identity", "show")
    assert int(document["serial"]) == int(document["serial_hex"], 16)
    assert document["key_store"] == "PEM file"
    assert {"subject", "issuer", "names", "days_left", "not_after"} <= document.keys()
