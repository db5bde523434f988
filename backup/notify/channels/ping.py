"""Pings for healthchecks: the start and the end of each backup, so that a missing ping raises an alarm.

A suffix goes before the query, which is kept: /start, /fail or an exit code, /log for a run that neither
succeeded nor failed; the bare address is a success. `rid` is the same for a run's start and end. The body is
what healthchecks shows with a ping; 10,000 bytes of it are kept everywhere.
"""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from msgspec import Struct

from backup.notify.channel import Note
from backup.notify.channels.http import Address, post
from backup.notify.channels.push import cut
from backup.notify.letter import as_text

START, FAIL, LOG = "start", "fail", "log"
START_SECONDS = 5.0
"""Seconds that the start of a run may take to be sent: the end of the run waits for it."""
_MOST_BYTES = 10_000
_TRIES = 3
_PLAIN = {"Content-Type": "text/plain; charset=utf-8"}


class Ping(Struct, frozen=True):
    """One check of a healthchecks server; best one for each job."""

    name: str
    address: Address

    def send(self, note: Note) -> str:
        """See `Channel`."""
        text = f"{note.letter.title}\n\n{as_text(note.letter)}"
        return self._ping(_suffix(note), note.run_id, text)

    def start(self, run_id: str) -> str:
        """Send that a run has begun. Errors are those of `send`."""
        return self._ping(START, run_id, "", START_SECONDS)

    def _ping(self, suffix: str, run_id: str | None, text: str, seconds: float | None = None) -> str:
        url = self.address.read()
        return post(
            pinged(url.reveal(), suffix, run_id),
            cut(text, _MOST_BYTES).encode("utf-8", "replace"),
            headers=_PLAIN,
            secrets=[url],
            ca_file=self.address.ca_file,
            tries=_TRIES,
            seconds=seconds,
        )


def _suffix(note: Note) -> str:
    if note.exit_code is None:
        return LOG
    return str(note.exit_code) if note.exit_code else ""


def pinged(url: str, suffix: str, run_id: str | None) -> str:
    """The address with a suffix to its path; the query is kept, and has the run's id."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/") + (f"/{suffix}" if suffix else "")
    if run_id is None:
        return urlunsplit(parts._replace(path=path))
    kept = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] != "rid"]
    return urlunsplit(parts._replace(path=path, query=urlencode([*kept, ("rid", run_id)])))
