"""Planned faults: the calls that are to fail, the kind of failure, and how often each has occurred."""

from __future__ import annotations

import json
import random
import threading
import time
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec import Struct

from backup.emulator.core.access.conditions import matches
from backup.emulator.core.errors import MESSAGE_BY_CODE, STATUS_BY_CODE, EmulatorError, ServiceError
from backup.emulator.core.s3_errors import MESSAGE_BY_CODE as S3_MESSAGES
from backup.emulator.core.s3_errors import STATUS_BY_CODE as S3_STATUSES

ANY = "*"
OF_MANY_KEYS = "s3:DeleteObjects"
S3_PREFIX = "s3:"  # both services have a CompleteMultipartUpload
_KINDS = {
    "operation": str,
    "vault": str,
    "key": str,
    "skip": int,
    "count": int,
    "repeat": bool,
    "probability": float,
    "seed": int,
    "seconds": float,
    "code": str,
    "status": int,
    "message": str,
    "after": bool,
    "reset": bool,
    "stall_seconds": float,
    "unknown_seconds": float,
    "bytes_per_second": int,
    "truncate": int,
    "corrupt": bool,
    "wrong_hash": bool,
    "in_body": bool,
    "expire_credentials": bool,
}


class Fault(Struct, frozen=True):
    """One planned fault.

    It affects the calls of an `operation` (S3's are named `s3:PutObject`), on a `vault` or bucket, on an S3
    `key` (a pattern with `*`; of DeleteObjects it fails such keys one by one, by its `code`). `skip` matching
    calls pass, then `count` are affected, over and over with `repeat`; each with a `probability` (drawn from
    `seed`); with `seconds`, all within so many real seconds after the first.

    The failure is an error answer (`code`, `status`, `message`) or a connection reset, before the operation
    takes effect, or with `after` once it has; a pause of `stall_seconds` (real time) first; an answer's body
    that is sent at `bytes_per_second`, cut after `truncate` bytes, with one bit flipped (`corrupt`) or with
    another tree hash (`wrong_hash`); an error with status 200, as S3's Complete may send one late
    (`in_body`); the caller's credentials expire with this call (`expire_credentials`); or a job is accepted
    that other calls do not know for `unknown_seconds` by the emulator's clock.
    """

    operation: str
    vault: str | None = None
    key: str | None = None
    skip: int = 0
    count: int | None = None
    repeat: bool = False
    probability: float = 1.0
    seed: int = 0
    seconds: float | None = None
    code: str | None = None
    status: int | None = None
    message: str | None = None
    after: bool = False
    reset: bool = False
    stall_seconds: float = 0.0
    unknown_seconds: float = 0.0
    bytes_per_second: int | None = None
    truncate: int | None = None
    corrupt: bool = False
    wrong_hash: bool = False
    in_body: bool = False
    expire_credentials: bool = False

    @property
    def limit(self) -> int | None:
        """The number of calls it affects (in a round of `repeat`); None if only chance or time limits it."""
        if self.count is not None:
            return self.count
        return 1 if self.probability == 1.0 and self.seconds is None else None

    def matches(self, operation: str, vault: str, key: str) -> bool:
        """Whether it may affect this call."""
        named = self.operation in (ANY, operation) or (
            self.operation == S3_PREFIX + ANY and operation.startswith(S3_PREFIX)
        )
        return named and self.vault in (None, vault) and (self.key is None or matches(self.key, key))

    def error(self) -> ServiceError | None:
        """The planned error answer."""
        if self.code is None:
            return None
        usual = {**S3_MESSAGES, **MESSAGE_BY_CODE}.get(self.code, f"A planned {self.code}.")
        return ServiceError(
            self.code, self.message or usual, status=self.status or S3_STATUSES.get(self.code)
        )


def parse_fault(raw: object, operations: frozenset[str]) -> Fault:
    """Parse one fault as sent to the admin interface; ValueError with one sentence for a mistake."""
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
    if fault.operation not in operations | {ANY, S3_PREFIX + ANY}:
        raise ValueError(f"There is no operation {fault.operation!r}.")
    _check_numbers(fault)
    if (
        fault.code is not None
        and fault.status is None
        and fault.code not in {**S3_STATUSES, **STATUS_BY_CODE}
    ):
        raise ValueError(f"The code {fault.code!r} is unknown: give its status.")
    return fault


def _check_numbers(fault: Fault) -> None:
    if (
        min(fault.skip, fault.stall_seconds, fault.unknown_seconds, fault.truncate or 0, fault.seconds or 0)
        < 0
    ):
        raise ValueError("skip, stall_seconds, unknown_seconds, seconds and truncate must not be negative.")
    if fault.count is not None and fault.count < 1:
        raise ValueError("count must be at least 1.")
    if fault.bytes_per_second is not None and fault.bytes_per_second < 1:
        raise ValueError("bytes_per_second must be at least 1.")
    if not 0 < fault.probability <= 1:
        raise ValueError("probability must be greater than 0 and at most 1.")


def read_faults(path: Path, operations: frozenset[str]) -> list[Fault]:
    """The faults in a file: TOML with tables `[[fault]]`, or the JSON list of the admin interface.

    EmulatorError, naming the file, for a mistake.
    """
    try:
        text = path.read_text()
        raw = tomllib.loads(text).get("fault") if path.suffix == ".toml" else json.loads(text)
        return parse_faults(raw, operations)
    except (OSError, ValueError) as error:
        raise EmulatorError(f"Cannot use the faults in {path}: {error}") from error


def parse_faults(raw: object, operations: frozenset[str]) -> list[Fault]:
    """Parse a list of faults; ValueError with one sentence for a mistake."""
    if not isinstance(raw, list):
        raise ValueError("Give a list of faults.")  # noqa: TRY004 (the caller answers ValueError)
    return [parse_fault(entry, operations) for entry in raw]


class _Ripeness:
    """The progress of one fault: the matching and affected calls so far."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.met = 0
        self._skipped = 0
        self._met_in_round = 0
        self._ends: float | None = None
        self._chance = random.Random(fault.seed)  # noqa: S311 (chance that can be repeated is wanted)

    def meets(self) -> bool:
        """Whether the next matching call is affected; counts it."""
        if not self._is_alive():
            return False
        if self._skipped < self.fault.skip:
            self._skipped += 1
            return False
        if self._chance.random() >= self.fault.probability:
            return False
        if self.fault.seconds is not None and self._ends is None:
            self._ends = time.monotonic() + self.fault.seconds
        self.met += 1
        self._met_in_round += 1
        if self.fault.repeat and self._met_in_round == self.fault.limit:
            self._skipped = self._met_in_round = 0
        return True

    def _is_alive(self) -> bool:
        limit = self.fault.limit
        spent = limit is not None and self._met_in_round >= limit
        return not spent and (self._ends is None or time.monotonic() < self._ends)


class FaultPlan:
    """The faults in force; for each call the first that matches and is due applies."""

    def __init__(self, faults: list[Fault] | None = None) -> None:
        self._lock = threading.Lock()
        self._plans: list[_Ripeness] = []
        self.expired: frozenset[str] = frozenset()
        self._unknown: dict[str, int] = {}
        self.replace(faults or [])

    def replace(self, faults: list[Fault]) -> None:
        """Replace all faults; forget the keys that the old ones let expire and the jobs that they hid."""
        with self._lock:
            self._plans = [_Ripeness(fault) for fault in faults]
            self.expired = frozenset()
            self._unknown = {}

    def meet(self, operation: str, vault: str, key: str = "") -> Fault | None:
        """The fault that applies to this call, counted; None if there is none."""
        whole = operation == OF_MANY_KEYS
        return self._meet(lambda fault: fault.matches(operation, vault, key) and not (whole and fault.key))

    def meet_key(self, operation: str, vault: str, key: str) -> Fault | None:
        """The fault that applies to one of the keys of a call, counted; None if there is none."""
        return self._meet(lambda fault: fault.key is not None and fault.matches(operation, vault, key))

    def _meet(self, concerns: Callable[[Fault], bool]) -> Fault | None:
        with self._lock:
            for plan in self._plans:
                if concerns(plan.fault) and plan.meets():
                    return plan.fault
        return None

    def expire(self, access_key_id: str) -> None:
        """Treat credentials as expired until the faults are replaced."""
        with self._lock:
            self.expired |= {access_key_id}

    def hide(self, job_id: str, until_ms: int) -> None:
        """Hide a job that was just accepted until that time by the emulator's clock."""
        with self._lock:
            self._unknown[job_id] = until_ms

    def unknown(self, now_ms: int) -> frozenset[str]:
        """The jobs that were accepted and are still hidden from other calls."""
        with self._lock:
            return frozenset(job for job, until_ms in self._unknown.items() if now_ms < until_ms)

    def report(self) -> list[dict[str, object]]:
        """Each fault, with the number of calls that it affected."""
        with self._lock:
            return [
                {
                    "operation": plan.fault.operation,
                    "vault": plan.fault.vault,
                    "code": plan.fault.code,
                    "skip": plan.fault.skip,
                    "count": plan.fault.limit,
                    "met": plan.met,
                }
                for plan in self._plans
            ]
