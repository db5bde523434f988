"""S3's operations: which method, subresource and path each has, and the code that serves it.

Source: botocore's model of 2006-03-01, S3 API Reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from backup.emulator.store import Transaction
from backup.emulator.wire import Answer

from .attributes import delete_tagging, get_attributes, get_tagging, put_tagging
from .buckets import create_bucket, delete_bucket, get_acl, get_location, head_bucket, list_buckets
from .call import S3Call
from .complete import complete_upload
from .copying import copy_object, upload_part_copy
from .documents import (
    delete_lifecycle,
    delete_plain,
    delete_policy,
    get_encryption,
    get_lifecycle,
    get_plain,
    get_policy,
    get_versioning,
    put_lifecycle,
    put_plain,
    put_policy,
    put_versioning,
)
from .errors import S3Error
from .listing import list_objects, list_objects_v2
from .multipart import abort_upload, check_part, create_upload, list_parts, list_uploads, upload_part
from .objects import check_new_object, delete_object, get_object, head_object, put_object
from .receive import Stored
from .restore import restore_object

Serve = Callable[[S3Call, Transaction], Answer]
PREFIX = "s3:"


@dataclass(frozen=True, slots=True)
class Streamed:
    """An upload in two acts: what can be checked before the body comes (it may name the wanted checksum
    algorithm), and what is done with it.
    """

    check: Callable[[S3Call, Transaction], str | None]
    finish: Callable[[S3Call, Transaction, Stored], Answer]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation; `flags` are the query parameters that tell it from others."""

    name: str
    method: str
    on: str  # "service", "bucket" or "object"
    serve: Serve | Streamed | None  # None: DeleteObjects, which is judged key by key
    flags: tuple[str, ...] = ()
    copies: bool = False


OPERATIONS = (
    Operation("ListBuckets", "GET", "service", list_buckets),
    Operation("DeleteObjects", "POST", "bucket", None, ("delete",)),
    Operation("GetBucketLocation", "GET", "bucket", get_location, ("location",)),
    Operation("GetBucketVersioning", "GET", "bucket", get_versioning, ("versioning",)),
    Operation("PutBucketVersioning", "PUT", "bucket", put_versioning, ("versioning",)),
    Operation("GetBucketLifecycleConfiguration", "GET", "bucket", get_lifecycle, ("lifecycle",)),
    Operation("PutBucketLifecycleConfiguration", "PUT", "bucket", put_lifecycle, ("lifecycle",)),
    Operation("DeleteBucketLifecycle", "DELETE", "bucket", delete_lifecycle, ("lifecycle",)),
    Operation("GetBucketPolicy", "GET", "bucket", get_policy, ("policy",)),
    Operation("PutBucketPolicy", "PUT", "bucket", put_policy, ("policy",)),
    Operation("DeleteBucketPolicy", "DELETE", "bucket", delete_policy, ("policy",)),
    Operation("GetPublicAccessBlock", "GET", "bucket", get_plain, ("publicAccessBlock",)),
    Operation("PutPublicAccessBlock", "PUT", "bucket", put_plain, ("publicAccessBlock",)),
    Operation("DeletePublicAccessBlock", "DELETE", "bucket", delete_plain, ("publicAccessBlock",)),
    Operation("GetBucketOwnershipControls", "GET", "bucket", get_plain, ("ownershipControls",)),
    Operation("PutBucketOwnershipControls", "PUT", "bucket", put_plain, ("ownershipControls",)),
    Operation("DeleteBucketOwnershipControls", "DELETE", "bucket", delete_plain, ("ownershipControls",)),
    Operation("GetBucketTagging", "GET", "bucket", get_plain, ("tagging",)),
    Operation("PutBucketTagging", "PUT", "bucket", put_plain, ("tagging",)),
    Operation("DeleteBucketTagging", "DELETE", "bucket", delete_plain, ("tagging",)),
    Operation("GetBucketEncryption", "GET", "bucket", get_encryption, ("encryption",)),
    Operation("GetBucketAcl", "GET", "bucket", get_acl, ("acl",)),
    Operation("ListMultipartUploads", "GET", "bucket", list_uploads, ("uploads",)),
    Operation("ListObjectsV2", "GET", "bucket", list_objects_v2, ("list-type",)),
    Operation("ListObjects", "GET", "bucket", list_objects),
    Operation("CreateBucket", "PUT", "bucket", create_bucket),
    Operation("HeadBucket", "HEAD", "bucket", head_bucket),
    Operation("DeleteBucket", "DELETE", "bucket", delete_bucket),
    Operation("UploadPartCopy", "PUT", "object", upload_part_copy, ("uploadId", "partNumber"), copies=True),
    Operation("UploadPart", "PUT", "object", Streamed(check_part, upload_part), ("uploadId", "partNumber")),
    Operation("CreateMultipartUpload", "POST", "object", create_upload, ("uploads",)),
    Operation("CompleteMultipartUpload", "POST", "object", complete_upload, ("uploadId",)),
    Operation("AbortMultipartUpload", "DELETE", "object", abort_upload, ("uploadId",)),
    Operation("ListParts", "GET", "object", list_parts, ("uploadId",)),
    Operation("RestoreObject", "POST", "object", restore_object, ("restore",)),
    Operation("GetObjectAttributes", "GET", "object", get_attributes, ("attributes",)),
    Operation("GetObjectTagging", "GET", "object", get_tagging, ("tagging",)),
    Operation("PutObjectTagging", "PUT", "object", put_tagging, ("tagging",)),
    Operation("DeleteObjectTagging", "DELETE", "object", delete_tagging, ("tagging",)),
    Operation("GetObjectAcl", "GET", "object", get_acl, ("acl",)),
    Operation("CopyObject", "PUT", "object", copy_object, copies=True),
    Operation("PutObject", "PUT", "object", Streamed(check_new_object, put_object)),
    Operation("GetObject", "GET", "object", get_object),
    Operation("HeadObject", "HEAD", "object", head_object),
    Operation("DeleteObject", "DELETE", "object", delete_object),
)
NAMES = frozenset(PREFIX + operation.name for operation in OPERATIONS)
_BY_PLACE: Mapping[tuple[str, str], tuple[Operation, ...]] = {
    (method, on): tuple(o for o in OPERATIONS if (o.method, o.on) == (method, on))
    for method, on in {(operation.method, operation.on) for operation in OPERATIONS}
}
BRIEF = frozenset(operation.name for operation in OPERATIONS) - {
    # they go through files, or through as many as a thousand rows
    *("DeleteObjects", "DeleteObject", "DeleteBucket", "CopyObject", "UploadPartCopy"),
    *("CompleteMultipartUpload", "AbortMultipartUpload"),
    *("ListObjects", "ListObjectsV2", "ListMultipartUploads", "ListParts"),
}
_KNOWN_FLAGS = frozenset(flag for operation in OPERATIONS for flag in operation.flags)
UNKNOWN_FLAGS = frozenset(
    (
        *("accelerate", "analytics", "cors", "intelligent-tiering", "inventory", "legal-hold", "logging"),
        *("metrics", "notification", "object-lock", "policyStatus", "renameObject", "replication"),
        *("requestPayment", "retention", "select", "session", "torrent", "versions", "website", "append"),
        *("metadataTable", "metadataConfiguration"),
    )
)


def find_operation(
    method: str, bucket: str, key: str, query: Mapping[str, str], *, copies: bool
) -> Operation:
    """The operation of a request; NotImplemented for what S3 has and we have not."""
    if UNKNOWN_FLAGS & set(query):
        flag = min(UNKNOWN_FLAGS & set(query))
        raise S3Error("NotImplemented", f"The emulator does not have the subresource {flag}.")
    on = "object" if key else "bucket" if bucket else "service"
    flags = {flag for flag in query if flag in _KNOWN_FLAGS}
    for operation in _BY_PLACE.get((method, on), ()):
        if not flags.issuperset(operation.flags):
            continue
        if operation.copies and not copies:
            continue
        return operation
    if on == "bucket" and method == "POST":
        raise S3Error("NotImplemented", "The emulator does not take uploads by HTML forms.")
    raise S3Error("MethodNotAllowed", None, {"Method": method})
