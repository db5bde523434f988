"""Planned faults: which calls fail, how, and how often each plan was met."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from .errors import MESSAGE_BY_CODE, STATUS_BY_CODE, ServiceError

_KINDS = {
    "operation": str,
    "vault": str,
    "skip": int,
    "count": int,
    "code": str,
    "status": int,
    "message": str,
    "after": bool,
    "reset": bool,
    "stall_seconds": float,
    "truncate": int,
    "corrupt": bool,
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One plan: `skip` matching calls pass, then `count` are met.

    An error answer (`code`, `status`, `message`) or a connection reset comes before the operation takes
    effect, or with `after` once it has; `stall_seconds` of real silence come first; `truncate` cuts the
    connection after so many bytes of an output, `corrupt` flips one bit of an output's first byte.
    """

    operation: str
    vault: str | None = None
    skip: int = 0
    count: int = 1
    code: str | None = None
    status: int | None = None
    message: str | None = None
    after: bool = False
    reset: bool = False
    stall_seconds: float = 0.0
    truncate: int | None = None
    corrupt: bool = False

    def matches(self, operation: str, vault: str) -> bool:
        """Whether it speaks of this call."""
        return self.operation == operation and self.vault in (None, vault)

    def error(self) -> ServiceError | None:
        """The planned error answer."""
        if self.code is None:
            return None
        message = self.message or MESSAGE_BY_CODE.get(self.code, f"A planned {self.code}.")
        return ServiceError(self.code, message, status=self.status)


def parse_fault(raw: object, operations: frozenset[str]) -> Fault:
    """Read one plan as sent to the admin; ValueError with one sentence for a mistake."""
    if not isinstance(raw, Mapping):
        raise ValueError("Each fault must be an object.")  # noqa: TRY004 (the caller answers ValueError)
    for key, value in raw.items():
        kind = _KINDS.get(key)
        if kind is None:
            raise ValueError(f"A fault has no key {key!r}.")
        if not isinstance(value, (int, float) if kind is float else kind) or (
            isinstance(value, bool) and kind is not bool
        ):
            raise ValueError(f"The fault's {key} must be of type {kind.__name__}.")
    if "operation" not in raw:
        raise ValueError("Each fault must name its operation.")
    fault = Fault(**raw)
    if fault.operation not in operations:
        raise ValueError(f"There is no operation {fault.operation!r}.")
    if fault.skip < 0 or fault.count < 1 or fault.stall_seconds < 0 or (fault.truncate or 0) < 0:
        raise ValueError(
            "skip, stall_seconds and truncate must not be negative, and count must be at least 1."
        )
    if fault.code is not None and fault.status is None and fault.code not in STATUS_BY_CODE:
        raise ValueError(f"The code {fault.code!r} is unknown: give its status.")
    return fault


class FaultPlan:
    """The faults in force, asked for every call in order; the first that is ripe is met."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._seen: list[int] = []
        self._met: list[int] = []

    def replace(self, faults: list[Fault]) -> None:
        """Forget all earlier plans."""
        with self._lock:
            self._faults = faults
            self._seen = [0] * len(faults)
            self._met = [0] * len(faults)

    def meet(self, operation: str, vault: str) -> Fault | None:
        """The fault that this call meets, counted."""
        with self._lock:
            for number, fault in enumerate(self._faults):
                if not fault.matches(operation, vault) or self._met[number] >= fault.count:
                    continue
                self._seen[number] += 1
                if self._seen[number] > fault.skip:
                    self._met[number] += 1
                    return fault
        return None

    def report(self) -> list[dict[str, object]]:
        """Each plan with how often it was met."""
        with self._lock:
            return [
                {
                    "operation": fault.operation,
                    "vault": fault.vault,
                    "code": fault.code,
                    "skip": fault.skip,
                    "count": fault.count,
                    "met": met,
                }
                for fault, met in zip(self._faults, self._met, strict=True)
            ]
