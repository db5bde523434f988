"""Renewal in time, through outages shorter than what the keys have left, with one fetch for many threads."""

from __future__ import annotations

import logging
import os
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from backup.credentials.identity import Identity, KeyHolder
from backup.credentials.options import RolesAnywhereOptions
from backup.credentials.rolesanywhere import RolesAnywhere
from backup.errors import DeniedError, IdentityError, NightvaultError, ThrottledError, UnreachableError
from backup.model import Credentials
from tests.support.doubles import ManualClock
from tests.support.identities import ANCHOR, NOW, PROFILE, ROLE, identity_in
from tests.support.scratch_server import SECRET, TOKEN, Answer, ScratchServer, keys_until, no

AWAY = Answer(503, b"<html>away</html>")


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return identity_in(str(tmp_path_factory.mktemp("identity")))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[int], Answer]], ScratchServer]]:
    with ExitStack() as stack:
        yield lambda answer: stack.enter_context(ScratchServer(answer).running())


Serve = Callable[[Callable[[int], Answer]], ScratchServer]


def source_on(
    server: ScratchServer, clock: ManualClock, load: Callable[[], KeyHolder], *, read_timeout: float = 30
) -> RolesAnywhere:
    options = RolesAnywhereOptions(ANCHOR, PROFILE, ROLE, endpoint=server.url, read_timeout=read_timeout)
    return RolesAnywhere(options, load=load, clock=clock, jitter=lambda: 1.0)


def living(clock: ManualClock, seconds: int) -> Callable[[int], Answer]:
    return lambda number: keys_until(clock.now() + timedelta(seconds=seconds), number)


def test_nothing_is_asked_before_the_first_use_and_then_once(
    serve: Serve, clock: ManualClock, signer: Identity
) -> None:
    server = serve(living(clock, 3600))
    source = source_on(server, clock, lambda: signer)
    assert server.seen == []
    first = source.credentials()
    assert [source.credentials() for _ in range(50)] == [first] * 50
    assert len(server.seen) == 1
    assert first.access_key_id == "ASIASCRATCH000000001"
    assert first.secret_access_key == SECRET
    assert first.expires_at == NOW + timedelta(hours=1)


def test_what_is_sent(serve: Serve, clock: ManualClock, signer: Identity) -> None:
    server = serve(living(clock, 900))
    options = RolesAnywhereOptions(
        ANCHOR, PROFILE, ROLE, endpoint=server.url, session_duration=900, role_session_name="night"
    )
    RolesAnywhere(options, load=lambda: signer, clock=clock).credentials()
    seen = server.seen[0]
    assert seen.path == "/sessions"
    assert seen.headers["Host"] == server.url.removeprefix("http://")
    assert seen.headers["X-Amz-Date"] == "20260301T020000Z"
    assert seen.headers["Content-Type"] == "application/json"
    assert seen.body.decode() == (
        f'{{"durationSeconds":900,"profileArn":"{PROFILE}","roleArn":"{ROLE}",'
        f'"trustAnchorArn":"{ANCHOR}","roleSessionName":"night"}}'
    )


@pytest.mark.parametrize(
    ("life", "quiet"), [(900, 600), (1200, 900), (3600, 2700), (43200, 32400), (400, 200)]
)
def test_keys_are_renewed_with_a_quarter_or_five_minutes_left(
    serve: Serve, clock: ManualClock, signer: Identity, life: int, quiet: int
) -> None:
    server = serve(living(clock, life))
    source = source_on(server, clock, lambda: signer)
    first = source.credentials()
    clock.advance(timedelta(seconds=quiet - 1))
    assert source.credentials() == first
    assert len(server.seen) == 1
    clock.advance(timedelta(seconds=1))
    second = source.credentials()
    assert second.access_key_id.endswith("2")
    assert [source.credentials() for _ in range(20)] == [second] * 20
    assert len(server.seen) == 2


def test_the_margin_can_be_chosen(serve: Serve, clock: ManualClock, signer: Identity) -> None:
    server = serve(living(clock, 900))
    options = RolesAnywhereOptions(
        ANCHOR, PROFILE, ROLE, endpoint=server.url, renew_before=timedelta(seconds=100)
    )
    source = RolesAnywhere(options, load=lambda: signer, clock=clock)
    source.credentials()
    clock.advance(timedelta(seconds=799))
    source.credentials()
    assert len(server.seen) == 1
    clock.advance(timedelta(seconds=1))
    source.credentials()
    assert len(server.seen) == 2


def test_thirty_two_threads_make_one_fetch(serve: Serve, clock: ManualClock, signer: Identity) -> None:
    def slow(number: int) -> Answer:
        good = keys_until(clock.now() + timedelta(hours=1), number)
        return Answer(good.status, good.body, delay=0.1)

    server = serve(slow)
    source = source_on(server, clock, lambda: signer)
    assert len(set(ask_together(source, 32))) == 1
    assert len(server.seen) == 1


def ask_together(source: RolesAnywhere, threads: int) -> list[Credentials | str]:
    """What as many threads get at the same moment: keys, or the error's text."""
    barrier = threading.Barrier(threads)

    def ask(_number: int) -> Credentials | str:
        barrier.wait()
        try:
            return source.credentials()
        except NightvaultError as error:
            return str(error)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(ask, range(threads)))


def test_while_one_renews_the_others_go_on_with_working_keys(
    serve: Serve, clock: ManualClock, signer: Identity
) -> None:
    renewing, go_on = threading.Event(), threading.Event()

    def answer(number: int) -> Answer:
        if number == 2:
            renewing.set()
            assert go_on.wait(5)
        return keys_until(clock.now() + timedelta(seconds=900), number)

    options = RolesAnywhereOptions(ANCHOR, PROFILE, ROLE, endpoint=serve(answer).url, read_timeout=10)
    source = RolesAnywhere(options, load=lambda: signer, clock=clock)
    first = source.credentials()
    clock.advance(timedelta(seconds=700))
    with ThreadPoolExecutor(1) as pool:
        renewal = pool.submit(source.credentials)
        assert renewing.wait(5)
        assert [source.credentials() for _ in range(10)] == [first] * 10
        go_on.set()
        assert renewal.result().access_key_id.endswith("2")


def test_an_outage_shorter_than_what_is_left_is_no_error(
    serve: Serve, clock: ManualClock, signer: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    end = NOW + timedelta(seconds=3500)
    server = serve(
        lambda number: (
            AWAY if NOW < clock.now() < end else keys_until(clock.now() + timedelta(hours=1), number)
        )
    )
    source = source_on(server, clock, lambda: signer)
    first = source.credentials()
    clock.advance(timedelta(seconds=2700))
    while clock.now() < end:
        assert source.credentials() == first
        clock.advance(timedelta(seconds=1))
    tries = len(server.seen) - 1
    assert tries == 6  # after 0, 30, 90, 210, 450 and 750 s
    clock.advance(timedelta(seconds=99))
    assert source.credentials() == first
    clock.advance(timedelta(seconds=1))  # the keys are dead: no back-off holds us up now
    assert source.credentials() != first
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == tries
    assert "could not be renewed (127.0.0.1" in warnings[0]


def test_back_off_has_jitter_and_an_end(serve: Serve, clock: ManualClock, signer: Identity) -> None:
    server = serve(lambda number: keys_until(NOW + timedelta(hours=12)) if number == 1 else AWAY)
    source = source_on(server, clock, lambda: signer)
    source.credentials()
    clock.advance(timedelta(hours=9))
    asked: list[datetime] = []
    for _second in range(1500):
        before = len(server.seen)
        source.credentials()
        if len(server.seen) > before:
            asked.append(clock.now())
        clock.advance(timedelta(seconds=1))
    pauses = [(later - earlier).total_seconds() for earlier, later in pairwise(asked)]
    assert pauses == [30, 60, 120, 240, 300, 300, 300]


def test_a_failure_by_a_clock_that_was_ahead_holds_no_renewal_up(
    serve: Serve, clock: ManualClock, signer: Identity
) -> None:
    """The next try is not set by the clock that was ahead, 400 days off."""
    ahead = timedelta(days=400)
    server = serve(lambda number: AWAY if 2 <= number <= 4 else keys_until(NOW + timedelta(hours=12), number))
    source = source_on(server, clock, lambda: signer)
    source.credentials()
    clock.advance(ahead)
    with pytest.raises(NightvaultError):
        source.credentials()
    clock.advance(NOW + timedelta(hours=10) - clock.now())
    asked = len(server.seen)
    source.credentials()
    assert len(server.seen) == asked + 1


def test_an_outage_longer_than_what_is_left_is_an_error_and_recovery_is_immediate(
    serve: Serve, clock: ManualClock, signer: Identity
) -> None:
    away = threading.Event()
    server = serve(
        lambda number: AWAY if away.is_set() else keys_until(clock.now() + timedelta(seconds=900), number)
    )
    source = source_on(server, clock, lambda: signer)
    source.credentials()
    away.set()
    clock.advance(timedelta(seconds=899))
    source.credentials()
    clock.advance(timedelta(seconds=1))
    with pytest.raises(UnreachableError, match="failed with status 503"):
        source.credentials()
    away.clear()
    assert source.credentials().expires_at == clock.now() + timedelta(seconds=900)


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (AWAY, UnreachableError),
        (Answer(500), UnreachableError),
        (no("Rate exceeded", "ThrottlingException", 429), ThrottledError),
        (no("Rate exceeded", "ThrottlingException", 400), ThrottledError),
        (Answer(drop=True), UnreachableError),
        (Answer(delay=1.0), UnreachableError),
        (Answer(302, headers={"Location": "http://127.0.0.1/"}), UnreachableError),
    ],
)
def test_three_attempts_with_jitter_then_the_error(
    serve: Serve, clock: ManualClock, signer: Identity, bad: Answer, kind: type[NightvaultError]
) -> None:
    server = serve(lambda _number: bad)
    with pytest.raises(kind):
        source_on(server, clock, lambda: signer, read_timeout=0.3 if bad.delay else 30).credentials()
    assert len(server.seen) == 3
    assert clock.slept == [2.0, 4.0]
    stamps = {seen.headers["X-Amz-Date"] for seen in server.seen}
    assert len(stamps) == 3  # each attempt is signed anew


def test_the_third_attempt_may_succeed(serve: Serve, clock: ManualClock, signer: Identity) -> None:
    server = serve(lambda number: AWAY if number < 3 else keys_until(NOW + timedelta(hours=1)))
    assert source_on(server, clock, lambda: signer).credentials().secret_access_key == SECRET


def test_nobody_listens(clock: ManualClock, signer: Identity) -> None:
    with ScratchServer(lambda _number: AWAY).running() as server:
        pass
    with pytest.raises(
        UnreachableError, match=r"^127\.0\.0\.1:\d+ cannot be reached: Failed to establish"
    ) as caught:
        source_on(server, clock, lambda: signer).credentials()
    assert caught.value.__cause__ is not None


def test_an_untrusted_tls_certificate(
    clock: ManualClock, signer: Identity, tmp_path: os.PathLike[str]
) -> None:
    key, certificate = f"{tmp_path}/tls.key", f"{tmp_path}/tls.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-keyout", key, "-out", certificate, "-subj", "/CN=localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    server = ScratchServer(lambda _number: AWAY)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server._server.socket = context.wrap_socket(server._server.socket, server_side=True)
    with server.running():
        options = RolesAnywhereOptions(ANCHOR, PROFILE, ROLE, endpoint=server.url.replace("http:", "https:"))
        with pytest.raises(UnreachableError, match="does not prove that it is IAM Roles Anywhere"):
            RolesAnywhere(options, load=lambda: signer, clock=clock).credentials()
    assert server.seen == []


class CountingClock(ManualClock):
    """Counts how often it was asked, which every call of `credentials` does first."""

    def __init__(self) -> None:
        super().__init__(NOW)
        self.asked = 0

    def now(self) -> datetime:
        """The time."""
        self.asked += 1
        return super().now()


def test_denials_are_not_tried_again_and_waiting_threads_share_them(serve: Serve, signer: Identity) -> None:
    clock = CountingClock()

    def when_all_wait(_number: int) -> Answer:
        while clock.asked < 33:  # all 32, and the one that fetches once more
            time.sleep(0.01)
        denied = no("Untrusted signing certificate")
        return Answer(denied.status, denied.body, denied.headers, delay=0.1)

    server = serve(when_all_wait)
    answers = ask_together(source_on(server, clock, lambda: signer), 32)
    assert len(set(answers)) == 1
    assert "does not lead to the trust anchor" in str(answers[0])
    assert len(server.seen) == 1
    assert clock.slept == []


def test_the_identity_is_loaded_at_each_renewal(serve: Serve, clock: ManualClock, signer: Identity) -> None:
    loads: list[int] = []

    def load() -> KeyHolder:
        loads.append(1)
        return signer

    source = source_on(serve(living(clock, 900)), clock, load)
    for _ in range(3):
        source.credentials()
        source.credentials()
        clock.advance(timedelta(seconds=600))
    assert len(loads) == 3


def test_an_identity_that_breaks_spoils_nothing_that_works(
    serve: Serve, clock: ManualClock, signer: Identity
) -> None:
    broken = threading.Event()

    def load() -> KeyHolder:
        if broken.is_set():
            raise IdentityError("the certificate x is missing")
        return signer

    source = source_on(serve(living(clock, 900)), clock, load)
    first = source.credentials()
    broken.set()
    clock.advance(timedelta(seconds=700))
    assert source.credentials() == first
    clock.advance(timedelta(seconds=200))
    with pytest.raises(IdentityError, match="is missing"):
        source.credentials()


def test_an_expired_certificate_is_never_sent(serve: Serve, clock: ManualClock, signer: Identity) -> None:
    server = serve(living(clock, 900))
    clock.advance(timedelta(days=91))
    with pytest.raises(IdentityError, match="expired on 2026-05-30"):
        source_on(server, clock, lambda: signer).credentials()
    assert server.seen == []


def test_a_denied_renewal_is_an_error_once_the_keys_are_dead(
    serve: Serve, clock: ManualClock, signer: Identity
) -> None:
    server = serve(lambda number: no("revoked") if number > 1 else keys_until(NOW + timedelta(seconds=900)))
    source = source_on(server, clock, lambda: signer)
    first = source.credentials()
    clock.advance(timedelta(seconds=600))
    assert source.credentials() == first
    clock.advance(timedelta(seconds=300))
    with pytest.raises(DeniedError, match="has been revoked"):
        source.credentials()


def test_no_secret_in_repr_text_or_log(
    serve: Serve, clock: ManualClock, signer: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = serve(living(clock, 900))
    source = source_on(server, clock, lambda: signer)
    credentials = source.credentials()
    said = f"{source!r} {source} {credentials!r} {credentials} {caplog.text}"
    assert "valid until" in said
    assert SECRET not in said
    assert TOKEN not in said
