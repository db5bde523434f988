"""Errors of requests: each is an answer with an HTTP status, not a failure of the page."""

from __future__ import annotations

from backup.errors import UsageError


class BadParameterError(UsageError):
    """A parameter of a URL or form is invalid: too long, no number, no path. HTTP status 400."""


class NotThereError(UsageError):
    """The requested object does not exist, or no longer. HTTP status 404."""
