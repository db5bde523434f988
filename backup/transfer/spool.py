"""The spool's failures in our words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from backup.errors import SpoolError


@contextmanager
def spool_errors(path: str, doing: str) -> Iterator[None]:
    """Raise `SpoolError` for an OSError on `path`; `doing` is a participle, as in "cannot be written"."""
    try:
        yield
    except OSError as error:
        raise SpoolError(f"the spool file {path} cannot be {doing}: {error.strerror}") from error
