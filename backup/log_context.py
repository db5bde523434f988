"""The context of log lines: the job, vault, restore and run that a thread works for.

Code that starts work names it with `about`; the inventory adds the number of the run as soon as it is
recorded. Threads that a run starts have no context of their own: their lines are of the one piece of work
that is under way, if there is only one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import Lock


@dataclass(eq=False, slots=True)
class _Scope:
    """One piece of work; `names` are its own, without those of the work that it is part of."""

    outer: _Scope | None
    names: dict[str, str] = field(default_factory=dict)

    def all_names(self) -> dict[str, str]:
        return {**(self.outer.all_names() if self.outer else {}), **self.names}


_current: ContextVar[_Scope | None] = ContextVar("log_context", default=None)
_open: list[_Scope] = []
_lock = Lock()


@contextmanager
def about(**names: str) -> Iterator[Mapping[str, str]]:
    """A context manager for work whose log lines carry these names, as in `about(job="main")`.

    Yields the present names; the run's number is added to them later.
    """
    scope = _Scope(_current.get(), names)
    token = _current.set(scope)
    with _lock:
        _open.append(scope)
    try:
        yield scope.names
    finally:
        with _lock:
            _open.remove(scope)
        _current.reset(token)


def run_began(number: int) -> None:
    """Let the lines of this work carry the number of the run that it is now recorded as."""
    scope = _current.get()
    if scope is not None:
        scope.names["run"] = str(number)


def names_here() -> Mapping[str, str]:
    """The names that a line logged by this thread carries; none where it is not known."""
    scope = _current.get()
    if scope is None:
        with _lock:
            outer = [inner.outer for inner in _open]
            innermost = [candidate for candidate in _open if candidate not in outer]
        scope = innermost[0] if len(innermost) == 1 else None
    return scope.all_names() if scope else {}
