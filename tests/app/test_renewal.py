"""Renewing the certificate: what is asked for, what is refused, and that a cut leaves a pair that works."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from backup.app.base.vaults import identity_files
from backup.app.machine.renewal import RenewalState, read_note, renew_if_due
from backup.app.machine.renewal_times import RenewalNote, late_at, renewal_due
from backup.config import load_config
from backup.credentials.identity import IdentityFiles, load_identity
from backup.errors import ConfigError, DeniedError, IdentityError, LockedError, UnreachableError
from backup.inventory.store.locks import hold_lock
from backup.pki.authority import CertificateContents, create_ca, open_ca, sign_certificate
from backup.pki.index import Reason, read_index
from backup.pki.issuing import make_csr, sign_csr
from backup.pki.keys import KeyType
from backup.pki.revoking import revoke
from backup.pki.roots import add_root, switch_root
from backup.pki.subjects import Subject
from tests.support.doubles import START
from tests.support.renewals import SERVER, RenewalSite, renewal_site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[RenewalSite]:
    with renewal_site(tmp_path) as made:
        yield made


def due(site: RenewalSite, days: float = 4) -> None:
    site.clock.sleep(days * 86_400)


def public_key(site: RenewalSite) -> object:
    return site.certificate().public_key()


@given(st.integers(1, 2**159), st.integers(3600, 10**9))
def test_it_is_due_between_two_fifths_and_half_of_its_life(serial: int, seconds: int) -> None:
    end = START + timedelta(seconds=seconds)
    due = renewal_due(START, end, serial)
    assert 0.4 <= (due - START) / (end - START) <= 0.5
    assert due == renewal_due(START, end, serial)
    assert due < late_at(START, end) < late_at(START, end, by_others=True) < end


@given(st.lists(st.integers(0, 7200), max_size=20))
def test_pauses_grow_to_an_hour_and_a_clock_set_back_does_not_prolong_them(pauses: list[int]) -> None:
    note, now = RenewalNote(), START
    for seconds in pauses:
        note = note.failed("away", now)
        assert note.next_try is not None
        assert timedelta(minutes=5) <= note.next_try - now <= timedelta(hours=1)
        assert not note.may_try(now)
        assert note.may_try(note.next_try)
        assert note.may_try(now - timedelta(days=1))
        now += timedelta(seconds=seconds)


def test_not_before_it_is_due_unless_forced(site: RenewalSite) -> None:
    before = site.certificate()
    assert site.tick().state is RenewalState.NOT_DUE
    due(site, 2.7)
    assert site.tick().state is RenewalState.NOT_DUE
    assert site.certificate() == before
    done = site.tick(force=True)
    assert done.state is RenewalState.RENEWED
    assert done.role is not None
    assert done.certificate == site.certificate() != before
    assert site.certificate().subject == before.subject
    assert site.tick().state is RenewalState.NOT_DUE
    assert site.asked == 1


@pytest.mark.parametrize("key", ["new", "same"])
def test_a_new_key_or_the_same(site: RenewalSite, key: str) -> None:
    site.reconfigure(f'command = ["true"]\nkey = "{key}"')
    before = public_key(site)
    for _ in range(2):
        due(site)
        assert site.tick().state is RenewalState.RENEWED
        assert (public_key(site) == before) is (key == "same")
        assert site.night()
    written = Path(identity_files(site.config).private_key)
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert stat.S_IMODE(written.parent.stat().st_mode) == 0o700


def test_a_key_that_stays_in_its_store_has_a_request_of_its_own(site: RenewalSite) -> None:
    """As of a token or TPM: the request was made elsewhere, and serves each time."""
    request, key = site.folder / "web1.csr", site.folder / "etc" / "web1.key"
    make_csr(SERVER, key_type=KeyType.P_256, key_path=str(key), csr_path=str(request))
    site.reconfigure('command = ["true"]\nkey = "same"\nrequest = "web1.csr"')
    before = public_key(site)
    for _ in range(2):
        due(site)
        assert site.tick().state is RenewalState.RENEWED
        files = identity_files(site.config)
        assert files.private_key == str(key)
        assert os.listdir(os.path.dirname(files.certificate)) == ["certificate.pem"]
        assert public_key(site) == before
        assert site.night()


def test_a_new_key_is_encrypted_as_the_old_one(site: RenewalSite) -> None:
    word = site.folder / "word"
    word.write_text("correct horse\n")
    key = site.folder / "etc" / "web1.key"
    words = ("openssl", "pkcs8", "-topk8", "-in", key, "-passout", "pass:correct horse", "-out", f"{key}.new")
    subprocess.run(words, check=True)
    os.replace(f"{key}.new", key)
    site.reconfigure('command = ["true"]', f'passphrase_file = "{word}"')
    due(site)
    site.tick()
    assert "ENCRYPTED" in Path(identity_files(site.config).private_key).read_text()
    assert site.night()


def test_what_aws_refuses_is_not_used_and_is_told(site: RenewalSite) -> None:
    """The new root signs before AWS has it: the present pair goes on, and a later try succeeds."""
    anchor = site.folder / "ca" / "anchor.pem"
    old_anchor, before = anchor.read_bytes(), site.certificate()
    add_root(site.ca, None, name=None, days=None, key_type=KeyType.P_256, now=site.clock.now())
    switch_root(site.ca, site.clock.now())
    new_anchor = anchor.read_bytes()
    anchor.write_bytes(old_anchor)
    due(site)
    with pytest.raises(DeniedError, match="does not lead to the trust anchor"):
        site.tick()
    assert site.certificate() == before
    assert site.night()
    note = read_note(site.config)
    assert note.failing_since == site.clock.now()
    assert note.error is not None
    assert "trust anchor" in note.error
    assert site.tick().state is RenewalState.PAUSED
    anchor.write_bytes(new_anchor)
    due(site, 1)
    assert site.tick().state is RenewalState.RENEWED
    assert site.night()
    assert read_note(site.config).failing_since is None


def test_while_aws_is_away_one_pair_is_staged_and_tried_again(site: RenewalSite) -> None:
    due(site)
    site.sessions.is_away = True
    for _ in range(3):
        with pytest.raises(UnreachableError):
            site.tick(force=True)
    assert site.asked == 1
    before = site.certificate()
    site.sessions.is_away = False
    due(site, 0.1)
    assert site.tick().state is RenewalState.RENEWED
    assert site.asked == 1
    assert site.certificate() != before


def test_without_a_vault_that_has_a_role_the_pair_is_used_untried(site: RenewalSite) -> None:
    due(site)
    path = site.write_config()
    path.write_text(path.read_text().partition("[[vault]]")[0])
    done = renew_if_due(load_config(str(path)), site.clock, ask=site.ask)
    assert done.state is RenewalState.RENEWED
    assert done.role is None


def refusing_answers(site: RenewalSite) -> dict[str, tuple[bytes, str]]:
    present = Path(site.folder / "etc" / "web1.pem").read_bytes()
    return {
        "nothing": (b"", "holds no certificate in PEM"),
        "words": (b"error: come again", "holds no certificate in PEM"),
        "another's": (present, "no certificate for the key of the request"),
    }


@pytest.mark.parametrize("kind", ["nothing", "words", "another's"])
def test_an_answer_that_is_none_is_refused(site: RenewalSite, kind: str) -> None:
    due(site)
    answer, why = refusing_answers(site)[kind]
    before = site.certificate()
    with pytest.raises(IdentityError, match=why):
        renew_if_due(site.config, site.clock, ask=lambda _: answer)
    assert site.certificate() == before
    assert site.night()


@pytest.mark.parametrize(
    ("days", "name", "why"),
    [(1, "web1", "no later than the present one"), (7, "web2", "is of web2, the present one of web1")],
)
def test_a_certificate_that_is_no_better_is_refused(
    site: RenewalSite, days: int, name: str, why: str
) -> None:
    def ask(request: bytes) -> bytes:
        if name == "web1":
            made = sign_csr(open_ca(site.ca), request, days=days, now=site.clock.now())
            return made.public_bytes(Encoding.PEM)
        csr = x509.load_pem_x509_csr(request)
        contents = CertificateContents(Subject(name).name(), None, csr.public_key(), days)  # type: ignore[arg-type]
        return sign_certificate(open_ca(site.ca), contents, site.clock.now()).public_bytes(Encoding.PEM)

    due(site)
    with pytest.raises(IdentityError, match=why):
        renew_if_due(site.config, site.clock, ask=ask)


def test_a_certificate_that_is_to_live_shorter_is_taken_by_force(site: RenewalSite) -> None:
    """The first one lived for a year; one that ends just when the present does is of no use to anybody."""
    site.days = 365
    site.issue()
    site.days = 7
    due(site, 300)
    with pytest.raises(IdentityError, match="no later than the present one") as told:
        site.tick()
    assert "--force" in (told.value.advice or "")
    assert site.tick(force=True).state is RenewalState.RENEWED
    assert site.night()
    left = site.certificate().not_valid_after_utc - site.clock.now()
    assert timedelta(days=6) < left <= timedelta(days=7)
    due(site)
    assert site.tick().state is RenewalState.RENEWED
    began = site.certificate().not_valid_after_utc - timedelta(days=7)

    def ask(request: bytes) -> bytes:
        csr = x509.load_pem_x509_csr(request)
        contents = CertificateContents(csr.subject, None, csr.public_key(), 7)  # type: ignore[arg-type]
        return sign_certificate(open_ca(site.ca), contents, began).public_bytes(Encoding.PEM)

    with pytest.raises(IdentityError, match="no later"):
        renew_if_due(site.config, site.clock, ask=ask, force=True)


def test_a_pair_brought_by_hand_counts_at_once(site: RenewalSite) -> None:
    due(site)
    site.tick()
    renewed = site.certificate()
    site.clock.sleep(3600)
    site.issue()
    by_hand = site.certificate()
    assert by_hand != renewed
    due(site)
    site.tick()
    assert site.certificate() not in (by_hand, renewed)


def test_a_revoked_server_is_not_renewed(site: RenewalSite) -> None:
    revoke(site.ca, "web1", every=True, reason=Reason.KEY_COMPROMISE, now=site.clock.now())
    due(site)
    with pytest.raises(IdentityError, match="is revoked: it is not renewed"):
        site.tick()


def test_one_renews_at_a_time_and_only_what_the_config_says(site: RenewalSite) -> None:
    with hold_lock(site.config.state_dir, "renewal"), pytest.raises(LockedError):
        site.tick()
    path = site.write_config()
    path.write_text(path.read_text().replace('[identity.renew]\ncommand = ["true"]\n', ""))
    with pytest.raises(ConfigError, match="does not say how the certificate is renewed"):
        renew_if_due(load_config(str(path)), site.clock)


# Files of another program.


def test_what_another_program_writes_is_taken_over_once_it_is_whole(site: RenewalSite) -> None:
    site.reconfigure("files = true")
    first = site.certificate()
    assert site.tick().state is RenewalState.RENEWED  # a copy of its own, so that half a pair harms nothing
    assert site.tick().state is RenewalState.NOT_DUE
    etc = site.folder / "etc"
    old_key = (etc / "web1.key").read_bytes()
    due(site)
    site.issue()
    new_key = (etc / "web1.key").read_bytes()
    (etc / "web1.key").write_bytes(old_key)  # half of its work is done
    assert site.certificate() == first
    with pytest.raises(IdentityError, match="does not fit"):
        site.tick()
    assert site.night()
    (etc / "web1.key").write_bytes(new_key)
    due(site, 0.1)
    done = site.tick()
    assert done.state is RenewalState.RENEWED
    assert done.role is not None
    assert site.certificate() != first
    assert site.night()


def test_what_another_program_writes_meanwhile_is_taken_over_the_next_time(site: RenewalSite) -> None:
    site.reconfigure("files = true")
    site.tick()
    for _ in range(2):
        due(site, 1)
        site.issue()

    def try_out(_: IdentityFiles) -> None:
        due(site, 0.1)
        site.issue()

    renew_if_due(site.config, site.clock, try_out=try_out)
    newest = load_identity(IdentityFiles(f"{site.folder}/etc/web1.pem", f"{site.folder}/etc/web1.key"))
    assert site.certificate() != newest.certificate
    assert site.tick().state is RenewalState.RENEWED
    assert site.certificate() == newest.certificate


def test_a_pair_brought_by_hand_while_one_is_renewed_counts(site: RenewalSite) -> None:
    due(site)

    def try_out(_: IdentityFiles) -> None:
        due(site, 0.1)
        site.issue()

    renew_if_due(site.config, site.clock, ask=site.ask, try_out=try_out)
    assert identity_files(site.config).certificate == f"{site.folder}/etc/web1.pem"


def test_files_that_aws_refuses_are_not_taken_over(site: RenewalSite) -> None:
    site.reconfigure("files = true")
    site.tick()
    first = site.certificate()
    stranger = site.folder / "stranger"
    create_ca(
        str(stranger),
        Subject("Stranger"),
        key_type=KeyType.P_256,
        days=99,
        passphrase=None,
        now=site.clock.now(),
    )
    shutil.move(site.ca, site.folder / "away")
    shutil.move(str(stranger), site.ca)
    site.issue()
    with pytest.raises(DeniedError):
        site.tick()
    assert site.certificate() == first


def test_the_authoritys_record_has_each_of_them(site: RenewalSite) -> None:
    due(site)
    site.tick()
    serials = [entry.serial for entry in read_index(site.ca).entries]
    assert serials[-1] == f"{site.certificate().serial_number:x}"
    assert len(serials) == 2
