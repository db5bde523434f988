"""An S3 operation as a value: its method, its place, the query parameters that tell it, and its code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from backup.emulator.core.s3_errors import S3Error
from backup.emulator.core.store import Transaction
from backup.emulator.core.wire import Answer

from .call import S3Call
from .receive import Stored

Serve = Callable[[S3Call, Transaction], Answer]


class Place(StrEnum):
    """Where a request goes: to the service, a bucket or an object."""

    SERVICE = "service"
    BUCKET = "bucket"
    OBJECT = "object"


@dataclass(frozen=True, slots=True)
class Streamed:
    """An upload in two acts: what can be checked before the body comes (it may name the wanted checksum
    algorithm), and what is done with it.
    """

    check: Callable[[S3Call, Transaction], str | None]
    finish: Callable[[S3Call, Transaction, Stored], Answer]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: `flags` are the query parameters that tell it from others, `options` those that it takes
    besides. A request with any other that S3 knows is not this operation.
    """

    name: str
    method: str
    on: Place
    serve: Serve | Streamed | None  # None: DeleteObjects, which is judged key by key
    flags: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    copies: bool = False

    def takes(self, found: frozenset[str]) -> bool:
        """Whether a request with just these of S3's parameters is this operation."""
        return found.issuperset(self.flags) and found <= {*self.flags, *self.options}


def not_here(call: S3Call, tx: Transaction) -> Answer:  # noqa: ARG001
    """501 for what S3 has and the emulator has not."""
    raise S3Error("NotImplemented", f"The emulator does not have the operation {call.operation}.")
