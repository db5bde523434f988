"""Sessions, passwords, tokens and links: when they end, and what is left of a user who was removed."""

from __future__ import annotations

from datetime import timedelta

from backup.web.guard.passwords import hash_password
from backup.web.guard.users import Role, Scope
from tests.support.pages import NAME, PASSWORD, VIEWER, Client, Page
from tests.web.attacks.asking import RUN, Daemon


def test_16_nothing_is_left_of_a_removed_user(web_page: Page) -> None:
    accounts, now = web_page.context.accounts, web_page.context.clock.now()

    accounts.add_user("eve", Role.OPERATOR, hash_password("quite another word 9"), now)
    eve = web_page.login("eve", "quite another word 9")
    assert eve.get("/").status == 200
    token = accounts.add_token("of-eve", "eve", Scope.API, now + timedelta(days=1), now)
    bearer = {"Authorization": f"Bearer {token}"}
    assert web_page.stranger().get("/api/v1/runs", **bearer).status == 200
    accounts.remove_user("eve")
    assert eve.get("/").status == 303
    assert web_page.stranger().get("/api/v1/runs", **bearer).status == 401
    assert accounts.tokens() == []
    accounts.add_user("eve", Role.VIEWER, None, now)
    assert eve.get("/").status == 303
    accounts.remove_user("eve")


def test_16_typing_the_password_again_is_for_the_same_account(web_page: Page) -> None:
    viewer = web_page.login(VIEWER)
    assert viewer.post("/schedule/run", RUN).status == 403
    answer = viewer.post("/login", {"name": "ada", "password": PASSWORD})
    assert answer.status == 303
    assert viewer.post("/schedule/run", RUN).status == 403


def test_16_a_session_ends_and_is_new_at_each_login(web_page: Page, daemon: Daemon) -> None:
    client, clock = web_page.login(), web_page.context.clock
    first = dict(client.cookies)
    clock.sleep(6 * 60)  # no fresh login any more
    assert client.post("/schedule/run", RUN).headers["location"].startswith("/login")
    assert daemon.done == []
    assert client.post("/login", {"password": PASSWORD}).status == 303
    assert client.cookies["nightvault"] != first["nightvault"]
    stale = Client(client.host, client.port, first)
    assert stale.get("/").status == 303
    assert client.post("/schedule/run", RUN).status == 303
    assert daemon.done == ["run"]
    clock.sleep(2 * 3600 + 1)
    assert client.get("/").status == 303


def test_a_cookie_is_for_no_script_and_no_other_site(web_page: Page) -> None:
    answer = web_page.stranger().post("/login", {"name": "ada", "password": PASSWORD})
    for cookie in answer.cookies:
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie


def test_guessing_is_slowed_down_and_the_owner_is_not_kept_out(web_page: Page) -> None:
    owner = web_page.login()
    guesser = web_page.stranger()
    statuses = [guesser.post("/login", {"name": "ada", "password": f"guess {n}"}).status for n in range(7)]
    assert statuses[:5] == [403] * 5
    assert statuses[6] == 429
    assert web_page.stranger().post("/login", {"name": "ada", "password": PASSWORD}).status == 429
    owner.cookies.pop("nightvault")
    assert owner.post("/login", {"name": "ada", "password": PASSWORD}).status == 303
    web_page.context.clock.sleep(301)
    assert web_page.stranger().post("/login", {"name": "ada", "password": PASSWORD}).status == 303


def test_a_stranger_who_guesses_any_names_keeps_out_new_browsers_and_no_link(web_page: Page) -> None:
    """Thirty failures a minute kept the owner out of a new browser, and no way was left but to wait."""
    accounts, clock = web_page.context.accounts, web_page.context.clock
    known, guesser, new = web_page.login(), web_page.stranger(), web_page.stranger()
    right = {"name": NAME, "password": PASSWORD}
    clock.sleep(60)
    for minute in range(2):
        guessed = [
            guesser.post("/login", {"name": f"n{minute}-{number}", "password": "a guess"}).status
            for number in range(31)
        ]
        assert guessed == [403] * 30 + [429]
        kept_out = new.post("/login", right)
        assert (kept_out.status, kept_out.headers["Retry-After"]) == (429, "60")
        assert "too many attempts: wait 60 seconds" in kept_out.text
        assert known.post("/login", right).status == 303
        clock.sleep(60)
    for number in range(31):
        guesser.post("/login", {"name": f"last-{number}", "password": "a guess"})
    accounts.add_user("lea", Role.VIEWER, None, clock.now())
    link = accounts.make_link("lea", clock.now())
    chosen = {"name": "lea", "password": "chosen by a link"}
    assert new.post("/welcome", {"link": link, "password": chosen["password"]}).status == 303
    assert web_page.stranger().post("/login", chosen).status == 429
    assert new.post("/login", right).status == 429, "it is known as lea's, and nobody else's"
    assert new.post("/login", chosen).status == 303
    accounts.remove_user("lea")


def test_a_token_reads_within_its_scope_until_it_expires(web_page: Page) -> None:
    accounts, clock = web_page.context.accounts, web_page.context.clock
    secret = accounts.add_token("mon", NAME, Scope.METRICS, clock.now() + timedelta(hours=1), clock.now())
    bearer = {"Authorization": f"Bearer {secret}"}
    stranger = web_page.stranger()
    assert b"nightvault_last_success" in stranger.get("/metrics", **bearer).body
    assert stranger.get("/api/v1/none", **bearer).status == 401
    assert stranger.get("/", **bearer).status == 303
    assert stranger.post("/schedule/run", RUN, **bearer).status == 401
    clock.sleep(3601)
    assert stranger.get("/metrics", **bearer).status == 401


def test_a_link_sets_a_password_once(web_page: Page) -> None:
    accounts, clock = web_page.context.accounts, web_page.context.clock
    accounts.add_user("lin", Role.VIEWER, None, clock.now())
    link = accounts.make_link("lin", clock.now())
    stranger = web_page.stranger()
    assert stranger.post("/welcome", {"link": link, "password": "short"}).status == 400
    assert stranger.post("/welcome", {"link": link, "password": "a long one of words"}).status == 303
    assert stranger.post("/welcome", {"link": link, "password": "another long of words"}).status == 403
    assert web_page.login("lin", "a long one of words").get("/").status == 200
    old = accounts.make_link("lin", clock.now())
    clock.sleep(24 * 3600 + 1)
    assert stranger.post("/welcome", {"link": old, "password": "another long of words"}).status == 403
    accounts.remove_user("lin")
