"""A deadline for what may hang: a network that swallows packets, a name server that does not answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from backup.errors import NightvaultError, UnreachableError

T = TypeVar("T")


def within(seconds: float, what: str, work: Callable[[], T]) -> T:
    """The result of `work`, or its error; `UnreachableError` if it takes longer, and it is left alone."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001  it is raised in the thread that waits
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True, name=what)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise UnreachableError(f"{what}: no answer within {seconds:g} s", advice="check network and endpoint")
    return results[0]


def failure_of(seconds: float, what: str, work: Callable[[], object]) -> NightvaultError | None:
    """Our error that `work` ended with, or that it took too long; None if it did well."""
    try:
        within(seconds, what, work)
    except NightvaultError as error:
        return error
    return None
