"""The IAM actions that S3's operations need.

Source: Service Authorization Reference (actions for Amazon S3).
"""

from __future__ import annotations

from backup.emulator.s3.buckets.buckets import wants_lock
from backup.emulator.s3.buckets.object_lock import HOLD, MODE, bypasses

from .call import S3Call

ACTIONS = {
    "ListBuckets": "s3:ListAllMyBuckets",
    "HeadBucket": "s3:ListBucket",
    "ListObjects": "s3:ListBucket",
    "ListObjectsV2": "s3:ListBucket",
    "ListObjectVersions": "s3:ListBucketVersions",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "ListParts": "s3:ListMultipartUploadParts",
    "HeadObject": "s3:GetObject",
    "SelectObjectContent": "s3:GetObject",
    "CopyObject": "s3:PutObject",
    "RenameObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "UploadPartCopy": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "GetBucketLifecycleConfiguration": "s3:GetLifecycleConfiguration",
    "PutBucketLifecycleConfiguration": "s3:PutLifecycleConfiguration",
    "DeleteBucketLifecycle": "s3:PutLifecycleConfiguration",
    "GetPublicAccessBlock": "s3:GetBucketPublicAccessBlock",
    "PutPublicAccessBlock": "s3:PutBucketPublicAccessBlock",
    "DeletePublicAccessBlock": "s3:PutBucketPublicAccessBlock",
    "DeleteBucketOwnershipControls": "s3:PutBucketOwnershipControls",
    "GetBucketEncryption": "s3:GetEncryptionConfiguration",
    "PutBucketEncryption": "s3:PutEncryptionConfiguration",
    "DeleteBucketEncryption": "s3:PutEncryptionConfiguration",
    "DeleteBucketTagging": "s3:PutBucketTagging",
    "GetBucketCors": "s3:GetBucketCORS",
    "PutBucketCors": "s3:PutBucketCORS",
    "DeleteBucketCors": "s3:PutBucketCORS",
    "GetBucketReplication": "s3:GetReplicationConfiguration",
    "PutBucketReplication": "s3:PutReplicationConfiguration",
    "DeleteBucketReplication": "s3:PutReplicationConfiguration",
    "GetBucketNotificationConfiguration": "s3:GetBucketNotification",
    "PutBucketNotificationConfiguration": "s3:PutBucketNotification",
    "GetBucketAccelerateConfiguration": "s3:GetAccelerateConfiguration",
    "PutBucketAccelerateConfiguration": "s3:PutAccelerateConfiguration",
    "GetObjectLockConfiguration": "s3:GetBucketObjectLockConfiguration",
    "PutObjectLockConfiguration": "s3:PutBucketObjectLockConfiguration",
    "GetBucketAnalyticsConfiguration": "s3:GetAnalyticsConfiguration",
    "PutBucketAnalyticsConfiguration": "s3:PutAnalyticsConfiguration",
    "DeleteBucketAnalyticsConfiguration": "s3:PutAnalyticsConfiguration",
    "GetBucketIntelligentTieringConfiguration": "s3:GetIntelligentTieringConfiguration",
    "PutBucketIntelligentTieringConfiguration": "s3:PutIntelligentTieringConfiguration",
    "DeleteBucketIntelligentTieringConfiguration": "s3:PutIntelligentTieringConfiguration",
    "GetBucketInventoryConfiguration": "s3:GetInventoryConfiguration",
    "PutBucketInventoryConfiguration": "s3:PutInventoryConfiguration",
    "DeleteBucketInventoryConfiguration": "s3:PutInventoryConfiguration",
    "GetBucketMetricsConfiguration": "s3:GetMetricsConfiguration",
    "PutBucketMetricsConfiguration": "s3:PutMetricsConfiguration",
    "DeleteBucketMetricsConfiguration": "s3:PutMetricsConfiguration",
    "CreateBucketMetadataConfiguration": "s3:CreateBucketMetadataTableConfiguration",
    "GetBucketMetadataConfiguration": "s3:GetBucketMetadataTableConfiguration",
    "DeleteBucketMetadataConfiguration": "s3:DeleteBucketMetadataTableConfiguration",
}
OF_VERSIONS = {
    "s3:GetObject": "s3:GetObjectVersion",
    "s3:DeleteObject": "s3:DeleteObjectVersion",
    "s3:GetObjectAttributes": "s3:GetObjectVersionAttributes",
    "s3:GetObjectTagging": "s3:GetObjectVersionTagging",
    "s3:PutObjectTagging": "s3:PutObjectVersionTagging",
    "s3:DeleteObjectTagging": "s3:DeleteObjectVersionTagging",
    "s3:GetObjectAcl": "s3:GetObjectVersionAcl",
    "s3:PutObjectAcl": "s3:PutObjectVersionAcl",
}
LOCKS = ("s3:GetObjectRetention", "s3:GetObjectLegalHold")
"""The actions that must be allowed to see an object's lock among its headers."""

BYPASS_ACTION = "s3:BypassGovernanceRetention"
_NEW = ("PutObject", "CopyObject", "CreateMultipartUpload")
_BY_HEADER = {
    "x-amz-tagging": "s3:PutObjectTagging",
    MODE: "s3:PutObjectRetention",
    HOLD: "s3:PutObjectLegalHold",
}
"""The action that a header of a new object needs besides."""


def action_of(operation: str) -> str:
    """The action that an operation needs, if it names no version."""
    return ACTIONS.get(operation, f"s3:{operation}")


def delete_actions(call: S3Call, *, versioned: bool) -> tuple[str, ...]:
    """The actions that deleting a key needs; to compare its ETag is a right to read it."""
    action = OF_VERSIONS["s3:DeleteObject"] if versioned else "s3:DeleteObject"
    compared = ("s3:GetObject",) if (call.header("if-match") or "*") != "*" else ()
    return (action, *compared, *((BYPASS_ACTION,) if bypasses(call) else ()))


def actions_of(call: S3Call) -> tuple[str, ...]:
    """All the actions that a call needs on its bucket or object."""
    action = action_of(call.operation)
    if "versionId" in call.query:
        action = OF_VERSIONS.get(action, action)
    if call.operation in _NEW:
        return action, *(needed for header, needed in _BY_HEADER.items() if call.header(header))
    if call.operation == "DeleteObject":
        return delete_actions(call, versioned="versionId" in call.query)
    if call.operation == "PutObjectRetention" and bypasses(call):
        return action, BYPASS_ACTION
    if call.operation == "CreateBucket" and wants_lock(call):
        return action, "s3:PutBucketObjectLockConfiguration", "s3:PutBucketVersioning"
    return (action,)
