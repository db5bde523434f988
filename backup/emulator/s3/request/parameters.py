"""The headers of S3 that mean something, and the operations that do what they say: no other takes them.

Source: botocore's model of 2006-03-01. A header that an operation does not take is refused, be it S3's own
for this operation or not: what was asked for is done or refused, never dropped. Headers of HTTP itself, of
signatures and of a body's checksum are judged elsewhere, for all operations alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from backup.emulator.core.s3_errors import S3Error, invalid_argument, not_implemented
from backup.emulator.s3.call import S3Call

_NEW = ("PutObject", "CopyObject", "CreateMultipartUpload")
_COPIES = ("CopyObject", "UploadPartCopy")
_READS = ("GetObject", "HeadObject")
_LISTS = ("ListObjects", "ListObjectsV2", "ListObjectVersions")
_ACLS = ("CreateBucket", "PutBucketAcl", "PutObjectAcl")
_WRITES = ("PutObject", "CopyObject", "CompleteMultipartUpload")

TAKEN: Mapping[str, Iterable[str]] = {
    "if-match": (*_WRITES, *_READS, "DeleteObject"),
    "if-none-match": (*_WRITES, *_READS),
    "if-modified-since": _READS,
    "if-unmodified-since": _READS,
    "x-amz-acl": (*_NEW, *_ACLS),
    **dict.fromkeys(
        [f"x-amz-grant-{what}" for what in ("full-control", "read", "read-acp", "write", "write-acp")],
        (*_NEW, *_ACLS),
    ),
    "x-amz-bucket-namespace": ("CreateBucket",),
    "x-amz-bucket-object-lock-enabled": ("CreateBucket",),
    "x-amz-bypass-governance-retention": ("DeleteObject", "DeleteObjects", "PutObjectRetention"),
    "x-amz-checksum-algorithm": ("CreateMultipartUpload", "CopyObject"),
    "x-amz-checksum-mode": _READS,
    "x-amz-checksum-type": ("CreateMultipartUpload", "CompleteMultipartUpload"),
    "x-amz-copy-source": _COPIES,
    "x-amz-copy-source-if-match": _COPIES,
    "x-amz-copy-source-if-modified-since": _COPIES,
    "x-amz-copy-source-if-none-match": _COPIES,
    "x-amz-copy-source-if-unmodified-since": _COPIES,
    "x-amz-copy-source-range": ("UploadPartCopy",),
    "x-amz-max-parts": ("GetObjectAttributes",),
    "x-amz-metadata-directive": ("CopyObject",),
    "x-amz-mp-object-size": ("CompleteMultipartUpload",),
    "x-amz-object-attributes": ("GetObjectAttributes",),
    **dict.fromkeys(
        (f"x-amz-object-lock-{name}" for name in ("mode", "retain-until-date", "legal-hold")), _NEW
    ),
    "x-amz-object-ownership": ("CreateBucket",),
    "x-amz-optional-object-attributes": _LISTS,
    "x-amz-part-number-marker": ("GetObjectAttributes",),
    "x-amz-server-side-encryption": _NEW,
    "x-amz-source-expected-bucket-owner": _COPIES,
    "x-amz-storage-class": _NEW,
    "x-amz-tagging": _NEW,
    "x-amz-tagging-directive": ("CopyObject",),
    "x-amz-transition-default-minimum-object-size": ("PutBucketLifecycleConfiguration",),
    "x-amz-website-redirect-location": _NEW,
}
"""The operations that take a header."""

_CUSTOMER = [f"server-side-encryption-customer-{what}" for what in ("algorithm", "key", "key-md5")]
NEVER = frozenset(
    {
        *(f"x-amz-{name}" for name in _CUSTOMER),
        *(f"x-amz-copy-source-{name}" for name in _CUSTOMER),
        *(f"x-amz-checksum-{name}" for name in ("md5", "sha512", "xxhash64", "xxhash3", "xxhash128")),
        "x-amz-object-lock-event-hold",
        *(f"x-amz-object-lock-event-hold-duration-{unit}" for unit in ("days", "years")),
        *(f"x-amz-if-match-{what}" for what in ("size", "last-modified-time", "initiated-time")),
        "x-amz-bucket-object-lock-token",
        "x-amz-confirm-remove-self-bucket-access",
        "x-amz-mfa",
        "x-amz-object-annotation-directive",
        "x-amz-server-side-encryption-aws-kms-key-id",
        "x-amz-server-side-encryption-bucket-key-enabled",
        "x-amz-server-side-encryption-context",
        "x-amz-write-offset-bytes",
    }
)
"""Headers of S3 for what the emulator does not have."""

OWNER = "x-amz-expected-bucket-owner"
PAYER = "x-amz-request-payer"
WITHOUT_A_BUCKET = ("ListBuckets", "CreateBucket")


def check_headers(call: S3Call) -> None:
    """Refuse a call with a header that its operation does not take."""
    for name, value in call.inbound.headers:
        taken = TAKEN.get(name)
        if name in NEVER or (taken is not None and call.operation not in taken):
            raise not_implemented(name)
        if name == OWNER:
            _check_owner(call, value)
        if name == PAYER and value != "requester":  # no bucket here has its requesters pay
            raise invalid_argument("Invalid value for the request payer.", PAYER, value)


def _check_owner(call: S3Call, owner: str) -> None:
    """Refuse a bucket of another account than the caller expects."""
    if call.operation in WITHOUT_A_BUCKET:
        raise not_implemented(OWNER)
    if owner != call.at.account_id:
        raise S3Error("AccessDenied")
