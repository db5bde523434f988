"""The table from S3's error codes to our errors, with advice; pure. A new code is a line here.

Source: Amazon S3 API reference, "Error responses". botocore turns the answer to a HEAD, which has no body,
into a three-digit code. Codes that Glacier shares (throttling, credentials, clock) are in `aws.py`.
"""

from __future__ import annotations

from backup.errors import (
    CapacityError,
    DeniedError,
    IntegrityError,
    NightvaultError,
    RetrievalNotReadyError,
    UnreachableError,
    VaultError,
    VaultMissingError,
)

_CHANGED = "the bytes changed on their way, or in this machine's memory or disk"
_WRONG_REGION = "set the vault's region to the one where the bucket is: the S3 console shows it"

ELSEWHERE = frozenset(
    {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301", "400"}
)
"""S3's codes for a bucket in another region, which it may name in a header."""

_OF_S3: dict[str, tuple[type[NightvaultError], str]] = {
    "NoSuchBucket": (VaultMissingError, "check the bucket's name, region and account"),
    "InvalidObjectState": (RetrievalNotReadyError, "its class must be retrieved from before it can be read"),
    "BadDigest": (IntegrityError, _CHANGED),
    "XAmzContentSHA256Mismatch": (IntegrityError, _CHANGED),
    "XAmzContentChecksumMismatch": (IntegrityError, _CHANGED),
    "PermanentRedirect": (VaultError, _WRONG_REGION),
    "TemporaryRedirect": (UnreachableError, "a new bucket is known everywhere only after some minutes"),
    "AuthorizationHeaderMalformed": (DeniedError, _WRONG_REGION),
    "IllegalLocationConstraintException": (VaultError, _WRONG_REGION),
    "InvalidLocationConstraint": (VaultError, _WRONG_REGION),
    "301": (VaultError, _WRONG_REGION),
    "307": (UnreachableError, "a new bucket is known everywhere only after some minutes"),
    "400": (DeniedError, "the region may be wrong, or the temporary keys ran out: run this again"),
    "BucketAlreadyExists": (VaultError, "the name belongs to another account: choose another bucket"),
    "InvalidBucketName": (VaultError, "a bucket's name has 3 to 63 small letters, digits, dots and hyphens"),
    "InvalidStorageClass": (
        VaultError,
        "this service knows no such class: set storage_class (and catalog_class) to one that it has",
    ),
    "GlacierExpeditedRetrievalNotAvailable": (
        CapacityError,
        "expedited retrievals are sold out just now: use --tier standard",
    ),
    "NotImplemented": (VaultError, "this service lacks what the vault needs: docs/s3.md"),
}
"""Our error and advice for each code of S3; a caller with a more specific meaning passes it to the
request."""

_NOT_THERE = {"NoSuchKey", "NoSuchUpload", "NoSuchVersion", "NotFound", "404"}
_NOT_AS_SAID = {"InvalidPart", "InvalidPartOrder", "EntityTooSmall", "EntityTooLarge", "InvalidRequest"}


def error_of(
    code: str, message: str, unknown: type[VaultError], refused: type[NightvaultError]
) -> NightvaultError | None:
    """Our error for a code of S3; None for any other code. See `aws.translated_errors`."""
    if code in _NOT_THERE:
        return unknown(message)
    if code in _NOT_AS_SAID:
        return refused(message)
    if code in _OF_S3:
        kind, advice = _OF_S3[code]
        return kind(message, advice=advice)
    return None
