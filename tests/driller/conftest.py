"""A server with three nights of history, in a directory or on the emulator."""

from __future__ import annotations

from tests.checker.conftest import clock, disk, site, source

__all__ = ["clock", "disk", "site", "source"]
