"""Channels to all other receivers, through the library apprise (the extra `notify`), by its own addresses."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from msgspec import Struct

from backup.errors import ConfigError
from backup.installed import how_to_add
from backup.inventory.store.states import MessageKind
from backup.notify.channel import Note, RefusedError
from backup.notify.channels.secrets import Secret, read_secret
from backup.notify.letter import as_text
from backup.wording import escape

_TYPES = {
    MessageKind.FAILED: "failure",
    MessageKind.OVERDUE: "failure",
    MessageKind.WARNING: "warning",
    MessageKind.RECOVERED: "success",
}
_MOST_SHOWN = 200


class _LogLines(logging.Handler):
    """Collects the library's log while it sends: only there it says why it failed."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class Apprise(Struct, frozen=True):
    """The addresses in a file, one a line; all are secret, as most hold a token."""

    name: str
    url_file: str
    environ: Mapping[str, str]

    def send(self, note: Note) -> str:
        """See `Channel`. The library does not distinguish a receiver that is away from one that refuses."""
        try:
            import apprise
        except ImportError as error:
            raise ConfigError(
                "channels of kind apprise need the library apprise, which is not installed",
                advice=how_to_add("notify"),
            ) from error
        addresses = read_secret(self.url_file, self.environ, lines=True)
        there = [line.strip() for line in addresses.reveal().split("\n") if line.strip()]
        asset = apprise.AppriseAsset(app_id="nightvault", app_desc="nightvault", async_mode=False)
        told = apprise.Apprise(asset=asset)
        kept = _LogLines()
        with _listening(kept):
            for number, address in enumerate(there, 1):
                if not told.add(address):
                    raise ConfigError(
                        f"apprise does not know the address in line {number} of {self.url_file}"
                    )
            sent = told.notify(
                body=as_text(note.letter),
                title=note.letter.title,
                notify_type=apprise.NotifyType(_TYPES.get(note.kind, "info")),
                body_format=apprise.NotifyFormat.TEXT,
            )
        if not sent:
            raise RefusedError(f"apprise could not send it{_why(kept, addresses)}")
        return f"taken by {len(told)} of apprise's services"


def _why(kept: _LogLines, addresses: Secret) -> str:
    text = addresses.hidden_in(" ".join(kept.lines))
    for line in addresses.reveal().split("\n"):
        for word in line.replace("?", "/").replace("@", "/").replace(":", "/").split("/"):
            text = Secret(word).hidden_in(text) if len(word) > 7 else text
    return f": {escape(' '.join(text.split()))[:_MOST_SHOWN]}" if text.strip() else ""


class _listening:  # noqa: N801  a context, as in contextlib
    """Lets a handler alone hear what apprise logs: its lines may hold addresses."""

    def __init__(self, handler: _LogLines) -> None:
        self._handler = handler
        self._log = logging.getLogger("apprise")
        self._before = (self._log.propagate, self._log.level)

    def __enter__(self) -> None:
        self._log.propagate = False
        self._log.setLevel(logging.WARNING)
        self._log.addHandler(self._handler)

    def __exit__(self, *_error: object) -> None:
        self._log.removeHandler(self._handler)
        self._log.propagate, level = self._before
        self._log.setLevel(level)
