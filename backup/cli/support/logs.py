"""Log lines on standard error: text, JSON lines, or entries of systemd's journal with fields.

Each has the run, job, vault and restore that it is about (`log_context`). A line never holds a recovery key,
nor a character that could forge another line or move a terminal's cursor.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Final, TextIO

from backup.cli.render import render
from backup.cli.support.keyfiles import without_keys
from backup.config import LogForm
from backup.log_context import names_here

JOURNAL: Final = "/run/systemd/journal/socket"
_LARGEST: Final = 32_768  # characters: a datagram that is far too long would be lost
_PRIORITIES: Final = (  # of syslog, as the journal has them
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
    (logging.DEBUG, 7),
)


def log_to_stderr(
    form: LogForm = LogForm.TEXT, *, quiet: bool, verbose: bool, environ: Mapping[str, str]
) -> None:
    """Start logging: to the journal if standard error is connected to it, else as lines of that format."""
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLine() if form is LogForm.JSON else TextLine())
    if is_journal(environ):
        handler = JournalHandler()
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    logging.getLogger("backup").setLevel(level)


def is_journal(environ: Mapping[str, str], descriptor: int = 2) -> bool:
    """Whether standard error is connected to systemd's journal.

    systemd names the device and inode of its stream. A child whose output goes elsewhere inherits the
    variable, too, so both must be those of the descriptor. Source: systemd.exec(5).
    """
    named = environ.get("JOURNAL_STREAM", "")
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return named == f"{found.st_dev}:{found.st_ino}"


def is_wanted(form: LogForm, environ: Mapping[str, str]) -> bool:
    """Whether remarks of commands are log lines, too: in the journal, or as JSON if not on a terminal."""
    return is_journal(environ) or (form is LogForm.JSON and not sys.stderr.isatty())


def _message(record: logging.LogRecord) -> str:
    text = record.getMessage()
    if record.exc_info:
        text += "\n" + logging.Formatter().formatException(record.exc_info)
    return render.printable(without_keys(text))[:_LARGEST]


class TextLine(logging.Formatter):
    """`2026-11-26 02:30:00+0100 INFO run 12: text`; what follows the first line is indented."""

    has_time = True

    def format(self, record: logging.LogRecord) -> str:
        """Return the log line of a record."""
        moment = time.strftime("%Y-%m-%d %H:%M:%S%z ", time.localtime(record.created))
        return f"{moment if self.has_time else ''}{record.levelname} {told(record)}".replace("\n", "\n  ")


def told(record: logging.LogRecord) -> str:
    """Return the text of a log record, with the number of its run in front."""
    run = names_here().get("run")
    return f"run {run}: {_message(record)}" if run else _message(record)


class JsonLine(logging.Formatter):
    """`{"time": …, "level": "info", "message": …, "job": …, "run": 12}`; docs/json.md."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the JSON line of a record."""
        names = names_here()
        document: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "message": _message(record),
            **names,
        }
        if "run" in names:
            document["run"] = int(names["run"])
        return render.json_line(document)


class JournalHandler(logging.Handler):
    """Sends records to systemd's journal; without it, lines with the level as systemd reads it from a stream.

    The journal adds the time. Its fields make `journalctl NIGHTVAULT_JOB=main` possible. Nobody waits for a
    journal that takes nothing.
    """

    def __init__(self, path: str = JOURNAL) -> None:
        from backup.cli.support.error_stream import OUTLET  # no command needs it by a terminal

        super().__init__()
        self._path, self._outlet = path, OUTLET

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record to be sent to the journal."""
        priority = next((number for level, number in _PRIORITIES if record.levelno >= level), 7)
        names = {f"NIGHTVAULT_{name.upper()}": value for name, value in names_here().items()}
        fields = {
            "MESSAGE": told(record),
            "PRIORITY": str(priority),
            "SYSLOG_IDENTIFIER": "nightvault",
            "LOGGER": record.name,
            **names,
        }
        entry = b"".join(_field(name, text) for name, text in fields.items())
        lines = told(record).replace("\n", f"\n<{priority}>  ")
        self._outlet.put(partial(self._send, entry, f"<{priority}>{lines}\n", sys.stderr), len(entry))

    def _send(self, entry: bytes, instead: str, stream: TextIO) -> None:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
                journal.sendto(entry, self._path)
        except OSError:
            stream.write(instead)
            stream.flush()


def _field(name: str, text: str) -> bytes:
    """One field of an entry, its length before its value: https://systemd.io/JOURNAL_NATIVE_PROTOCOL."""
    value = text.encode("utf-8", "backslashreplace")
    return name.encode() + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"
