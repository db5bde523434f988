"""The cache on disk: used until renewal is due and never later, private, and no trouble when it cannot be."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backup.credentials.identity import load_certificates
from backup.credentials.options import RolesAnywhereOptions
from backup.credentials.serving.cache import (
    CachedCredentials,
    CachedKeys,
    cache_name,
    cached_keys,
    default_directory,
)
from backup.errors import UnreachableError
from backup.model import Credentials
from tests.support.doubles import ManualClock
from tests.support.identities import ANCHOR, PROFILE, ROLE, authority_in, issue_in, write

OPTIONS = RolesAnywhereOptions(ANCHOR, PROFILE, ROLE)


class Counting:
    """Keys that live an hour, each time others."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.calls = 0
        self.lock = threading.Lock()

    def credentials(self) -> Credentials:
        with self.lock:
            self.calls += 1
        return Credentials(
            f"ASIA{self.calls}", "the-secret", "the-token", self.clock.now() + timedelta(hours=1)
        )


@pytest.fixture
def source(clock: ManualClock) -> Counting:
    return Counting(clock)


def cached(source: Counting, path: Path, clock: ManualClock) -> CachedCredentials:
    return CachedCredentials(
        source, str(path / "deep" / "x.json"), OPTIONS, clock, clock.now() + timedelta(days=90)
    )


def test_used_until_renewal_is_due_and_never_later(
    tmp_path: Path, source: Counting, clock: ManualClock
) -> None:
    first = cached(source, tmp_path, clock).credentials()
    clock.advance(timedelta(minutes=45) - timedelta(seconds=1))
    assert cached(source, tmp_path, clock).credentials() == first
    assert source.calls == 1
    clock.advance(timedelta(seconds=1))
    assert cached(source, tmp_path, clock).credentials().access_key_id == "ASIA2"


def test_no_keys_past_their_renewal_even_in_an_outage(
    tmp_path: Path, source: Counting, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached(source, tmp_path, clock).credentials()
    clock.advance(timedelta(minutes=50))

    def away() -> Credentials:
        raise UnreachableError("away")

    monkeypatch.setattr(source, "credentials", away)
    with pytest.raises(UnreachableError):
        cached(source, tmp_path, clock).credentials()


def test_the_file_is_private_and_only_believed_if_it_is(
    tmp_path: Path, source: Counting, clock: ManualClock
) -> None:
    cached(source, tmp_path, clock).credentials()
    file = tmp_path / "deep" / "x.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    file.chmod(0o644)
    cached(source, tmp_path, clock).credentials()
    assert source.calls == 2
    assert file.stat().st_mode & 0o777 == 0o600
    real = tmp_path / "elsewhere"
    file.rename(real)
    file.symlink_to(real)
    cached(source, tmp_path, clock).credentials()
    assert source.calls == 3


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(cut=st.integers(0, 300), noise=st.binary(max_size=5))
def test_a_damaged_file_is_fetched_anew(
    tmp_path: Path, source: Counting, clock: ManualClock, cut: int, noise: bytes
) -> None:
    cached(source, tmp_path, clock).credentials()
    file = tmp_path / "deep" / "x.json"
    data = file.read_bytes()
    file.write_bytes(data[:cut] + noise)
    assert cached(source, tmp_path, clock).credentials().access_key_id.startswith("ASIA")


def test_of_many_processes_one_fetches(tmp_path: Path, source: Counting, clock: ManualClock) -> None:
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _n: cached(source, tmp_path, clock).credentials(), range(16)))
    assert len(set(found)) == 1
    assert source.calls == 1


def test_a_place_that_cannot_be_written_costs_the_cache_alone(
    tmp_path: Path, source: Counting, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "deep").write_text("a file")
    assert cached(source, tmp_path, clock).credentials().access_key_id == "ASIA1"
    assert "not cached" in caplog.text
    assert "the-secret" not in caplog.text


def test_whatever_the_keys_depend_on_is_in_the_name() -> None:
    one, two = bytes(32), bytes(31) + b"1"
    changed = [
        replace(OPTIONS, role_arn=f"{ROLE}2"),
        replace(OPTIONS, session_duration=900),
        replace(OPTIONS, role_session_name="night"),
        replace(OPTIONS, endpoint="https://other.example"),
    ]
    names = [cache_name(one, options) for options in (OPTIONS, *changed)]
    assert len({*names, cache_name(two, OPTIONS)}) == 6
    assert cache_name(one, OPTIONS) == names[0]


def test_where_it_lies() -> None:
    assert default_directory({"XDG_CACHE_HOME": "/c"}) == "/c/nightvault/credentials"
    assert default_directory({"HOME": "/h"}) == "/h/.cache/nightvault/credentials"
    assert default_directory({}) == os.path.expanduser("~/.cache/nightvault/credentials")


def at_hand(tmp_path: Path, certificate: str, clock: ManualClock, *, days: int = 0) -> CachedKeys | None:
    return cached_keys(str(tmp_path), certificate, OPTIONS, now=clock.now(), unless=timedelta(days=days))


def test_cached_keys_are_those_of_the_certificates_file(
    tmp_path: Path, source: Counting, clock: ManualClock
) -> None:
    made = issue_in(authority_in(str(tmp_path / "ca"), clock.now()), str(tmp_path), now=clock.now(), days=9)
    certificate = load_certificates(made.certificate_path)[0]
    path = tmp_path / cache_name(certificate.fingerprint(hashes.SHA256()), OPTIONS)
    assert at_hand(tmp_path, made.certificate_path, clock) is None
    kept = CachedCredentials(source, str(path), OPTIONS, clock, certificate.not_valid_after_utc).credentials()
    found = at_hand(tmp_path, made.certificate_path, clock)
    assert found is not None
    assert found[:4] == (kept.access_key_id, kept.secret_access_key, kept.session_token, kept.expires_at)
    assert kept.secret_access_key not in repr(found)
    chain = write(
        f"{tmp_path}/chain", b"a remark\n", Path(made.certificate_path).read_bytes(), b"\n-----BEGIN"
    )
    assert at_hand(tmp_path, chain, clock) == found
    assert at_hand(tmp_path, made.certificate_path, clock, days=10) is None  # something must be said first
    for other in (made.key_path, "/dev/stdin", "/none", "pkcs11:token=x"):
        assert at_hand(tmp_path, other, clock) is None
    clock.advance(timedelta(minutes=45))
    assert at_hand(tmp_path, made.certificate_path, clock) is None


def test_no_keys_longer_than_the_certificate(tmp_path: Path, source: Counting, clock: ManualClock) -> None:
    ends = clock.now() + timedelta(minutes=10)
    for _ in range(2):
        CachedCredentials(source, str(tmp_path / "x.json"), OPTIONS, clock, ends).credentials()
    assert source.calls == 1
    clock.advance(timedelta(minutes=10))
    CachedCredentials(source, str(tmp_path / "x.json"), OPTIONS, clock, ends).credentials()
    assert source.calls == 2
