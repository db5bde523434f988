"""Tests of checks have a server with three nights of history."""

from tests.support.three_nights import clock, disk, site, source

__all__ = ["clock", "disk", "site", "source"]
