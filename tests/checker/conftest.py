"""Tests of checks have a server with three nights of history, or a vault that servers share."""

from tests.support.shared_vaults import shared
from tests.support.three_nights import clock, disk, site, source

__all__ = ["clock", "disk", "shared", "site", "source"]
