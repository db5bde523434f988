"""ntfy, Gotify and a webhook: a message as one JSON document.

Facts of the receivers. ntfy: priorities 1 to 5; a message longer than 4,096 bytes becomes a file or is
refused; with a `sequence_id` (servers since 2.16) clients show a repeated message once. Gotify: the token in
X-Gotify-Key, `message` must not be empty, priorities 0 to 10.
"""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from msgspec import Struct

from backup.errors import ConfigError
from backup.inventory.store.states import MessageKind
from backup.notify.channel import URGENT, Note
from backup.notify.channels.http import Address, Login, post_json
from backup.notify.letter import as_text

_NTFY_BYTES = 4000
_TITLE = 250
_TAGS = {
    MessageKind.FAILED: "rotating_light",
    MessageKind.OVERDUE: "alarm_clock",
    MessageKind.WARNING: "warning",
    MessageKind.RECOVERED: "white_check_mark",
}


def cut(text: str, most: int) -> str:
    """A text of at most so many bytes in UTF-8; what is cut off is marked by an ellipsis."""
    data = text.encode("utf-8", "replace")
    return text if len(data) <= most else data[: most - 4].decode("utf-8", "ignore") + "…\n"


class Ntfy(Struct, frozen=True):
    """A topic of an ntfy server; the last part of the address is the topic."""

    name: str
    address: Address
    login: Login

    def send(self, note: Note) -> str:
        """See `Channel`."""
        url = self.address.read()
        parts = urlsplit(url.reveal())
        above, _, topic = parts.path.rstrip("/").rpartition("/")
        if not topic:
            raise ConfigError(
                "the address of an ntfy channel must end with its topic, as in https://HOST/TOPIC"
            )
        header, secrets = self.login.header()
        urgency = 4 if note.kind in URGENT else 3
        tag = _TAGS.get(note.kind)
        document = {
            "topic": topic,
            "title": note.letter.title[:_TITLE],
            "message": cut(as_text(note.letter), _NTFY_BYTES),
            "priority": urgency,
            "tags": [tag] if tag else [],
            "sequence_id": note.id,
        }
        root = urlunsplit(parts._replace(path=f"{above}/"))
        return post_json(
            root, document, headers=header, secrets=[*secrets, url], ca_file=self.address.ca_file
        )


class Gotify(Struct, frozen=True):
    """An application of a Gotify server."""

    name: str
    address: Address
    login: Login

    def send(self, note: Note) -> str:
        """See `Channel`."""
        url, token = self.address.read(), self.login.token()
        header = {"X-Gotify-Key": token.reveal()} if token else {}
        document = {
            "title": note.letter.title[:_TITLE],
            "message": as_text(note.letter),
            "priority": 8 if note.kind in URGENT else 5,
            "extras": {
                "client::display": {"contentType": "text/plain"},
                "nightvault::message": {"id": note.id},
            },
        }
        parts = urlsplit(url.reveal())
        place = urlunsplit(parts._replace(path=parts.path.rstrip("/") + "/message"))
        secrets = [url, *([token] if token else [])]
        return post_json(place, document, headers=header, secrets=secrets, ca_file=self.address.ca_file)


class Webhook(Struct, frozen=True):
    """A program of the user's that takes JSON; by `Idempotency-Key` it can recognise a repeated message."""

    name: str
    address: Address
    login: Login

    def send(self, note: Note) -> str:
        """See `Channel`."""
        url = self.address.read()
        header, secrets = self.login.header()
        headers = {**header, "Idempotency-Key": note.id}
        return post_json(
            url.reveal(),
            note.document(),
            headers=headers,
            secrets=[*secrets, url],
            ca_file=self.address.ca_file,
        )
