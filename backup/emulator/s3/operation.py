"""An S3 operation as a value: its method, level (service, bucket, object), query parameters and function."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from msgspec import Struct

from backup.emulator.core.s3_errors import S3Error
from backup.emulator.core.state.store import Transaction
from backup.emulator.core.wire import Answer
from backup.emulator.s3.request.receive import Stored

from .call import S3Call

Serve = Callable[[S3Call, Transaction], Answer]


class ResourceLevel(StrEnum):
    """The level that a request addresses: the service, a bucket or an object."""

    SERVICE = "service"
    BUCKET = "bucket"
    OBJECT = "object"


class Streamed(Struct, frozen=True):
    """An upload in two steps: a check before the body arrives, which may name the checksum algorithm, and the
    work with it."""

    check: Callable[[S3Call, Transaction], str | None]
    finish: Callable[[S3Call, Transaction, Stored], Answer]


class Operation(Struct, frozen=True):
    """One operation of S3.

    `flags` are the query parameters that distinguish it from others, `options` those that it accepts besides.
    A request with any other parameter that S3 knows is not this operation.
    """

    name: str
    method: str
    on: ResourceLevel
    serve: Serve | Streamed | None  # None: DeleteObjects, which is judged key by key
    flags: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    copies: bool = False

    def takes(self, found: frozenset[str]) -> bool:
        """Whether a request with just these of S3's parameters is this operation."""
        return found.issuperset(self.flags) and found <= {*self.flags, *self.options}


def not_here(call: S3Call, tx: Transaction) -> Answer:  # noqa: ARG001
    """Raise 501 for an operation that S3 has and the emulator has not."""
    raise S3Error("NotImplemented", f"The emulator does not have the operation {call.operation}.")
