"""The emulator's failures: mistakes of the person who starts it, and error answers to clients.

Codes, statuses and texts follow AWS's documents (Developer Guide, api-error-responses) and the messages seen
from the real service; where no text is known the wording is our own.
"""

from __future__ import annotations

import errno
import sqlite3

STATUS_BY_CODE = {
    "AccessDeniedException": 403,
    "BadRequest": 400,
    "ExpiredTokenException": 403,
    "InsufficientCapacityException": 503,
    "InvalidParameterValueException": 400,
    "InvalidSignatureException": 403,
    "LimitExceededException": 400,
    "MissingAuthenticationTokenException": 400,
    "MissingParameterValueException": 400,
    "NoLongerSupportedException": 400,
    "PolicyEnforcedException": 400,
    "ResourceNotFoundException": 404,
    "RequestTimeoutException": 408,
    "SerializationException": 400,
    "ServiceUnavailableException": 500,
    "ThrottlingException": 400,
    "UnrecognizedClientException": 400,
    "ValidationException": 400,
}

MESSAGE_BY_CODE = {
    "InsufficientCapacityException": "There is insufficient capacity to process this expedited request.",
    "NoLongerSupportedException": "This account does not have access to the vault service any more.",
    "PolicyEnforcedException": "InitiateJob request denied by current data retrieval policy.",
    "RequestTimeoutException": "Request timed out.",
    "ServiceUnavailableException": "The service is unavailable.",
    "ThrottlingException": "Rate exceeded",
}


_FULL = (errno.ENOSPC, errno.EDQUOT)
DISK_ERRORS = (OSError, sqlite3.Error)


class EmulatorError(Exception):
    """The emulator cannot start or go on; the message is one sentence for the person who started it."""


class ServiceError(Exception):
    """An error answer to a client: HTTP status, AWS error code and message."""

    def __init__(self, code: str, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = STATUS_BY_CODE.get(code, 400) if status is None else status

    @property
    def kind(self) -> str:
        """The field `type` of a Glacier error: `Client` or `Server`."""
        return "Server" if self.status >= 500 else "Client"


class DiskFailed(ServiceError):  # noqa: N818 (an answer, like its brothers)
    """The error 500: the emulator could not store a change, which is not the client's fault."""

    def __init__(self, error: Exception) -> None:
        super().__init__("ServiceUnavailableException", describe_disk(error))


def describe_disk(error: Exception) -> str:
    """A sentence that explains an OSError or SQLite error in the emulator's state directory."""
    of_sqlite = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    if of_sqlite or (isinstance(error, OSError) and error.errno in _FULL):
        return "The emulator's disk is full: make room where its state directory is, then try again."
    return f"The emulator's own disk failed: {error}"


def invalid(message: str) -> ServiceError:
    """The error 400 InvalidParameterValueException."""
    return ServiceError("InvalidParameterValueException", message)


def missing(message: str) -> ServiceError:
    """The error 400 MissingParameterValueException."""
    return ServiceError("MissingParameterValueException", message)


def not_found(message: str) -> ServiceError:
    """The error 404 ResourceNotFoundException."""
    return ServiceError("ResourceNotFoundException", message)


def denied(message: str) -> ServiceError:
    """The error 403 AccessDeniedException."""
    return ServiceError("AccessDeniedException", message)


def bad_signature(message: str) -> ServiceError:
    """The error 403 InvalidSignatureException."""
    return ServiceError("InvalidSignatureException", message)
