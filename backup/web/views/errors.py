"""Errors of what a page is asked for: each is an answer, never a failure of ours."""

from __future__ import annotations

from backup.errors import UsageError


class BadParameterError(UsageError):
    """Something in an address or a form cannot be meant: too long, no number, no path. HTTP's 400."""


class NotThereError(UsageError):
    """What was asked for is not there, or not any more. HTTP's 404."""
