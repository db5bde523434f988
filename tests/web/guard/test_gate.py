"""Who is let through, by session, token or the proxy's header; what others are answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backup.web.guard.accounts import Accounts
from backup.web.guard.gate import Gate
from backup.web.guard.users import Role, Scope, User, Way
from tests.support.doubles import ManualClock
from tests.web.guard.asking import Answer, Below, ask

NOW = datetime(2026, 11, 26, 10, tzinfo=UTC)
LONG = timedelta(hours=2)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def accounts(tmp_path: Path) -> Iterator[Accounts]:
    made = Accounts(str(tmp_path / "web" / "accounts.sqlite"), idle=LONG, absolute=timedelta(days=1))
    made.add_user("ada", Role.OPERATOR, None, NOW)
    made.add_user("vi", Role.VIEWER, None, NOW)
    yield made
    made.close()


class Asking:
    """A gate before an application."""

    def __init__(self, accounts: Accounts, clock: ManualClock) -> None:
        self.accounts, self.clock = accounts, clock

    def __call__(
        self,
        path: str = "/",
        headers: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        *,
        method: str = "GET",
        query: str = "",
        user_header: str | None = None,
        tls: bool = False,
    ) -> Answer:
        """What is answered."""
        below = Below()
        gate = Gate(below, self.accounts, self.clock, has_tls=tls, user_header=user_header)
        return ask(gate, below, path, method=method, query=query, headers=headers or {})

    def user(
        self, path: str = "/", *, headers: Mapping[str, str], user_header: str | None = None
    ) -> User | None:
        """Who the application is told it is; None if it was not reached."""
        scope = self(path, headers, user_header=user_header).scope
        return None if scope is None else scope["state"]["user"]


@pytest.fixture
def asking(accounts: Accounts, clock: ManualClock) -> Asking:
    return Asking(accounts, clock)


def cookie(secret: str, name: str = "nightvault") -> dict[str, str]:
    return {"cookie": f"{name}={secret}"}


def test_strangers_get_no_further_than_the_login(asking: Asking) -> None:
    for path in ("/login", "/welcome", "/healthz", "/static/page.css"):
        assert asking(path).status == 200
    for path in ("/", "/runs", "/login/", "/statics/x", "/loginx"):
        assert asking(path).scope is None
    assert asking("/runs", query="a=//b").headers["location"] == "/login?next=%2Fruns%3Fa%3D%2F%2Fb"
    assert asking("/").headers["location"] == "/login"
    assert asking("/", method="POST").status == asking("/events").status == 401
    for path in ("/api/v1/runs", "/metrics"):
        answer = asking(path)
        assert (answer.status, "www-authenticate" in answer.headers) == (401, True)


def test_a_session_is_known_by_its_cookie(asking: Asking, accounts: Accounts) -> None:
    secret = accounts.open_session("ada", NOW)
    found = asking.user(headers=cookie(secret))
    assert found is not None
    assert (found.name, found.role, found.way) == ("ada", Role.OPERATOR, Way.SESSION)
    for other in (secret[:-1], secret + "x", "", "x" * 500):
        assert asking.user(headers=cookie(other)) is None
    assert asking(headers=cookie(secret, "__Host-nightvault"), tls=True).status == 200
    assert asking(headers=cookie(secret), tls=True).scope is None
    assert asking(headers=cookie(secret, "__Host-nightvault")).scope is None


def test_a_stream_keeps_no_session_alive(asking: Asking, accounts: Accounts, clock: ManualClock) -> None:
    secret = accounts.open_session("ada", NOW)
    clock.sleep(LONG.total_seconds() - 60)
    assert asking("/events", cookie(secret)).status == 200
    clock.sleep(120)
    assert asking("/events", cookie(secret)).status == 401


def test_a_page_keeps_it_alive(asking: Asking, accounts: Accounts, clock: ManualClock) -> None:
    secret = accounts.open_session("ada", NOW)
    for _ in range(20):
        clock.sleep(3600)
        assert asking("/", cookie(secret)).status == 200
    clock.sleep(5 * 3600)
    assert asking("/", cookie(secret)).scope is None


def test_a_token_opens_its_scope_alone(asking: Asking, accounts: Accounts, clock: ManualClock) -> None:
    until = NOW + timedelta(hours=1)
    made = {scope: accounts.add_token(scope, "ada", scope, until, NOW) for scope in Scope}
    opened = {Scope.API: "/api/v1/runs", Scope.METRICS: "/metrics"}
    for scope, secret in made.items():
        for other, path in opened.items():
            found = asking.user(path, headers={"authorization": f"Bearer {secret}"})
            assert (found is not None) == (scope == other)
            if found is not None:
                assert (found.role, found.way, found.may_operate) == (Role.VIEWER, Way.TOKEN, False)
        for path in ("/", "/runs", "/events", "/schedule/run"):
            assert asking.user(path, headers={"authorization": f"Bearer {secret}"}) is None
    api = made[Scope.API]
    for value in (f"Basic {api}", api, f"bearer {api}x", "Bearer", "Bearer "):
        assert asking.user("/api/v1/runs", headers={"authorization": value}) is None
    assert asking.user("/api/v1/runs", headers={"authorization": f"bearer  {api} "}) is not None
    session = accounts.open_session("ada", NOW)
    both = cookie(session) | {"authorization": "Bearer wrong"}
    assert asking.user(headers=both) is None
    assert asking.user("/api/v1/runs", headers=cookie(session)) is not None
    clock.sleep(3600)
    assert asking.user("/api/v1/runs", headers={"authorization": f"Bearer {api}"}) is None


def test_the_proxys_header_is_believed_where_it_is_named_alone(asking: Asking, accounts: Accounts) -> None:
    said = {"x-remote-user": "ada"}
    assert asking.user(headers=said) is None
    found = asking.user(headers=said, user_header="X-Remote-User")
    assert found is not None
    assert (found.name, found.way, found.is_fresh(NOW)) == ("ada", Way.PROXY, False)
    assert asking.user(headers={"x-remote-user": "nobody"}, user_header="X-Remote-User") is None
    own, others = accounts.open_session("ada", NOW), accounts.open_session("vi", NOW)
    fresh = asking.user(headers=said | cookie(own), user_header="X-Remote-User")
    assert fresh is not None
    assert fresh.is_fresh(NOW)
    assert (fresh.name, fresh.way) == ("ada", Way.SESSION)
    foreign = asking.user(headers=said | cookie(others), user_header="X-Remote-User")
    assert foreign is not None
    assert (foreign.name, foreign.way) == ("ada", Way.PROXY)


def test_a_login_is_fresh_for_a_while_and_an_operator_may() -> None:
    user = User("ada", Role.OPERATOR, Way.SESSION, NOW)
    assert user.is_fresh(NOW - timedelta(seconds=1))
    assert not user.is_fresh(NOW)
    assert not User("ada", Role.OPERATOR, Way.PROXY).is_fresh(NOW)
    assert user.may_operate
    assert not User("ada", Role.VIEWER, Way.SESSION, NOW).may_operate
    assert not User("ada", Role.OPERATOR, Way.TOKEN).may_operate


def test_two_headers_of_the_proxy_name_nobody(asking: Asking, accounts: Accounts) -> None:
    """A proxy that adds its header hands on the one that the client sent, too."""
    for sent, added in (("ada", "vi"), ("vi", "ada"), ("", "ada"), ("ada", "")):
        said = [("X-Remote-User", sent), ("x-remote-user", added)]
        assert asking("/", said, user_header="X-Remote-User").scope is None
