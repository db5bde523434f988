"""A delivery ends in total time: a receiver that sends a byte now and then holds nobody up."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime

import pytest

from backup.inventory.store.states import MessageKind
from backup.notify.channel import AwayError, Note, RefusedError
from backup.notify.channels import deadline
from backup.notify.channels.http import post
from backup.notify.channels.mail import Mail
from backup.notify.letter import Letter
from tests.support.receivers import dripping

SECONDS = 1.5


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "DELIVERY_SECONDS", SECONDS)


def note() -> Note:
    """Some message."""
    letter = Letter("web1: backup of job main failed", "web1", [("error", "the vault is away")])
    return Note("a7e1f7b5", MessageKind.FAILED, datetime(2026, 11, 26, tzinfo=UTC), letter, {})


def in_time(began: float) -> bool:
    return time.monotonic() - began < SECONDS + 6


@pytest.mark.parametrize("at_once", [b"", b"HTTP/1.1 20"], ids=["nothing", "a status"])
def test_an_answer_that_never_ends(at_once: bytes) -> None:
    began = time.monotonic()
    with dripping(at_once) as port, pytest.raises(AwayError, match=r"no whole answer within 1\.5 s"):
        post(f"http://127.0.0.1:{port}/", b"{}", headers={}, secrets=[])
    assert in_time(began)


@pytest.mark.parametrize(
    "length", [b"Content-Length: 900\r\n\r\n", b"\r\n", b"Transfer-Encoding: chunked\r\n\r\n", b"X-A: "]
)
def test_a_body_that_never_ends_was_an_answer_all_the_same(length: bytes) -> None:
    began = time.monotonic()
    with dripping(b"HTTP/1.1 200 OK\r\n" + length) as port:
        assert post(f"http://127.0.0.1:{port}/", b"{}", headers={}, secrets=[]).startswith("200")
    assert in_time(began)


def test_tries_share_the_time() -> None:
    began = time.monotonic()
    with dripping(b"") as port, pytest.raises(AwayError):
        post(f"http://127.0.0.1:{port}/", b"{}", headers={}, secrets=[], tries=5)
    assert in_time(began)


@pytest.mark.parametrize("url", ["https://127.0.0.1:{}/"])
def test_a_handshake_that_never_ends(url: str) -> None:
    began = time.monotonic()
    with dripping(b"\x16\x03\x03\x40\x00") as port, pytest.raises(AwayError):
        post(url.format(port), b"{}", headers={}, secrets=[])
    assert in_time(began)


@pytest.mark.parametrize("security", ["none", "starttls", "tls"])
@pytest.mark.parametrize("at_once", [b"", b"220 hello\r\n", b"220 hello\r\n250-me\r\n250 x\r\n"])
def test_a_mail_server_that_never_ends(security: str, at_once: bytes) -> None:
    began = time.monotonic()
    with dripping(at_once) as port, pytest.raises((AwayError, RefusedError)):
        Mail("mail", "127.0.0.1", port, security, "a@b.test", ["c@d.test"], {}).send(note())
    assert in_time(began)


def test_who_is_in_time_is_not_ended() -> None:
    before = set(threading.enumerate())
    with dripping(b"HTTP/1.1 204 No Content\r\n\r\n", b"") as port:
        assert post(f"http://127.0.0.1:{port}/", b"{}", headers={}, secrets=[]) == "204"
    timers = [thread for thread in set(threading.enumerate()) - before if isinstance(thread, threading.Timer)]
    assert [timer for timer in timers if not timer.finished.is_set()] == []  # a thread needs a moment to end
