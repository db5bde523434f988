"""What a caller left this process: standard handles that are closed, a umask that lets anybody write."""

from __future__ import annotations

import os
import sys


def settle() -> None:
    """Make both safe to work with, before anything is opened."""
    _hold_standard_handles()
    os.umask(os.umask(0o077) | 0o002)


def _hold_standard_handles() -> None:
    """Open on `/dev/null` what the caller closed.

    The next file that is opened would have its number else, and get what is meant for the terminal: by this
    process, and by commands that it starts.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free
    for name, way in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, way, encoding="utf-8", errors="backslashreplace"))  # noqa: SIM115
