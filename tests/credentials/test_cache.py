"""The cache on disk: used until renewal is due and never later, private, and no trouble when it cannot be."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backup.credentials.cache import CachedCredentials, cache_name, default_directory
from backup.credentials.options import RolesAnywhereOptions
from backup.errors import UnreachableError
from backup.model import Credentials
from tests.credentials.identities import ANCHOR, PROFILE, ROLE, identity_in
from tests.doubles import ManualClock

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
    return CachedCredentials(source, str(path / "deep" / "x.json"), OPTIONS, clock)


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


def test_whatever_the_keys_depend_on_is_in_the_name(tmp_path: Path) -> None:
    one, two = (identity_in(str(tmp_path / name)).certificate for name in "ab")
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
