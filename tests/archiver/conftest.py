"""Tests of heirs have a vault of each kind that servers share."""

from tests.support.shared_vaults import shared

__all__ = ["shared"]
