"""SIGHUP as it usually is: what runs under `nohup` ignores it, and so does all that it starts."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture
def heeding_hangups() -> Iterator[None]:
    """Programs that are started meanwhile heed SIGHUP, also in a suite that ignores it."""
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
