"""Revocation, held against openssl: what is revoked it refuses, what is not it takes; numbers only grow."""

from __future__ import annotations

import os
import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from backup.errors import IdentityError, NightvaultError, UsageError
from backup.pki.authority import Authority, create_ca, open_ca, open_root
from backup.pki.index import CertificateState, Reason, read_index
from backup.pki.issuing import Issued, issue, issue_all
from backup.pki.keys import KeyType
from backup.pki.revoking import crl_path, revoke, sign_crls
from backup.pki.subjects import Subject

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return authority_at(tmp_path / "ca")


def authority_at(directory: Path) -> Authority:
    subject = Subject("Backup CA", "Example")
    return create_ca(str(directory), subject, key_type=KeyType.P_256, days=3650, passphrase=None, now=NOW)


def leaf(authority: Authority, name: str, *, days: int = 90, now: datetime = NOW) -> Issued:
    directory = f"{authority.directory}/../out"
    return issue(authority, Subject(name), key_type=KeyType.P_256, days=days, directory=directory, now=now)


def openssl_says(authority: Authority, issued: Issued, now: datetime = NOW) -> str:
    """The words of `openssl verify -crl_check` about a certificate."""
    words = ("openssl", "verify", "-crl_check", "-attime", str(int(now.timestamp())))
    files = ("-CAfile", authority.certificate_path, "-CRLfile", crl_path(authority.directory, 1))
    done = subprocess.run(
        [*words, *files, issued.certificate_path], capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def revoked_in(path: str) -> set[int]:
    crl = x509.load_pem_x509_crl(Path(path).read_bytes())
    return {revoked.serial_number for revoked in crl}


def number_in(path: str) -> int:
    crl = x509.load_pem_x509_crl(Path(path).read_bytes())
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


@pytest.mark.parametrize("reason", list(Reason))
def test_openssl_refuses_what_is_revoked_and_takes_the_rest(authority: Authority, reason: Reason) -> None:
    good, bad = leaf(authority, "good"), leaf(authority, "bad")
    (entry,) = revoke(authority.directory, "bad", every=False, reason=reason, now=NOW)
    assert entry.serial == f"{bad.certificate.serial_number:x}"
    (written,) = sign_crls([authority], days=30, now=NOW)
    assert openssl_says(authority, good).strip().endswith(": OK")
    assert "certificate revoked" in openssl_says(authority, bad)
    text = subprocess.run(
        ["openssl", "crl", "-in", written.path, "-noout", "-text"], capture_output=True, text=True, check=True
    ).stdout
    shown = {Reason.UNSPECIFIED: None, Reason.KEY_COMPROMISE: "Key Compromise"}
    wanted = shown.get(reason, str(reason).replace("-", " "))
    found = re.search(r"CRL Reason Code:\s+(.*)", text)
    assert (found and found[1].lower()) == (wanted and wanted.lower())


def test_a_list_that_ended_is_not_taken(authority: Authority) -> None:
    issued = leaf(authority, "web1")
    sign_crls([authority], days=7, now=NOW)
    assert openssl_says(authority, issued, NOW + timedelta(days=6)).strip().endswith(": OK")
    assert "CRL has expired" in openssl_says(authority, issued, NOW + timedelta(days=8))


def test_an_expired_certificate_stays_in_one_more_list(authority: Authority) -> None:
    issued = leaf(authority, "web1", days=10)
    revoke(authority.directory, "web1", every=False, reason=Reason.UNSPECIFIED, now=NOW)
    serial = issued.certificate.serial_number
    seen = []
    for days in (0, 9, 11, 12):
        (written,) = sign_crls([authority], days=30, now=NOW + timedelta(days=days))
        seen.append(serial in revoked_in(written.path))
    assert seen == [True, True, True, False]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 400), min_size=1, max_size=5))
def test_numbers_grow_whatever_the_clock_does(
    tmp_path_factory: pytest.TempPathFactory, days: list[int]
) -> None:
    authority = authority_at(tmp_path_factory.mktemp("numbers") / "ca")
    numbers = []
    for day in days:
        (written,) = sign_crls([authority], days=30, now=NOW + timedelta(days=day))
        numbers.append(number_in(written.path))
    assert numbers == list(range(1, len(days) + 1))


def test_a_number_is_not_used_again_after_a_cut(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_disk(*_: object, **__: object) -> None:
        raise NightvaultError("no space left")

    sign_crls([authority], days=30, now=NOW)
    with monkeypatch.context() as patch:
        patch.setattr("backup.pki.revoking.replace_files", no_disk)
        with pytest.raises(NightvaultError):
            sign_crls([authority], days=30, now=NOW)
    (written,) = sign_crls([authority], days=30, now=NOW)
    assert number_in(written.path) == 3


def test_a_clock_that_was_ahead_takes_nothing_out_of_the_next_list(authority: Authority) -> None:
    """A list was signed with a clock in the far future; what is revoked stays so."""
    issued = leaf(authority, "web1")
    revoke(authority.directory, "web1", every=False, reason=Reason.KEY_COMPROMISE, now=NOW)
    sign_crls([authority], days=30, now=NOW + timedelta(days=3000))
    (written,) = sign_crls([authority], days=30, now=NOW)
    assert revoked_in(written.path) == {issued.certificate.serial_number}


def test_an_index_that_was_lost_lets_no_revoked_server_in_again(authority: Authority) -> None:
    """Neither without it, nor cut after a whole line, nor from an old copy."""
    leaf(authority, "web1")
    leaf(authority, "web2")
    path = Path(authority.directory, "index.jsonl")
    old = path.read_bytes()
    for name in ("web1", "web2"):
        revoke(authority.directory, name, every=False, reason=Reason.KEY_COMPROMISE, now=NOW)
    (written,) = sign_crls([authority], days=30, now=NOW)
    signed, newest = Path(written.path).read_bytes(), path.read_bytes()
    cut = b"".join(newest.splitlines(keepends=True)[:2])
    for lost in (b"", old, cut):
        path.write_bytes(lost)
        if not lost:
            path.unlink()
        with pytest.raises(IdentityError, match="the authority's index is older than"):
            sign_crls([authority], days=30, now=NOW)
        assert Path(written.path).read_bytes() == signed
    path.write_bytes(newest)
    sign_crls([authority], days=30, now=NOW)


def test_the_files_of_another_server_are_not_replaced(authority: Authority) -> None:
    """Two names that become the same file name: the first one's key would be lost."""
    first = leaf(authority, "db_1")
    key = Path(first.key_path).read_bytes()
    with pytest.raises(UsageError, match="is the certificate of db_1"):
        leaf(authority, "db 1")
    assert Path(first.key_path).read_bytes() == key
    assert leaf(authority, "db_1").key_path == first.key_path


def test_several_valid_certificates_of_a_name_are_not_guessed_at(authority: Authority) -> None:
    first, second = leaf(authority, "web1"), leaf(authority, "web1", now=NOW + timedelta(hours=1))
    how = {"every": False, "reason": Reason.SUPERSEDED, "now": NOW}
    with pytest.raises(UsageError, match="web1 has 2 valid certificates"):
        revoke(authority.directory, "web1", **how)  # type: ignore[arg-type]
    for text in ("0123456", "web2", "xyz", "", "*"):
        with pytest.raises(UsageError, match="no valid certificate has the name or serial"):
            revoke(authority.directory, text, **how)  # type: ignore[arg-type]
    hexadecimal = f"{first.certificate.serial_number:x}"
    by_serial = revoke(authority.directory, hexadecimal[:12], **how)  # type: ignore[arg-type]
    assert [entry.serial for entry in by_serial] == [hexadecimal]
    every = revoke(authority.directory, "web1", every=True, reason=Reason.SUPERSEDED, now=NOW)
    assert [entry.serial for entry in every] == [f"{second.certificate.serial_number:x}"]
    states = {entry.state(NOW) for entry in read_index(authority.directory).entries}
    assert states == {CertificateState.REVOKED}


def test_a_second_revocation_does_not_change_the_first(authority: Authority) -> None:
    leaf(authority, "web1")
    (first,) = revoke(authority.directory, "web1", every=False, reason=Reason.KEY_COMPROMISE, now=NOW)
    again = revoke(
        authority.directory, first.serial, every=False, reason=Reason.SUPERSEDED, now=NOW + timedelta(days=1)
    )
    assert list(again) == [first]


def test_an_authority_without_an_index_gets_one_from_its_copies(authority: Authority) -> None:
    issued = issue_all(
        authority,
        [Subject(f"host-{number}", unit="Backup") for number in range(5)],
        key_type=KeyType.P_256,
        days=9,
        directory=f"{authority.directory}/../out",
        now=NOW,
    )
    before = read_index(authority.directory)
    os.unlink(f"{authority.directory}/index.jsonl")
    after = read_index(authority.directory)
    assert {entry.serial: entry for entry in after.entries} == {
        entry.serial: entry for entry in before.entries
    }
    assert len(after.entries) == len(issued) == 5
    revoke(authority.directory, "host-3", every=False, reason=Reason.UNSPECIFIED, now=NOW)
    assert open_ca(authority.directory).certificate == authority.certificate


def test_the_index_is_for_its_owner_alone_and_damage_is_said(authority: Authority) -> None:
    leaf(authority, "web1")
    path = Path(authority.directory, "index.jsonl")
    assert path.stat().st_mode & 0o777 == 0o600
    whole = path.read_bytes()
    for damaged in (b"", whole[:-30], b"{}\n{}\n", whole.replace(b"{", b"[")):
        path.write_bytes(damaged)
        with pytest.raises(IdentityError, match=r"index .* is damaged"):
            read_index(authority.directory)
    path.write_bytes(whole.replace(b'"format":1', b'"format":2'))
    with pytest.raises(IdentityError, match="a newer nightvault wrote"):
        read_index(authority.directory)


def test_a_root_that_was_not_made_cannot_be_opened(authority: Authority) -> None:
    with pytest.raises(IdentityError, match="no certificate authority"):
        open_root(authority.directory, 2)
