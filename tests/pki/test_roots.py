"""A new root, step by step: at each of them openssl verifies what servers have against the anchor's file."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backup.errors import IdentityError, NightvaultError, UsageError
from backup.files import write_durably
from backup.pki.authority import create_ca, open_ca, open_root
from backup.pki.files import replace_files
from backup.pki.index import Reason, read_index
from backup.pki.issuing import Issued, issue
from backup.pki.keys import KeyType
from backup.pki.revoking import crl_path, revoke, sign_crls
from backup.pki.roots import RootStage, add_root, finish_root, read_roots, switch_root
from backup.pki.subjects import Subject

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
WORD = b"correct horse"


@pytest.fixture
def ca(tmp_path: Path) -> str:
    subject = Subject("Backup CA", "Example")
    directory = str(tmp_path / "ca")
    create_ca(directory, subject, key_type=KeyType.P_256, days=3650, passphrase=WORD, now=NOW)
    return directory


def leaf(ca: str, name: str, now: datetime = NOW) -> Issued:
    return issue(
        open_ca(ca, WORD), Subject(name), key_type=KeyType.P_256, days=30, directory=f"{ca}/../out", now=now
    )


def add(ca: str, **changes: object) -> RootStage:
    how = {"name": None, "days": None, "key_type": KeyType.P_384, "now": NOW, **changes}
    return add_root(ca, WORD, **how).stage  # type: ignore[arg-type]


def verifies(ca: str, issued: Issued, *crls: int) -> bool:
    checks = [word for number in crls for word in ("-CRLfile", crl_path(ca, number))]
    words = [
        "openssl",
        "verify",
        *(["-crl_check"] if crls else []),
        "-attime",
        str(int(NOW.timestamp()) + 99),
    ]
    words += ["-CAfile", f"{ca}/anchor.pem", *checks, issued.certificate_path]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def test_step_by_step(ca: str) -> None:
    old = leaf(ca, "old")
    assert add(ca) is RootStage.ADDED
    between = leaf(ca, "between")
    assert between.certificate.issuer == old.certificate.issuer
    assert verifies(ca, old)
    assert verifies(ca, between)
    assert switch_root(ca, NOW).stage is RootStage.SWITCHED
    new = leaf(ca, "new")
    assert new.certificate.issuer != old.certificate.issuer
    assert [verifies(ca, issued) for issued in (old, between, new)] == [True] * 3
    with pytest.raises(UsageError, match="certificates of the old root are in use: old, between"):
        finish_root(ca, NOW, force=False)
    revoke(ca, "between", every=False, reason=Reason.UNSPECIFIED, now=NOW)
    renewed = leaf(ca, "old", NOW + timedelta(seconds=1))
    assert finish_root(ca, NOW, force=False).stage is RootStage.SETTLED
    assert [verifies(ca, issued) for issued in (between, renewed, new)] == [False, True, True]


def test_both_roots_sign_lists_of_their_own(ca: str) -> None:
    old = leaf(ca, "old")
    add(ca)
    switch_root(ca, NOW)
    new, other = leaf(ca, "new"), leaf(ca, "other")
    for name in ("old", "new"):
        revoke(ca, name, every=False, reason=Reason.KEY_COMPROMISE, now=NOW)
    written = sign_crls([open_root(ca, number, WORD) for number in (1, 2)], days=9, now=NOW)
    assert [(crl.root, crl.certificates) for crl in written] == [(1, 1), (2, 1)]
    assert [verifies(ca, issued, 1, 2) for issued in (old, new, other)] == [False, False, True]


def test_names_go_on_counting_and_the_rest_is_the_old_roots(ca: str) -> None:
    add(ca)
    first, second = read_roots(ca, NOW).certificates
    assert second.subject.rfc4514_string() == "CN=Backup CA 2,O=Example"
    assert second.not_valid_after_utc - NOW == first.not_valid_after_utc - NOW
    switch_root(ca, NOW)
    finish_root(ca, NOW, force=True)
    add(ca, days=30)
    third = read_roots(ca, NOW).certificates[1]
    assert third.subject.rfc4514_string() == "CN=Backup CA 3,O=Example"
    assert third.not_valid_after_utc == NOW + timedelta(days=30)
    assert read_index(ca).head.roots == (2, 3)


def test_steps_are_repeated_without_harm_and_none_is_skipped(ca: str) -> None:
    with pytest.raises(UsageError, match="there is no new root"):
        switch_root(ca, NOW)
    assert finish_root(ca, NOW, force=False).stage is RootStage.SETTLED
    add(ca)
    before = read_roots(ca, NOW).certificates
    assert add(ca) is RootStage.ADDED
    assert read_roots(ca, NOW).certificates == before
    with pytest.raises(UsageError, match="the old root signs still"):
        finish_root(ca, NOW, force=True)
    for _ in range(2):
        assert switch_root(ca, NOW).stage is RootStage.SWITCHED
    for _ in range(2):
        assert finish_root(ca, NOW, force=False).stage is RootStage.SETTLED


def test_the_passphrase_is_needed_and_stays(ca: str) -> None:
    with pytest.raises(IdentityError, match="not opened by this passphrase"):
        add_root(ca, b"wrong", name=None, days=None, key_type=KeyType.P_256, now=NOW)
    assert read_roots(ca, NOW).stage is RootStage.SETTLED
    add(ca)
    with pytest.raises(IdentityError, match="its passphrase is needed"):
        open_root(ca, 2)
    assert open_root(ca, 2, WORD).root == 2
    assert Path(ca, "ca-2.key").stat().st_mode & 0o777 == 0o600


def test_a_new_root_has_another_name(ca: str) -> None:
    with pytest.raises(UsageError, match="the old root is named 'Backup CA', too"):
        add(ca, name="Backup CA")
    assert add(ca, name="Next CA") is RootStage.ADDED
    assert read_roots(ca, NOW).certificates[1].subject.rfc4514_string() == "CN=Next CA,O=Example"


@pytest.mark.parametrize("step", range(3))
def test_a_cut_at_each_write_leaves_an_authority_that_goes_on(
    ca: str, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """The writes of adding a root: its files, the index, the anchor's file."""
    places = ["backup.pki.roots.replace_files", "backup.pki.index.write_durably"]
    done: list[int] = []

    def cut(real: object) -> object:
        def write(*words: object, **options: object) -> None:
            if len(done) == step:
                raise NightvaultError("cut")
            done.append(1)
            real(*words, **options)  # type: ignore[operator]

        return write

    with monkeypatch.context() as patch:
        for place, real in zip(places, (replace_files, write_durably), strict=True):
            patch.setattr(place, cut(real))
        with pytest.raises(NightvaultError, match="cut"):
            add(ca)
    issued = leaf(ca, "web1")
    assert add(ca) is RootStage.ADDED
    assert verifies(ca, issued)
    switch_root(ca, NOW)
    assert verifies(ca, leaf(ca, "web2"))
