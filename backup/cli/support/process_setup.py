"""Repairs the environment of the process: closed standard streams, a lax umask, charset, time zone."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from typing import Final

_DAY = 24 * 60 * 60
were_closed: Final[set[int]] = set()
"""The standard handles that the caller closed: what is written there is lost."""


def secure_process() -> None:
    """Open closed standard streams and tighten the umask, before any other file is opened."""
    _hold_standard_handles()
    os.umask(os.umask(0o077) | 0o002)


def speak_utf8() -> None:
    """Use UTF-8 for paths and texts whatever the locale; restart the program if Python uses another charset.

    A config is UTF-8, and names on disks are bytes. Python makes one of the other by the locale's charset,
    which cannot be changed once it runs: in ISO-8859-1 a source "größe" would be another file, and "✓" none
    at all. A terminal of another charset is shown what it has, the rest escaped.
    """
    if sys.getfilesystemencoding() != "utf-8" and sys.executable:
        with suppress(OSError):
            os.execv(sys.executable, [os.fsencode(sys.executable), b"-X", b"utf8", *_words()])  # noqa: S606
    charset = _terminal_charset()
    for stream, errors in (
        (sys.stdin, "surrogateescape"),
        (sys.stdout, "backslashreplace"),
        (sys.stderr, "backslashreplace"),
    ):
        if hasattr(stream, "reconfigure"):  # not what stands for a closed handle, or in a test
            stream.reconfigure(encoding=charset if stream.isatty() else None, errors=errors)


def know_the_zone() -> str | None:
    """Use UTC for local times if Python cannot handle the time zone; return a warning about it, else None.

    A zone of POSIX may be up to seven days from UTC (TZ=XXX-24:30), one of Python less than a day.
    """
    if max(abs(time.timezone), abs(time.altzone)) < _DAY:
        return None
    found = os.environ.get("TZ")
    os.environ["TZ"] = "UTC"
    time.tzset()
    what = "this machine's time zone" if found is None else f"the time zone TZ={found}"
    return f"{what} is a day or more from UTC, which no place on earth is: times are told in UTC"


def _words() -> list[bytes]:
    """The words that this interpreter was started with, as they were given."""
    with suppress(OSError), open("/proc/self/cmdline", "rb") as file:
        words = file.read().split(b"\0")[:-1]
        if len(words) == len(sys.orig_argv):
            return words[1:]
    return [os.fsencode(word) for word in sys.orig_argv[1:]]


def _terminal_charset() -> str | None:
    """The charset of a locale that has one of its own; None where it is UTF-8, or says nothing (C)."""
    if not sys.flags.utf8_mode:
        return None
    import locale

    charset = locale.getencoding()
    return None if charset.upper() in {"UTF-8", "ANSI_X3.4-1968", "US-ASCII"} else charset


def _hold_standard_handles() -> None:
    """Open the standard handles that the caller closed, on `/dev/null`.

    Otherwise the next file that is opened would get such a number, and with it the output that is meant for
    the terminal, of this process and of commands that it starts.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            were_closed.add(number)
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free
    for name, way in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, way, encoding="utf-8", errors="backslashreplace"))  # noqa: SIM115
