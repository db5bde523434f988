"""S3's operations: the method, subresource, path and function of each.

Source: botocore's model of 2006-03-01, S3 API Reference.
"""

from __future__ import annotations

from collections.abc import Mapping

from backup.emulator.core.s3_errors import S3Error, invalid_argument
from backup.emulator.s3.buckets.acls import get_acl, put_acl
from backup.emulator.s3.buckets.buckets import (
    create_bucket,
    delete_bucket,
    get_location,
    head_bucket,
    list_buckets,
)
from backup.emulator.s3.buckets.documents import (
    delete_encryption,
    delete_lifecycle,
    delete_plain,
    delete_policy,
    get_encryption,
    get_lifecycle,
    get_plain,
    get_policy,
    put_encryption,
    put_lifecycle,
    put_plain,
    put_policy,
)
from backup.emulator.s3.buckets.object_lock import (
    get_legal_hold,
    get_lock_configuration,
    get_retention,
    put_configuration,
    put_legal_hold,
    put_retention,
)
from backup.emulator.s3.buckets.unset_settings import (
    delete_absent,
    get_absent,
    get_configuration,
    get_empty,
    get_policy_status,
)
from backup.emulator.s3.objects.attributes import delete_tagging, get_attributes, get_tagging, put_tagging
from backup.emulator.s3.objects.listing import list_objects, list_objects_v2, list_versions
from backup.emulator.s3.objects.objects import (
    check_new_object,
    delete_object,
    get_object,
    head_object,
    put_object,
)
from backup.emulator.s3.objects.restore import restore_object
from backup.emulator.s3.objects.versioning import get_versioning, put_versioning
from backup.emulator.s3.uploads.complete import complete_upload
from backup.emulator.s3.uploads.copying import copy_object, upload_part_copy
from backup.emulator.s3.uploads.multipart import (
    abort_upload,
    check_part,
    create_upload,
    list_parts,
    list_uploads,
    upload_part,
)

from .operation import Operation, ResourceLevel, Streamed
from .unsupported import UNSUPPORTED, VERSION

PREFIX = "s3:"
_UPLOADED_PART = ("uploadId", "partNumber")
_A_PART = (*VERSION, "partNumber")

OPERATIONS = (
    Operation("ListBuckets", "GET", ResourceLevel.SERVICE, list_buckets),
    Operation("DeleteObjects", "POST", ResourceLevel.BUCKET, None, ("delete",)),
    Operation("GetBucketLocation", "GET", ResourceLevel.BUCKET, get_location, ("location",)),
    Operation("GetBucketVersioning", "GET", ResourceLevel.BUCKET, get_versioning, ("versioning",)),
    Operation("PutBucketVersioning", "PUT", ResourceLevel.BUCKET, put_versioning, ("versioning",)),
    Operation("GetBucketLifecycleConfiguration", "GET", ResourceLevel.BUCKET, get_lifecycle, ("lifecycle",)),
    Operation("PutBucketLifecycleConfiguration", "PUT", ResourceLevel.BUCKET, put_lifecycle, ("lifecycle",)),
    Operation("DeleteBucketLifecycle", "DELETE", ResourceLevel.BUCKET, delete_lifecycle, ("lifecycle",)),
    Operation("GetBucketPolicy", "GET", ResourceLevel.BUCKET, get_policy, ("policy",)),
    Operation("PutBucketPolicy", "PUT", ResourceLevel.BUCKET, put_policy, ("policy",)),
    Operation("DeleteBucketPolicy", "DELETE", ResourceLevel.BUCKET, delete_policy, ("policy",)),
    Operation("GetPublicAccessBlock", "GET", ResourceLevel.BUCKET, get_plain, ("publicAccessBlock",)),
    Operation("PutPublicAccessBlock", "PUT", ResourceLevel.BUCKET, put_plain, ("publicAccessBlock",)),
    Operation(
        "DeletePublicAccessBlock", "DELETE", ResourceLevel.BUCKET, delete_plain, ("publicAccessBlock",)
    ),
    Operation("GetBucketOwnershipControls", "GET", ResourceLevel.BUCKET, get_plain, ("ownershipControls",)),
    Operation("PutBucketOwnershipControls", "PUT", ResourceLevel.BUCKET, put_plain, ("ownershipControls",)),
    Operation(
        "DeleteBucketOwnershipControls", "DELETE", ResourceLevel.BUCKET, delete_plain, ("ownershipControls",)
    ),
    Operation("GetBucketTagging", "GET", ResourceLevel.BUCKET, get_plain, ("tagging",)),
    Operation("PutBucketTagging", "PUT", ResourceLevel.BUCKET, put_plain, ("tagging",)),
    Operation("DeleteBucketTagging", "DELETE", ResourceLevel.BUCKET, delete_plain, ("tagging",)),
    Operation("GetBucketEncryption", "GET", ResourceLevel.BUCKET, get_encryption, ("encryption",)),
    Operation("PutBucketEncryption", "PUT", ResourceLevel.BUCKET, put_encryption, ("encryption",)),
    Operation("DeleteBucketEncryption", "DELETE", ResourceLevel.BUCKET, delete_encryption, ("encryption",)),
    Operation("GetBucketAcl", "GET", ResourceLevel.BUCKET, get_acl, ("acl",)),
    Operation("PutBucketAcl", "PUT", ResourceLevel.BUCKET, put_acl, ("acl",)),
    Operation("GetBucketCors", "GET", ResourceLevel.BUCKET, get_absent, ("cors",)),
    Operation("DeleteBucketCors", "DELETE", ResourceLevel.BUCKET, delete_absent, ("cors",)),
    Operation("GetBucketWebsite", "GET", ResourceLevel.BUCKET, get_absent, ("website",)),
    Operation("DeleteBucketWebsite", "DELETE", ResourceLevel.BUCKET, delete_absent, ("website",)),
    Operation("GetBucketReplication", "GET", ResourceLevel.BUCKET, get_absent, ("replication",)),
    Operation("DeleteBucketReplication", "DELETE", ResourceLevel.BUCKET, delete_absent, ("replication",)),
    Operation(
        "GetObjectLockConfiguration", "GET", ResourceLevel.BUCKET, get_lock_configuration, ("object-lock",)
    ),
    Operation("PutObjectLockConfiguration", "PUT", ResourceLevel.BUCKET, put_configuration, ("object-lock",)),
    Operation("GetBucketLogging", "GET", ResourceLevel.BUCKET, get_empty, ("logging",)),
    Operation(
        "GetBucketNotificationConfiguration", "GET", ResourceLevel.BUCKET, get_empty, ("notification",)
    ),
    Operation("GetBucketAccelerateConfiguration", "GET", ResourceLevel.BUCKET, get_empty, ("accelerate",)),
    Operation("GetBucketRequestPayment", "GET", ResourceLevel.BUCKET, get_empty, ("requestPayment",)),
    Operation("GetBucketPolicyStatus", "GET", ResourceLevel.BUCKET, get_policy_status, ("policyStatus",)),
    Operation(
        "GetBucketAnalyticsConfiguration", "GET", ResourceLevel.BUCKET, get_configuration, ("analytics",)
    ),
    Operation(
        "GetBucketIntelligentTieringConfiguration",
        "GET",
        ResourceLevel.BUCKET,
        get_configuration,
        ("intelligent-tiering",),
    ),
    Operation(
        "GetBucketInventoryConfiguration", "GET", ResourceLevel.BUCKET, get_configuration, ("inventory",)
    ),
    Operation("GetBucketMetricsConfiguration", "GET", ResourceLevel.BUCKET, get_configuration, ("metrics",)),
    Operation("ListMultipartUploads", "GET", ResourceLevel.BUCKET, list_uploads, ("uploads",)),
    Operation("ListObjectVersions", "GET", ResourceLevel.BUCKET, list_versions, ("versions",)),
    Operation("ListObjectsV2", "GET", ResourceLevel.BUCKET, list_objects_v2, ("list-type",)),
    Operation("ListObjects", "GET", ResourceLevel.BUCKET, list_objects),
    Operation("CreateBucket", "PUT", ResourceLevel.BUCKET, create_bucket),
    Operation("HeadBucket", "HEAD", ResourceLevel.BUCKET, head_bucket),
    Operation("DeleteBucket", "DELETE", ResourceLevel.BUCKET, delete_bucket),
    Operation("UploadPartCopy", "PUT", ResourceLevel.OBJECT, upload_part_copy, _UPLOADED_PART, copies=True),
    Operation("UploadPart", "PUT", ResourceLevel.OBJECT, Streamed(check_part, upload_part), _UPLOADED_PART),
    Operation("CreateMultipartUpload", "POST", ResourceLevel.OBJECT, create_upload, ("uploads",)),
    Operation("CompleteMultipartUpload", "POST", ResourceLevel.OBJECT, complete_upload, ("uploadId",)),
    Operation("AbortMultipartUpload", "DELETE", ResourceLevel.OBJECT, abort_upload, ("uploadId",)),
    Operation("ListParts", "GET", ResourceLevel.OBJECT, list_parts, ("uploadId",)),
    Operation("RestoreObject", "POST", ResourceLevel.OBJECT, restore_object, ("restore",), VERSION),
    Operation("GetObjectAttributes", "GET", ResourceLevel.OBJECT, get_attributes, ("attributes",), VERSION),
    Operation("GetObjectTagging", "GET", ResourceLevel.OBJECT, get_tagging, ("tagging",), VERSION),
    Operation("PutObjectTagging", "PUT", ResourceLevel.OBJECT, put_tagging, ("tagging",), VERSION),
    Operation("DeleteObjectTagging", "DELETE", ResourceLevel.OBJECT, delete_tagging, ("tagging",), VERSION),
    Operation("GetObjectAcl", "GET", ResourceLevel.OBJECT, get_acl, ("acl",), VERSION),
    Operation("PutObjectAcl", "PUT", ResourceLevel.OBJECT, put_acl, ("acl",), VERSION),
    Operation("GetObjectLegalHold", "GET", ResourceLevel.OBJECT, get_legal_hold, ("legal-hold",), VERSION),
    Operation("PutObjectLegalHold", "PUT", ResourceLevel.OBJECT, put_legal_hold, ("legal-hold",), VERSION),
    Operation("GetObjectRetention", "GET", ResourceLevel.OBJECT, get_retention, ("retention",), VERSION),
    Operation("PutObjectRetention", "PUT", ResourceLevel.OBJECT, put_retention, ("retention",), VERSION),
    Operation("CopyObject", "PUT", ResourceLevel.OBJECT, copy_object, copies=True),
    Operation("PutObject", "PUT", ResourceLevel.OBJECT, Streamed(check_new_object, put_object)),
    Operation("GetObject", "GET", ResourceLevel.OBJECT, get_object, options=_A_PART),
    Operation("HeadObject", "HEAD", ResourceLevel.OBJECT, head_object, options=_A_PART),
    Operation("DeleteObject", "DELETE", ResourceLevel.OBJECT, delete_object, options=VERSION),
    *UNSUPPORTED,
)
NAMES = frozenset(PREFIX + operation.name for operation in OPERATIONS)
_BY_PLACE: Mapping[tuple[str, str], tuple[Operation, ...]] = {
    (method, on): tuple(o for o in OPERATIONS if (o.method, o.on) == (method, on))
    for method, on in {(operation.method, operation.on) for operation in OPERATIONS}
}
BRIEF = frozenset(operation.name for operation in OPERATIONS) - {
    # these read files, or as many as a thousand rows
    *("DeleteObjects", "DeleteObject", "DeleteBucket", "CopyObject", "UploadPartCopy"),
    *("CompleteMultipartUpload", "AbortMultipartUpload"),
    *("ListObjects", "ListObjectsV2", "ListObjectVersions", "ListMultipartUploads", "ListParts"),
}
FLAGS = frozenset(
    {
        *(name for operation in OPERATIONS for name in (*operation.flags, *operation.options)),
        "append",
    }
)


def find_operation(
    method: str, bucket: str, key: str, query: Mapping[str, str], *, copies: bool
) -> Operation:
    """The operation of a request: it has all of its parameters, and no other that S3 knows."""
    on = ResourceLevel.OBJECT if key else ResourceLevel.BUCKET if bucket else ResourceLevel.SERVICE
    found = FLAGS & query.keys()
    operation = _match(method, on, found, copies=copies)
    if operation is None:
        raise _refusal(method, on, found, query)
    return operation


def _match(method: str, on: ResourceLevel, found: frozenset[str], *, copies: bool) -> Operation | None:
    for operation in _BY_PLACE.get((method, on), ()):
        if operation.takes(found) and (copies or not operation.copies):
            return operation
    return None


def _refusal(method: str, on: ResourceLevel, found: frozenset[str], query: Mapping[str, str]) -> S3Error:
    """The error when no operation has these parameters, in S3's order: too many, a version, the method."""
    selected = sorted(found - {"versionId"})
    if len(selected) > 1 and selected != sorted(_UPLOADED_PART):
        message = f"Conflicting query string parameters: {', '.join(selected)}"
        return invalid_argument(message, "ResourceType", selected[0])
    if "versionId" in found and _match(method, on, found - {"versionId"}, copies=True) is not None:
        message = "This operation does not accept a version-id."
        return invalid_argument(message, "versionId", query["versionId"])
    if (method, on) == ("POST", ResourceLevel.BUCKET) and not found:
        return S3Error("NotImplemented", "The emulator does not take uploads by HTML forms.")
    kind = "PART" if len(selected) > 1 else "".join(selected).upper() or on.upper()
    return S3Error("MethodNotAllowed", None, {"Method": method, "ResourceType": kind})
