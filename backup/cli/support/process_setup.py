"""Repairs what a caller may have left: closed standard handles, and a umask that lets anybody write."""

from __future__ import annotations

import os
import sys
from typing import Final

were_closed: Final[set[int]] = set()
"""The standard handles that the caller closed: what is written there is lost."""


def secure_process() -> None:
    """Open closed standard handles and tighten the umask, before any other file is opened."""
    _hold_standard_handles()
    os.umask(os.umask(0o077) | 0o002)


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
