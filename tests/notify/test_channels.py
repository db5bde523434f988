"""Channels against receivers that refuse what the real ones do: what arrives, and what is told of errors."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from backup.errors import ConfigError, NightvaultError, VaultError
from backup.inventory.store.states import MessageKind
from backup.notify.channel import AwayError, Note, RefusedError
from backup.notify.channels import ping
from backup.notify.channels.by_apprise import Apprise
from backup.notify.channels.http import Address, Login
from backup.notify.channels.mail import Mail
from backup.notify.channels.ping import Ping, pinged
from backup.notify.channels.push import Gotify, Ntfy, Webhook, cut
from backup.notify.channels.secrets import Secret, read_secret
from backup.notify.letter import Letter
from tests.support import receivers
from tests.support.identities import server_certificate
from tests.support.receivers import MailServer, Receiver, mail_server, receiving, server_tls

TOKEN = "tk_AgQdq7mVBoFD37zQVN29RhuMzNIz2"
CHECK = "5bf66975-d4c7-4bf5-bcc8-b8d8a82ea278"
PASSWORD = "päss wörd: 1/2+3"
HOSTILE = "evil\x1b[2J\u202e<script>alert(1)</script>\r\nBcc: all@example.org"


def note(**more: Any) -> Note:
    """A note about a failed backup."""
    letter = Letter(
        title="web1: backup of job main failed",
        host="web1",
        facts=[("error", "the vault is away"), ("run", "17, failed")],
        problems=[f"unreadable: /srv/{HOSTILE}: permission denied"],
        more_problems=3,
        remarks=["a remark & another"],
        advice="try again",
        command="nightvault runs --job main",
        report={"error": "the vault is away"},
    )
    made = Note(
        id="a7e1f7b5-6f4c-5b9c-9d6b-000000000001",
        kind=MessageKind.FAILED,
        created_at=datetime(2026, 11, 26, 3, 0, tzinfo=UTC),
        letter=letter,
        details={"job": "main", "run": 17},
        run_id="0c3f8a04-0000-5000-8000-000000000002",
        exit_code=15,
    )
    return replace(made, **more)


def secret_file(folder: Path, text: str, name: str = "secret") -> str:
    path = folder / name
    path.write_text(text + "\n")
    path.chmod(0o600)
    return str(path)


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A mail server's certificate and key."""
    return server_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def token(tmp_path: Path) -> Login:
    return Login({}, token_file=secret_file(tmp_path, TOKEN))


class TestNtfy:
    @pytest.fixture
    def server(self) -> Iterator[Receiver]:
        with receiving(receivers.ntfy(TOKEN)) as made:
            yield made

    def test_what_arrives(self, server: Receiver, token: Login) -> None:
        answer = Ntfy("phone", Address({}, f"{server.url}/backups"), token).send(note())
        (request,) = server.taken
        document = request.json
        assert document["topic"] == "backups"
        assert document["priority"] == 4
        assert document["sequence_id"] == note().id
        assert document["title"] == "web1: backup of job main failed"
        assert "the vault is away" in document["message"]
        assert "\x1b" not in document["message"]
        assert answer.startswith("200 ")

    def test_a_long_message_is_cut_to_what_it_takes(self, server: Receiver, token: Login) -> None:
        letter = replace(note().letter, problems=["ü" * 1500] * 20)
        Ntfy("phone", Address({}, f"{server.url}/backups"), token).send(note(letter=letter))
        assert 3900 < len(server.taken[0].json["message"].encode()) <= receivers.NTFY_BYTES

    def test_a_wrong_token(self, server: Receiver, tmp_path: Path) -> None:
        login = Login({}, token_file=secret_file(tmp_path, "tk_wrong0000000"))
        with pytest.raises(RefusedError, match="answered 401") as caught:
            Ntfy("phone", Address({}, f"{server.url}/backups"), login).send(note())
        assert "token" in caught.value.advice
        assert "tk_wrong" not in str(caught.value)

    def test_an_address_without_a_topic(self, server: Receiver, token: Login) -> None:
        with pytest.raises(ConfigError, match="topic"):
            Ntfy("phone", Address({}, server.url), token).send(note())


class TestGotify:
    def test_what_arrives(self, token: Login) -> None:
        with receiving(receivers.gotify(TOKEN)) as server:
            Gotify("desk", Address({}, f"{server.url}/"), token).send(note(kind=MessageKind.RECOVERED))
        (request,) = server.taken
        assert request.json["priority"] == 5
        assert request.json["message"]

    def test_an_address_that_is_none_of_its(self, token: Login) -> None:
        with receiving(receivers.gotify(TOKEN)) as server, pytest.raises(RefusedError, match="answered 404"):
            Gotify("desk", Address({}, f"{server.url}/elsewhere"), token).send(note())


class TestWebhook:
    def test_what_arrives(self, tmp_path: Path) -> None:
        login = Login({}, user="night", password_file=secret_file(tmp_path, PASSWORD))
        with receiving(receivers.webhook) as server:
            answer = Webhook("own", Address({}, f"{server.url}/in?a=b"), login).send(note())
        (request,) = server.taken
        assert request.path == "/in?a=b"
        assert request.headers["idempotency-key"] == note().id
        assert request.headers["authorization"].startswith("Basic ")
        assert request.json["kind"] == "failed"
        assert request.json["run"] == 17
        assert request.json["report"] == {"error": "the vault is away"}
        assert answer == "204"

    def test_what_repeats_our_secrets_is_not_shown(self, tmp_path: Path) -> None:
        login = Login({}, user="night", password_file=secret_file(tmp_path, PASSWORD))

        def echo(request: receivers.Request) -> tuple[int, str]:
            return 400, json.dumps([dict(request.headers), request.path, PASSWORD])

        url = Address({}, url_file=secret_file(tmp_path, "http://127.0.0.1:1/", "url"))
        with receiving(echo) as server:
            url = Address({}, url_file=secret_file(tmp_path, f"{server.url}/hooks/T0SECRETPATH", "url"))
            with pytest.raises(RefusedError) as caught:
                Webhook("own", url, login).send(note())
        assert "T0SECRETPATH" not in str(caught.value)
        assert PASSWORD not in str(caught.value)
        assert "bmlnaHQ6" not in str(caught.value), "user and password in base64"

    def test_a_redirect_is_not_followed(self, token: Login) -> None:
        with receiving(lambda _: (302, "elsewhere")) as server:
            with pytest.raises(RefusedError, match="answered 302"):
                Webhook("own", Address({}, server.url), token).send(note())
            assert len(server.seen) == 1

    @pytest.mark.parametrize("status", [408, 429, 500, 503])
    def test_come_again(self, status: int, token: Login) -> None:
        with receiving(lambda _: (status, "busy")) as server, pytest.raises(AwayError, match=str(status)):
            Webhook("own", Address({}, server.url), token).send(note())

    def test_nobody_there(self, tmp_path: Path) -> None:
        address = f"http://127.0.0.1:{closed_port()}/T0SECRETPATH"
        url = Address({}, url_file=secret_file(tmp_path, address, "url"))
        with pytest.raises(AwayError, match="Connection refused") as caught:
            Webhook("own", url, Login({})).send(note())
        assert "T0SECRETPATH" not in str(caught.value)
        assert caught.value.__cause__ is None

    @pytest.mark.parametrize("told", [VaultError("away"), OSError(28, "No space left on device")])
    def test_what_is_told_of_is_not_why_nobody_is_there(self, told: Exception) -> None:
        url = f"http://127.0.0.1:{closed_port()}/in"
        try:
            raise told
        except type(told):
            with pytest.raises(AwayError, match="cannot be reached: Connection refused"):
                Webhook("own", Address({}, url), Login({})).send(note())

    def test_tls_is_checked(self, tmp_path: Path, token: Login) -> None:
        certificate, key = server_certificate(tmp_path)
        with receiving(receivers.webhook, server_tls(certificate, key)) as server:
            with pytest.raises(AwayError, match="not trusted"):
                Webhook("own", Address({}, server.url), token).send(note())
            Webhook("own", Address({}, server.url, ca_file=str(certificate)), token).send(note())
            assert len(server.taken) == 1


class TestPing:
    @pytest.fixture
    def server(self) -> Iterator[Receiver]:
        with receiving(receivers.healthchecks(CHECK)) as made:
            yield made

    @pytest.mark.parametrize(("code", "path"), [(0, ""), (3, "/3"), (15, "/15"), (None, "/log")])
    def test_how_a_run_ended(self, server: Receiver, code: int | None, path: str) -> None:
        Ping("hc", Address({}, f"{server.url}/ping/{CHECK}?x=1&create=0")).send(note(exit_code=code))
        (request,) = server.taken
        assert urlsplit(request.path).path == f"/ping/{CHECK}{path}"
        assert request.query == {"x": ["1"], "create": ["0"], "rid": [note().run_id]}
        assert request.headers["content-type"].startswith("text/plain")
        assert "the vault is away" in request.body.decode()

    def test_the_start_has_the_same_id(self, server: Receiver) -> None:
        one = Ping("hc", Address({}, f"{server.url}/ping/{CHECK}"))
        one.start(note().run_id or "")
        one.send(note(exit_code=0))
        start, end = server.taken
        assert urlsplit(start.path).path == f"/ping/{CHECK}/start"
        assert start.query == end.query

    def test_a_receiver_that_is_silent_holds_up_no_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ping, "START_SECONDS", 0.5)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            began = time.monotonic()
            url = f"http://127.0.0.1:{silent.getsockname()[1]}/ping"
            with pytest.raises(AwayError, match=r"no whole answer within 0\.5 s"):
                Ping("hc", Address({}, url)).start("run")
            assert time.monotonic() - began < 5

    def test_it_is_tried_again(self, server: Receiver) -> None:
        server.away = 2
        Ping("hc", Address({}, f"{server.url}/ping/{CHECK}")).send(note())
        assert (len(server.seen), len(server.taken)) == (3, 1)

    def test_a_check_that_is_gone(self, server: Receiver) -> None:
        with pytest.raises(RefusedError, match="answered 404"):
            Ping("hc", Address({}, f"{server.url}/ping/{CHECK[:-1]}0")).send(note())

    @given(
        st.lists(st.tuples(st.text(min_size=1), st.text()), max_size=4), st.sampled_from(["", "start", "3"])
    )
    def test_the_query_is_kept(self, pairs: list[tuple[str, str]], suffix: str) -> None:
        from urllib.parse import urlencode

        query = urlencode([pair for pair in pairs if pair[0] != "rid"], errors="surrogatepass")
        kept = parse_qsl(query, keep_blank_values=True)
        made = urlsplit(pinged(f"https://hc.example.org/ping/{CHECK}?{query}", suffix, "r"))
        assert parse_qsl(made.query, keep_blank_values=True) == [*kept, ("rid", "r")]
        assert made.path == f"/ping/{CHECK}" + (f"/{suffix}" if suffix else "")


class TestMail:
    def mail(self, server: MailServer, folder: Path, **more: Any) -> Mail:
        made = Mail(
            name="mail",
            host="127.0.0.1",
            port=server.port,
            security="starttls",
            sender="Nightvault <night@example.org>",
            to=("root@example.org", "ops@example.org"),
            environ={},
            user="night",
            password_file=secret_file(folder, PASSWORD),
        )
        return replace(made, **more)

    @pytest.mark.parametrize("at_once", [False, True])
    def test_what_arrives(self, tmp_path: Path, pair: tuple[Path, Path], at_once: bool) -> None:
        made = MailServer("night", PASSWORD)
        with mail_server(made, server_tls(*pair), at_once=at_once) as server:
            security = "tls" if at_once else "starttls"
            one = self.mail(server, tmp_path, ca_file=str(pair[0]), security=security)
            assert "root@example.org" in one.send(note())
        (mail,) = made.mails
        assert made.recipients == [["root@example.org", "ops@example.org"]]
        assert mail["Subject"] == "web1: backup of job main failed"
        assert mail["Message-ID"] == f"<{note().id}@example.org>"
        assert mail["Auto-Submitted"] == "auto-generated"
        text, page = (mail.get_body((kind,)) for kind in ("plain", "html"))
        assert text is not None
        assert page is not None
        assert "the vault is away" in text.get_content()
        assert "<script>" not in page.get_content()
        assert "&lt;script&gt;" in page.get_content()
        assert "\x1b" not in page.get_content()
        assert "color-scheme" in page.get_content()

    def test_a_hostile_name_makes_no_header(self, tmp_path: Path, pair: tuple[Path, Path]) -> None:
        made = MailServer("night", PASSWORD)
        with mail_server(made, server_tls(*pair)) as server:
            letter = replace(note().letter, title=f"web1: {HOSTILE}")
            self.mail(server, tmp_path, ca_file=str(pair[0])).send(note(letter=letter))
        (mail,) = made.mails
        assert mail["Bcc"] is None
        assert made.recipients == [["root@example.org", "ops@example.org"]]

    def test_a_wrong_password(self, tmp_path: Path, pair: tuple[Path, Path]) -> None:
        made = MailServer("night", "another one")
        with (
            mail_server(made, server_tls(*pair)) as server,
            pytest.raises(RefusedError, match="535") as caught,
        ):
            self.mail(server, tmp_path, ca_file=str(pair[0])).send(note())
        assert "password" in caught.value.advice
        assert PASSWORD not in str(caught.value)

    def test_no_tls_no_mail(self, tmp_path: Path) -> None:
        made = MailServer()
        with mail_server(made) as server, pytest.raises(RefusedError, match="STARTTLS"):
            self.mail(server, tmp_path).send(note())
        assert made.mails == []

    def test_a_certificate_of_another(self, tmp_path: Path, pair: tuple[Path, Path]) -> None:
        made = MailServer("night", PASSWORD)
        with mail_server(made, server_tls(*pair)) as server, pytest.raises(AwayError, match="not trusted"):
            self.mail(server, tmp_path).send(note())
        assert made.mails == []

    def test_a_local_relay_needs_neither(self, tmp_path: Path) -> None:
        made = MailServer()
        with mail_server(made) as server:
            self.mail(server, tmp_path, security="none", user=None, password_file=None).send(note())
        assert len(made.mails) == 1

    def test_a_mail_that_was_taken_is_not_sent_again_for_a_rude_goodbye(self, tmp_path: Path) -> None:
        class Rude(MailServer):
            async def handle_QUIT(self, *_: object) -> str:  # noqa: N802  its name is the library's
                return "421 4.4.2 too busy to say goodbye"

        with mail_server(Rude()) as server:
            one = self.mail(server, tmp_path, security="none", user=None, password_file=None)
            assert one.send(note()).startswith("taken for")
        assert len(server.mails) == 1

    def test_one_recipient_is_unknown(self, tmp_path: Path) -> None:
        made = MailServer()
        made.refuses = {"ops@example.org": "550 5.1.1 no such user"}
        with mail_server(made) as server:
            one = self.mail(server, tmp_path, security="none", user=None, password_file=None)
            assert "1 of 2; not for ops@example.org: 550" in one.send(note())
            made.refuses["root@example.org"] = "550 5.1.1 no such user"
            with pytest.raises(RefusedError, match="550"):
                one.send(note())

    @pytest.mark.parametrize(
        ("answer", "error"), [("451 4.7.1 greylisted", AwayError), ("554 5.7.1 spam", RefusedError)]
    )
    def test_later_or_never(self, tmp_path: Path, answer: str, error: type[NightvaultError]) -> None:
        made = MailServer()
        made.answers = [answer]
        with mail_server(made) as server, pytest.raises(error, match=answer[:3]):
            self.mail(server, tmp_path, security="none", user=None, password_file=None).send(note())

    def test_nobody_there(self, tmp_path: Path) -> None:
        server = MailServer()
        server.port = closed_port()
        with pytest.raises(AwayError, match="refused"):
            self.mail(server, tmp_path).send(note())


class TestApprise:
    def test_what_arrives(self, tmp_path: Path) -> None:
        with receiving(lambda _: (200, "")) as server:
            where = urlsplit(server.url)
            urls = secret_file(tmp_path, f"json://{where.netloc}/hook/SECRETWORD")
            Apprise("more", urls, {}).send(note())
        (request,) = server.taken
        assert request.path == "/hook/SECRETWORD"
        assert request.json["title"] == "web1: backup of job main failed"
        assert request.json["type"] == "failure"

    def test_what_fails_is_told_without_the_address(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with receiving(lambda _: (500, "SECRETWORD")) as server:
            urls = secret_file(tmp_path, f"json://{urlsplit(server.url).netloc}/hook/SECRETWORD")
            with pytest.raises(RefusedError) as caught:
                Apprise("more", urls, {}).send(note())
        assert "SECRETWORD" not in str(caught.value)
        assert "SECRETWORD" not in caplog.text

    def test_an_address_that_it_does_not_know(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="line 1") as caught:
            Apprise("more", secret_file(tmp_path, "nosuch://SECRETWORD/"), {}).send(note())
        assert "SECRETWORD" not in str(caught.value)


class TestSecrets:
    def test_a_file_that_everybody_may_read(self, tmp_path: Path) -> None:
        place = secret_file(tmp_path, "hush")
        Path(place).chmod(0o644)
        with pytest.raises(ConfigError, match="every user"):
            read_secret(place, {})

    def test_systemd_hands_one_over(self, tmp_path: Path) -> None:
        secret_file(tmp_path, "hush hush", "smtp")
        assert (
            read_secret("credential:smtp", {"CREDENTIALS_DIRECTORY": str(tmp_path)}).reveal() == "hush hush"
        )
        with pytest.raises(ConfigError, match="systemd"):
            read_secret("credential:smtp", {})

    @pytest.mark.parametrize("content", [b"", b"\n", b"a\x00b", b"two\nlines", b"\xff\xfe", b"x" * 70_000])
    def test_what_is_no_secret(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "secret"
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(ConfigError, match="one short text"):
            read_secret(str(path), {})

    def test_nothing_shows_it(self) -> None:
        assert "hush" not in repr(Secret("hush")) + str(Secret("hush")) + f"{Secret('hush')}"


@given(st.text(), st.integers(10, 200))
def test_a_cut_text_is_never_longer(text: str, most: int) -> None:
    plain = text.encode("utf-8", "replace").decode()
    found = cut(plain, most)
    assert len(found.encode()) <= most
    assert found == plain or found.endswith("…\n")
