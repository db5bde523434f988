"""Mail over SMTP: text and HTML, by TLS, with a Message-ID that is the same when it is sent again."""

from __future__ import annotations

import base64
import smtplib
import socket
import ssl
from collections.abc import Mapping, Sequence
from email.headerregistry import Address as MailAddress
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr

from msgspec import Struct

from backup.notify.channel import AwayError, Note, RefusedError
from backup.notify.channels.deadline import Deadline
from backup.notify.channels.http import tls_context
from backup.notify.channels.secrets import Secret, read_secret
from backup.notify.letter import as_html, as_text
from backup.wording import escape

PORTS = {"starttls": 587, "tls": 465, "none": 25}
_SECONDS = 20.0
_POLICY = SMTP.clone(cte_type="7bit")  # every relay takes it


class Mail(Struct, frozen=True):
    """A mail server and the recipients. Without TLS it must be on this machine, and gets no password."""

    name: str
    host: str
    port: int
    security: str
    sender: str
    to: Sequence[str]
    environ: Mapping[str, str]
    user: str | None = None
    password_file: str | None = None
    ca_file: str | None = None

    def send(self, note: Note) -> str:
        """See `Channel`."""
        password = read_secret(self.password_file, self.environ) if self.password_file else None
        secrets = [password, Secret(f"\0{self.user}\0{password.reveal()}")] if password else []
        refused, deadline = None, Deadline()
        try:
            with deadline, self._connected(deadline) as server:
                if self.user is not None and password is not None:
                    _log_in(server, self.user, password.reveal())
                refused = server.send_message(self._letter(note), self._address, list(self.to))
        except smtplib.SMTPException as error:
            if refused is None and deadline.is_over:
                raise AwayError(f"{self._where}: {deadline.text()}") from None
            if refused is None:  # else the mail was taken, and only the goodbye failed
                raise self._translated_error(
                    error, secrets
                ) from None  # the library's error may repeat what we sent
        except (OSError, ssl.SSLError) as error:
            if refused is None:
                why = deadline.text() if deadline.is_over else _why(error)
                raise AwayError(f"{self._where} cannot be reached: {why}") from None
        if not refused:
            return f"taken for {', '.join(self.to)}"
        lost = ", ".join(f"{recipient}: {_answer(*refused[recipient])}" for recipient in refused)
        return _clean(f"taken for {len(self.to) - len(refused)} of {len(self.to)}; not for {lost}", secrets)

    @property
    def _where(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def _address(self) -> str:
        return parseaddr(self.sender)[1]

    def _connected(self, deadline: Deadline) -> smtplib.SMTP:
        name = _own_name()
        plain, secured = _watched(deadline)
        if self.security == "tls":
            context = tls_context(self.ca_file)
            return secured(self.host, self.port, name, timeout=_SECONDS, context=context)
        server = plain(self.host, self.port, name, timeout=_SECONDS)
        if self.security == "starttls":
            try:
                server.starttls(context=tls_context(self.ca_file))
                server.ehlo()
            except BaseException:
                server.close()
                raise
        return server

    def _letter(self, note: Note) -> EmailMessage:
        """The mail; Auto-Submitted keeps answering machines from answering."""
        mail = EmailMessage(_POLICY)
        shown, address = parseaddr(self.sender)
        user, _, domain = address.rpartition("@")
        mail["From"] = MailAddress(shown, user, domain)
        mail["To"] = ", ".join(self.to)
        mail["Subject"] = escape(note.letter.title)
        mail["Date"] = format_datetime(note.created_at)
        mail["Message-ID"] = f"<{note.id}@{domain}>"
        mail["Auto-Submitted"] = "auto-generated"
        mail["X-Nightvault-Kind"] = str(note.kind)
        mail.set_content(as_text(note.letter))
        mail.add_alternative(as_html(note.letter, str(note.kind)), subtype="html")
        return mail

    def _translated_error(
        self, error: smtplib.SMTPException, secrets: Sequence[Secret]
    ) -> AwayError | RefusedError:
        if isinstance(error, smtplib.SMTPNotSupportedError):
            known = (name for name in ("STARTTLS", "SMTPUTF8") if name in str(error))
            wanted = next(known, "a login that we know")
            return RefusedError(f"{self._where} does not offer {wanted}, so nothing was sent")
        if isinstance(error, smtplib.SMTPRecipientsRefused):
            code, answer = next(iter(error.recipients.values()))
        elif isinstance(error, smtplib.SMTPResponseException):
            code, answer = error.smtp_code, _bytes(error.smtp_error)
        else:
            return AwayError(f"{self._where} ended the connection")
        text = _clean(f"{self._where} answered {_answer(code, answer)}", secrets)
        if isinstance(error, smtplib.SMTPAuthenticationError) and code >= 500:
            return RefusedError(text, advice="check user and password of this channel")
        return RefusedError(text) if code >= 500 else AwayError(text)


def _watched(deadline: Deadline) -> tuple[type[smtplib.SMTP], type[smtplib.SMTP_SSL]]:
    """The library's clients, whose connections end with the deadline: from the first byte of the greeting."""

    class Plain(smtplib.SMTP):
        def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
            made: socket.socket = super()._get_socket(host, port, timeout)  # type: ignore[misc]
            deadline.watch(made)
            return made

    class Secured(smtplib.SMTP_SSL, Plain):
        """`SMTP_SSL` gets the connection from its next class, before the handshake."""

    return Plain, Secured


def _log_in(server: smtplib.SMTP, user: str, password: str) -> None:
    """Log in. The library takes no letters beyond ASCII: these go by PLAIN, in UTF-8 (RFC 4616)."""
    if user.isascii() and password.isascii():
        server.login(user, password)
        return
    server.ehlo_or_helo_if_needed()
    if "PLAIN" not in server.esmtp_features.get("auth", "").upper().split():
        raise smtplib.SMTPNotSupportedError("AUTH PLAIN")
    coded = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
    code, answer = server.docmd("AUTH", f"PLAIN {coded}")
    if code not in {235, 503}:  # accepted, or logged in already
        raise smtplib.SMTPAuthenticationError(code, answer)


def _own_name() -> str:
    """The name that we greet with, found without asking the network."""
    name = socket.gethostname()
    return name if name.isascii() and name.replace("-", "").replace(".", "").isalnum() else "localhost"


def _bytes(text: bytes | str) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _answer(code: int, text: bytes) -> str:
    return f"{code} {' '.join(text.decode('utf-8', 'replace').split())}"[:200]


def _clean(text: str, secrets: Sequence[Secret]) -> str:
    for secret in secrets:
        text = secret.hidden_in(text)
    return escape(text)


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return error.strerror or type(error).__name__
