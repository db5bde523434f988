"""The file of accounts: what is kept, for how long, and for whom; passwords, cookies, and the throttle."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from starlette.responses import Response

from backup.errors import StateDeniedError, UsageError
from backup.inventory.store.times import micros
from backup.web.guard.accounts import Accounts
from backup.web.guard.cookies import BROWSER, SESSION, remove_cookie, set_cookie
from backup.web.guard.login import try_login
from backup.web.guard.passwords import check_password, hash_password, is_password
from backup.web.guard.throttle import Throttle
from backup.web.guard.users import Role, Scope
from tests.support.doubles import ManualClock

NOW = datetime(2026, 11, 26, 10, tzinfo=UTC)
HOUR, DAY, SECOND = timedelta(hours=1), timedelta(days=1), timedelta(seconds=1)
PASSWORD = "four words of a tale"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "web" / "accounts.sqlite"


@pytest.fixture
def accounts(path: Path) -> Iterator[Accounts]:
    made = Accounts(str(path), idle=2 * HOUR, absolute=DAY)
    made.add_user("ada", Role.OPERATOR, None, NOW)
    made.add_user("vi", Role.VIEWER, None, NOW)
    yield made
    made.close()


def test_the_file_is_its_owners_alone(accounts: Accounts, path: Path) -> None:
    assert accounts.users()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    with pytest.raises(StateDeniedError):
        Accounts(str(tmp_path / "link"), idle=HOUR, absolute=DAY)


def test_what_is_removed_is_overwritten(accounts: Accounts, path: Path) -> None:
    accounts.add_user("marked-for-removal", Role.VIEWER, "a-hash-that-is-found", NOW)
    assert b"a-hash-that-is-found" in path.read_bytes()
    accounts.remove_user("marked-for-removal")
    assert b"a-hash-that-is-found" not in path.read_bytes()


def test_tokens_from_before_they_had_users_open_nothing(path: Path) -> None:
    os.makedirs(path.parent)
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE tokens (name TEXT, id BLOB, scope TEXT, made_at INTEGER, until INTEGER)")
        db.execute("INSERT INTO tokens VALUES ('old', x'00', 'api', 1, 9999999999999999)")
    db.close()
    made = Accounts(str(path), idle=HOUR, absolute=DAY)
    assert made.tokens() == []
    made.close()


def test_a_session_ends_when_idle_and_in_any_case(accounts: Accounts) -> None:
    secret = accounts.open_session("ada", NOW)
    assert accounts.user_of_session(secret, NOW + 2 * HOUR - SECOND, touch=False)
    assert accounts.user_of_session(secret, NOW + 2 * HOUR, touch=False) is None
    for hour in range(1, 24):
        assert accounts.user_of_session(secret, NOW + hour * HOUR)
    assert accounts.user_of_session(secret, NOW + DAY) is None


def test_an_open_session_is_known_by_its_hash(accounts: Accounts) -> None:
    user = accounts.user_of_session(accounts.open_session("ada", NOW), NOW)
    assert user is not None
    assert user.session is not None
    assert accounts.is_open(user.session, NOW + 2 * HOUR - SECOND)
    assert not accounts.is_open(user.session, NOW + 2 * HOUR)
    for hour in range(1, 24):
        accounts.user_of_session(accounts.open_session("vi", NOW), NOW + hour * HOUR)
    accounts.close_session(user.session)
    assert not accounts.is_open(user.session, NOW)


def test_looking_without_touching_keeps_nothing_alive(accounts: Accounts) -> None:
    secret = accounts.open_session("ada", NOW)
    assert accounts.user_of_session(secret, NOW + HOUR, touch=False)
    assert accounts.user_of_session(secret, NOW + 2 * HOUR, touch=False) is None


def test_sessions_are_bounded_and_the_oldest_make_room(accounts: Accounts, path: Path) -> None:
    old = accounts.open_session("vi", NOW)
    mine = [accounts.open_session("ada", NOW + n * SECOND) for n in range(21)]
    at = NOW + 30 * SECOND
    assert accounts.user_of_session(mine[0], at) is None
    assert all(accounts.user_of_session(session, at) for session in [*mine[1:], old])
    later = micros(NOW + HOUR - SECOND)
    with sqlite3.connect(path) as db:
        rows = [(b"%d" % n, "vi", later, later, later) for n in range(1000)]
        db.executemany("INSERT INTO sessions VALUES (?, ?, ?, ?, ?)", rows)
    db.close()
    newest = accounts.open_session("ada", NOW + HOUR)
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM sessions").fetchone() == (1000,)
    db.close()
    assert accounts.user_of_session(newest, NOW + HOUR)
    assert accounts.user_of_session(old, NOW + HOUR) is None


def test_ended_sessions_are_swept(accounts: Accounts, path: Path) -> None:
    accounts.open_session("ada", NOW)
    accounts.open_session("vi", NOW + 3 * HOUR)
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM sessions").fetchone() == (1,)
    db.close()


def test_all_of_a_user_goes_with_the_user(accounts: Accounts) -> None:
    secret, browser = accounts.open_session("ada", NOW), accounts.know_browser("ada", NOW)
    accounts.add_token("t", "ada", Scope.API, NOW + DAY, NOW)
    accounts.remove_user("ada")
    accounts.add_user("ada", Role.VIEWER, None, NOW)
    assert accounts.user_of_session(secret, NOW) is None
    assert accounts.known_browser(browser, "ada", NOW) == b""
    assert accounts.tokens() == []


def test_a_new_password_ends_everything_that_was_open(accounts: Accounts) -> None:
    secret, browser = accounts.open_session("ada", NOW), accounts.know_browser("ada", NOW)
    others, link = accounts.open_session("vi", NOW), accounts.make_link("ada", NOW)
    accounts.set_password("ada", "hash")
    assert accounts.user_of_session(secret, NOW) is None
    assert accounts.known_browser(browser, "ada", NOW) == b""
    assert accounts.user_of_link(link, NOW) is None
    assert accounts.user_of_session(others, NOW)


def test_a_link_works_once_even_at_the_same_moment(accounts: Accounts) -> None:
    accounts.add_user("new", Role.VIEWER, None, NOW)
    link = accounts.make_link("new", NOW)
    start, names = threading.Barrier(6), []

    def use(number: int) -> None:
        start.wait()
        names.append(accounts.use_link(link, f"hash {number}", NOW))

    threads = [threading.Thread(target=use, args=[number]) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(names, key=str) == [None] * 5 + ["new"]
    late = accounts.make_link("new", NOW - timedelta(days=2))
    assert accounts.use_link(late, "hash", NOW) is None
    accounts.make_link("vi", NOW)
    assert accounts.use_link(link, "hash", NOW) is None  # another's link opens nothing


def test_a_link_and_a_browser_have_an_end_and_an_owner(accounts: Accounts) -> None:
    link, browser = accounts.make_link("ada", NOW), accounts.know_browser("ada", NOW)
    assert accounts.user_of_link(link, NOW + DAY - SECOND) == "ada"
    assert accounts.user_of_link(link, NOW + DAY) is None
    assert accounts.known_browser(browser, "ada", NOW + 180 * DAY - SECOND)
    assert accounts.known_browser(browser, "ada", NOW + 180 * DAY) == b""
    assert accounts.known_browser(browser, "vi", NOW) == b""


def test_a_token_has_a_scope_an_end_and_an_owner(accounts: Accounts) -> None:
    secret = accounts.add_token("t", "ada", Scope.API, NOW + HOUR, NOW)
    assert secret.startswith("nvw_")
    assert len(secret) > 40
    assert accounts.user_of_token(secret, Scope.API, NOW)
    assert accounts.user_of_token(secret, Scope.METRICS, NOW) is None
    assert accounts.user_of_token(secret, Scope.API, NOW + HOUR) is None
    with pytest.raises(UsageError, match="no user"):
        accounts.add_token("u", "eve", Scope.API, NOW + HOUR, NOW)
    with pytest.raises(UsageError, match="already"):
        accounts.add_token("t", "vi", Scope.API, NOW + HOUR, NOW)


def test_the_log_keeps_its_newest_lines(accounts: Accounts, path: Path) -> None:
    accounts.note("ada", "first", NOW)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE audit SET number = number")
        db.execute("INSERT INTO audit VALUES (20000, 1, 'x', 'y')")
    db.close()
    accounts.note("a" * 100, "b" * 300, NOW)
    newest, *_ = accounts.deeds()
    assert (len(newest.who), len(newest.what)) == (64, 200)
    assert "first" not in {deed.what for deed in accounts.deeds(100)}


@pytest.mark.parametrize(
    ("password", "told"),
    [
        ("short", "short"),
        ("a" * 1025 + "bcdef", "long"),
        ("aaaabbbbccccdddd", "easy"),
        ("is ADA in it? yes", "easy"),
    ],
)
def test_passwords_that_are_guessed(password: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        check_password(password, "ada")
    check_password(PASSWORD, "ada")


@pytest.mark.usefixtures("real_passwords")
def test_a_password_is_compared_with_its_own_hash() -> None:
    kept = hash_password(PASSWORD)
    assert kept.startswith("$argon2id$v=19$m=32768,t=3,p=1$")
    assert PASSWORD not in kept
    assert is_password(PASSWORD, kept)
    assert not is_password(PASSWORD + "x", kept)
    assert not is_password(PASSWORD, None)


def test_cookies_are_for_this_host_and_no_script() -> None:
    for tls in (False, True):
        answer = Response()
        set_cookie(answer, SESSION, "s", has_tls=tls)
        set_cookie(answer, BROWSER, "b", has_tls=tls)
        remove_cookie(answer, SESSION, has_tls=tls)
        for header in answer.headers.getlist("set-cookie"):
            assert header.startswith("__Host-nightvault" if tls else "nightvault")
            assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(header.split("; "))
            assert ("Secure" in header.split("; ")) == tls
            assert "Domain" not in header


class Trying:
    """Logins of ada, whose password is `PASSWORD`."""

    def __init__(self, accounts: Accounts) -> None:
        self.clock, self.throttle, self.accounts = ManualClock(NOW), Throttle(), accounts
        accounts.set_password("ada", hash_password(PASSWORD))

    def __call__(self, password: str = PASSWORD, name: str = "ada", known: str = "") -> SimpleNamespace:
        return try_login(self, name, password, known)  # type: ignore[return-value]


def test_logins_are_noted_and_names_of_nobody_are_not(accounts: Accounts) -> None:
    trying = Trying(accounts)
    assert trying().session
    assert not trying("wrong").session
    assert not trying("wrong", "a password typed as a name").session
    assert [(deed.who, deed.what) for deed in accounts.deeds()] == [
        ("somebody", "failed to log in"),
        ("ada", "failed to log in"),
        ("ada", "logged in"),
    ]


def test_a_known_browser_is_counted_by_itself(accounts: Accounts) -> None:
    trying = Trying(accounts)
    browser = trying().browser
    assert browser
    assert trying(known=browser).browser is None
    for _ in range(6):
        trying("wrong")
    assert trying().wait
    assert trying(known=browser).session
    for _ in range(5):
        trying("wrong", known=browser)
    assert trying(known=browser).wait
    trying.clock.sleep(400)
    assert trying(known=browser).session
    assert not trying("wrong", known=browser).wait


def test_a_password_that_is_far_too_long_is_not_one(accounts: Accounts) -> None:
    trying = Trying(accounts)
    long = "abcdefghij" * 103
    accounts.set_password("ada", hash_password(long[:1025]))
    assert not trying(long).session


def waits(throttle: Throttle, failures: int, browser: bytes = b"") -> list[int]:
    """How long one waits after each failure."""
    found = []
    for _ in range(failures):
        throttle.failed("ada", browser, NOW)
        found.append(throttle.seconds_to_wait("ada", browser, NOW))
    return found


def test_a_name_rests_for_longer_and_longer() -> None:
    throttle = Throttle()
    assert waits(throttle, 15) == [0, 0, 0, 0, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    assert throttle.seconds_to_wait("vi", b"", NOW) == 0
    assert throttle.seconds_to_wait("ada", b"", NOW + 299 * SECOND) == 1
    assert throttle.seconds_to_wait("ada", b"", NOW + 300 * SECOND) == 0
    assert throttle.seconds_to_wait("ada", b"", NOW - 10 * DAY) == 300  # a clock that was set back
    throttle.succeeded("ada", b"")
    assert throttle.seconds_to_wait("ada", b"", NOW) == 0


def test_failures_are_forgotten_after_an_hour() -> None:
    throttle = Throttle()
    waits(throttle, 6)
    throttle.failed("ada", b"", NOW + 61 * 60 * SECOND)
    assert throttle.seconds_to_wait("ada", b"", NOW + 61 * 60 * SECOND) == 0


def test_failures_of_all_names_are_counted_for_a_minute() -> None:
    throttle = Throttle()
    for number in range(30):
        assert throttle.seconds_to_wait(f"n{number}", b"", NOW) == 0
        throttle.failed(f"n{number}", b"", NOW)
    assert throttle.seconds_to_wait("another", b"", NOW) == 60
    assert throttle.seconds_to_wait("another", b"known", NOW) == 0
    later = NOW + 60 * SECOND
    throttle.failed("another", b"", later)
    assert throttle.seconds_to_wait("another", b"", later) == 0
    for number in range(29):
        throttle.failed(f"m{number}", b"", later)
    assert throttle.seconds_to_wait("somebody", b"", later) == 60


def test_failures_in_known_browsers_do_not_count_for_all() -> None:
    throttle = Throttle()
    for number in range(40):
        throttle.failed(f"n{number}", b"known", NOW)
    assert throttle.seconds_to_wait("another", b"", NOW) == 0


def test_the_throttle_remembers_so_many_names() -> None:
    throttle = Throttle()
    waits(throttle, 6)
    for number in range(4096):
        throttle.failed(f"n{number}", b"known", NOW)
    assert throttle.seconds_to_wait("ada", b"", NOW) == 0
